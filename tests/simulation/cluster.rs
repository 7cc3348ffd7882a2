//! Nodes that can be started, crashed and asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::SnapshotResponse;
use openraft::{Snapshot, Vote};
use parking_lot::Mutex;
use tokio::time::Instant;
use zeod::replication::consensus::{
    CatchUp, CatchUpError, Group, GroupOptions, GroupStatus, Leadership, ProposeError, Services,
    TimerSettings,
};
use zeod::replication::peers::{
    BoxFuture, PeerHandler, PeerStream, Peers, Reply, Request, StreamKind,
};
use zeod::replication::types::{Member, NodeId, Types};

use crate::checks::Oracle;
use crate::log::{Log, LogDisk};
use crate::machine::{Machine, MachineDisk, State, Transaction};
use crate::memory::MemoryNetwork;

const GROUP: &str = "1";

/// Clones are the same one.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    network: MemoryNetwork,
    oracle: Arc<Oracle>,
    disks: Mutex<BTreeMap<NodeId, Disks>>,
    running: Mutex<BTreeMap<NodeId, Node>>,
    runs: Mutex<u64>,
}

#[derive(Clone, Default)]
struct Disks {
    log: Arc<Mutex<LogDisk>>,
    machine: Arc<Mutex<MachineDisk>>,
}

/// A node that runs.
#[derive(Clone)]
pub struct Node {
    pub id: NodeId,
    pub group: Group,
    pub log: Log,
    machine: Machine,
    /// The last tid that was given out, and under which term.
    tids: Arc<Mutex<(u64, u64)>>,
}

pub fn member(node: NodeId) -> Member {
    Member {
        address: format!("node{node}:8101"),
    }
}

