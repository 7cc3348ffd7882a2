use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Membership, StoredMembership};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::replication::catch_up::{Origin, RateLimit};
use crate::replication::consensus::{Keep, TimerSettings};
use crate::replication::log::{Log, Options};
use crate::replication::net::memory::MemoryNetwork;
use crate::replication::node::{NodeError, NodeOptions, Served, StorageOptions};
use crate::replication::opening;
use crate::replication::peers::{Reply, Request};
use crate::replication::replica::Patience;
use crate::replication::types::{Command, StateMark, Types};
use crate::storage::file::{FileOptions, FileStorage};
use crate::transaction::DatabaseOptions;

const NODE: NodeId = 1;
const LEADER: NodeId = 2;
const PATIENCE: Duration = Duration::from_secs(20);

/// A run of the node over its files; then its files as the next run finds them.
fn run(directory: &TempDir, work: impl AsyncFnOnce(&TempDir)) -> TempDir {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(directory));
    runtime.shutdown_timeout(PATIENCE);
    let next = tempfile::tempdir().unwrap();
    copy_files(directory.path(), next.path());
    copy_files(&directory.path().join("raft"), &next.path().join("raft"));
    next
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let is_lock = entry.path().extension().is_some_and(|it| it == "lock");
        if entry.file_type().unwrap().is_file() && !is_lock {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

async fn open(directory: &TempDir) -> std::result::Result<(Served, Log), NodeError> {
    let options = NodeOptions {
        node: NODE,
        address: "node1:8101".to_owned(),
        directory: directory.path().join("raft"),
        timers: TimerSettings::default(),
        patience: Patience {
            register: PATIENCE,
            read: PATIENCE,
        },
        quorum_wait: PATIENCE,
        log_size_bytes: 1 << 20,
        apply_delay: Duration::ZERO,
        catch_up_bytes_per_second: None,
    };
    let storage = StorageOptions {
        name: "1".to_owned(),
        file: FileOptions::new(directory.path().join("Data.fs")),
        database: DatabaseOptions {
            invalidation_queue_size: 100,
            invalidation_age: None,
            transaction_timeout: None,
            hand_back_conflicts: false,
            read_only: false,
            max_transaction_bytes: 1 << 20,
        },
    };
    let peers = MemoryNetwork::new(1).boot(NODE).peers();
    let (log, _) = Log::open(&options.directory, NODE, Options::default())?;
    let served = opening::open(&options, storage, &log, &peers, None).await?;
    Ok((served, log))
}

fn log_id(index: u64) -> LogId<NodeId> {
    LogId::new(CommittedLeaderId::new(1, LEADER), index)
}

fn membership() -> StoredMembership<NodeId, Member> {
    let nodes = [NODE, LEADER].map(|node| (node, Member::default()));
    let voters = nodes.iter().map(|(node, _)| *node).collect();
    let membership = Membership::new(vec![voters], std::collections::BTreeMap::from(nodes));
    StoredMembership::new(Some(log_id(0)), membership)
}

/// The leader sends entries of `indexes`, and says that they are committed.
async fn send_entries(
    served: &Served,
    indexes: std::ops::Range<u64>,
    payload: EntryPayload<Types>,
) {
    let rpc = AppendEntriesRequest {
        vote: Vote::new_committed(1, LEADER),
        prev_log_id: indexes.start.checked_sub(1).map(log_id),
        leader_commit: indexes.end.checked_sub(1).map(log_id),
        entries: indexes
            .map(|index| Entry {
                log_id: log_id(index),
                payload: payload.clone(),
            })
            .collect(),
    };
    let reply = served.group.handle(LEADER, Request::Append(rpc)).await;
    let is_taken = matches!(reply, Reply::Append(AppendEntriesResponse::Success));
    assert!(is_taken, "{reply:?}");
}

/// Entry 0 has the members, and the next ones to `last` nothing; all are applied.
async fn fill(served: &Served, last: u64) {
    let members = EntryPayload::Membership(membership().membership().clone());
    send_entries(served, 0..1, members).await;
    send_entries(served, 1..last + 1, EntryPayload::Blank).await;
    until(served, |status| status.applied == Some(last)).await;
}

/// Of 40 entries that are applied the last ten stay in the log.
async fn keep_ten_of_forty(served: &Served) {
    let keep = Keep {
        durable: 40,
        entries: 10,
        affordable_from: u64::MAX,
        files_from: None,
        absent_after: Duration::ZERO,
    };
    served.group.purge_log(&keep).await;
}

/// The next start has what reaches to entry `last`, owes nothing, and applies what follows.
async fn goes_on_behind(directory: &TempDir, last: u64) {
    let (served, _log) = open(directory).await.unwrap();
    assert_eq!(served.replica.applier.noted(), Some(last));
    let data_path = directory.path().join("Data.fs");
    assert_eq!(pending(&RealDisk, &data_path).unwrap(), None);
    send_entries(&served, last + 1..last + 10, EntryPayload::Blank).await;
    until(&served, |status| status.applied == Some(last + 9)).await;
}

async fn until(
    served: &Served,
    is_so: impl Fn(&crate::replication::consensus::GroupStatus) -> bool,
) {
    let wait = async {
        while !is_so(&served.group.status()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("{:?}", served.group.status()));
}

/// The leader sends its state, an empty file, which it calls that of entry `last`.
async fn send_state(served: &Served, last: u64) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let applier = Arc::clone(&served.replica.applier);
    let group = served.group.clone();
    let receiving = tokio::spawn(async move {
        receive(&applier, &group, Box::new(far), LEADER).await;
    });
    let directory = tempfile::tempdir().unwrap();
    let options = FileOptions::new(directory.path().join("Data.fs"));
    let storage = FileStorage::open(Arc::new(RealDisk), options).unwrap();
    let held = storage.hold().unwrap();
    let note = Note {
        applied: Some(log_id(last)),
        membership: membership(),
        mark: StateMark {
            length: held.end(),
            ..StateMark::default()
        },
        ..Note::default()
    };
    let envelope = Envelope {
        vote: Vote::new_committed(1, LEADER),
        meta: SnapshotMeta {
            last_log_id: note.applied,
            last_membership: note.membership.clone(),
            snapshot_id: String::new(),
        },
        note: note.clone(),
    };
    let mut stream: PeerStream = Box::new(near);
    send_message(&mut stream, &encode(&envelope)).await.unwrap();
    let origin = Origin {
        held,
        mark: note.mark,
        blobs: None,
    };
    let (rate, progress) = (RateLimit::default(), Arc::<Progress>::default());
    let sent = catch_up::send(&mut stream, origin, &rate, &progress).await;
    sent.unwrap();
    // The group is stopped where it does not install it.
    let _ = receive_message(&mut stream, 1 << 10).await;
    receiving.await.unwrap();
}

#[test]
fn observers_see_a_transfer_until_it_is_over() {
    let receiving = Receiving::default();
    assert_eq!(receiving.progress(), None);
    let (under_way, progress) = receiving.begin();
    assert_eq!(receiving.progress(), Some(progress.get()));
    drop(under_way);
    assert_eq!(receiving.progress(), None);
}

/// Raft drops its log before the state is in place: that waits behind what is being applied. A stop that
/// comes meanwhile leaves the rest to the next start.
#[test]
fn a_stop_while_a_state_waits_to_be_put_in_place_forgets_nothing() {
    let directory = run(&tempfile::tempdir().unwrap(), async |directory| {
        let (served, _log) = open(directory).await.unwrap();
        fill(&served, 10).await;
        // Nobody can apply this one: the state waits behind it.
        send_entries(&served, 11..12, EntryPayload::Normal(Command("?".into()))).await;
        let group = served.group.clone();
        let stop = async {
            until(&served, |status| status.purged == Some(50)).await;
            group.halt().await;
        };
        tokio::join!(send_state(&served, 50), stop);
        assert_eq!(served.group.applied().borrow().unwrap().index, 10);
    });
    run(&directory, async |directory| {
        goes_on_behind(directory, 50).await;
    });
}

/// A state that came when the node had got further by its log: that log may not reach back so far any more.
#[test]
fn an_older_state_that_was_never_installed_is_forgotten_at_the_next_start() {
    let directory = run(&tempfile::tempdir().unwrap(), async |directory| {
        let (served, _log) = open(directory).await.unwrap();
        fill(&served, 40).await;
        served.group.snapshot().await;
        until(&served, |_| served.replica.applier.noted() == Some(40)).await;
        keep_ten_of_forty(&served).await;
        until(&served, |status| status.purged == Some(30)).await;
        served.group.halt().await;
        send_state(&served, 20).await;
    });
    run(&directory, async |directory| {
        goes_on_behind(directory, 40).await;
    });
}

/// What lies between the two is nowhere on this node.
#[test]
fn a_log_that_begins_behind_what_was_applied_is_no_start() {
    let directory = run(&tempfile::tempdir().unwrap(), async |directory| {
        let note_path = directory.path().join("Data.fs.raft");
        let (served, _log) = open(directory).await.unwrap();
        fill(&served, 40).await;
        served.group.snapshot().await;
        until(&served, |_| served.replica.applier.noted() == Some(40)).await;
        let mut older = Note::read(&note_path).unwrap().unwrap();
        older.applied = Some(log_id(20));
        keep_ten_of_forty(&served).await;
        until(&served, |status| status.purged == Some(30)).await;
        served.group.halt().await;
        older.write(&note_path).unwrap();
    });
    run(&directory, async |directory| {
        let refused = open(directory).await.map(drop).unwrap_err().to_string();
        let is_told = refused.contains("entry 31") && refused.contains("A disk is lost");
        assert!(is_told, "{refused}");
    });
}
