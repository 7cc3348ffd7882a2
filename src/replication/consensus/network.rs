//! openraft's way to the other nodes, over [`Peers`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EntryPayload, LogId, Snapshot, Vote};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use super::durable::Durable;
use super::telling::Telling;
use crate::replication::peers::{BoxFuture, PeerError, Peers, Reply, Request};
use crate::replication::types::{Member, NodeId, Types};

/// A follower gets so long for entries, and [`PATIENCE_PER_MIB`] more.
const APPEND_PATIENCE: Duration = Duration::from_secs(2);
/// For the transfer and the sync of what is appended.
const PATIENCE_PER_MIB: Duration = Duration::from_secs(1);
/// An unreachable node is tried again after this time first, then after twice as long …
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
/// … and so often in the end.
const LAST_BACKOFF: Duration = Duration::from_millis(400);

/// Brings a node that is too far behind for the log up to a state of the storage.
pub trait CatchUp: fmt::Debug + Send + Sync + 'static {
    /// Sends the state that `snapshot` names to `to`, has it installed there
    /// ([`Group::install`](super::Group::install)), and returns that node's answer. Ends when
    /// `cancel` does: the leadership, or the membership, is over.
    fn send<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types>,
        cancel: BoxFuture<'static, ()>,
    ) -> BoxFuture<'a, Result<SnapshotResponse<NodeId>, CatchUpError>>;
}

/// Why a node could not be brought up to date; it is tried again in a moment.
#[derive(Debug, Error)]
pub enum CatchUpError {
    /// The leadership, or the membership, ended.
    #[error("the transfer was cancelled")]
    Cancelled,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// When each of the other nodes was last spoken to.
#[derive(Debug, Default)]
pub(super) struct Contacts(Mutex<BTreeMap<NodeId, Contact>>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    /// When something was sent to it last.
    pub(super) sent: Instant,
    /// When that was sent which it answered last, as a follower.
    pub(super) followed: Option<Instant>,
}

impl Contacts {
    pub(super) fn of(&self, node: NodeId) -> Option<Contact> {
        self.0.lock().get(&node).copied()
    }

    fn sending(&self, to: NodeId) -> Instant {
        let sent = Instant::now();
        let mut contacts = self.0.lock();
        let contact = contacts.entry(to).or_insert(Contact {
            sent,
            followed: None,
        });
        contact.sent = sent;
        sent
    }

    fn followed(&self, by: NodeId, sent: Instant) {
        if let Some(contact) = self.0.lock().get_mut(&by) {
            contact.followed = contact.followed.max(Some(sent));
        }
    }
}

/// What all links of a group share.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) group: Arc<str>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) catch_up: Arc<dyn CatchUp>,
    pub(super) contacts: Arc<Contacts>,
    pub(super) telling: Arc<Telling>,
    pub(super) durable: Durable,
    /// Whoever was silent for longer is to hear something.
    pub(super) heartbeat_interval: Duration,
    /// For the small questions of elections.
    pub(super) patience: Duration,
}

