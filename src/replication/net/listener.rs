//! Where other nodes come in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::answer::{self, AnswerError};
use super::bounds::{
    HANDSHAKE_TIME, LINGER_TIME, MAX_CALL_CONNECTIONS, MAX_LINGER_BYTES, MAX_STRANGERS,
    MAX_STREAMS, REFUSALS_LOG_INTERVAL,
};
use super::connect::Own;
use super::hello::{self, Hello, HelloError, Purpose, Verdict, Welcome};
use super::network::Network;
use super::socket::{Meter, Socket};
use super::tls;
use crate::replication::peers::{PeerHandler, PeerStream};
use crate::replication::types::{NOBODY, NodeId};

/// After a failed accept (no file descriptor left) so long is waited.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sockets that other nodes connect to.
#[derive(Debug)]
pub struct Listener {
    own: Arc<Own>,
    sockets: Vec<TcpListener>,
}

/// A node that was let in.
struct Guest {
    hello: Hello,
    stream: PeerStream,
    address: SocketAddr,
    _place: OwnedSemaphorePermit,
}

/// Why a connection was not let in.
#[derive(Debug, Error)]
enum Refusal {
    #[error("it has not said who it is within {} s", HANDSHAKE_TIME.as_secs())]
    Late,
    #[error("it went before it had said who it is")]
    Gone,
    #[error("{0}")]
    Tls(String),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(
        "node {from} looks for node {wanted}, which is not this one (node {own}): do the \
         addresses and node-ids of the configurations agree?"
    )]
    OtherNode {
        from: NodeId,
        wanted: NodeId,
        own: NodeId,
    },
    #[error("it has this node's node-id, {0}; each node needs its own")]
    SameId(NodeId),
    #[error("node {0} has no place: there are too many connections")]
    Full(NodeId),
}

