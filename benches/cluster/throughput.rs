//! What replication costs: a lone server and clusters of several sizes, in turn.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cell::{Cell, median};
use crate::cluster::network::Network;
use crate::cluster::{Cluster, Settings};
use crate::commits::{self, Writers};
use crate::generator::Failure;
use crate::loads::{self, Readers};
use crate::server_process::ServerProcess;
use crate::wire::Object;

const WRITERS: [usize; 3] = [1, 8, 64];
const READERS: Readers = Readers {
    connections: 6,
    depth: 16,
};
/// What three nodes are to reach of a lone server, at eight writers.
const GOAL: f64 = 0.6;

/// A server or a cluster, and the addresses at which it is measured.
struct Subject {
    name: &'static str,
    addresses: Vec<SocketAddr>,
    objects: Vec<Object>,
}

/// What is done.
#[derive(Clone, Copy)]
enum Row {
    Commits(usize),
    Loads,
}

/// Measures each row at each subject in each round.
pub fn run(
    directory: &Path,
    rounds: usize,
    period: Duration,
    objects: usize,
) -> Result<(), Failure> {
    let lone = start_lone(&directory.join("lone"))?;
    let mut clusters = Vec::new();
    for (count, name) in [(1, "one"), (3, "three"), (5, "five")] {
        let place = directory.join(name);
        std::fs::create_dir(&place)?;
        let settings = Settings::default();
        clusters.push(Cluster::start(&place, Network::Loopback, count, settings)?);
    }
    let mut subjects = vec![Subject::new("lone", vec![lone.address()])];
    for cluster in &mut clusters {
        let leader = cluster.await_leader();
        let at = |index: usize| cluster.nodes[index].place.clients;
        let count = cluster.nodes.len();
        let followers: Vec<_> = (0..count)
            .filter(|&index| index != leader)
            .map(at)
            .collect();
        let all: Vec<_> = (0..count).map(at).collect();
        subjects.extend(match count {
            1 => vec![Subject::new("1 node", vec![at(leader)])],
            3 => vec![
                Subject::new("3 nodes, leader", vec![at(leader)]),
                Subject::new("3 nodes, followers", followers),
                Subject::new("3 nodes, all", all),
            ],
            _ => vec![Subject::new("5 nodes, leader", vec![at(leader)])],
        });
    }
    for subject in &mut subjects {
        subject.objects = commits::populate(subject.addresses[0], objects)?;
    }
    let rows = WRITERS.map(Row::Commits).into_iter().chain([Row::Loads]);
    let mut table: Vec<(Row, Vec<Vec<Cell>>)> = rows
        .map(|row| (row, vec![Vec::new(); subjects.len()]))
        .collect();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (row, cells) in &mut table {
            // Each round begins with another one.
            for turn in 0..subjects.len() {
                let index = (turn + round) % subjects.len();
                cells[index].push(subjects[index].measure(*row, period)?);
            }
        }
    }
    print(&subjects, &table);
    for cluster in &mut clusters {
        cluster.stop()?;
    }
    lone.stop()?;
    Ok(())
}

impl Subject {
    fn new(name: &'static str, addresses: Vec<SocketAddr>) -> Self {
        Self {
            name,
            addresses,
            objects: Vec::new(),
        }
    }

    fn measure(&mut self, row: Row, period: Duration) -> Result<Cell, Failure> {
        match row {
            Row::Commits(connections) => {
                let writers = Writers {
                    connections,
                    objects: 1,
                };
                commits::run(&self.addresses, &mut self.objects, writers, period)
            }
            Row::Loads => loads::run(&self.addresses, &self.objects, READERS, period),
        }
    }
}

fn print(subjects: &[Subject], table: &[(Row, Vec<Vec<Cell>>)]) {
    println!(
        "{:<14} {:<20} {:>9} {:>9} {:>9} {:>7}",
        "", "", "ops/s", "p50 us", "p99 us", "of lone"
    );
    for (row, cells) in table {
        let name = match row {
            Row::Commits(1) => "1 writer".to_owned(),
            Row::Commits(writers) => format!("{writers} writers"),
            Row::Loads => format!("{}x{} loads", READERS.connections, READERS.depth),
        };
        for (subject, own) in subjects.iter().zip(cells) {
            let summary = Cell::summary(own);
            // Within a round, where both figures are seconds apart.
            let pairs = own.iter().zip(&cells[0]);
            let ratio = median(pairs.map(|(own, lone)| own.rate / lone.rate).collect());
            println!(
                "{name:<14} {:<20} {:>9.0} {:>9.0} {:>9.0} {:>6.0}%",
                subject.name,
                summary.rate,
                summary.p50_us,
                summary.p99_us,
                ratio * 100.0
            );
            if matches!(row, Row::Commits(8)) && subject.name == "3 nodes, leader" {
                let verdict = if ratio >= GOAL { "reached" } else { "MISSED" };
                println!("{:<14} the goal of {:.0} % is {verdict}", "", GOAL * 100.0);
            }
        }
    }
}

fn start_lone(directory: &Path) -> Result<ServerProcess, Failure> {
    std::fs::create_dir(directory)?;
    let address_file = directory.join("address");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
    command
        .args(["-a", "127.0.0.1:0", "-f"])
        .arg(directory.join("Data.fs"))
        .arg("--address-file")
        .arg(&address_file);
    let stderr = directory.join("stderr.log");
    Ok(ServerProcess::start(command, &address_file, &stderr)?)
}
