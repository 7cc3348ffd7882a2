use std::path::Path;

use bytes::Bytes;
use openraft::CommittedLeaderId;

use super::*;
use crate::disk::RealDisk;
use crate::replication::command::{Commit, Commits, Payload, Record};
use crate::replication::files::open_area;
use crate::replication::net::memory::MemoryNetwork;
use crate::replication::staging::Staging;
use crate::replication::standstill::PACK_PATIENCE;
use crate::storage::StagedRecordKind;

use crate::storage::file::FileOptions;
use crate::transaction::{Inbox, Remote};
use crate::types::{Oid, Tid, TransactionMeta};

/// Of a node that nobody serves: no pack is carried out.
fn applier(directory: &Path, note: Note) -> Arc<Applier> {
    let options = FileOptions::new(directory.join("Data.fs"));
    let storage = Arc::new(FileStorage::open(Arc::new(RealDisk), options).unwrap());
    let peers = MemoryNetwork::new(1).boot(1).peers();
    let staging = Staging::new("1", peers, open_area(&storage).unwrap(), None);
    let files = Files::new(staging, Arc::clone(&storage));
    let path = directory.join("Data.fs.raft");
    Arc::new(Applier::new(1, storage, files, note, path, Duration::ZERO))
}

fn log_id(index: u64) -> LogId<NodeId> {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

async fn pack(applier: &Applier, index: u64) {
    let order = Order::Pack {
        stop: Tid::MAX,
        gc: true,
    };
    applier.carry_out(log_id(index), order).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_waits_for_a_pack_stands_still_until_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let applier = applier(directory.path(), Note::default());
    pack(&applier, 1).await;
    let waiting = tokio::spawn({
        let applier = Arc::clone(&applier);
        async move { applier.await_packs().await }
    });
    let mut stuck = applier.stuck();
    tokio::time::sleep(PACK_PATIENCE / 2).await;
    assert!(stuck.borrow().is_none());
    let is_harmless =
        |stuck: &Option<Standstill>| stuck.as_ref().is_some_and(|stuck| stuck.is_harmless);
    stuck.wait_for(is_harmless).await.unwrap();
    assert!(!waiting.is_finished());
    applier.packs.replace(Vec::new());
    waiting.await.unwrap();
    assert!(applier.stuck().borrow().is_none());
    // There is nothing to wait for any more.
    applier.await_packs().await;
}

/// While the disk syncs, entries go on being applied. They are applied again after a crash: a
/// pack that was counted already would be counted twice, and what was undone after it dropped on
/// this node alone.
#[tokio::test]
async fn a_note_counts_nothing_that_is_applied_again() {
    let directory = tempfile::tempdir().unwrap();
    let applier = applier(directory.path(), Note::default());
    pack(&applier, 1).await;
    let before = applier.state.lock().clone();
    pack(&applier, 2).await;
    let synced = applier.storage.sync().unwrap();
    assert!(!applier.state.lock().is_of_packs_of(&before));
    let note = applier.note_of(before, synced);
    assert_eq!(note.applied, Some(log_id(1)));
    assert_eq!((note.pack_orders, note.packs.len()), (1, 1));
    assert_eq!(note.packs[0].log_index, 1);
    let now = applier.note(synced);
    assert_eq!(now.applied, Some(log_id(2)));
    assert_eq!((now.pack_orders, now.packs.len()), (2, 2));
}

/// It was voted before the pack that stands before it. The node that proposed it tells the
/// deputy, which votes again: a client that was told of a failure by then would be told wrong.
#[tokio::test]
async fn who_has_a_transaction_that_a_pack_outdates_hears_of_it_from_the_deputy_alone() {
    let directory = tempfile::tempdir().unwrap();
    let applier = applier(directory.path(), Note::default());
    pack(&applier, 1).await;
    let inbox = Arc::<Inbox>::default();
    let session = applier.finishing.number();
    applier.finishing.wait(session, &inbox);
    let node = applier.node;
    let undo = Commit {
        tid: Tid::from_u64(1),
        remote: Some(Remote { node, session }),
        meta: TransactionMeta {
            tid: None,
            status: b' ',
            user: Vec::new(),
            description: Vec::new(),
            extension: Vec::new(),
        },
        records: vec![Record {
            oid: Oid::from_u64(1),
            kind: StagedRecordKind::Undo {
                to: Some(Tid::from_u64(0)),
            },
            start: 0,
            length: 0,
        }],
        payload: Payload::Inline(Bytes::new()),
        pack_orders: 0,
        blobs: Vec::new(),
    };
    let commits = Commits {
        term: 1,
        proposer: 2,
        batch: 1,
        transactions: vec![undo],
    };
    applier.commit(log_id(2), commits).await;
    assert_eq!(applier.storage.last_tid(), Tid::ZERO);
    assert!(applier.finishing.waits(session));
    assert!(!inbox.is_filled());
}
