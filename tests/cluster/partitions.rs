//! Links that are cut: clients still reach every node, unless they are said not to.

use std::time::Duration;

use crate::run::{Run, Start};

/// Longer than nodes wait for a quorum.
const CUT: Duration = Duration::from_secs(3);

fn begin(name: &'static str, nodes: usize) -> Option<Run> {
    let start = Start {
        nodes,
        needs_namespaces: true,
        ..Start::default()
    };
    Run::start(name, start)
}

/// First from the other nodes only, then from its clients, too.
#[test]
#[ignore = "part of the long run: see CONTRIBUTING.md"]
fn a_leader_that_is_cut_off_leads_nobody() {
    let Some(mut run) = begin("leader alone", 3) else {
        return;
    };
    let leader = run.cluster.await_leader();
    run.note(&format!(
        "node {}, the leader, is cut off from the nodes",
        leader + 1
    ));
    run.cluster.part(&[leader]).unwrap();
    run.cluster.await_leader_other_than(leader);
    run.load.await_progress(10);
    run.load.pass(CUT);
    run.recover();
    let leader = run.cluster.await_leader();
    run.note(&format!(
        "node {}, the leader, is cut off from all",
        leader + 1
    ));
    run.cluster.isolate(leader).unwrap();
    run.cluster.await_leader_other_than(leader);
    run.load.await_progress(5);
    run.finish();
}

/// Two of five, the leader among them and not.
#[test]
fn a_minority_neither_writes_nor_disturbs() {
    let Some(mut run) = begin("minority", 5) else {
        return;
    };
    let leader = run.cluster.await_leader();
    let other = |by: usize| (leader + by) % 5;
    for minority in [[other(1), other(2)], [leader, other(1)]] {
        let ids = minority.map(|index| index + 1);
        run.note(&format!("nodes {ids:?} are cut off from the nodes"));
        run.cluster.part(&minority).unwrap();
        run.load.await_progress(10);
        run.load.pass(CUT);
        run.recover();
    }
    run.finish();
}

#[test]
fn links_that_work_one_way_only_stop_nobody() {
    let Some(mut run) = begin("asymmetric", 3) else {
        return;
    };
    let leader = run.cluster.await_leader();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let cuts: [(&str, &[usize], &[usize]); 3] = [
        ("the leader is not heard by a follower", &[leader], &[one]),
        ("the followers do not hear each other", &[one], &[other]),
        ("the leader hears nobody", &[one, other], &[leader]),
    ];
    for (what, from, to) in cuts {
        run.note(what);
        run.cluster.cut(from, to).unwrap();
        run.load.await_progress(10);
        run.load.pass(CUT);
        run.recover();
    }
    run.finish();
}

/// A stock client leaves out a server that refuses it until it has left out all of them, and a dead
/// one it never does. So nobody may refuse it.
#[test]
fn a_dead_server_in_their_list_locks_no_client_out() {
    let start = Start {
        needs_namespaces: true,
        replication: "    register-wait 1s\n",
        ..Start::default()
    };
    let Some(mut run) = Run::start("dead server", start) else {
        return;
    };
    run.note("host 3 is lost for good, node 4 comes in its place");
    run.replace(2);
    run.load.await_progress(10);
    run.note("no node reaches any other");
    for index in 0..2 {
        run.cluster.part(&[index]).unwrap();
    }
    run.load.pass(2 * CUT);
    run.recover();
    run.finish();
}

#[test]
#[ignore = "part of the long run: see CONTRIBUTING.md"]
fn links_that_flap_stop_nobody() {
    const TIMES: usize = 8;
    let Some(mut run) = begin("flapping", 3) else {
        return;
    };
    for time in 0..TIMES {
        let index = time % 3;
        run.note(&format!("node {} is cut off for a moment", index + 1));
        run.cluster.part(&[index]).unwrap();
        run.load
            .pass(Duration::from_millis(150 * (time as u64 + 1)));
        run.cluster.heal().unwrap();
        run.load.pass(Duration::from_millis(200));
    }
    run.finish();
}