impl Listener {
    /// Listens on `address`, `host:port`, on every address that the host has;
    /// port 0: on any port.
    pub async fn bind(address: &str, network: &Network) -> io::Result<Self> {
        let mut sockets: Vec<TcpListener> = Vec::new();
        let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for mut one in tokio::net::lookup_host(address).await? {
            // With port 0 all addresses of the host get the port of the first.
            if let Some(first) = sockets.first() {
                one.set_port(first.local_addr()?.port());
            }
            match TcpListener::bind(one).await {
                Ok(socket) => sockets.push(socket),
                Err(error) => last_error = error,
            }
        }
        if sockets.is_empty() {
            return Err(last_error);
        }
        Ok(Self {
            own: Arc::clone(network.own()),
            sockets,
        })
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.sockets.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Lets nodes in and has `handler` answer them, until `shutdown` is ready;
    /// then all connections are cut off.
    pub async fn serve(self, handler: Arc<dyn PeerHandler>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut strangers = Strangers::new(&self.own);
        let mut guests = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(guest) = strangers.next_guest(), if !strangers.tasks.is_empty() => {
                    if let Some(guest) = guest {
                        guests.spawn(entertain(guest, Arc::clone(&handler)));
                    }
                }
                Some(_) = guests.join_next(), if !guests.is_empty() => {}
                accepted = self.accept() => match accepted {
                    Ok((stream, address)) => strangers.take(stream, address),
                    Err(error) => {
                        tracing::error!("replication: a node could not be accepted: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.sockets);
        strangers.tasks.shutdown().await;
        guests.shutdown().await;
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|context| {
            for socket in &self.sockets {
                if let Poll::Ready(accepted) = socket.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Those who have connected and not said yet who they are.
struct Strangers {
    own: Arc<Own>,
    places: Arc<Places>,
    tasks: JoinSet<Result<Guest, (Refusal, SocketAddr)>>,
    /// The oldest first.
    handles: VecDeque<AbortHandle>,
    refused: Refused,
}

/// Connections that there may still be.
struct Places {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Strangers {
    fn new(own: &Arc<Own>) -> Self {
        let places = Places {
            calls: Arc::new(Semaphore::new(MAX_CALL_CONNECTIONS)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        };
        Self {
            own: Arc::clone(own),
            places: Arc::new(places),
            tasks: JoinSet::new(),
            handles: VecDeque::new(),
            refused: Refused::default(),
        }
    }

    /// Hears a new one. One too many ends the oldest: so those that never say
    /// anything keep nobody out.
    fn take(&mut self, stream: TcpStream, address: SocketAddr) {
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= MAX_STRANGERS
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        let (own, places) = (Arc::clone(&self.own), Arc::clone(&self.places));
        let handle = self.tasks.spawn(async move {
            let heard = timeout(HANDSHAKE_TIME, hear(&own, &places, stream, address));
            let result = heard.await.unwrap_or(Err(Refusal::Late));
            result.map_err(|refusal| (refusal, address))
        });
        self.handles.push_back(handle);
    }

    /// The next that has said who it is. None: all is said. `Some(None)`: one was refused.
    async fn next_guest(&mut self) -> Option<Option<Guest>> {
        match self.tasks.join_next().await? {
            Ok(Ok(guest)) => return Some(Some(guest)),
            Ok(Err((refusal, address))) => self.refused.note(&refusal, address),
            // Pushed out by a newer one.
            Err(_) => self.refused.note(&Refusal::Late, "several addresses"),
        }
        Some(None)
    }
}

/// Refused connections that are not in the log yet.
#[derive(Debug, Default)]
struct Refused {
    unlogged: u64,
    logged_at: Option<Instant>,
}

impl Refused {
    fn note(&mut self, refusal: &Refusal, address: impl std::fmt::Display) {
        if matches!(refusal, Refusal::Gone) {
            // Nodes that stop do so, and checks whether the port is open.
            tracing::debug!("replication: ({address}) {refusal}");
            return;
        }
        self.unlogged += 1;
        let is_due = |at: Instant| at.elapsed() >= REFUSALS_LOG_INTERVAL;
        if self.logged_at.is_none_or(is_due) {
            let others = match self.unlogged - 1 {
                0 => String::new(),
                others => format!(" ({others} more were refused since the last such line)"),
            };
            tracing::warn!("replication: ({address}) refused: {refusal}{others}");
            (self.unlogged, self.logged_at) = (0, Some(Instant::now()));
        }
    }
}

/// Learns who it is, and tells it whether it is let in.
async fn hear(
    own: &Own,
    places: &Places,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<Guest, Refusal> {
    let meter = Arc::<Meter>::default();
    let socket = Socket::new(stream, Arc::clone(&meter)).map_err(network)?;
    let mut stream: PeerStream = match &own.tls {
        Some(tls) => match tls.accept(socket).await {
            Ok(stream) => stream,
            Err((error, socket)) => {
                linger(socket).await;
                return Err(network(error));
            }
        },
        None => Box::new(socket),
    };
    let (hello, place) = match greet(own, places, &mut stream).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            linger(stream).await;
            return Err(refusal);
        }
    };
    if let Some(peer) = own.known.find(hello.from) {
        peer.note_heard_of();
        meter.belongs_to(peer);
    }
    Ok(Guest {
        hello,
        stream,
        address,
        _place: place,
    })
}

async fn greet(
    own: &Own,
    places: &Places,
    stream: &mut PeerStream,
) -> Result<(Hello, OwnedSemaphorePermit), Refusal> {
    let (verdict, result) = match hello::read_hello(stream).await {
        Err(HelloError::Io(error)) => return Err(network(error)),
        Err(error @ HelloError::Version { .. }) => (Verdict::Version, Err(error.into())),
        Err(error) => return Err(error.into()),
        Ok(hello) => admitted(own, places, hello),
    };
    let node = own.node;
    let answered = hello::write_welcome(stream, Welcome { verdict, node }).await;
    let admitted = result?;
    answered.map_err(network)?;
    Ok(admitted)
}

/// Closes a connection so that the other end can read what it was told: with
/// bytes of it unread, the kernel would throw that away.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = stream.shutdown().await;
    let mut rest = stream.take(MAX_LINGER_BYTES);
    let mut nowhere = tokio::io::sink();
    let _ = timeout(LINGER_TIME, tokio::io::copy(&mut rest, &mut nowhere)).await;
}

type Admitted = Result<(Hello, OwnedSemaphorePermit), Refusal>;

fn admitted(own: &Own, places: &Places, hello: Hello) -> (Verdict, Admitted) {
    let (from, wanted) = (hello.from, hello.to);
    if wanted != NOBODY && wanted != own.node {
        let own = own.node;
        let refusal = Refusal::OtherNode { from, wanted, own };
        return (Verdict::OtherNode, Err(refusal));
    }
    if from == own.node {
        return (Verdict::SameId, Err(Refusal::SameId(from)));
    }
    let places = match hello.purpose {
        Purpose::Calls(_) => &places.calls,
        Purpose::Stream(_) => &places.streams,
    };
    match Arc::clone(places).try_acquire_owned() {
        Ok(place) => (Verdict::Welcome, Ok((hello, place))),
        Err(_) => (Verdict::Full, Err(Refusal::Full(from))),
    }
}

fn network(error: io::Error) -> Refusal {
    match tls::words(&error) {
        Some(words) => Refusal::Tls(words),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Refusal::Gone,
        None => HelloError::Io(error).into(),
    }
}

/// Serves a node to its end.
async fn entertain(guest: Guest, handler: Arc<dyn PeerHandler>) {
    let Guest { hello, stream, .. } = guest;
    let lane = match hello.purpose {
        Purpose::Stream(kind) => {
            return handler.stream(hello.from, &hello.group, kind, stream).await;
        }
        Purpose::Calls(lane) => lane,
    };
    match answer::answer(stream, hello.from, lane, &handler).await {
        Ok(()) => {}
        // The node that has connected tells that it lost the connection.
        Err(AnswerError::Io(error)) => {
            tracing::debug!("replication: node {} is gone: {error}", hello.from);
        }
        Err(error) => tracing::error!(
            "replication: the connection of node {} ({}) is closed: {error}",
            hello.from,
            guest.address
        ),
    }
}
