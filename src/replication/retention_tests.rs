//! Three nodes in one process: files beside the log stay for whoever has yet to apply what
//! names them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::replication::command::{Commit, Commits, Order, Payload, Record};
use crate::replication::consensus::{Leadership, TimerSettings};
use crate::replication::log::{self, Log};
use crate::replication::net::memory::MemoryNetwork;
use crate::replication::node::{NodeOptions, StorageOptions};
use crate::replication::opening;
use crate::replication::peers::{
    BoxFuture, PeerHandler, PeerStream, Peers, Reply, Request, StreamKind,
};
use crate::replication::replica::Patience;
use crate::replication::types::{Member, NodeId};
use crate::storage::file::FileOptions;
use crate::storage::staging::FileDigest;
use crate::storage::{RECORD_GAP_BYTES, StagedBody, StagedRecordKind};
use crate::transaction::DatabaseOptions;
use crate::types::{Oid, Tid, TransactionMeta};

const DAY: Duration = Duration::from_hours(24);
/// A log without a bound, of which nothing has to stay.
const NOTHING: Limits = Limits {
    entries: 0,
    bytes: u64::MAX,
    orphans_for: Duration::ZERO,
};

struct Node {
    id: NodeId,
    served: Served,
    handler: Arc<Handler>,
    directory: TempDir,
    log: Option<Log>,
}

/// Answers as today's zeod, or as one that knows fewer questions.
struct Handler {
    served: Served,
    is_earlier: AtomicBool,
}

impl PeerHandler for Handler {
    fn call<'a>(&'a self, from: NodeId, _: &'a str, request: Request) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            if matches!(request, Request::Service(_)) && self.is_earlier.load(Ordering::Relaxed) {
                let (leader, why) = (None, "this node does not lead".to_owned());
                return Reply::Refused { leader, why };
            }
            self.served.group.handle(from, request).await
        })
    }

    fn stream<'a>(
        &'a self,
        from: NodeId,
        _: &'a str,
        kind: StreamKind,
        stream: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.served.group.handle_stream(from, kind, stream).await;
        })
    }
}

impl Node {
    async fn start(network: &MemoryNetwork, id: NodeId, delay: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(network, id, delay, directory).await
    }

    async fn start_in(
        network: &MemoryNetwork,
        id: NodeId,
        delay: Duration,
        directory: TempDir,
    ) -> Self {
        let raft = directory.path().join("raft");
        let (log, _) = Log::open(&raft, id, log::Options::default()).unwrap();
        let host = network.boot(id);
        let peers: Arc<dyn Peers> = host.peers();
        let options = NodeOptions {
            node: id,
            address: format!("db{id}:1"),
            directory: raft,
            timers: TimerSettings::default(),
            patience: Patience {
                register: Duration::from_secs(10),
                read: Duration::from_secs(10),
            },
            quorum_wait: Duration::from_secs(10),
            log_size_bytes: u64::MAX,
            apply_delay: delay,
            catch_up_bytes_per_second: None,
        };
        let mut file = FileOptions::new(directory.path().join("Data.fs"));
        file.create = !file.path.exists();
        let storage = StorageOptions {
            name: "1".to_owned(),
            file,
            database: DatabaseOptions {
                invalidation_queue_size: 10,
                invalidation_age: None,
                transaction_timeout: None,
                hand_back_conflicts: true,
                read_only: false,
                max_transaction_bytes: u64::MAX,
            },
        };
        let served = opening::open(&options, storage, &log, &peers, None)
            .await
            .unwrap();
        let handler = Arc::new(Handler {
            served: served.clone(),
            is_earlier: AtomicBool::new(false),
        });
        host.serve(Arc::clone(&handler) as Arc<dyn PeerHandler>);
        Self {
            id,
            served,
            handler,
            directory,
            log: Some(log),
        }
    }

    /// As a start after a crash finds it.
    async fn restart(mut self, network: &MemoryNetwork, delay: Duration) -> Self {
        network.crash(self.id);
        self.served.group.halt().await;
        if let Some(log) = self.log.take() {
            tokio::task::block_in_place(|| log.close());
        }
        // Something may still have the old files open, as nothing would after a crash.
        let directory = tempfile::tempdir().unwrap();
        copy(self.directory.path(), directory.path());
        Self::start_in(network, self.id, delay, directory).await
    }

