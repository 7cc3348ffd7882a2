//! Nothing counts that is not on the disk.
//!
//! A leader's log takes entries before they are durable
//! ([`may_be_told_early`](crate::replication::log::may_be_told_early)), so
//! openraft may take an entry for committed that is durable on too few nodes.
//! So:
//!
//! - a node applies an entry when it is durable there ([`Observed`]);
//! - it says that it has an entry, and that one is committed, when it is
//!   durable there ([`Durable::wait`], [`Durable::clamp`]).
//!
//! Then whoever sees an entry applied, or hears that it is committed, knows that
//! it is durable on all the nodes that openraft has counted.

use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{Entry, LogId, OptionalSend, SnapshotMeta, StorageError, StoredMembership};
use tokio::sync::{Notify, watch};

use super::telling::Telling;
use crate::replication::types::{Applied, Member, NodeId, StateMark, Types};

/// How much of the log of this node is durable: entries before this index.
#[derive(Clone, Debug)]
pub(super) struct Durable(pub(super) watch::Receiver<u64>);

impl Durable {
    /// Waits until the entry is durable. Where the log has failed, for ever: the
    /// node is about to stop.
    pub(super) async fn wait(&self, index: u64) {
        let mut durable = self.0.clone();
        if durable.wait_for(|durable| *durable > index).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What may be told of `committed`: None where the entry is not durable yet.
    pub(super) fn clamp(&self, committed: Option<LogId<NodeId>>) -> Option<LogId<NodeId>> {
        committed.filter(|committed| *self.0.borrow() > committed.index)
    }
}

/// The state machine: entries come to it when they are durable, and what it has
/// applied is told.
#[derive(Debug)]
pub(super) struct Observed<M> {
    pub(super) machine: M,
    pub(super) durable: Durable,
    pub(super) applied: watch::Sender<Option<LogId<NodeId>>>,
    pub(super) telling: Arc<Telling>,
    /// Whoever waits for the first entry of a leadership.
    pub(super) nudge: Arc<Notify>,
}

type Result<T> = std::result::Result<T, StorageError<NodeId>>;

impl<M> Observed<M> {
    fn is_applied(&self, last: Option<LogId<NodeId>>) {
        let before = self.applied.send_replace(last);
        let term = |log_id: Option<LogId<NodeId>>| log_id.map(|log_id| log_id.leader_id);
        if term(before) != term(last) {
            self.nudge.notify_one();
        }
        self.telling.applied(last);
    }
}

impl<M: RaftStateMachine<Types>> RaftStateMachine<Types> for Observed<M> {
    type SnapshotBuilder = M::SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembership<NodeId, Member>)> {
        let (last, membership) = self.machine.applied_state().await?;
        self.applied.send_replace(last);
        Ok((last, membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            return Ok(Vec::new());
        };
        self.durable.wait(last.index).await;
        let outcome = self.machine.apply(entries).await?;
        self.is_applied(Some(last));
        Ok(outcome)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.machine.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<StateMark>> {
        self.machine.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, Member>,
        snapshot: Box<StateMark>,
    ) -> Result<()> {
        self.machine.install_snapshot(meta, snapshot).await?;
        self.is_applied(meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        self.machine.get_current_snapshot().await
    }
}
