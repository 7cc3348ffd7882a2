//! Nodes whose logs lose what they had acknowledged.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zeod::replication::consensus::{Group, Keep};
use zeod::replication::types::NodeId;

use crate::cluster::{Cluster, Node};
use crate::log::LogDisk;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any election may take.
const SOON: Duration = Duration::from_secs(3);

/// As `upkeep` does.
pub async fn vote_when_whole(group: Group, log: Arc<Mutex<LogDisk>>) {
    while group.barrier(Duration::from_mins(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    log.lock().is_damaged = false;
    group.vote_from_now_on();
}

/// Three nodes with a few hundred entries that all of them have: the leader, who does not lead, and
/// the other one.
async fn three_nodes(seed: u64) -> (Cluster, Node, NodeId, NodeId) {
    let cluster = Cluster::of_voters(seed, 3).await;
    let mut number = 0;
    for _ in 0..400 {
        cluster.commit(1, &mut number, SECOND).await;
    }
    cluster.wait_equal(&[1, 2, 3], SOON).await;
    let leader = cluster.wait_leader().await;
    let (one, other) = (leader.id % 3 + 1, (leader.id + 1) % 3 + 1);
    (cluster, leader, one, other)
}

/// The leader that knew what `damaged` had brings it up to date, and it takes part in the next election.
async fn is_whole_again(cluster: &Cluster, leader: Node, damaged: NodeId, other: NodeId) {
    let (group, term) = (leader.group.clone(), leader.group.status().term);
    let mut number = 1000;
    assert_eq!(cluster.commit(1, &mut number, SECOND).await, leader.id);
    cluster.wait_equal(&[1, 2, 3], SOON).await;
    assert_eq!(group.status().term, term, "the same leadership");
    cluster.crash(other);
    cluster.commit(1, &mut number, SECOND).await;
    cluster.start(other).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
    // Only with its vote does anybody lead now.
    cluster.node(other).group.set_unfit(true);
    cluster.crash(leader.id);
    assert_eq!(cluster.commit(1, &mut number, SOON).await, damaged);
    cluster.start(leader.id).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_end_is_filled_by_the_leader_that_knew_it() {
    for (seed, kept) in [(31, 395), (32, 200), (33, 1)] {
        let (cluster, leader, damaged, other) = three_nodes(seed).await;
        cluster.crash(damaged);
        cluster.cut_log(damaged, kept);
        cluster.start(damaged).await;
        is_whole_again(&cluster, leader, damaged, other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_everything_is_filled_by_the_leader_that_knew_it() {
    for (seed, kept_entries) in [(34, 1000), (35, 100), (36, 0)] {
        let (cluster, leader, damaged, other) = three_nodes(seed).await;
        leader.group.snapshot().await;
        tokio::time::sleep(SECOND).await;
        let keep = Keep {
            durable: leader.applied().unwrap(),
            entries: kept_entries,
            affordable_from: u64::MAX,
            files_from: None,
            absent_after: SECOND,
        };
        leader.group.purge_log(&keep).await;
        cluster.crash(damaged);
        cluster.empty(damaged);
        cluster.start(damaged).await;
        is_whole_again(&cluster, leader, damaged, other).await;
    }
}

/// Nothing is committed meanwhile: heartbeats alone show it.
#[tokio::test(start_paused = true)]
async fn it_is_filled_while_nobody_writes() {
    let (cluster, leader, damaged, _) = three_nodes(37).await;
    cluster.crash(damaged);
    cluster.empty(damaged);
    cluster.start(damaged).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
    assert_eq!(cluster.wait_leader().await.id, leader.id);
}

/// It says nothing for whoever lacks what it had acknowledged.
#[tokio::test(start_paused = true)]
async fn it_does_not_vote_before() {
    let (cluster, leader, damaged, behind) = three_nodes(38).await;
    cluster.network().part(&[behind], &[leader.id, damaged]);
    let mut number = 1000;
    for _ in 0..10 {
        cluster.commit(1, &mut number, SECOND).await;
    }
    cluster.crash(damaged);
    cluster.empty(damaged);
    cluster.crash(leader.id);
    cluster.network().heal_all();
    cluster.start(damaged).await;
    tokio::time::sleep(10 * SECOND).await;
    assert!(cluster.leader().is_none());
    cluster.start(leader.id).await;
    cluster.commit(1, &mut number, SOON).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}