    fn has(&self, file: &FileDigest) -> bool {
        self.served.replica.applier.files.area().has(file)
    }

    fn take(&self, body: &StagedBody) -> FileDigest {
        self.served
            .replica
            .applier
            .files
            .area()
            .take_body(body)
            .unwrap()
    }

    fn applied(&self) -> u64 {
        let applied = self.served.replica.applier.applied().0;
        applied.map_or(0, |applied| applied.index)
    }

    fn logged(&self) -> u64 {
        self.served.group.status().last_log.unwrap_or(0)
    }

    /// Saves its state and drops what it need not keep, some times.
    async fn keep_up(&self, limits: Limits) {
        let mut retention = Retention::new(limits);
        for _ in 0..5 {
            self.served.group.snapshot().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            retention.look_through(&self.served).await;
            retention.drop_needless(&self.served).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for found in std::fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let to = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&found.path(), &to);
        } else {
            std::fs::copy(found.path(), to).unwrap();
        }
    }
}

/// What a node that is late on purpose does when an entry is applied: meanwhile openraft waits.
async fn drop_applied(late: &Node) {
    Retention::new(NOTHING).look_through(&late.served).await;
    let files = &late.served.replica.applier.files;
    files.purged(late.applied(), Duration::ZERO);
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// One voter and learners, of which the last one is late by `delay`.
async fn cluster(network: &MemoryNetwork, delay: Duration) -> [Node; 3] {
    let nodes = [
        Node::start(network, 1, Duration::ZERO).await,
        Node::start(network, 2, Duration::ZERO).await,
        Node::start(network, 3, delay).await,
    ];
    let member = |id: NodeId| Member {
        address: format!("db{id}:1"),
    };
    let leader = &nodes[0].served.group;
    leader.initialize(member(1)).await.unwrap();
    leader.vote_from_now_on();
    let mut leadership = leader.leadership();
    let leads = |known: &Leadership| matches!(known, Leadership::Leader { .. });
    leadership.wait_for(leads).await.unwrap();
    for id in [2, 3] {
        leader.add_learner(id, member(id)).await.unwrap();
    }
    nodes
}

/// The body of a transaction, as it is staged.
fn body(seed: u8) -> StagedBody {
    let mut bytes = vec![0; RECORD_GAP_BYTES];
    bytes.extend(vec![seed; 100]);
    StagedBody::Memory(bytes)
}

/// A transaction of now, whose data is in `payload`.
fn commit(payload: Payload, start: u64) -> Commit {
    Commit {
        tid: Tid::from_time(SystemTime::now()),
        remote: None,
        meta: TransactionMeta {
            status: b' ',
            ..TransactionMeta::default()
        },
        records: vec![Record {
            oid: Oid::from_u64(1),
            kind: StagedRecordKind::Store,
            start,
            length: 100,
        }],
        payload,
        pack_orders: 0,
        blobs: Vec::new(),
    }
}

/// Has the leader commit it; where in the log it stands.
async fn propose(leader: &Node, commit: Commit) -> u64 {
    let order = Order::Commit(Commits {
        term: leader.served.group.term().unwrap(),
        proposer: leader.id,
        batch: u64::MAX,
        transactions: vec![commit],
    });
    let proposed = leader.served.group.propose(order.encode()).await.unwrap();
    proposed.log_id.index
}

async fn propose_file(leader: &Node, file: FileDigest) -> u64 {
    propose(
        leader,
        commit(Payload::Staged(file), RECORD_GAP_BYTES as u64),
    )
    .await
}

async fn propose_inline(leader: &Node) -> u64 {
    let payload = Payload::Inline(Bytes::from(vec![7; 100]));
    propose(leader, commit(payload, 0)).await
}

/// A file that the leader and the follower have, and an entry that names it. The last node has the
/// entry, will apply it in a day, and was not there when the file was staged.
async fn file_that_is_lacking(nodes: &[Node; 3]) -> FileDigest {
    let [leader, follower, late] = nodes;
    let file = leader.take(&body(1));
    follower.take(&body(1));
    let index = propose_file(leader, file).await;
    let last = propose_inline(leader).await;
    let all_have_it = || follower.applied() == last && late.logged() == last;
    until("all have it", all_have_it).await;
    assert!(late.applied() < index && !late.has(&file));
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_stays_while_another_member_has_to_apply_what_names_it() {
    let network = MemoryNetwork::new(1);
    let nodes = cluster(&network, DAY).await;
    let file = file_that_is_lacking(&nodes).await;
    let [leader, follower, late] = &nodes;
    for node in [leader, follower] {
        node.keep_up(NOTHING).await;
        assert!(node.has(&file), "node {} has deleted it", node.id);
    }
    // A day is long: it gets it now, and nobody else has to keep it.
    late.keep_up(NOTHING).await;
    let applier = &late.served.replica.applier;
    let others = || applier.others();
    applier
        .files
        .fetch_ahead(applier.applied_next(), others)
        .await;
    assert!(late.has(&file));
    for node in [leader, follower] {
        node.keep_up(NOTHING).await;
        assert!(!node.has(&file), "node {} keeps it", node.id);
    }
    late.keep_up(NOTHING).await;
    assert!(late.has(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_stay_for_a_member_that_is_not_reached() {
    let network = MemoryNetwork::new(3);
    let nodes = cluster(&network, DAY).await;
    let file = file_that_is_lacking(&nodes).await;
    network.crash(3);
    for node in &nodes[..2] {
        node.keep_up(NOTHING).await;
        assert!(node.has(&file), "node {} has deleted it", node.id);
    }
}

/// While nodes are upgraded one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_an_earlier_zeod_that_does_not_tell_what_it_needs() {
    let network = MemoryNetwork::new(6);
    let nodes = cluster(&network, DAY).await;
    let file = file_that_is_lacking(&nodes).await;
    let [leader, follower, late] = &nodes;
    late.handler.is_earlier.store(true, Ordering::Relaxed);
    follower.keep_up(NOTHING).await;
    leader.keep_up(NOTHING).await;
    assert!(!leader.has(&file) && !follower.has(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_member_has_a_bound() {
    let network = MemoryNetwork::new(4);
    let nodes = cluster(&network, DAY).await;
    let file = file_that_is_lacking(&nodes).await;
    let [leader, ..] = &nodes;
    let newer = leader.take(&body(2));
    let last = propose_file(leader, newer).await;
    until("it is applied", || leader.applied() == last).await;
    let bytes = newer.length;
    leader.keep_up(Limits { bytes, ..NOTHING }).await;
    assert!(!leader.has(&file) && leader.has(&newer));
}

/// Files came, and the entries that name them; then a day goes by before the first is applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_the_files_of_what_it_has_yet_to_apply() {
    let network = MemoryNetwork::new(2);
    let [leader, follower, late] = cluster(&network, DAY).await;
    let files = [1, 2].map(|seed| leader.take(&body(seed)));
    let mut last = 0;
    for (seed, file) in (1..).zip(files) {
        late.take(&body(seed));
        last = propose_file(&leader, file).await;
    }
    until("it has them", || late.logged() == last).await;
    let has_all = |late: &Node| files.iter().all(|file| late.has(file));
    drop_applied(&late).await;
    assert!(late.applied() < last && has_all(&late));
    let late = late.restart(&network, DAY).await;
    let orphan = late.take(&body(3));
    drop_applied(&late).await;
    assert!(late.applied() < last && has_all(&late));
    assert!(!late.has(&orphan));
    drop(follower);
}

/// It is not waited for in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_a_file_is_on_no_node_any_more() {
    let network = MemoryNetwork::new(5);
    let nodes = cluster(&network, Duration::from_secs(2)).await;
    let file = file_that_is_lacking(&nodes).await;
    let [leader, follower, late] = &nodes;
    for node in [leader, follower] {
        node.served.replica.applier.files.area().release(&[file]);
    }
    let is_lost = || late.served.standstill().is_some_and(|known| known.is_lost);
    until("it says so", is_lost).await;
    let known = late.served.standstill().unwrap();
    assert_eq!(known.storage, "1");
    let why = format!("the file {file} with the data of a transaction is on no node any more");
    assert!(known.why.contains(&why), "{known:?}");
    assert!(late.served.status().failed.is_some());
    assert_eq!(leader.served.standstill(), None);
    // Whoever has it by another way can bring it.
    follower.take(&body(1));
    until("it goes on", || late.served.standstill().is_none()).await;
}
