//! Faults at random, many at once; then all is well again, and has to be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use zeod::replication::consensus::Keep;
use zeod::replication::types::NodeId;

use crate::checks::Counts;
use crate::cluster::{Cluster, Node, member};
use crate::memory::Weather;

const SECOND: Duration = Duration::from_secs(1);
/// How long faults go on, on simulated time.
const CHAOS: Duration = Duration::from_secs(20);
/// After everything is well again, commits have to succeed within this time …
const WRITABLE_WITHIN: Duration = Duration::from_secs(5);
/// … and all nodes to be the same within this time.
const EQUAL_WITHIN: Duration = Duration::from_secs(15);
/// Without another word, so many seeds.
const FEW_SEEDS: u64 = 50;

/// Draws numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.0;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % bound
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let drawn = self.below(all.len().max(1) as u64);
        all.get(usize::try_from(drawn).ok()?)
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: not a number")),
    )
}

#[test]
fn random_faults_break_no_promise() {
    let seeds = number_from_environment("ZEOD_SIMULATION_SEEDS");
    if let Some(seed) = number_from_environment("ZEOD_SIMULATION_SEED") {
        for _ in 0..seeds.unwrap_or(1) {
            println!("seed {seed}: {:?}", run(seed));
        }
        return;
    }
    let seeds = seeds.unwrap_or(FEW_SEEDS);
    let began = std::time::Instant::now();
    let (next, results) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let result = std::panic::catch_unwind(|| run(seed));
                    match &result {
                        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
                        Err(_) => println!("seed {seed} failed"),
                    }
                    results.lock().push((seed, result.ok()));
                }
            });
        }
    });
    let mut total = Counts::default();
    let mut slowest = (Duration::ZERO, 0);
    let mut failed = Vec::new();
    for (seed, result) in results.into_inner() {
        if let Some(outcome) = result {
            slowest = slowest.max((outcome.writable, seed));
            total.add(&outcome.counts);
        } else {
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; one alone: ZEOD_SIMULATION_SEED=…"
    );
    println!("{seeds} seeds in {:?}: {total:?}", began.elapsed());
    println!(
        "longest until writable after healing: {:?}, seed {}",
        slowest.0, slowest.1
    );
    assert!(total.acknowledged > 100 * seeds, "{total:?}");
    assert!(
        total.barriers > 10 * seeds && total.leaderships > 2 * seeds,
        "{total:?}"
    );
    if seeds >= FEW_SEEDS {
        let Counts {
            refused,
            unknown,
            outdated,
            installs,
            member_changes,
            damages,
            ..
        } = total;
        let all = [refused, unknown, installs, member_changes, damages];
        assert!(all.iter().all(|&count| count > 0), "{total:?}, {outdated}");
    }
}

/// tokio draws from a source of its own whom it wakes first; only `tokio_unstable` lets it be
/// given a seed. Without it a seed gives the same faults, but not always the same run.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// What one run came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    counts: Counts,
    writable: Duration,
    /// Of all messages, their fates and times.
    digest: u64,
}

fn run(seed: u64) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = builder.build().expect("a runtime");
    runtime.block_on(simulate(seed))
}

async fn simulate(seed: u64) -> Outcome {
    let mut chance = Chance::new(seed);
    let size = if chance.below(3) == 0 { 5 } else { 3 };
    let cluster = Cluster::of_voters(seed, size).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for node in 1..=size {
        for which in 0..2 {
            let (cluster, over) = (cluster.clone(), Arc::clone(&over));
            let chance = Chance::new(seed * 1000 + node * 10 + which);
            clients.push(tokio::spawn(client(
                cluster,
                node,
                node * 10 + which,
                over,
                chance,
            )));
        }
    }
    let mut faults = Faults {
        cluster: cluster.clone(),
        size,
        chance,
        changes: Arc::default(),
    };
    let end = Instant::now() + CHAOS;
    while Instant::now() < end {
        let pause = faults.chance.millis(20, 1000);
        tokio::time::sleep(pause).await;
        faults.one().await;
        if faults.chance.below(8) == 0 {
            cluster.oracle().logs_match();
        }
    }
    faults.heal().await;
    let healed = Instant::now();
    let mut number = 0;
    cluster.commit(99, &mut number, WRITABLE_WITHIN).await;
    let writable = healed.elapsed();
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no check has failed");
    }
    cluster.wait_members_equal(EQUAL_WITHIN).await;
    cluster.oracle().logs_match();
    Outcome {
        counts: cluster.oracle().counts(),
        writable,
        digest: cluster.network().counts().digest,
    }
}

