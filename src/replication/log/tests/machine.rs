//! The least state machine that openraft's suite takes.

use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StoredMembership};

use super::*;
use crate::replication::types::{Applied, Member, StateMark};

#[derive(Clone, Default)]
pub(super) struct Machine(Arc<Mutex<Content>>);

#[derive(Clone, Default)]
struct Content {
    applied: Option<LogId<NodeId>>,
    membership: StoredMembership<NodeId, Member>,
    snapshot: Option<Snapshot<Types>>,
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<NodeId>> {
        let mut content = self.0.lock();
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: content.applied,
                last_membership: content.membership.clone(),
                snapshot_id: format!("{:?}", content.applied),
            },
            snapshot: Box::new(StateMark::default()),
        };
        content.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembership<NodeId, Member>), StorageError<NodeId>>
    {
        let content = self.0.lock();
        Ok((content.applied, content.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError<NodeId>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut content = self.0.lock();
        let mut answers = Vec::new();
        for entry in entries {
            content.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                content.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            answers.push(Applied::Done);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<StateMark>, StorageError<NodeId>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, Member>,
        snapshot: Box<StateMark>,
    ) -> Result<(), StorageError<NodeId>> {
        let mut content = self.0.lock();
        content.applied = meta.last_log_id;
        content.membership = meta.last_membership.clone();
        content.snapshot = Some(Snapshot {
            meta: meta.clone(),
            snapshot,
        });
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<Types>>, StorageError<NodeId>> {
        Ok(self.0.lock().snapshot.clone())
    }
}
