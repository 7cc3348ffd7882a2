//! Nodes of a cluster: who lets in whom.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use super::super::{PeerFiles, peer_tls};
use crate::config::ZeodSection;
use crate::replication::net::{Listener, NetOptions, Network, PeerTls, TlsSettings};
use crate::replication::peers::{
    BoxFuture, PeerHandler, PeerStream, Peers, Reply, Request, StreamKind,
};
use crate::replication::types::{Member, NodeId};

const PATIENCE: Duration = Duration::from_secs(30);

/// Signs nodes.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A node's certificate, for `purposes`, and its key. Its name is no host's.
    fn sign(&self, purposes: &[ExtendedKeyUsagePurpose]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        params.extended_key_usages = purposes.to_vec();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A node's files.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new((certificate, key): (String, String), authority: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let site = Self { directory };
        let PeerFiles {
            certificate: certificate_path,
            key: key_path,
            authority: authority_path,
        } = site.files();
        std::fs::write(certificate_path, certificate).unwrap();
        std::fs::write(key_path, key).unwrap();
        std::fs::write(authority_path, authority).unwrap();
        site
    }

    fn files(&self) -> PeerFiles {
        let file = |name: &str| -> PathBuf { self.directory.path().join(name) };
        PeerFiles {
            certificate: file("node.pem"),
            key: file("node.key"),
            authority: file("ca.pem"),
        }
    }

    fn settings(&self) -> TlsSettings {
        peer_tls(&self.files(), &ZeodSection::default()).unwrap()
    }
}

struct Echo;

impl PeerHandler for Echo {
    fn call<'a>(&'a self, from: NodeId, _: &'a str, _: Request) -> BoxFuture<'a, Reply> {
        Box::pin(async move { Reply::Admin(from.to_string()) })
    }

    fn stream<'a>(
        &'a self,
        _: NodeId,
        _: &'a str,
        _: StreamKind,
        mut stream: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            tokio::io::copy(&mut &vec![7; 1_000_000][..], &mut stream)
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut stream)
                .await
                .unwrap();
        })
    }
}

/// A node that listens; None: without TLS.
async fn listen(node: NodeId, tls: Option<TlsSettings>) -> (Member, Option<Arc<PeerTls>>) {
    let tls = tls.map(|settings| Arc::new(PeerTls::new(settings)));
    let options = NetOptions {
        node,
        tls: tls.clone(),
    };
    let listener = Listener::bind("127.0.0.1:0", &Network::new(options))
        .await
        .unwrap();
    let address = listener.addresses()[0].to_string();
    tokio::spawn(listener.serve(Arc::new(Echo), std::future::pending()));
    (Member { address }, tls)
}

fn network(tls: Option<TlsSettings>) -> Network {
    let tls = tls.map(|settings| Arc::new(PeerTls::new(settings)));
    Network::new(NetOptions { node: 1, tls })
}

async fn ask(network: &Network, member: &Member) -> Result<(), String> {
    let asked = network.call(2, member, "main", Request::ReadIndex, PATIENCE);
    match asked.await {
        Ok(Reply::Admin(from)) if from == "1" => Ok(()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn nodes_of_one_authority_talk_and_others_are_told_why_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let site = |signer: &Authority, trusted: &Authority| {
        Site::new(signer.sign(&[]), &trusted.certificate).settings()
    };
    let (two, _) = listen(2, Some(site(&ours, &ours))).await;
    let one = network(Some(site(&ours, &ours)));
    ask(&one, &two).await.unwrap();
    let mut stream = one
        .stream(2, &two, "main", StreamKind::CatchUp)
        .await
        .unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, vec![7; 1_000_000]);
    // Each side checks the other.
    let refused = |tls| {
        let two = two.clone();
        async move { ask(&network(tls), &two).await.unwrap_err() }
    };
    let error = refused(Some(site(&theirs, &theirs))).await;
    assert!(error.contains("not signed by the authority"), "{error}");
    let error = refused(Some(site(&theirs, &ours))).await;
    assert!(error.contains("does not accept this node's"), "{error}");
    let error = refused(Some(site(&ours, &theirs))).await;
    assert!(error.contains("not signed by the authority"), "{error}");
    let error = refused(None).await;
    assert!(
        error.contains("it speaks TLS, and this node does not"),
        "{error}"
    );
    let (plain, _) = listen(2, None).await;
    let error = ask(&one, &plain).await.unwrap_err();
    assert!(error.contains("closed the connection"), "{error}");
    ask(&one, &two).await.unwrap();
}

#[derive(Debug)]
struct Nameless;

impl ResolvesClientCert for Nameless {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// As a client without a certificate of its own would try.
#[tokio::test]
async fn who_shows_no_certificate_is_not_let_in() {
    let ours = Authority::new();
    let settings = Site::new(ours.sign(&[]), &ours.certificate).settings();
    let (two, _) = listen(2, Some(settings.clone())).await;
    let mut client = rustls::ClientConfig::clone(&settings.client);
    client.client_auth_cert_resolver = Arc::new(Nameless);
    let nameless = network(Some(TlsSettings {
        client: Arc::new(client),
        server: settings.server,
    }));
    let error = ask(&nameless, &two).await.unwrap_err();
    assert!(error.contains("does not accept this node's"), "{error}");
}

#[tokio::test]
async fn a_purpose_has_to_include_clients_and_listed_certificates_do_without_an_authority() {
    let ours = Authority::new();
    let both = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let good = Site::new(ours.sign(&both), &ours.certificate).settings();
    let (two, _) = listen(2, Some(good.clone())).await;
    ask(&network(Some(good)), &two).await.unwrap();
    let servers = [ExtendedKeyUsagePurpose::ServerAuth];
    let bad = Site::new(ours.sign(&servers), &ours.certificate).settings();
    let error = ask(&network(Some(bad)), &two).await.unwrap_err();
    assert!(error.contains("does not accept this node's"), "{error}");
    let (one, two) = (Authority::new().sign(&[]), Authority::new().sign(&[]));
    let listed = format!("{}{}", one.0, two.0);
    let (member, _) = listen(2, Some(Site::new(two, &listed).settings())).await;
    let one = network(Some(Site::new(one, &listed).settings()));
    ask(&one, &member).await.unwrap();
}

#[tokio::test]
async fn new_files_are_for_new_connections() {
    let (ours, next) = (Authority::new(), Authority::new());
    let former = Site::new(ours.sign(&[]), &ours.certificate).settings();
    let renewed = Site::new(next.sign(&[]), &next.certificate).settings();
    let (two, tls) = listen(2, Some(former.clone())).await;
    let connected = network(Some(former));
    ask(&connected, &two).await.unwrap();
    tls.unwrap().replace(renewed.clone());
    ask(&connected, &two).await.unwrap();
    ask(&network(Some(renewed)), &two).await.unwrap();
    let stream = connected.stream(2, &two, "main", StreamKind::Zeo).await;
    assert!(stream.is_err());
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_section_and_name() {
    let ours = Authority::new();
    let site = Site::new(ours.sign(&[]), &ours.certificate);
    let (files, other) = (site.files(), Site::new(ours.sign(&[]), ""));
    let problem = |files: &PeerFiles| {
        let error = peer_tls(files, &ZeodSection::default()).unwrap_err();
        error.to_string()
    };
    let foreign = PeerFiles {
        key: other.files().key,
        ..files.clone()
    };
    assert!(problem(&foreign).contains("does not belong to the certificate"));
    std::fs::write(&files.authority, "").unwrap();
    let found = problem(&files);
    assert!(
        found.starts_with("<replication>: ") && found.contains("ca.pem"),
        "{found}"
    );
}
