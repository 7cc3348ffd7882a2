//! TLS: who is let in, and as whom. The bytes then flow as on any connection.
//!
//! ```text
//! files      the certificate, its key, and the certificates to be let in
//! key        private keys in all their wrappings; legacy_key: openssl's old one
//! password   where the key's password comes from
//! peers      the same for the nodes of a cluster, which check each other
//! identity   whom a certificate names
//! verifier   which client certificates are good
//! refusal    why a client was turned away, in words
//! ```

mod files;
mod identity;
mod key;
mod legacy_key;
mod password;
mod peers;
mod refusal;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ServerConnection};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::limits::HELLO_TIME;
use crate::config::{CertificateNameError, Config, SslSection};
use crate::session::{AccessLists, Peer};
use password::Password;
pub use peers::{PeerFiles, PeerTlsError, peer_tls};
use refusal::Refusal;
use verifier::Verifier;

/// Why connections cannot be encrypted.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file that the configuration names.
    #[error("<ssl>: {}: {problem}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The system's certificate authorities.
    #[error("<ssl>: authenticate SIGNED: {problem}")]
    SystemAuthorities {
        /// Why there are none.
        problem: String,
    },
    /// The password of the private key.
    #[error("<ssl>: the password of the key: {0}")]
    Password(String),
    /// An access list.
    #[error("<access>: {0}")]
    Access(#[from] CertificateNameError),
    /// Access lists without certificates would let in whom they should keep out.
    #[error("<access> needs an <ssl> section in <zeo>: certificates decide about access")]
    AccessWithoutTls,
    /// What the library refuses.
    #[error("<ssl>: {0}")]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// Encrypts connections, and lets in whom the configuration names.
#[derive(Debug)]
pub struct Tls {
    section: SslSection,
    password: Password,
    access: Arc<AccessLists>,
    /// What new connections are met with.
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// What `config` asks for; `None`: no encryption.
    pub fn of(config: &Config) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(section) = &config.zeo.ssl else {
            if config.zeod.access.is_empty() {
                return Ok(None);
            }
            return Err(TlsError::AccessWithoutTls);
        };
        let password = Password::of(section, &config.zeod);
        let access = Arc::new(AccessLists::new(&config.zeod.access)?);
        let current = ArcSwap::from_pointee(server_config(section, &password)?);
        Ok(Some(Arc::new(Self {
            section: section.clone(),
            password,
            access,
            current,
        })))
    }

    /// Reads the certificate, the key and the certificates to be let in anew.
    /// Clients that are connected stay; new ones meet what was read. If
    /// anything is wrong with it, all stays as it was. Waits for the disk, and
    /// for whoever tells the password.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = server_config(&self.section, &self.password)?;
        self.current.store(Arc::new(config));
        Ok(())
    }

    /// Who may use which storage.
    pub fn access(&self) -> &Arc<AccessLists> {
        &self.access
    }

    /// Agrees on keys with a client, within a bounded time, and learns who it is.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Peer), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let handshake = verifier::noting_subject(acceptor.accept(stream));
        let (accepted, subject) = tokio::time::timeout(HELLO_TIME, handshake)
            .await
            .map_err(|_| Refusal::TooLate(HELLO_TIME))?;
        let stream = accepted.map_err(|error| Refusal::of(error, subject))?;
        let peer = peer(stream.get_ref().1).ok_or(Refusal::NoCertificate)?;
        Ok((stream, peer))
    }
}

/// The verifier let nobody in without a certificate that can be read.
fn peer(connection: &ServerConnection) -> Option<Peer> {
    let certificate = connection.peer_certificates()?.first()?;
    identity::peer(certificate).ok()
}

fn server_config(section: &SslSection, password: &Password) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let key_path = section.key.as_ref().unwrap_or(&section.certificate);
    let certified = certified(&section.certificate, key_path, password, &provider)?;
    let trust = files::trust(&section.authenticate)?;
    let verifier = Arc::new(Verifier::new(&trust, &provider)?);
    Ok(server_config_with(certified, verifier, provider)?)
}

/// What a server shows, and whom it lets in.
fn server_config_with(
    certified: Arc<SingleCertAndKey>,
    verifier: Arc<Verifier>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certified);
    // A resumed session would not be verified again: its certificate may have
    // expired, or may not be let in any longer.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A certificate with those that lead to its authority, and its key.
fn certified(
    certificate: &Path,
    key_path: &Path,
    password: &Password,
    provider: &CryptoProvider,
) -> Result<Arc<SingleCertAndKey>, TlsError> {
    let chain = files::chain(certificate)?;
    let key = provider
        .key_provider
        .load_private_key(key::load(key_path, password)?)
        .map_err(|error| TlsError::file(key_path, format!("the key cannot be used: {error}")))?;
    if let (Some(key), Some(leaf)) = (key.public_key(), chain.first())
        && identity::public_key(leaf).is_ok_and(|certified| certified != key)
    {
        let certificate = certificate.display();
        let problem = format!("the key does not belong to the certificate in {certificate}");
        return Err(TlsError::file(key_path, problem));
    }
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests;
