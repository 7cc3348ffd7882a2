//! Members come and go while commits go on.

use std::time::Duration;

use tokio::time::Instant;
use zeod::replication::consensus::{ChangeError, Keep};

use crate::cluster::{Cluster, member};

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_group_grows_and_shrinks_under_load() {
    let cluster = Cluster::of_voters(1, 1).await;
    let writer = cluster.clone();
    let load = tokio::spawn(async move {
        let (mut number, mut longest) = (0, Duration::ZERO);
        let end = Instant::now() + 20 * SECOND;
        while Instant::now() < end {
            let began = Instant::now();
            writer.commit(1, &mut number, SOON).await;
            longest = longest.max(began.elapsed());
            tokio::time::sleep(SECOND / 100).await;
        }
        longest
    });
    for node in 2..=5 {
        cluster.start(node).await;
        let leader = cluster.wait_leader().await.group;
        leader.add_learner(node, member(node)).await.unwrap();
        leader.add_learner(node, member(node)).await.unwrap();
        leader.promote(node, SOON).await.unwrap();
    }
    let leader = cluster.wait_leader().await.group;
    assert_eq!(leader.status().members.len(), 5);
    for node in [1, 2] {
        let leader = cluster.wait_leader().await.group;
        match leader.remove(node).await {
            Ok(()) => assert_ne!(leader.node(), node),
            Err(ChangeError::HandedOver { leader: new }) => {
                assert_eq!(leader.node(), node);
                cluster.node(new).group.remove(node).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    let longest = load.await.unwrap();
    assert!(longest < SECOND / 4, "{longest:?}");
    let status = cluster.wait_leader().await.group.status();
    let members: Vec<_> = status.members.iter().map(|member| member.node).collect();
    assert_eq!(members, [3, 4, 5]);
    assert!(
        status
            .members
            .iter()
            .all(|member| member.is_voter && member.lag < Some(10))
    );
    // Those that were removed run on, and disturb nobody.
    let term = status.term;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(cluster.wait_leader().await.group.status().term, term);
    cluster.wait_equal(&[3, 4, 5], SOON).await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_cannot_be_are_refused_in_words() {
    let cluster = Cluster::of_voters(2, 3).await;
    let leader = cluster.wait_leader().await;
    let group = leader.group;
    let own = leader.id;
    let other = own % 3 + 1;
    let third = other % 3 + 1;
    let again = group.initialize(member(own)).await;
    assert_eq!(again, Err(ChangeError::Initialized));
    let elsewhere = group.add_learner(other, member(9)).await;
    assert!(
        elsewhere
            .unwrap_err()
            .to_string()
            .contains(&member(other).address)
    );
    assert_eq!(group.remove(9).await, Err(ChangeError::NoMember(9)));
    assert_eq!(
        group.promote(9, SECOND).await,
        Err(ChangeError::NoMember(9))
    );
    let follower = cluster.node(other).group;
    let refused = follower.remove(third).await.unwrap_err().to_string();
    assert!(refused.contains(&member(own).address), "{refused}");
    // A learner that does not run.
    group.add_learner(9, member(9)).await.unwrap();
    let refused = group.promote(9, SECOND).await.unwrap_err();
    assert_eq!(refused.to_string(), "node 9 is not reachable at node9:8101");
    group.remove(9).await.unwrap();
    // Of three one is dead: the other cannot be spared.
    cluster.crash(third);
    tokio::time::sleep(SOON).await;
    let refused = group.remove(other).await.unwrap_err();
    assert!(matches!(
        refused,
        ChangeError::NoQuorumLeft {
            living: 1,
            voters: 2,
            ..
        }
    ));
    // The dead one can.
    group.remove(third).await.unwrap();
    let alone = group.remove(other).await;
    assert_eq!(alone, Ok(()));
    assert_eq!(group.remove(own).await, Err(ChangeError::LastVoter(own)));
}

#[tokio::test(start_paused = true)]
async fn a_half_done_change_is_completed_by_the_next_leader() {
    // The leader dies at some moment of a promotion, each time at another.
    let mut was_half_done = 0;
    for moment in 0..40 {
        let cluster = Cluster::of_voters(100 + moment, 3).await;
        cluster.start(4).await;
        let leader = cluster.wait_leader().await;
        leader.group.add_learner(4, member(4)).await.unwrap();
        tokio::time::sleep(SECOND).await;
        let promotion = leader.group.clone();
        tokio::spawn(async move { promotion.promote(4, SOON).await });
        tokio::time::sleep(Duration::from_micros(200 * moment)).await;
        let others = cluster
            .running()
            .into_iter()
            .filter(|node| node.id != leader.id);
        was_half_done += u64::from(others.clone().any(|node| node.group.status().is_changing));
        cluster.crash(leader.id);
        let mut number = 0;
        cluster.commit(1, &mut number, SOON).await;
        cluster
            .wait(SOON, "a complete change", || {
                let status = cluster.leader()?.group.status();
                (!status.is_changing).then_some(())
            })
            .await;
        cluster.start(leader.id).await;
        cluster.wait_equal(&[1, 2, 3, 4], SOON).await;
    }
    assert!(was_half_done > 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lacks_what_was_purged_is_sent_the_state() {
    let cluster = Cluster::of_voters(3, 3).await;
    let mut number = 0;
    let leader = cluster.node(cluster.commit(1, &mut number, SECOND).await);
    let away = leader.id % 3 + 1;
    cluster.crash(away);
    for _ in 0..300 {
        cluster.commit(1, &mut number, SECOND).await;
    }
    tokio::time::sleep(20 * SECOND).await;
    leader.group.snapshot().await;
    tokio::time::sleep(SECOND).await;
    let last = leader.group.status().last_log.unwrap();
    let keep = Keep {
        durable: last,
        entries: 10,
        affordable_from: last,
        files_from: None,
        absent_after: 10 * SECOND,
    };
    leader.group.purge_log(&keep).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(leader.group.status().purged, Some(last - 10));
    cluster.start(away).await;
    cluster.commit(1, &mut number, SECOND).await;
    cluster.wait_equal(&[1, 2, 3], SOON).await;
    assert_eq!(cluster.oracle().counts().installs, 1);
}
