//! The storage as openraft's state machine. What there is to do is done in
//! `applier.rs`.

use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, Entry, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};

use super::applier::Applier;
use super::types::{Applied, Member, NodeId, StateMark, Types};

type Result<T> = std::result::Result<T, StorageError<NodeId>>;

/// One storage. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Machine(pub Arc<Applier>);

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembership<NodeId, Member>)> {
        Ok(self.0.applied())
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = Vec::new();
        for entry in entries {
            applied.push(self.0.apply(entry).await);
        }
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<StateMark>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, Member>,
        _snapshot: Box<StateMark>,
    ) -> Result<()> {
        self.0.install(meta).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        // Nothing is applied meanwhile, so this is one moment.
        let offer = tokio::task::block_in_place(|| self.0.offer());
        let offer = offer.map_err(|error| failed(&error))?;
        Ok(offer.map(|offer| snapshot(offer.log_id, offer.note.membership, offer.note.mark)))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    /// Makes durable what was applied. The state itself is `Data.fs`.
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>> {
        let applier = Arc::clone(&self.0);
        let saved = tokio::task::spawn_blocking(move || applier.save()).await;
        let note = saved
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        let log_id = note
            .applied
            .ok_or_else(|| failed(&std::io::Error::other("nothing is applied yet")))?;
        Ok(snapshot(log_id, note.membership, note.mark))
    }
}

fn snapshot(
    applied: LogId<NodeId>,
    membership: StoredMembership<NodeId, Member>,
    mark: StateMark,
) -> Snapshot<Types> {
    Snapshot {
        meta: SnapshotMeta {
            last_log_id: Some(applied),
            last_membership: membership,
            snapshot_id: format!("{applied}"),
        },
        snapshot: Box::new(mark),
    }
}

fn failed(error: &(impl std::error::Error + 'static)) -> StorageError<NodeId> {
    StorageIOError::write_snapshot(None, AnyError::new(error)).into()
}
