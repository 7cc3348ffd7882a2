//! Nodes that apply late what is committed.

use std::time::Duration;

use tokio::time::Instant;
use zeod::replication::consensus::MAX_UNAPPLIED;
use zeod::replication::types::NodeId;

use crate::cluster::{Cluster, Node};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any election may take.
const SOON: Duration = Duration::from_secs(3);
/// More than Raft may be told of at once.
const MANY: u64 = 2 * MAX_UNAPPLIED;
/// Less than a heartbeat takes to come.
const AT_ONCE: Duration = Duration::from_millis(40);

/// Three nodes, of which the last one returned stands still while `MANY` are committed.
async fn one_is_behind(seed: u64, number: &mut u64) -> (Cluster, Node, Node) {
    let cluster = Cluster::of_voters(seed, 3).await;
    let leader = cluster.commit(1, number, SECOND).await;
    let late = cluster.node(leader % 3 + 1);
    late.stand_still(true);
    for _ in 0..MANY {
        cluster.commit(1, number, SECOND).await;
    }
    (cluster.clone(), cluster.node(leader), late)
}

fn waiting(node: &Node) -> u64 {
    let next = |last: Option<u64>| last.map_or(0, |last| last + 1);
    next(node.log.committed()).saturating_sub(next(node.applied()))
}

/// What waits to be applied is never more than the bound, and all is applied in the end.
async fn applies_all(cluster: &Cluster, late: &Node) {
    let end = cluster.wait_leader().await.applied();
    let deadline = Instant::now() + SOON;
    while late.applied() < end {
        assert!(waiting(late) <= MAX_UNAPPLIED, "{}", waiting(late));
        assert!(Instant::now() < deadline, "{:?} of {end:?}", late.applied());
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn raft_hears_no_faster_what_is_committed_than_it_is_applied() {
    let mut number = 0;
    let (cluster, leader, late) = one_is_behind(51, &mut number).await;
    assert!(waiting(&late) > 0 && waiting(&late) <= MAX_UNAPPLIED);
    assert_eq!(
        late.group.heard_committed().max(leader.applied()),
        leader.applied()
    );
    assert!(late.group.heard_committed() > late.log.committed());
    late.stand_still(false);
    applies_all(&cluster, &late).await;
    assert_eq!(cluster.wait_leader().await.id, leader.id);
}

/// Each piece is told as soon as one before it is applied.
#[tokio::test(start_paused = true)]
async fn a_barrier_ends_when_what_it_waits_for_is_applied() {
    let mut number = 0;
    let (cluster, leader, late) = one_is_behind(52, &mut number).await;
    assert!(late.group.barrier(SECOND).await.is_err());
    // Nothing comes by itself that would remind it.
    cluster.network().part(&[late.id], &[other(&leader, &late)]);
    late.stand_still(false);
    let began = Instant::now();
    late.group.barrier(SECOND).await.unwrap();
    assert!(late.applied() >= cluster.oracle().last_acknowledged());
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

fn other(leader: &Node, late: &Node) -> NodeId {
    6 - leader.id - late.id
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_take_it_all_at_once_either() {
    let mut number = 0;
    let (cluster, _, late) = one_is_behind(53, &mut number).await;
    cluster.crash(late.id);
    cluster.start(late.id).await;
    let late = cluster.node(late.id);
    late.stand_still(true);
    tokio::time::sleep(SECOND).await;
    assert!(waiting(&late) > 0 && waiting(&late) <= MAX_UNAPPLIED);
    late.stand_still(false);
    applies_all(&cluster, &late).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_node_that_is_elected_applies_all() {
    let mut number = 0;
    let (cluster, leader, late) = one_is_behind(54, &mut number).await;
    cluster.node(other(&leader, &late)).group.set_unfit(true);
    cluster.crash(leader.id);
    late.stand_still(false);
    assert_eq!(cluster.commit(1, &mut number, SOON).await, late.id);
    cluster.start(leader.id).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

/// Another leader says the same, and what it says is told.
#[tokio::test(start_paused = true)]
async fn what_was_withheld_is_told_under_the_next_leader() {
    let mut number = 0;
    let (cluster, leader, late) = one_is_behind(55, &mut number).await;
    late.group.set_unfit(true);
    cluster.crash(leader.id);
    let next = cluster.commit(1, &mut number, SOON).await;
    assert_ne!(next, late.id);
    cluster.start(leader.id).await;
    late.stand_still(false);
    applies_all(&cluster, &late).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_node_leaves_and_comes_back() {
    let mut number = 0;
    let (cluster, leader, late) = one_is_behind(56, &mut number).await;
    leader.group.remove(late.id).await.unwrap();
    cluster.commit(1, &mut number, SECOND).await;
    let member = crate::cluster::member(late.id);
    leader.group.add_learner(late.id, member).await.unwrap();
    leader.group.promote(late.id, SOON).await.unwrap();
    cluster.commit(1, &mut number, SECOND).await;
    late.stand_still(false);
    applies_all(&cluster, &late).await;
}
