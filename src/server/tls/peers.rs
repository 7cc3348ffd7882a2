//! TLS between the nodes of a cluster: each shows its certificate and lets in,
//! and connects to, whoever shows one of the same authority. Hosts' names are not
//! looked at: nodes have ids, and the authority signs nodes only.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use thiserror::Error;

use super::password::Password;
use super::verifier::Verifier;
use super::{TlsError, certified, files, server_config_with};
use crate::config::{ReplicationTls, SslAuthentication, ZeodSection};
use crate::replication::net::TlsSettings;

/// The PEM files of `<replication>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFiles {
    /// This node's certificate, and those that lead to the authority. If it
    /// says what it is for, clients (clientAuth) must be among it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the nodes' certificates; or those certificates themselves.
    /// A directory: all files in it.
    pub authority: PathBuf,
}

impl From<&ReplicationTls> for PeerFiles {
    /// As configured.
    fn from(section: &ReplicationTls) -> Self {
        Self {
            certificate: section.certificate.clone(),
            key: section.key.clone(),
            authority: section.authority.clone(),
        }
    }
}

/// Why nodes cannot talk encrypted.
#[derive(Debug, Error)]
pub enum PeerTlsError {
    /// A file that the configuration names.
    #[error("<replication>: {}: {problem}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The password of the private key.
    #[error("<replication>: the password of the key: {0}")]
    Password(String),
    /// Anything else.
    #[error("<replication>: {0}")]
    Other(String),
}

impl From<TlsError> for PeerTlsError {
    /// The same problem in another section.
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::File { path, problem } => Self::File { path, problem },
            TlsError::Password(problem) => Self::Password(problem),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Error> for PeerTlsError {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Reads the files; for a start and for each reload. `zeod` tells the password
/// of an encrypted key. Waits for the disk, and for whoever tells the password.
pub fn peer_tls(files: &PeerFiles, zeod: &ZeodSection) -> Result<TlsSettings, PeerTlsError> {
    let provider = Arc::new(ring::default_provider());
    let password = Password::of_keys(zeod);
    let certified = certified(&files.certificate, &files.key, &password, &provider)?;
    let trust = files::trust(&SslAuthentication::Certificates(files.authority.clone()))?;
    let verifier = Arc::new(Verifier::new(&trust, &provider)?);
    let server = server_config_with(
        Arc::clone(&certified),
        Arc::clone(&verifier),
        Arc::clone(&provider),
    )?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeVerifier(verifier)))
        .with_client_cert_resolver(certified);
    // A certificate is looked at anew for each connection.
    client.resumption = Resumption::disabled();
    Ok(TlsSettings {
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

/// Checks the node that is connected to just as that one checks this node.
#[derive(Debug)]
struct NodeVerifier(Arc<Verifier>);

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0
            .verify_client_cert(end_entity, intermediates, now)
            .map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
