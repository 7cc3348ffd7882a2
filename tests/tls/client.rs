//! A client that speaks ZEO's frames through TLS.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::authority::Identity;
use crate::raw_client::{
    FrameReader, PATIENCE, Reply, Z5, decode, int, push_frame, push_request, register_arguments,
};

pub struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    frames: FrameReader,
    last_id: i32,
}

/// TLS 1.2 alone, and 1.3 alone: clients are refused at different places.
pub const EACH_VERSION: [&[&SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// How a client presents itself.
pub struct Manner<'i> {
    pub identity: Option<&'i Identity>,
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl<'i> Manner<'i> {
    pub fn with(identity: &'i Identity) -> Self {
        Self {
            identity: Some(identity),
            versions: rustls::DEFAULT_VERSIONS,
        }
    }
}

impl TlsClient {
    /// Greets, over `socket`, a server that must have the certificate `server`.
    pub fn over(
        socket: TcpStream,
        server: &CertificateDer<'static>,
        manner: &Manner<'_>,
    ) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut roots = RootCertStore::empty();
        roots.add(server.clone()).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(manner.versions)
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let config = match manner.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![identity.certificate.der().clone()];
                let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
                config
                    .with_client_auth_cert(chain, key.into())
                    .map_err(io::Error::other)?
            }
        };
        let name = "localhost".try_into().map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut client = Self {
            stream: StreamOwned::new(connection, socket),
            frames: FrameReader::default(),
            last_id: 0,
        };
        assert_eq!(client.read_frame()?, Z5);
        Ok(client)
    }

    /// Answers the greeting, and registers.
    pub fn register(&mut self, storage: &str, read_only: bool) -> io::Result<Reply> {
        let mut hello = Vec::new();
        push_frame(&mut hello, |out| out.extend_from_slice(Z5));
        self.stream.write_all(&hello)?;
        self.register_again(storage, read_only)
    }

    /// Registers after a refusal.
    pub fn register_again(&mut self, storage: &str, read_only: bool) -> io::Result<Reply> {
        self.call("register", &register_arguments(storage, read_only))
    }

    pub fn call(&mut self, method: &str, arguments: &[u8]) -> io::Result<Reply> {
        self.last_id += 1;
        let mut out = Vec::new();
        push_request(&mut out, &int(self.last_id), false, method, arguments);
        self.stream.write_all(&out)?;
        decode(&self.read_frame()?)
    }

    fn read_frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(payload) = self.frames.next()? {
                return Ok(payload.to_vec());
            }
            self.frames.fill(&mut self.stream)?;
        }
    }
}