/// Proposes where its node leads, and reads where it does not.
async fn client(
    cluster: Cluster,
    node: NodeId,
    proposer: u64,
    over: Arc<AtomicBool>,
    mut chance: Chance,
) {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(chance.millis(1, 60)).await;
        let Some(node) = cluster.find(node) else {
            continue;
        };
        if chance.below(4) > 0 {
            propose_some(&cluster, &node, proposer, &mut number, &mut chance).await;
        } else if chance.below(3) > 0 {
            read(&cluster, &node).await;
        } else {
            let question = Bytes::from_static(b"?");
            let _ = node.group.ask_leader(question, SECOND).await;
        }
    }
}

async fn propose_some(
    cluster: &Cluster,
    node: &Node,
    proposer: u64,
    number: &mut u64,
    chance: &mut Chance,
) {
    let mut proposals = Vec::new();
    for _ in 0..=chance.below(3) {
        *number += 1;
        proposals.extend(node.propose(proposer, *number));
    }
    for proposal in proposals {
        // Who waits no longer does not know the outcome; the oracle does.
        let outcome = proposal.outcome(cluster.oracle());
        let _ = tokio::time::timeout(2 * SECOND, outcome).await;
    }
}

async fn read(cluster: &Cluster, node: &Node) {
    let acknowledged = cluster.oracle().last_acknowledged();
    if node.group.barrier(SECOND).await.is_ok() {
        assert!(
            node.applied() >= acknowledged,
            "node {} after a barrier",
            node.id
        );
        cluster.oracle().count(|counts| counts.barriers += 1);
    }
}

struct Faults {
    cluster: Cluster,
    size: NodeId,
    chance: Chance,
    /// Changes of members that are under way.
    changes: Arc<AtomicU64>,
}

impl Faults {
    fn any(&mut self) -> NodeId {
        1 + self.chance.below(self.size)
    }

    async fn one(&mut self) {
        let network = self.cluster.network().clone();
        let (node, other) = (self.any(), self.any());
        match self.chance.below(21) {
            0 | 1 => self.cluster.crash(node),
            2..=4 => self.start_one().await,
            5 => network.cut(node, other),
            6 => self.part(),
            7 => self.isolate_leader(),
            8 | 9 => network.heal_all(),
            10 => self.bad_weather(),
            11 => network.set_weather(Weather::default()),
            12 => self.hand_over(),
            13 => self.slow_disk(node),
            14 => self.flap(node, other).await,
            15 | 16 => self.change_members(node),
            17 | 18 => self.purge(node).await,
            19 => self.damage(node),
            _ => self.restart_cleanly(node).await,
        }
    }

    async fn start_one(&mut self) {
        let down: Vec<_> = (1..=self.size)
            .filter(|&node| self.cluster.find(node).is_none())
            .collect();
        if let Some(&node) = self.chance.of(&down) {
            self.cluster.start(node).await;
        }
    }

    fn part(&mut self) {
        let (mut side, mut others) = (Vec::new(), Vec::new());
        for node in 1..=self.size {
            let which = if self.chance.below(2) == 0 {
                &mut side
            } else {
                &mut others
            };
            which.push(node);
        }
        self.cluster.network().part(&side, &others);
    }

    fn isolate_leader(&mut self) {
        if let Some(leader) = self.cluster.leader() {
            let others: Vec<_> = (1..=self.size).filter(|&node| node != leader.id).collect();
            self.cluster.network().part(&[leader.id], &others);
        }
    }

