//! Faults by chance, for as long as one likes. Each round is a cluster of its own, checked at its end.

use std::time::{Duration, Instant};

use crate::cluster::SmallDisk;
use crate::cluster::node::Node;
use crate::nodes::restart;
use crate::python_script::number;
use crate::run::{Run, Start, say};
use crate::schedule::{Fault, Schedule, Target};

/// For so long a round lasts: what is wrong is known then, and its seed.
const ROUND: Duration = Duration::from_mins(3);
/// A disk that can be full, and is not when a round is over: an optimised build writes much.
const SMALL_DISK: SmallDisk = SmallDisk {
    node: 1,
    megabytes: 4096,
};

/// `ZEOD_CLUSTER_MINUTES` of it; `ZEOD_CLUSTER_SEED` of the first round, each further one has the next.
/// `ZEOD_CLUSTER_FAULTS` ends each round after so many.
#[test]
#[ignore = "minutes of it: see CONTRIBUTING.md"]
fn randomised() {
    let minutes = number("ZEOD_CLUSTER_MINUTES", 30);
    // Another one each time; it is printed.
    let seed = number("ZEOD_CLUSTER_SEED", std::process::id());
    let end = Instant::now() + Duration::from_mins(minutes.into());
    let mut rounds = 0;
    while Instant::now() < end {
        let until = (Instant::now() + ROUND).min(end);
        if !round(seed.wrapping_add(rounds), until) {
            return;
        }
        rounds += 1;
    }
    say(&format!("{rounds} rounds from seed {seed} on"));
}

/// A short one for each run of the tests, always the same.
#[test]
fn some_faults_by_chance() {
    round(
        number("ZEOD_CLUSTER_SEED", 20),
        Instant::now() + Duration::from_secs(8),
    );
}

fn round(seed: u32, until: Instant) -> bool {
    // Each third one with five nodes.
    let nodes = if seed % 3 == 2 { 5 } else { 3 };
    let start = Start {
        nodes,
        writers: 5,
        seed,
        needs_namespaces: true,
        small_disk: Some(SMALL_DISK),
        ..Start::default()
    };
    say(&format!(
        "randomised: ZEOD_CLUSTER_SEED={seed}, {nodes} nodes"
    ));
    let Some(mut run) = Run::start("randomised", start) else {
        return false;
    };
    let faults = number("ZEOD_CLUSTER_FAULTS", u32::MAX);
    for (count, step) in (0..faults).zip(Schedule::new(seed.into(), nodes)) {
        if Instant::now() + step.pause >= until {
            break;
        }
        run.load.pass(step.pause);
        run.note(&format!("seed {seed}, fault {count}, {step}"));
        strike(&mut run, step.fault);
        run.recover();
    }
    for node in &run.cluster.nodes {
        node.control.set_clock(0).unwrap();
    }
    run.finish();
    true
}

fn strike(run: &mut Run, fault: Fault) {
    let Some(index) = find(run, fault.target()) else {
        return;
    };
    match fault {
        Fault::Kill(_, time) => {
            run.cluster.nodes[index].kill();
            run.load.pass(time);
        }
        Fault::KillAll => run.cluster.nodes.iter_mut().for_each(Node::kill),
        Fault::CutPower(_) => run.cut_power(&[index]),
        Fault::CutAllPower => {
            let all: Vec<_> = (0..run.cluster.nodes.len()).collect();
            run.cut_power(&all);
        }
        Fault::Slow(_, rate, time) => {
            let rate = format!("{rate}kbit");
            run.cluster.network.slow_down(index, &rate).unwrap();
            run.load.pass(time);
            run.cluster.network.speed_up(index).unwrap();
        }
        Fault::Pause(_, time) => {
            run.cluster.nodes[index].pause().unwrap();
            run.load.pass(time);
            run.cluster.nodes[index].resume().unwrap();
        }
        Fault::Part(_, time) => {
            run.cluster.part(&[index]).unwrap();
            run.load.pass(time);
        }
        Fault::Isolate(_, time) => {
            run.cluster.isolate(index).unwrap();
            run.load.pass(time);
        }
        Fault::OneWay(from, to, time) => {
            run.cluster.cut(&[from], &[to]).unwrap();
            run.load.pass(time);
        }
        Fault::Flap(_, times) => flap(run, index, times),
        Fault::Clock(_, ahead) => run.cluster.nodes[index].control.set_clock(ahead).unwrap(),
        Fault::FailSyncs(_, time) => fail_syncs(run, index, time),
        Fault::FullDisk(time) => {
            run.cluster.fill_disk(index).unwrap();
            run.load.pass(time);
            run.cluster.make_room(index).unwrap();
        }
        Fault::Restart(_) => restart(run, index),
        Fault::RestartAll => {
            for index in 0..run.cluster.nodes.len() {
                if !run.gone.contains(&index) {
                    restart(run, index);
                }
            }
        }
        Fault::Transfer => ask_leader(run, "transfer-leader"),
        Fault::Snapshot => ask_leader(run, "snapshot"),
        // Once in a round: clients know the first nodes only.
        Fault::Replace(_) if run.gone.is_empty() => run.replace(index),
        Fault::Replace(_) => {}
        Fault::MissALot(_, time) => {
            run.cluster.nodes[index].kill();
            run.load.pass(time);
            ask_leader(run, "snapshot");
        }
    }
}

/// The node to strike; none where it is no member any more.
fn find(run: &mut Run, target: Target) -> Option<usize> {
    let index = match target {
        Target::Leader => run.cluster.await_leader(),
        Target::SmallDisk => SMALL_DISK.node,
        Target::Node(index) => index,
    };
    (!run.gone.contains(&index)).then_some(index)
}

fn flap(run: &mut Run, index: usize, times: u32) {
    for _ in 0..times {
        run.cluster.part(&[index]).unwrap();
        run.load.pass(Duration::from_millis(300));
        run.cluster.heal().unwrap();
        run.load.pass(Duration::from_millis(200));
    }
}

fn fail_syncs(run: &mut Run, index: usize, time: Duration) {
    run.cluster.nodes[index].control.fail_syncs(true).unwrap();
    run.load.pass(time);
    // Whatever of that it has taken for durable is gone with it.
    run.cluster.nodes[index].kill();
    run.cluster.nodes[index].control.fail_syncs(false).unwrap();
}

/// It may have come to another leader, or to none, meanwhile: then it says so.
fn ask_leader(run: &mut Run, command: &str) {
    let leader = run.cluster.await_leader();
    if let Err(error) = run.cluster.command(leader, &[command]) {
        say(&format!("{command}: {error}"));
    }
}
