//! Encryption between nodes. What the certificates are and whom they let in is
//! decided where these settings are made (`server::tls`).

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error, InvalidMessage, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::socket::Socket;
use crate::replication::peers::PeerStream;

/// The settings of both ends.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Of the end that connects; shows this node's certificate, and checks the other's.
    pub client: Arc<ClientConfig>,
    /// Of the end that listens; the same.
    pub server: Arc<ServerConfig>,
}

/// Encrypts connections between nodes.
#[derive(Debug)]
pub struct PeerTls {
    current: ArcSwap<TlsSettings>,
}

impl PeerTls {
    /// With these settings.
    pub fn new(settings: TlsSettings) -> Self {
        Self {
            current: ArcSwap::from_pointee(settings),
        }
    }

    /// New connections are made with these settings; others go on.
    pub fn replace(&self, settings: TlsSettings) {
        self.current.store(Arc::new(settings));
    }

    /// Agrees on keys with the node at `address`, `host:port`.
    pub(super) async fn connect(&self, socket: Socket, address: &str) -> io::Result<PeerStream> {
        let client = Arc::clone(&self.current.load().client);
        let connector = TlsConnector::from(client);
        let stream = connector.connect(server_name(address), socket).await?;
        Ok(Box::new(stream))
    }

    /// Agrees on keys with a node that has connected; if that fails, the other
    /// end may not have read yet what it was told about it.
    pub(super) async fn accept(&self, socket: Socket) -> Result<PeerStream, (io::Error, Socket)> {
        let server = Arc::clone(&self.current.load().server);
        let accepting = TlsAcceptor::from(server).accept(socket).into_fallible();
        Ok(Box::new(accepting.await?))
    }
}

/// The host; what cannot be a host's name is not asked for by name.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .unwrap_or_else(|_| ServerName::from(std::net::Ipv4Addr::UNSPECIFIED))
}

/// What a failed handshake means, in an administrator's words. None: nothing
/// more than the error itself says.
pub fn words(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let words = match error {
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not signed by the authority in <replication> here".to_owned()
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "its certificate is not signed by the authority in <replication> here, but perhaps by \
             a former one of that name"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "its certificate's extended key usage lacks clientAuth".to_owned(),
        Error::InvalidCertificate(error) => format!("its certificate: {error}"),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS, and this node does: set certificate, key and authority in \
             <replication> on all nodes, or on none"
                .to_owned()
        }
        Error::AlertReceived(alert) => format!(
            "it does not accept this node's certificate, or its TLS ({alert:?}); its log says why"
        ),
        other => format!("TLS: {other}"),
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_gives_a_name() {
        for (address, name) in [
            ("zeo1.example.org:8101", "zeo1.example.org"),
            ("192.168.0.1:8101", "192.168.0.1"),
            ("[::1]:8101", "::1"),
            ("a host:8101", "0.0.0.0"),
        ] {
            assert_eq!(server_name(address).to_str(), name);
        }
    }
}
