//! What nodes ask each other, whatever carries it: TCP in `net`, memory in simulations.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use openraft::LogId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::types::{Member, NodeId, Types};

/// A future that can be kept in a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A small question; none of these may wait behind bulk data.
#[derive(Clone, Debug)]
pub enum Request {
    /// Raft's AppendEntries; empty: a heartbeat.
    Append(AppendEntriesRequest<Types>),
    /// Raft's RequestVote.
    RaftVote(VoteRequest<NodeId>),
    /// Would you vote for me? Changes nothing.
    PreVote {
        /// The term that the candidate would stand in.
        term: u64,
        /// Its last log entry.
        last_log: Option<LogId<NodeId>>,
    },
    /// End the leadership of `term`, whoever has it, so that another can be elected at once.
    LetGo {
        /// The term that ends.
        term: u64,
    },
    /// Stand for election now: the leader hands over. While it leads it is refused: with the
    /// leader's name by a node that could take over, without one by a node that could not.
    Stand {
        /// The term of the leader that asks.
        term: u64,
    },
    /// Up to where must a reader here have applied? Asked of the leader.
    ReadIndex,
    /// For the storage's service on the leader (oids, packs); opaque here, see `service.rs`.
    Service(Bytes),
    /// The administrator's commands, JSON; see `admin.rs`. They are the node's, whatever
    /// storage is named.
    Admin(String),
}

/// The answer of the same name.
#[derive(Debug)]
pub enum Reply {
    /// To [`Request::Append`].
    Append(AppendEntriesResponse<NodeId>),
    /// To [`Request::RaftVote`].
    RaftVote(VoteResponse<NodeId>),
    /// To [`Request::PreVote`].
    PreVote {
        /// Would vote for it.
        granted: bool,
        /// The term here.
        term: u64,
    },
    /// To [`Request::LetGo`] and [`Request::Stand`].
    Done,
    /// To [`Request::ReadIndex`]; None: nothing is committed yet.
    ReadIndex(Option<LogId<NodeId>>),
    /// To [`Request::Service`].
    Service(Bytes),
    /// To [`Request::Admin`]: JSON.
    Admin(String),
    /// This node cannot answer.
    Refused {
        /// Because it is not the leader; the one it knows of.
        leader: Option<(NodeId, Member)>,
        /// In words.
        why: String,
    },
}

/// What a stream between two nodes is for. Streams carry bulk data, each on a
/// connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// A client's conversation, forwarded: ZEO from the greeting on.
    Zeo,
    /// The state of a storage (`catch_up`).
    CatchUp,
    /// Payloads and blobs of a transaction that is about to be proposed.
    Staging,
    /// A node asks for payloads and blobs that it lacks.
    Fetch,
}

/// A stream of bytes to another node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to another node.
pub type PeerStream = Box<dyn Stream>;

/// Why another node could not be asked.
#[derive(Debug, Error)]
pub enum PeerError {
    /// No connection, or it broke: whether the request arrived is not known.
    #[error("node {node} at {address}: {source}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// Its address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("node {node} at {address} has not answered within {patience:?}")]
    Silent {
        /// The node.
        node: NodeId,
        /// Its address.
        address: String,
        /// So long was waited.
        patience: Duration,
    },
}

impl PeerError {
    /// Node `to` is not reached, because of `source`.
    pub fn unreachable(to: NodeId, member: &Member, source: std::io::Error) -> Self {
        Self::Unreachable {
            node: to,
            address: member.address.clone(),
            source,
        }
    }

    /// Node `to` says nothing, and `patience` is over.
    pub fn silent(to: NodeId, member: &Member, patience: Duration) -> Self {
        Self::Silent {
            node: to,
            address: member.address.clone(),
            patience,
        }
    }
}

/// The way to the other nodes.
pub trait Peers: fmt::Debug + Send + Sync + 'static {
    /// Asks `to` about storage `group`.
    fn call<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        group: &'a str,
        request: Request,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Reply, PeerError>>;

    /// Opens a stream to `to` about storage `group`.
    fn stream<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        group: &'a str,
        kind: StreamKind,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>>;
}

/// What answers the other nodes.
pub trait PeerHandler: Send + Sync + 'static {
    /// Answers a request of node `from` about storage `group`.
    fn call<'a>(&'a self, from: NodeId, group: &'a str, request: Request) -> BoxFuture<'a, Reply>;

    /// Serves a stream that node `from` has opened, to its end.
    fn stream<'a>(
        &'a self,
        from: NodeId,
        group: &'a str,
        kind: StreamKind,
        stream: PeerStream,
    ) -> BoxFuture<'a, ()>;
}
