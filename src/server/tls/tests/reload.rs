//! Certificates that change while the server runs.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;

use super::EC_KEY;
use crate::server::tls::{Refusal, Tls, TlsStream};
use crate::session::Peer;

/// What openssl makes without extensions (as `openssl x509 -req -signkey`
/// does), with [`EC_KEY`]: an X.509 certificate of version 1.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBKTCB0AIBATAKBggqhkjOPQQDAjAgMRAwDgYDVQQKDAdFeGFtcGxlMQwwCgYD
VQQDDANvbGQwIBcNMjAwMTAxMDAwMDAwWhgPMjk5OTAxMDEwMDAwMDBaMCAxEDAO
BgNVBAoMB0V4YW1wbGUxDDAKBgNVBAMMA29sZDBZMBMGByqGSM49AgEGCCqGSM49
AwEHA0IABCenRAGVIaWON7W9JhH8UrBb76WERbkuKUnDEPqKlQLQZTeOF5C1E96u
s8GzgTYon3955SJzf1YzWt1geH805CQwCgYIKoZIzj0EAwIDSAAwRQIhALA8Gc0t
Qj/wzkXXbvDbMXvOBShPqcpNu+2VCmTSO2HKAiBXRv7BsJiGFnm4vdFWH3pqoUWL
Jkn86fIJoPbbm7JUTQ==
-----END CERTIFICATE-----
";

/// A certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// As a server or a client shows it.
    fn certified(&self) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let key = ring::sign::any_supported_type(&key).unwrap();
        let certified = CertifiedKey::new(vec![self.certificate()], key);
        Arc::new(SingleCertAndKey::from(certified))
    }
}

/// Files that a server reads.
struct Site {
    directory: TempDir,
    tls: Arc<Tls>,
}

impl Site {
    fn new(server: &Identity, clients: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), server, clients);
        let path = directory.path().display();
        let text = format!(
            "<zeo>\naddress 8100\n<ssl>\ncertificate {path}/server.pem\nkey {path}/key.pem\n\
             authenticate {path}/clients.pem\n</ssl>\n</zeo>\n\
             <mappingstorage 1>\n</mappingstorage>\n"
        );
        let conf = directory.path().join("zeo.conf");
        std::fs::write(&conf, text).unwrap();
        let config = crate::config::load(&conf, &|_| None).unwrap();
        let tls = Tls::of(&config).unwrap().unwrap();
        Self { directory, tls }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What both sides have after the handshake; `known` is whom the client trusts.
    async fn connect(
        &self,
        client: &Identity,
        known: &Identity,
    ) -> (
        Result<tokio_rustls::client::TlsStream<DuplexStream>, std::io::Error>,
        Result<(TlsStream<DuplexStream>, Peer), Refusal>,
    ) {
        let mut roots = RootCertStore::empty();
        roots.add(known.certificate()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(client.certified());
        let connector = TlsConnector::from(Arc::new(config));
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let name = "localhost".try_into().unwrap();
        tokio::join!(connector.connect(name, ours), self.tls.accept(theirs))
    }
}

fn write(directory: &Path, server: &Identity, clients: &str) {
    for (name, text) in [
        ("server.pem", server.certificate.as_str()),
        ("key.pem", &server.key),
        ("clients.pem", clients),
    ] {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

#[tokio::test]
async fn new_files_are_for_new_clients_and_bad_ones_change_nothing() {
    let (server, renewed) = (Identity::new(), Identity::new());
    let (former, next) = (Identity::new(), Identity::new());
    let site = Site::new(&server, &former.certificate);
    let (ours, theirs) = site.connect(&former, &server).await;
    let (mut ours, (mut theirs, _)) = (ours.unwrap(), theirs.unwrap());
    write(site.path(), &renewed, &next.certificate);
    site.tls.reload().unwrap();
    // Who is connected stays.
    theirs.write_all(b"Z5").await.unwrap();
    theirs.flush().await.unwrap();
    let mut heard = [0; 2];
    ours.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"Z5");
    // New clients meet the new certificate, and the new list.
    let (ours, theirs) = site.connect(&next, &renewed).await;
    assert!(ours.is_ok() && theirs.is_ok());
    let (_, theirs) = site.connect(&former, &renewed).await;
    assert!(matches!(theirs, Err(Refusal::Certificate { .. })));
    let (ours, _) = site.connect(&next, &server).await;
    assert!(ours.is_err());
    // Half of a change, and what is no certificate.
    for (name, text, why) in [
        ("server.pem", &*server.certificate, "does not belong"),
        ("key.pem", &*server.certificate, "no private key"),
        ("server.pem", "gone", "no certificate"),
        ("clients.pem", "", "no client could be let in"),
    ] {
        write(site.path(), &renewed, &next.certificate);
        std::fs::write(site.path().join(name), text).unwrap();
        let error = site.tls.reload().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        let (ours, theirs) = site.connect(&next, &renewed).await;
        assert!(ours.is_ok() && theirs.is_ok(), "{why}");
    }
}

/// Nothing is resumed: who is no longer let in does not come back by a ticket.
#[tokio::test]
async fn clients_are_given_nothing_to_resume_with() {
    let (server, client) = (Identity::new(), Identity::new());
    let site = Site::new(&server, &client.certificate);
    let (ours, theirs) = site.connect(&client, &server).await;
    let (mut ours, (mut theirs, _)) = (ours.unwrap(), theirs.unwrap());
    theirs.write_all(b"Z").await.unwrap();
    theirs.flush().await.unwrap();
    ours.read_u8().await.unwrap();
    assert_eq!(ours.get_ref().1.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn certificates_of_version_1_are_let_in_and_shown() {
    let server = Identity::new();
    let old = Identity {
        certificate: VERSION_1.to_owned(),
        key: EC_KEY.to_owned(),
    };
    let site = Site::new(&server, &old.certificate);
    let (ours, theirs) = site.connect(&old, &server).await;
    assert!(ours.is_ok());
    let (_, peer) = theirs.unwrap();
    assert_eq!(peer.to_string(), "CN=old,O=Example");
    // Its key is needed, too.
    let thief = Identity {
        certificate: VERSION_1.to_owned(),
        key: Identity::new().key,
    };
    let (_, theirs) = site.connect(&thief, &server).await;
    assert!(theirs.is_err());
    // As the server's own.
    write(site.path(), &old, &old.certificate);
    site.tls.reload().unwrap();
}