impl Network {
    /// Sends AppendEntries, and takes note of who follows.
    pub(super) async fn append(
        &self,
        to: NodeId,
        member: &Member,
        mut rpc: AppendEntriesRequest<Types>,
        patience: Duration,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        let sent = self.contacts.sending(to);
        rpc.leader_commit = self.durable.clamp(rpc.leader_commit);
        let after = |log_id: Option<LogId<NodeId>>| log_id.map_or(0, |log_id| log_id.index + 1);
        let committed = after(rpc.leader_commit);
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let has = after(last.or(rpc.prev_log_id));
        let request = Request::Append(rpc);
        let reply = self.peers.call(to, member, &self.group, request, patience);
        match reply.await? {
            Reply::Append(answer) => {
                match answer {
                    AppendEntriesResponse::HigherVote(_) => {}
                    AppendEntriesResponse::Success => {
                        self.contacts.followed(to, sent);
                        self.telling.followed(to, has, committed);
                    }
                    _ => self.contacts.followed(to, sent),
                }
                Ok(answer)
            }
            other => Err(CallError::refused(to, &other)),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("node {node} answered: {why}")]
    Refused { node: NodeId, why: String },
}

impl CallError {
    fn refused(node: NodeId, reply: &Reply) -> Self {
        let why = match reply {
            Reply::Refused { why, .. } => why.clone(),
            other => format!("unexpectedly {other:?}"),
        };
        Self::Refused { node, why }
    }
}

impl From<CallError> for RPCError<NodeId, Member, RaftError<NodeId>> {
    fn from(error: CallError) -> Self {
        match error {
            // It has waited already.
            CallError::Peer(PeerError::Silent { .. }) => Self::Network(NetworkError::new(&error)),
            CallError::Peer(_) | CallError::Refused { .. } => {
                Self::Unreachable(Unreachable::new(&error))
            }
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Link {
        Link {
            network: self.clone(),
            to: target,
            member: member.clone(),
            confirmed: None,
        }
    }
}

/// The way to one node.
#[derive(Debug)]
pub(super) struct Link {
    network: Network,
    to: NodeId,
    member: Member,
    /// Up to here the node has said that it has the log.
    confirmed: Option<LogId<NodeId>>,
}

impl Link {
    /// Only says how far the log is committed, to a node that was spoken to just now:
    /// then it is told otherwise, and no entries wait behind it.
    fn is_needless(&self, rpc: &AppendEntriesRequest<Types>) -> bool {
        let contact = self.network.contacts.of(self.to);
        let is_recent = contact
            .and_then(|contact| contact.followed)
            .is_some_and(|followed| followed.elapsed() < self.network.heartbeat_interval / 2);
        let is_confirmed = rpc.prev_log_id.is_some() && rpc.prev_log_id <= self.confirmed;
        rpc.entries.is_empty() && is_confirmed && is_recent
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, Member, RaftError<NodeId>>> {
        if self.is_needless(&rpc) {
            return Ok(AppendEntriesResponse::Success);
        }
        let patience = APPEND_PATIENCE + PATIENCE_PER_MIB * mebibytes(&rpc);
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let last = last.or(rpc.prev_log_id);
        let answer = self
            .network
            .append(self.to, &self.member, rpc, patience)
            .await?;
        if matches!(answer, AppendEntriesResponse::Success) {
            self.confirmed = last.max(self.confirmed);
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        _: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, Member, RaftError<NodeId>>> {
        let (network, request) = (&self.network, Request::RaftVote(rpc));
        let reply = network.peers.call(
            self.to,
            &self.member,
            &network.group,
            request,
            network.patience,
        );
        match reply.await.map_err(CallError::from)? {
            Reply::RaftVote(answer) => Ok(answer),
            other => Err(CallError::refused(self.to, &other).into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types, openraft::error::Fatal<NodeId>>>
    {
        let cancel = Box::pin(async move {
            cancel.await;
        });
        let sent = self
            .network
            .catch_up
            .send(self.to, &self.member, vote, snapshot, cancel);
        sent.await.map_err(|error| match error {
            CatchUpError::Cancelled => StreamingError::Closed(ReplicationClosed::new(error)),
            // Of all errors the one after which openraft waits before it tries again.
            CatchUpError::Failed(why) => {
                StreamingError::Unreachable(Unreachable::new(&AnyError::error(why)))
            }
        })
    }

    fn backoff(&self) -> Backoff {
        let doubled = |&before: &Duration| Some((before * 2).min(LAST_BACKOFF));
        Backoff::new(std::iter::successors(Some(FIRST_BACKOFF), doubled))
    }
}

fn mebibytes(rpc: &AppendEntriesRequest<Types>) -> u32 {
    let size = |entry: &openraft::Entry<Types>| match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        _ => 0,
    };
    let bytes: usize = rpc.entries.iter().map(size).sum();
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}