impl Cluster {
    /// No node yet.
    pub fn new(seed: u64) -> Self {
        let shared = Shared {
            seed,
            network: MemoryNetwork::new(seed),
            oracle: Arc::default(),
            disks: Mutex::default(),
            running: Mutex::default(),
            runs: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Nodes 1 to `size`, all of them voters; node 1 leads.
    pub async fn of_voters(seed: u64, size: NodeId) -> Self {
        let cluster = Self::new(seed);
        for node in 1..=size {
            cluster.start(node).await;
        }
        let first = cluster.node(1).group;
        first.initialize(member(1)).await.unwrap();
        for node in 2..=size {
            first.add_learner(node, member(node)).await.unwrap();
            first.promote(node, Duration::from_secs(5)).await.unwrap();
        }
        cluster
    }

    pub fn network(&self) -> &MemoryNetwork {
        &self.shared.network
    }

    pub fn oracle(&self) -> &Oracle {
        &self.shared.oracle
    }

    /// Starts a node, with what its disks have kept.
    pub async fn start(&self, id: NodeId) {
        assert!(self.find(id).is_none(), "node {id} runs");
        let shared = &self.shared;
        let disks = shared.disks.lock().entry(id).or_default().clone();
        shared.oracle.knows(id, Arc::clone(&disks.log));
        let run = {
            let mut runs = shared.runs.lock();
            *runs += 1;
            *runs
        };
        let seed = shared
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add(run * 64 + id);
        let is_damaged = disks.log.lock().is_damaged;
        let log = Log::open(id, Arc::clone(&disks.log), seed);
        let oracle = Arc::clone(&shared.oracle);
        let machine = Machine::open(id, disks.machine, oracle, seed);
        let host = shared.network.boot(id);
        let options = GroupOptions {
            abstains: is_damaged,
            name: GROUP.to_owned(),
            node: id,
            timers: TimerSettings::default(),
            seed,
            durable: log.durable(),
        };
        let transfers = Transfers {
            cluster: Arc::downgrade(shared),
            from: id,
            peers: host.peers(),
        };
        let group = Group::start(
            options,
            log.clone(),
            machine.clone(),
            host.peers(),
            Arc::new(transfers),
        );
        let group = group.await.unwrap();
        group.set_services(Arc::new(Echo(id)));
        host.serve(Arc::new(Door(group.clone())));
        let node = Node {
            id,
            group,
            log,
            machine,
            tids: Arc::default(),
        };
        tokio::spawn(watch_leadership(node.clone(), run));
        if is_damaged {
            tokio::spawn(crate::damage::vote_when_whole(
                node.group.clone(),
                disks.log,
            ));
        }
        shared.running.lock().insert(id, node);
    }

    /// kill -9, or a power cut.
    pub fn crash(&self, id: NodeId) {
        self.shared.network.crash(id);
        let node = self.shared.running.lock().remove(&id);
        if let Some(node) = node {
            node.log.crash();
            node.machine.crash();
            tokio::spawn(async move { node.group.halt().await });
        }
    }

    /// The log of a node that does not run ends before `end` from now on: its disk is damaged.
    pub fn cut_log(&self, id: NodeId, end: u64) {
        self.disks_of_stopped(id).log.lock().lose(end);
    }

    /// A node that does not run has nothing any more, as if it was a new one.
    pub fn empty(&self, id: NodeId) {
        let disks = self.disks_of_stopped(id);
        *disks.log.lock() = LogDisk {
            is_damaged: true,
            ..LogDisk::default()
        };
        *disks.machine.lock() = MachineDisk::default();
    }

    pub fn is_any_damaged(&self) -> bool {
        let disks = self.shared.disks.lock();
        disks.values().any(|disks| disks.log.lock().is_damaged)
    }

    fn disks_of_stopped(&self, id: NodeId) -> Disks {
        assert!(self.find(id).is_none(), "node {id} runs");
        self.shared.disks.lock()[&id].clone()
    }

    /// A clean stop.
    pub async fn stop(&self, id: NodeId) {
        let node = self.node(id);
        node.group.shutdown().await;
        self.crash(id);
    }

    pub fn find(&self, id: NodeId) -> Option<Node> {
        self.shared.running.lock().get(&id).cloned()
    }

    pub fn node(&self, id: NodeId) -> Node {
        self.find(id).expect("it runs")
    }

    pub fn running(&self) -> Vec<Node> {
        self.shared.running.lock().values().cloned().collect()
    }

    /// The node that leads, by its own account: of two the one with the later term.
    pub fn leader(&self) -> Option<Node> {
        let term = |node: &Node| match *node.group.leadership().borrow() {
            Leadership::Leader { term } => Some(term),
            _ => None,
        };
        let running = self.running().into_iter();
        let leading = running.filter_map(|node| Some((term(&node)?, node)));
        leading.max_by_key(|(term, _)| *term).map(|(_, node)| node)
    }

    pub async fn wait_leader(&self) -> Node {
        self.wait(Duration::from_secs(30), "a leader", || self.leader())
            .await
    }

    /// Waits, on simulated time, until `look` finds something.
    pub async fn wait<T>(
        &self,
        bound: Duration,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(found) = look() {
                return found;
            }
            let states: Vec<_> = self
                .running()
                .iter()
                .map(|node| node.group.status())
                .collect();
            assert!(
                Instant::now() < deadline,
                "no {what} within {bound:?}: {states:#?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Commits transactions of `proposer`, numbered on from `number`, until one is acknowledged.
    pub async fn commit(&self, proposer: u64, number: &mut u64, bound: Duration) -> NodeId {
        let deadline = Instant::now() + bound;
        loop {
            assert!(
                Instant::now() < deadline,
                "nothing is committed within {bound:?}"
            );
            let leader = self.leader();
            if let Some(proposal) = leader.and_then(|leader| {
                *number += 1;
                // A proposer belongs to one node: what is unknown there may still be ahead.
                leader.propose(proposer * 100 + leader.id, *number)
            }) {
                let node = proposal.node;
                let patience = Duration::from_millis(500);
                if let Ok(true) =
                    tokio::time::timeout(patience, proposal.outcome(self.oracle())).await
                {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until these nodes have applied the same, and checks that it is.
    pub async fn wait_equal(&self, ids: &[NodeId], bound: Duration) {
        self.wait_equal_among(|_| ids.to_vec(), bound).await;
    }

    /// The same for all members, whoever they are by then.
    pub async fn wait_members_equal(&self, bound: Duration) {
        let members = |status: &GroupStatus| {
            let members = status.members.iter();
            members.map(|member| member.node).collect()
        };
        self.wait_equal_among(members, bound).await;
    }

    async fn wait_equal_among(&self, ids: impl Fn(&GroupStatus) -> Vec<NodeId>, bound: Duration) {
        let all = self.wait(bound, "agreement", || {
            let status = self.leader()?.group.status();
            let nodes = ids(&status).into_iter().map(|id| self.node(id));
            let all: Vec<_> = nodes.map(|node| (node.id, node.state())).collect();
            let is_at_end = |state: &State| state.last.map(|last| last.index) == status.last_log;
            let is_over = !status.is_changing && all.iter().all(|(_, state)| is_at_end(state));
            is_over.then_some(all)
        });
        let all = all.await;
        self.oracle()
            .all_equal(all.iter().map(|(id, state)| (*id, state)));
    }
}

/// A transaction on its way.
pub struct Proposal {
    pub node: NodeId,
    transaction: Transaction,
    answer: BoxFuture<'static, Result<zeod::replication::consensus::Proposed, ProposeError>>,
}

impl Proposal {
    /// Waits for the outcome and tells it to the oracle; true: committed.
    pub async fn outcome(self, oracle: &Oracle) -> bool {
        match self.answer.await {
            Ok(proposed) => {
                oracle.acknowledged(self.transaction, proposed.log_id);
                true
            }
            Err(ProposeError::Refused { .. }) => {
                oracle.refused(self.transaction);
                false
            }
            Err(ProposeError::Unknown { .. }) => {
                oracle.count(|counts| counts.unknown += 1);
                false
            }
        }
    }
}

impl Node {
    pub fn state(&self) -> State {
        self.machine.state.lock().clone()
    }

    /// Applies nothing, or goes on.
    pub fn stand_still(&self, so: bool) {
        self.machine.stand_still(so);
    }

    pub fn applied(&self) -> Option<u64> {
        self.machine.state.lock().last.map(|last| last.index)
    }

    /// Proposes as a leader's committer does: tids follow on those that are there.
    pub fn propose(&self, proposer: u64, number: u64) -> Option<Proposal> {
        let Leadership::Leader { term } = *self.group.leadership().borrow() else {
            return None;
        };
        let mut tids = self.tids.lock();
        let last = if tids.0 == term {
            tids.1
        } else {
            self.machine.state.lock().last_tid()
        };
        *tids = (term, last + 1);
        let transaction = Transaction {
            proposer,
            number,
            term,
            tid: last + 1,
        };
        let answer = self.group.propose(transaction.command());
        Some(Proposal {
            node: self.id,
            transaction,
            answer: Box::pin(answer),
        })
    }
}

async fn watch_leadership(node: Node, run: u64) {
    let mut leadership = node.group.leadership();
    loop {
        if let Leadership::Leader { term } = *leadership.borrow_and_update() {
            node.machine.oracle.leads(node.id, term, run);
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Lets the others in.
struct Door(Group);

impl PeerHandler for Door {
    fn call<'a>(&'a self, from: NodeId, group: &'a str, request: Request) -> BoxFuture<'a, Reply> {
        assert_eq!(group, GROUP);
        Box::pin(self.0.handle(from, request))
    }

    fn stream<'a>(
        &'a self,
        from: NodeId,
        _: &'a str,
        kind: StreamKind,
        stream: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.0.handle_stream(from, kind, stream))
    }
}

/// Answers with its node's id and the question.
struct Echo(NodeId);

impl Services for Echo {
    fn serve(&self, request: Bytes) -> BoxFuture<'_, Bytes> {
        let mut answer = vec![u8::try_from(self.0).unwrap()];
        answer.extend_from_slice(&request);
        Box::pin(async move { Bytes::from(answer) })
    }

    fn stream(&self, _: NodeId, _: StreamKind, _: PeerStream) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Moves a whole state, if both directions are open.
struct Transfers {
    cluster: Weak<Shared>,
    from: NodeId,
    peers: Arc<dyn Peers>,
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transfers of node {}", self.from)
    }
}

impl Transfers {
    async fn transfer(
        &self,
        to: NodeId,
        member: &Member,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types>,
    ) -> Result<SnapshotResponse<NodeId>, CatchUpError> {
        let failed = |why: &str| CatchUpError::Failed(why.to_owned());
        let shared = self.cluster.upgrade().ok_or_else(|| failed("over"))?;
        let state = {
            let disks = shared.disks.lock();
            disks[&self.from].machine.lock().noted.clone()
        };
        if state.last != snapshot.meta.last_log_id {
            return Err(failed("there is a newer state"));
        }
        for _ in 0..3 {
            // A refusal will do: it, too, came through the network.
            let (request, patience) = (Request::Admin("a part".into()), Duration::from_secs(1));
            let part = self.peers.call(to, member, GROUP, request, patience).await;
            part.map_err(|error| failed(&error.to_string()))?;
        }
        let node = shared.running.lock().get(&to).cloned();
        let node = node.ok_or_else(|| failed("gone"))?;
        if node.state().last < state.last {
            node.machine.disk.lock().incoming = Some(state);
        }
        let installed = node.group.install(vote, snapshot.meta, *snapshot.snapshot);
        match installed.await {
            Ok(vote) => Ok(SnapshotResponse { vote }),
            Err(error) => Err(failed(&error.to_string())),
        }
    }
}

impl CatchUp for Transfers {
    fn send<'a>(
        &'a self,
        to: NodeId,
        member: &'a Member,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types>,
        cancel: BoxFuture<'static, ()>,
    ) -> BoxFuture<'a, Result<SnapshotResponse<NodeId>, CatchUpError>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                sent = self.transfer(to, member, vote, snapshot) => sent,
                () = cancel => Err(CatchUpError::Cancelled),
            }
        })
    }
}
