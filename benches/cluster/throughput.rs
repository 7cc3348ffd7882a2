//! What replication costs: a lone server and clusters of several sizes, in turn.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cell::{Cell, median};
use crate::cluster::network::Network;
use crate::cluster::node::Node;
use crate::cluster::{Cluster, Settings};
use crate::commits::{self, Writers};
use crate::generator::Failure;
use crate::loads::{self, Readers};
use crate::server_process::ServerProcess;
use crate::wire::Object;

const READERS: Readers = Readers {
    connections: 6,
    depth: 16,
};
/// What three nodes are to reach of a lone server, at eight writers.
const GOAL: f64 = 0.6;

/// A server or a cluster, and the addresses at which it is measured.
struct Subject {
    name: String,
    addresses: Vec<SocketAddr>,
    /// All servers that have a part in it.
    processes: Vec<u32>,
    objects: Vec<Object>,
}

/// Processor time that the servers took for one operation: other than the rest,
/// it does not depend on what else the machine does.
const PROCESSOR_US: &str = "processor_us";
/// Linux counts processor time in hundredths of a second.
const TICK_US: f64 = 10_000.0;

/// What is done.
#[derive(Clone, Copy)]
enum Row {
    Commits(usize),
    Loads,
}

/// What is measured.
pub struct Plan {
    pub rounds: usize,
    pub period: Duration,
    /// Objects in each database.
    pub objects: usize,
    /// Sizes of clusters.
    pub nodes: Vec<usize>,
    /// Numbers of clients that commit.
    pub writers: Vec<usize>,
    pub loads: bool,
}

/// Measures a lone server and a cluster of each size, in turn. The other clusters do not run
/// meanwhile: their nodes would talk to each other at the expense of those that are measured.
pub fn run(directory: &Path, plan: &Plan) -> Result<(), Failure> {
    let lone = start_lone(&directory.join("lone"))?;
    let mut subjects = vec![Subject::new("lone", vec![lone.address()], vec![lone.pid()])];
    subjects[0].objects = commits::populate(lone.address(), plan.objects)?;
    for &count in &plan.nodes {
        let place = directory.join(format!("cluster{count}"));
        std::fs::create_dir(&place)?;
        let mut cluster = Cluster::start(&place, Network::Loopback, count, Settings::default())?;
        subjects.truncate(1);
        subjects.extend(subjects_of(&mut cluster));
        for subject in &mut subjects[1..] {
            subject.objects = commits::populate(subject.addresses[0], plan.objects)?;
        }
        measure(&mut subjects, plan)?;
        cluster.stop()?;
    }
    lone.stop()?;
    Ok(())
}

/// The cluster, its clients connected here or there.
fn subjects_of(cluster: &mut Cluster) -> Vec<Subject> {
    let leader = cluster.await_leader();
    let at = |index: usize| cluster.nodes[index].place.clients;
    let count = cluster.nodes.len();
    let processes: Vec<_> = cluster.nodes.iter().filter_map(Node::pid).collect();
    let subject = |who: &str, addresses| {
        let name = match count {
            1 => "1 node".to_owned(),
            count => format!("{count} nodes, {who}"),
        };
        Subject::new(&name, addresses, processes.clone())
    };
    let mut subjects = vec![subject("leader", vec![at(leader)])];
    if count > 1 {
        let followers = (0..count).filter(|&index| index != leader);
        subjects.push(subject("followers", followers.map(at).collect()));
        subjects.push(subject("all", (0..count).map(at).collect()));
    }
    subjects
}

/// Measures each row at each subject in each round, and prints what came of it.
fn measure(subjects: &mut [Subject], plan: &Plan) -> Result<(), Failure> {
    let rows = plan.writers.iter().map(|&writers| Row::Commits(writers));
    let rows = rows.chain(plan.loads.then_some(Row::Loads));
    let mut table: Vec<(Row, Vec<Vec<Cell>>)> = rows
        .map(|row| (row, vec![Vec::new(); subjects.len()]))
        .collect();
    for round in 1..=plan.rounds {
        eprintln!("{}: round {round} of {}", subjects[1].name, plan.rounds);
        for (row, cells) in &mut table {
            // Each round begins with another one.
            for turn in 0..subjects.len() {
                let index = (turn + round) % subjects.len();
                cells[index].push(subjects[index].measure(*row, plan.period)?);
            }
        }
    }
    print(subjects, &table);
    Ok(())
}

impl Subject {
    fn new(name: &str, addresses: Vec<SocketAddr>, processes: Vec<u32>) -> Self {
        Self {
            name: name.to_owned(),
            addresses,
            processes,
            objects: Vec::new(),
        }
    }

    fn measure(&mut self, row: Row, period: Duration) -> Result<Cell, Failure> {
        let before = self.processor_us()?;
        let mut cell = self.measure_rate(row, period)?;
        let taken = self.processor_us()? - before;
        let operations = cell.rate * period.as_secs_f64();
        cell.extra.insert(PROCESSOR_US, taken / operations);
        Ok(cell)
    }

    /// Processor time of all servers so far.
    fn processor_us(&self) -> Result<f64, Failure> {
        let mut ticks = 0.0;
        for process in &self.processes {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
            // Behind the name, which may contain anything: see proc_pid_stat(5).
            let fields: Vec<_> = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            ticks += fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        }
        Ok(ticks * TICK_US)
    }

    fn measure_rate(&mut self, row: Row, period: Duration) -> Result<Cell, Failure> {
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
        "{:<14} {:<20} {:>9} {:>9} {:>9} {:>7} {:>7}",
        "", "", "ops/s", "p50 us", "p99 us", "cpu us", "of lone"
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
                "{name:<14} {:<20} {:>9.0} {:>9.0} {:>9.0} {:>7.0} {:>6.0}%",
                subject.name,
                summary.rate,
                summary.p50_us,
                summary.p99_us,
                summary.extra[PROCESSOR_US],
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
