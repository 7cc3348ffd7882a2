//! Making a connection to another node.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bounds::{CONNECT_TIME, GREETING_TIME};
use super::hello::{self, Hello, HelloError, Purpose, Verdict};
use super::known::Known;
use super::socket::{Meter, Socket};
use super::tls::{self, PeerTls};
use crate::replication::peers::PeerStream;
use crate::replication::types::{NOBODY, NodeId};

/// This node, as connections see it.
#[derive(Debug)]
pub struct Own {
    /// Its id.
    pub node: NodeId,
    /// How it encrypts.
    pub tls: Option<Arc<PeerTls>>,
    /// Whom it knows.
    pub known: Known,
}

/// Who is wanted, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The node; [`NOBODY`]: whichever it is.
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
    /// What for.
    pub purpose: Purpose,
    /// The storage; empty where it is about several.
    pub group: String,
}

/// Why there is no connection.
#[derive(Debug, Error)]
enum ConnectError {
    #[error("no connection within {} s", .0.as_secs())]
    Connect(Duration),
    #[error("no greeting within {} s", .0.as_secs())]
    Greeting(Duration),
    #[error("it closed the connection before the greeting; its log may say why")]
    Closed,
    #[error("{0}")]
    Tls(String),
    #[error(transparent)]
    Hello(HelloError),
    #[error(
        "node {found} is there, not node {wanted}: do the addresses and node-ids of the \
         configurations agree?"
    )]
    OtherNode { wanted: NodeId, found: NodeId },
    #[error("it has the same node-id as this node; each needs its own")]
    SameId,
    #[error("it has too many connections")]
    Full,
}

/// Makes the connection: what comes after the greetings is not read yet.
pub async fn open(own: &Own, target: &Target, meter: Arc<Meter>) -> io::Result<PeerStream> {
    let connecting = timeout(CONNECT_TIME, TcpStream::connect(&target.address));
    let Ok(connected) = connecting.await else {
        return Err(failed(ConnectError::Connect(CONNECT_TIME)));
    };
    let socket = Socket::new(connected?, meter)?;
    match timeout(GREETING_TIME, greet(own, target, socket)).await {
        Ok(greeted) => greeted.map_err(failed),
        Err(_) => Err(failed(ConnectError::Greeting(GREETING_TIME))),
    }
}

async fn greet(own: &Own, target: &Target, socket: Socket) -> Result<PeerStream, ConnectError> {
    let mut stream: PeerStream = match &own.tls {
        Some(tls) => tls
            .connect(socket, &target.address)
            .await
            .map_err(network)?,
        None => Box::new(socket),
    };
    let hello = Hello {
        purpose: target.purpose,
        from: own.node,
        to: target.node,
        group: target.group.clone(),
    };
    hello::write_hello(&mut stream, &hello)
        .await
        .map_err(network)?;
    let welcome = hello::read_welcome(&mut stream)
        .await
        .map_err(|error| match error {
            HelloError::Io(error) => network(error),
            other => ConnectError::Hello(other),
        })?;
    let (wanted, found) = (target.node, welcome.node);
    match welcome.verdict {
        Verdict::Welcome if wanted == NOBODY || wanted == found => Ok(stream),
        Verdict::Full => Err(ConnectError::Full),
        Verdict::SameId => Err(ConnectError::SameId),
        _ => Err(ConnectError::OtherNode { wanted, found }),
    }
}

fn network(error: io::Error) -> ConnectError {
    match tls::words(&error) {
        Some(words) => ConnectError::Tls(words),
        None if is_closing(&error) => ConnectError::Closed,
        None => ConnectError::Hello(HelloError::Io(error)),
    }
}

/// Whether the other end has closed the connection; with bytes unread that is a reset.
fn is_closing(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kinds = [
        UnexpectedEof,
        ConnectionReset,
        ConnectionAborted,
        BrokenPipe,
    ];
    kinds.contains(&error.kind())
}

fn failed(error: ConnectError) -> io::Error {
    match error {
        ConnectError::Hello(HelloError::Io(error)) => error,
        ConnectError::Connect(_) | ConnectError::Greeting(_) => {
            io::Error::new(io::ErrorKind::TimedOut, error)
        }
        other => io::Error::other(other),
    }
}
