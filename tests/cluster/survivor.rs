//! All nodes but one are gone for good, and that one goes on alone.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, Settings};
use crate::nodes::lead;
use crate::run::{Run, Start, hosts};

/// And more.
const WHAT_AN_ELECTION_TAKES: Duration = Duration::from_secs(3);

/// The power of all goes at once; only the leader's host comes back. Its `Data.fs` ends where its last note
/// says, and all that was acknowledged since is in its log.
#[test]
fn a_lone_survivor_has_all_that_was_acknowledged() {
    const SURVIVOR: usize = 0;
    let Some(mut run) = Run::start("survivor", Start::default()) else {
        return;
    };
    lead(&mut run, SURVIVOR);
    run.load.await_progress(100);
    run.cut_power(&[SURVIVOR, 1, 2]);
    run.gone.extend([1, 2]);
    go_on_alone(&mut run, SURVIVOR);
    run.load.await_progress(20);
    for _ in 0..2 {
        run.note("a new node joins");
        run.cluster.add_node(&[]).unwrap();
        run.load.await_progress(10);
    }
    run.finish();
}

/// A lone primary with a learner, as sites with ZRS have them: the learner takes its place.
#[test]
fn a_learner_that_is_left_has_all_that_it_was_sent() {
    const PRIMARY: usize = 0;
    let start = Start {
        nodes: 1,
        writers: 2,
        storages: 2,
        ..Start::default()
    };
    let Some(mut run) = Run::start("learner survives", start) else {
        return;
    };
    let other = run.cluster.add_node(&["--learner"]).unwrap();
    let learner = run.cluster.add_node(&["--learner"]).unwrap();
    run.load.await_progress(50);
    run.more_loads[0].await_progress(50);
    // What the primary acknowledges in the last moment may be nowhere else.
    run.end_loads();
    run.cluster.await_healthy();
    run.cluster.await_equal_files();
    run.cut_power(&[PRIMARY, other, learner]);
    run.gone.extend([PRIMARY, other]);
    run.note("two learners are left");
    run.start_node(other);
    run.start_node(learner);
    let said = run.cluster.command(learner, &["status"]).unwrap_err();
    let ends = said
        .to_string()
        .matches("yes      term 1 of node 1, ")
        .count();
    assert_eq!(ends, 2 * run.cluster.settings.storages, "{said}");
    run.cluster.nodes[learner].stop().unwrap();
    let survive = ["init", "--survivor"];
    let refused = run.cluster.command(learner, &survive).unwrap_err();
    assert!(refused.to_string().contains("is not gone"), "{refused}");
    run.cluster.nodes[other].stop().unwrap();
    go_on_alone(&mut run, learner);
    run.note("the former primary comes back with its old log, against all warnings");
    run.start_node(PRIMARY);
    sleep(WHAT_AN_ELECTION_TAKES);
    let said = run.cluster.command(learner, &["status"]).unwrap();
    assert!(said.contains("node 3 leads"), "{said}");
    let via = run.cluster.nodes[learner].place.peers.to_string();
    let joined = run.cluster.command(PRIMARY, &["join", "--via", &via]);
    let refused = joined.unwrap_err().to_string();
    assert!(refused.contains("node 1 was given up"), "{refused}");
    run.kill(PRIMARY);
    run.reckon();
}

/// What its log does not have, and what it would only do later, cannot be gone on with.
#[test]
fn who_cannot_go_on_alone_does_not_start() {
    const NODE: usize = 0;
    for (keys, asked, why) in [
        ("", 1, "storage 1 has no log here"),
        ("", 2, "it was written for node 2"),
        ("    apply-delay 3s\n", 1, "take apply-delay out"),
    ] {
        let Some(network) = hosts("no survivor", false) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            replication: keys.to_owned(),
            ..Settings::default()
        };
        let mut cluster = Cluster::prepare(directory.path(), network, settings).unwrap();
        let raft = cluster.nodes[NODE].disk().join("raft");
        fs::create_dir(&raft).unwrap();
        let marker = json!({"node": asked, "address": "", "storages": ["1"], "survivor": true});
        fs::write(raft.join("bootstrap"), marker.to_string()).unwrap();
        let error = cluster.start_node(NODE).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains("raft/bootstrap: "), "{error}");
    }
}

/// As docs/redundancy.md says under "The quorum is lost".
fn go_on_alone(run: &mut Run, index: usize) {
    run.start_node(index);
    let said = run.cluster.command(index, &["status"]).unwrap_err();
    for words in ["nobody leads", "LOG ENDS AT", "yes      term "] {
        assert!(said.to_string().contains(words), "{said}");
    }
    run.note(&format!("node {} is to go on alone", index + 1));
    run.cluster.nodes[index].stop().unwrap();
    run.cluster.command(index, &["init", "--survivor"]).unwrap();
    let marker = run.cluster.nodes[index].disk().join("raft/bootstrap");
    let asked = fs::read(&marker).unwrap();
    run.start_node(index);
    assert!(!marker.exists());
    let said = run.cluster.command(index, &["status"]).unwrap();
    assert!(said.contains("1 voter"), "{said}");
    // As after a crash just before the marker was removed.
    run.kill(index);
    fs::write(&marker, asked).unwrap();
    run.start_node(index);
    assert_eq!(run.cluster.await_leader(), index);
}

/// The note is written half a minute later at most: until then it says that the first node is alone. With a damaged log
/// it may have forgotten what the second one has, and must not vote.
#[test]
fn a_first_node_with_a_damaged_log_knows_of_the_second() {
    const FIRST: usize = 0;
    let start = Start {
        nodes: 1,
        pack_pause: Duration::ZERO,
        ..Start::default()
    };
    let Some(mut run) = Run::start("damaged log", start) else {
        return;
    };
    let second = run.cluster.add_node(&[]).unwrap();
    run.load.await_progress(60);
    run.end_loads();
    run.cluster.await_healthy();
    for index in [FIRST, second] {
        run.kill(index);
    }
    damage_log(&run.cluster.nodes[FIRST].disk().join("raft"));
    run.start_node(FIRST);
    let status = run.cluster.status(FIRST).unwrap();
    assert_eq!(status["nodes"][0]["abstains"], true, "{status}");
    // So nobody can be elected, and the other one has to go on alone.
    run.kill(FIRST);
    run.gone.push(FIRST);
    go_on_alone(&mut run, second);
    run.reckon();
}

/// Before the last entries, so that what follows shows that it was no crash.
fn damage_log(directory: &Path) {
    const BEFORE_END: usize = 20_000;
    let files = fs::read_dir(directory).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let newest = paths
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "raftlog"))
        .max()
        .unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end - BEFORE_END] ^= 1;
    fs::write(newest, bytes).unwrap();
}
