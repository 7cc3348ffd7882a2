//! Single faults, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use zeod::replication::consensus::{Leadership, ProposeError, TransferError};
use zeod::replication::types::NodeId;

use crate::cluster::{Cluster, Node};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any election may take.
const SOON: Duration = Duration::from_secs(3);

fn term(node: &Node) -> u64 {
    node.group.status().term
}

fn others(size: NodeId, but: NodeId) -> Vec<NodeId> {
    (1..=size).filter(|&node| node != but).collect()
}

/// Commits on, and says how long the longest pause was.
async fn longest_pause(cluster: &Cluster, duration: Duration, number: &mut u64) -> Duration {
    let end = Instant::now() + duration;
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        let began = Instant::now();
        cluster.commit(9, number, 10 * SECOND).await;
        longest = longest.max(began.elapsed());
        tokio::time::sleep(SECOND / 100).await;
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn one_node_leads_itself_at_once() {
    let cluster = Cluster::of_voters(1, 1).await;
    let mut number = 0;
    cluster.commit(1, &mut number, SECOND).await;
    cluster.crash(1);
    cluster.start(1).await;
    cluster.commit(1, &mut number, SECOND / 10).await;
    cluster.node(1).group.barrier(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn writes_are_back_soon_after_the_leader_dies() {
    for size in [3, 5] {
        let cluster = Cluster::of_voters(size, size).await;
        let mut number = 0;
        let mut pauses = Vec::new();
        for _ in 0..21 {
            let leader = cluster.commit(1, &mut number, SECOND).await;
            cluster.crash(leader);
            let began = Instant::now();
            cluster.commit(1, &mut number, SOON).await;
            pauses.push(began.elapsed());
            cluster.start(leader).await;
            tokio::time::sleep(2 * SECOND).await;
        }
        pauses.sort();
        println!(
            "{size} nodes: median {:?}, max {:?}",
            pauses[10], pauses[20]
        );
        assert!(pauses[10] < Duration::from_millis(1200), "{pauses:?}");
        let leader = cluster.wait_leader().await.group;
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(leader.status().able_to_lead(), others(size, leader.node()));
        cluster.wait_equal(&others(size, 0), SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_alone_gives_up_and_the_others_go_on() {
    let cluster = Cluster::of_voters(3, 3).await;
    let mut number = 0;
    let old = cluster.commit(1, &mut number, SECOND).await;
    cluster.network().part(&[old], &others(3, old));
    let lost = cluster.node(old).propose(7, 1).unwrap();
    tokio::time::sleep(SOON).await;
    let group = cluster.node(old).group;
    assert_eq!(*group.leadership().borrow(), Leadership::Unknown);
    assert!(group.quorum_lost_since().is_some());
    assert!(group.barrier(SECOND).await.is_err());
    let new = cluster.commit(1, &mut number, SECOND).await;
    assert_ne!(new, old);
    cluster.network().heal_all();
    let pause = longest_pause(&cluster, SOON, &mut number).await;
    assert!(pause < SECOND / 4, "{pause:?}");
    assert_eq!(
        cluster.wait_leader().await.id,
        new,
        "its return disturbs nobody"
    );
    assert!(!lost.outcome(cluster.oracle()).await, "overwritten");
    assert!(group.quorum_lost_since().is_none());
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_alone_disturbs_nobody() {
    for size in [3, 5] {
        let cluster = Cluster::of_voters(4, size).await;
        let mut number = 0;
        let leader = cluster.commit(1, &mut number, SECOND).await;
        let alone = leader % size + 1;
        let before = term(&cluster.node(leader));
        cluster.network().part(&[alone], &others(size, alone));
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(
            term(&cluster.node(alone)),
            before,
            "nobody grants it a term"
        );
        cluster.network().heal_all();
        let pause = longest_pause(&cluster, SOON, &mut number).await;
        assert!(pause < SECOND / 4, "{pause:?}");
        assert_eq!(term(&cluster.node(leader)), before);
        cluster.wait_equal(&others(size, 0), SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_one_way_disturbs_nobody() {
    let cluster = Cluster::of_voters(5, 3).await;
    let mut number = 0;
    let leader = cluster.commit(1, &mut number, SECOND).await;
    let before = term(&cluster.node(leader));
    for (from, to) in [(leader, leader % 3 + 1), (leader % 3 + 1, leader)] {
        cluster.network().cut(from, to);
        let pause = longest_pause(&cluster, 5 * SECOND, &mut number).await;
        assert!(pause < SECOND / 4, "{from} to {to}: {pause:?}");
        cluster.network().heal_all();
        tokio::time::sleep(SOON).await;
    }
    assert_eq!(term(&cluster.node(leader)), before);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hears_nothing_is_replaced() {
    let cluster = Cluster::of_voters(6, 3).await;
    let mut number = 0;
    let leader = cluster.commit(1, &mut number, SECOND).await;
    for other in others(3, leader) {
        cluster.network().cut(other, leader);
    }
    // The others hear it, and only its own check of the quorum ends this.
    let new = cluster.commit(1, &mut number, 2 * SOON).await;
    assert_ne!(new, leader);
    cluster.network().heal_all();
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_flapping_link_does_not_stop_commits_for_long() {
    let cluster = Cluster::of_voters(7, 3).await;
    let mut number = 0;
    let leader = cluster.commit(1, &mut number, SECOND).await;
    let flapping = leader % 3 + 1;
    let network = cluster.network().clone();
    let flaps = tokio::spawn(async move {
        for _ in 0..50 {
            network.part(&[leader], &[flapping]);
            tokio::time::sleep(Duration::from_millis(150)).await;
            network.heal_all();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    });
    let pause = longest_pause(&cluster, 15 * SECOND, &mut number).await;
    assert!(pause < SECOND / 2, "{pause:?}");
    flaps.await.unwrap();
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_of_a_follower_disturbs_nobody() {
    let cluster = Cluster::of_voters(8, 3).await;
    let mut number = 0;
    let leader = cluster.commit(1, &mut number, SECOND).await;
    let before = term(&cluster.node(leader));
    let slow = cluster.node(leader % 3 + 1);
    slow.log.set_sync(Duration::from_millis(300));
    let pause = longest_pause(&cluster, 10 * SECOND, &mut number).await;
    assert!(pause < SECOND / 4, "{pause:?}");
    assert_eq!(term(&cluster.node(leader)), before);
}

#[tokio::test(start_paused = true)]
async fn the_leadership_goes_over_in_a_moment() {
    for size in [2, 3, 5] {
        let cluster = Cluster::of_voters(9, size).await;
        let mut number = 0;
        for round in 0..20 {
            let old = cluster.commit(1, &mut number, SECOND).await;
            let to = (round % 2 == 0).then_some(old % size + 1);
            let began = Instant::now();
            let group = cluster.node(old).group;
            let had = Arc::new(AtomicBool::new(false));
            let prepared = async {
                had.store(group.term().is_some(), Ordering::Relaxed);
                Arc::clone(&had)
            };
            let new = group.transfer_leader_after(to, prepared).await.unwrap();
            assert_eq!(to.unwrap_or(new), new);
            // It was asked for while this node led, and is given back.
            assert!(had.load(Ordering::Relaxed));
            assert_eq!(Arc::strong_count(&had), 1);
            cluster.commit(1, &mut number, SECOND).await;
            assert!(began.elapsed() < SECOND / 10, "{:?}", began.elapsed());
            assert_eq!(cluster.wait_leader().await.id, new);
        }
        cluster.wait_equal(&others(size, 0), SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_cannot_be_leaves_a_leader() {
    let cluster = Cluster::of_voters(10, 3).await;
    let mut number = 0;
    let leader = cluster.commit(1, &mut number, SECOND).await;
    let to = leader % 3 + 1;
    let group = cluster.node(leader).group;
    assert_eq!(
        group.transfer_leader(Some(7)).await,
        Err(TransferError::NoVoter(7))
    );
    let follower = cluster.node(to).group;
    assert_eq!(
        follower.transfer_leader(None).await,
        Err(TransferError::NotLeader)
    );
    cluster.network().part(&[to], &others(3, to));
    tokio::time::sleep(SOON).await;
    let before = Instant::now();
    // Nobody is made to wait for one that is not near.
    let prepared = async { unreachable!("node {to} is cut off") };
    let behind = group.transfer_leader_after::<()>(Some(to), prepared).await;
    assert!(
        matches!(behind, Err(TransferError::Behind { .. })),
        "{behind:?}"
    );
    assert!(before.elapsed() < 10 * SECOND);
    assert_eq!(cluster.commit(1, &mut number, SECOND).await, leader);
    // It dies while it takes over: another does.
    cluster.network().heal_all();
    cluster.wait_equal(&[1, 2, 3], SOON).await;
    let transfer = tokio::spawn(async move { group.transfer_leader(Some(to)).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    cluster.crash(to);
    let _ = transfer.await.unwrap();
    assert_ne!(cluster.commit(1, &mut number, SOON).await, to);
}

/// Nobody waits until a time is over: another takes over, or the leader goes on.
#[tokio::test(start_paused = true)]
async fn who_is_not_fit_to_lead_is_passed_over() {
    let cluster = Cluster::of_voters(12, 3).await;
    let mut number = 0;
    let old = cluster.commit(1, &mut number, SECOND).await;
    let (unfit, other) = (old % 3 + 1, (old + 1) % 3 + 1);
    cluster.node(unfit).group.set_unfit(true);
    let group = cluster.node(old).group;
    let began = Instant::now();
    let refused = group.transfer_leader(Some(unfit)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("node {unfit} has not taken over: it is not fit to lead; leader now: node {old}")
    );
    assert_eq!(cluster.commit(1, &mut number, SECOND).await, old);
    assert_eq!(group.transfer_leader(None).await, Ok(other));
    assert_eq!(cluster.commit(1, &mut number, SECOND).await, other);
    assert!(began.elapsed() < SECOND / 5, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn proposals_wait_while_the_leadership_goes_over() {
    let cluster = Cluster::of_voters(11, 3).await;
    let mut number = 0;
    let old = cluster.node(cluster.commit(1, &mut number, SECOND).await);
    let group = old.group.clone();
    let mut proposals = Vec::new();
    proposals.extend(old.propose(50, 1));
    let transfer = tokio::spawn(async move { group.transfer_leader(None).await });
    let mut next = 2;
    while !transfer.is_finished() {
        tokio::task::yield_now().await;
        // Else the clock would stand still.
        tokio::time::sleep(Duration::from_micros(u64::from(next > 20))).await;
        proposals.extend(old.propose(50, next));
        next += 1;
    }
    transfer.await.unwrap().unwrap();
    let mut committed = 0;
    for proposal in proposals {
        committed += u32::from(proposal.outcome(cluster.oracle()).await);
    }
    let counts = cluster.oracle().counts();
    assert!(
        committed > 0 && counts.refused > 0,
        "{committed} {counts:?}"
    );
    assert_eq!(counts.unknown, 0, "{counts:?}");
    cluster.commit(1, &mut number, SECOND).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_of_the_leader_costs_a_moment() {
    let cluster = Cluster::of_voters(12, 3).await;
    let mut number = 0;
    let old = cluster.commit(1, &mut number, SECOND).await;
    let stopping = cluster.clone();
    tokio::spawn(async move { stopping.stop(old).await });
    let pause = longest_pause(&cluster, SOON, &mut number).await;
    assert!(pause < SECOND / 2, "{pause:?}");
    cluster.start(old).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_barrier_sees_all_that_was_acknowledged() {
    let cluster = Cluster::of_voters(13, 3).await;
    let mut number = 0;
    for round in 0..200 {
        cluster.commit(1, &mut number, SECOND).await;
        let seen = cluster.oracle().last_acknowledged();
        let node = cluster.node(round % 3 + 1);
        let (one, other) = tokio::join!(node.group.barrier(SECOND), node.group.barrier(SECOND));
        one.unwrap();
        other.unwrap();
        assert!(node.applied() >= seen);
    }
}

#[tokio::test(start_paused = true)]
async fn barriers_and_questions_outlast_a_change_of_leader() {
    let cluster = Cluster::of_voters(14, 3).await;
    let mut number = 0;
    let old = cluster.commit(1, &mut number, SECOND).await;
    let follower = cluster.node(old % 3 + 1);
    cluster.crash(old);
    let question = Bytes::from_static(b"who?");
    let (barrier, answer) = tokio::join!(
        follower.group.barrier(5 * SECOND),
        follower.group.ask_leader(question, 5 * SECOND)
    );
    barrier.unwrap();
    let leader = cluster.wait_leader().await.id;
    let answer = answer.unwrap();
    assert_eq!(answer[0], u8::try_from(leader).unwrap());
    assert_eq!(&answer[1..], b"who?");
}

#[tokio::test(start_paused = true)]
async fn what_a_follower_is_proposed_is_refused() {
    let cluster = Cluster::of_voters(15, 3).await;
    let mut number = 0;
    let leader = cluster.commit(1, &mut number, SECOND).await;
    let follower = cluster.node(leader % 3 + 1);
    let refused = follower
        .group
        .propose(zeod::replication::types::Command::default());
    assert!(matches!(refused.await, Err(ProposeError::Refused { .. })));
    follower.group.halt().await;
    let refused = follower
        .group
        .propose(zeod::replication::types::Command::default());
    assert!(matches!(refused.await, Err(ProposeError::Refused { .. })));
}
