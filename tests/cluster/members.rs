//! A cluster that grows and shrinks while clients work.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cluster::{Cluster, Settings, shim};
use crate::nodes::lead;
use crate::run::{Run, Start, hosts};

#[test]
fn members_come_and_go_under_load() {
    let start = Start {
        nodes: 1,
        ..Start::default()
    };
    let Some(mut run) = Run::start("members", start) else {
        return;
    };
    for id in 2..=5 {
        run.note(&format!("node {id} joins"));
        let arguments: &[&str] = if id == 5 { &["--learner"] } else { &[] };
        run.cluster.add_node(arguments).unwrap();
        run.load.await_progress(10);
    }
    run.note("node 5, a learner, becomes a voter");
    command(&mut run, 0, &["promote", "5"]);
    run.note("node 4 leaves by itself");
    command(&mut run, 3, &["leave"]);
    run.retire(3);
    lead(&mut run, 2);
    run.note("node 3, the leader, is removed");
    command(&mut run, 0, &["remove", "3"]);
    run.retire(2);
    run.finish();
}

/// It is always the leader that goes, by itself and by another's word.
#[test]
#[ignore = "part of the long run: see CONTRIBUTING.md"]
fn a_cluster_shrinks_to_one_node_and_grows_again_under_load() {
    let Some(mut run) = Run::start("shrink and grow", Start::default()) else {
        return;
    };
    let mut left = vec![0, 1, 2];
    for goes_by_itself in [true, false] {
        let leader = run.cluster.await_leader();
        left.retain(|&index| index != leader);
        let id = (leader + 1).to_string();
        if goes_by_itself {
            run.note(&format!("node {id}, the leader, leaves by itself"));
            command(&mut run, leader, &["leave"]);
        } else {
            run.note(&format!("node {id}, the leader, is removed"));
            command(&mut run, left[0], &["remove", &id]);
        }
        run.retire(leader);
        run.load.await_progress(10);
    }
    for id in 4..=5 {
        run.note(&format!("node {id} joins"));
        run.cluster.add_node(&[]).unwrap();
        run.load.await_progress(10);
    }
    run.finish();
}

/// Each has a group of its own, and leaders that may be different ones.
#[test]
fn storages_are_led_one_by_one() {
    let start = Start {
        storages: 2,
        writers: 2,
        ..Start::default()
    };
    let Some(mut run) = Run::start("two storages", start) else {
        return;
    };
    for (storage, id) in [("1", "1"), ("2", "2")] {
        run.note(&format!("node {id} is to lead storage {storage}"));
        let arguments = ["transfer-leader", id, "--storage", storage];
        run.cluster.command(2, &arguments).unwrap();
    }
    for index in 0..2 {
        run.kill(index);
        run.load.await_progress(10);
        run.more_loads[0].await_progress(10);
        run.start_node(index);
        run.cluster.await_leader();
    }
    run.finish();
}

/// A learner that is late on purpose has all in the end, and is no voter.
#[test]
fn a_delayed_learner_is_late_and_complete() {
    let start = Start {
        // Their lengths are to be compared.
        pack_pause: Duration::ZERO,
        ..Start::default()
    };
    let Some(mut run) = Run::start("delayed learner", start) else {
        return;
    };
    run.cluster.settings.replication += "    apply-delay 3s\n";
    let learner = run.cluster.add_node(&["--learner"]).unwrap();
    run.load.await_progress(30);
    let lengths = run.cluster.file_lengths(1);
    assert!(lengths[learner] < lengths[0], "{lengths:?}");
    let promoted = run.cluster.command(0, &["promote", "4"]);
    assert!(promoted.is_err(), "{promoted:?}");
    run.finish();
}

/// A node that joins brings a copy in which a byte is another one. It is no help that it looks as long as, and ends like,
/// the cluster's, nor that a note from its former life says that it has all.
#[test]
fn a_copy_that_differs_is_made_alike() {
    let start = Start {
        nodes: 1,
        pack_pause: Duration::ZERO,
        ..Start::default()
    };
    let Some(mut run) = Run::start("copies", start) else {
        return;
    };
    for copied in [&["Data.fs"][..], &["Data.fs.raft", "Data.fs"]] {
        run.load.await_progress(100);
        command(&mut run, 0, &["snapshot"]);
        let index = run.cluster.create_node().unwrap();
        let [from, to] = [0, index].map(|index| run.cluster.nodes[index].storage(1));
        for name in copied {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
        change_byte(&to.join("Data.fs"));
        run.note(&format!("node {} joins with {copied:?}", index + 1));
        run.start_node(index);
        command(&mut run, index, &["join", "--replace"]);
    }
    run.finish();
}

/// One of an object's class, so that the file can be opened as ever, and somewhere in the middle: samples of
/// the beginning and the end do not find it.
fn change_byte(path: &Path) {
    const CLASS: &[u8] = b"cBTrees.";
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() * 101 / 200;
    let at = bytes[..middle]
        .windows(CLASS.len())
        .rposition(|window| window == CLASS);
    bytes[at.unwrap()] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A node stops at damage inside its file, and says who has what was there.
#[test]
fn a_damaged_file_is_had_from_the_others() {
    const NODE: usize = 1;
    let Some(mut run) = Run::start("damaged file", Start::default()) else {
        return;
    };
    run.load.await_progress(100);
    run.cluster.nodes[NODE].stop().unwrap();
    let place = run.cluster.nodes[NODE].storage(1);
    fs::remove_file(place.join("Data.fs.index")).unwrap();
    let data = place.join("Data.fs");
    let mut bytes = fs::read(&data).unwrap();
    // Some transactions are large: they begin and end somewhere in this.
    let length = bytes.len();
    bytes[length / 4..length / 4 * 3].fill(0x5a);
    fs::write(data, bytes).unwrap();
    let error = run.cluster.start_node(NODE).unwrap_err().to_string();
    assert!(error.contains("\"A disk is lost\" in docs/"), "{error}");
    run.replace(NODE);
    run.finish();
}

/// What the walk-through of the README does first: nobody is told to begin the cluster once more, and the second
/// node is let in, even where the disk is slow.
#[test]
fn a_first_node_that_has_started_leads() {
    let Some(network) = hosts("first node", false) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        shim: Some(shim::compile(directory.path())),
        ..Settings::default()
    };
    let mut cluster = Cluster::prepare(directory.path(), network, settings).unwrap();
    cluster.nodes[0].control.slow_syncs(200).unwrap();
    cluster.command(0, &["init"]).unwrap();
    cluster.start_node(0).unwrap();
    let said = cluster.command(0, &["status"]).unwrap();
    assert!(said.contains("all is well"), "{said}");
    cluster.add_node(&[]).unwrap();
}

fn command(run: &mut Run, index: usize, arguments: &[&str]) {
    let said = run.cluster.command(index, arguments).unwrap();
    assert!(!said.contains("error"), "{said}");
    run.load.await_progress(10);
}