    fn bad_weather(&mut self) {
        let weather = Weather {
            lost_per_mille: self.chance.below(200),
            delay: Duration::from_micros(100)..=self.chance.millis(1, 40),
        };
        self.cluster.network().set_weather(weather);
    }

    fn hand_over(&mut self) {
        let to = self.any();
        let to = (self.chance.below(2) == 0).then_some(to);
        if let Some(leader) = self.cluster.leader() {
            tokio::spawn(async move { leader.group.transfer_leader(to).await });
        }
    }

    fn slow_disk(&mut self, node: NodeId) {
        let sync = self.chance.millis(1, 60);
        if let Some(node) = self.cluster.find(node) {
            node.log.set_sync(sync);
        }
    }

    async fn flap(&mut self, node: NodeId, other: NodeId) {
        for _ in 0..10 {
            self.cluster.network().part(&[node], &[other]);
            tokio::time::sleep(self.chance.millis(20, 300)).await;
            self.cluster.network().heal_all();
            tokio::time::sleep(self.chance.millis(20, 300)).await;
        }
    }

    /// Removes a node, or adds it again.
    fn change_members(&self, node: NodeId) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        if self.cluster.is_any_damaged() {
            return;
        }
        let status = leader.group.status();
        let members: BTreeSet<_> = status.members.iter().map(|member| member.node).collect();
        let group = leader.group;
        let (cluster, under_way) = (self.cluster.clone(), Arc::clone(&self.changes));
        under_way.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let changed = if members.contains(&node) {
                group.remove(node).await
            } else {
                match group.add_learner(node, member(node)).await {
                    Ok(()) => group.promote(node, 3 * SECOND).await,
                    error => error,
                }
            };
            under_way.fetch_sub(1, Ordering::Relaxed);
            if changed.is_ok() {
                cluster.oracle().count(|counts| counts.member_changes += 1);
            }
        });
    }

    async fn purge(&mut self, node: NodeId) {
        let Some(node) = self.cluster.find(node) else {
            return;
        };
        node.group.snapshot().await;
        tokio::time::sleep(self.chance.millis(1, 100)).await;
        let status = node.group.status();
        if let (Some(last), Some(applied)) = (status.last_log, status.applied) {
            let keep = Keep {
                durable: applied,
                entries: self.chance.below(50),
                affordable_from: last,
                files_from: None,
                absent_after: SECOND,
            };
            node.group.purge_log(&keep).await;
        }
    }

    /// A crash that takes a part of the log along: of one node of at least three, which are enough to
    /// lead without it, and stay so.
    fn damage(&mut self, node: NodeId) {
        let (Some(running), Some(leader)) = (self.cluster.find(node), self.cluster.leader()) else {
            return;
        };
        let status = leader.group.status();
        let voters = status.members.iter().filter(|member| member.is_voter);
        let is_changing = status.is_changing || self.changes.load(Ordering::Relaxed) > 0;
        if voters.count() < 3 || is_changing || self.cluster.is_any_damaged() {
            return;
        }
        let last = running.group.status().last_log.unwrap_or(0);
        self.cluster.crash(node);
        let end = last.saturating_sub(self.chance.below(300));
        self.cluster.cut_log(node, end);
        self.cluster.oracle().count(|counts| counts.damages += 1);
    }

    async fn restart_cleanly(&mut self, node: NodeId) {
        if self.cluster.find(node).is_some() {
            self.cluster.stop(node).await;
            tokio::time::sleep(self.chance.millis(1, 500)).await;
            self.cluster.start(node).await;
        }
    }

    /// All nodes run, on good disks and a good network.
    async fn heal(&mut self) {
        let network = self.cluster.network();
        network.heal_all();
        network.set_weather(Weather::default());
        for node in 1..=self.size {
            match self.cluster.find(node) {
                Some(node) => node.log.set_sync(Duration::from_micros(200)),
                None => self.cluster.start(node).await,
            }
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.outdated += other.outdated;
        self.barriers += other.barriers;
        self.leaderships += other.leaderships;
        self.installs += other.installs;
        self.member_changes += other.member_changes;
        self.damages += other.damages;
        self.shared_terms += other.shared_terms;
    }
}
