//! How long stock clients cannot commit.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::cluster::network::Network;
use crate::cluster::{Cluster, Settings};
use crate::generator::Failure;
use crate::python_env;

const NODES: usize = 3;
/// All is well for so long before each event.
const QUIET: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(2);

/// Kills, hands over and restarts under the eyes of three clients.
pub fn run(
    directory: &Path,
    kills: usize,
    transfers: usize,
    restarts: usize,
) -> Result<(), Failure> {
    let mut cluster = Cluster::start(directory, Network::Loopback, NODES, Settings::default())?;
    let clients = Clients::start(&cluster)?;
    let mut table = Table::new("kill -9 of the leader");
    for _ in 0..kills {
        clients.quiet()?;
        let leader = cluster.await_leader();
        let at = now();
        cluster.nodes[leader].kill();
        table.add(clients.first_commits(at)?);
        cluster.start_node(leader)?;
        cluster.await_healthy();
    }
    table.print();
    let mut table = Table::new("planned transfer");
    for _ in 0..transfers {
        clients.quiet()?;
        let leader = cluster.await_leader();
        let at = now();
        cluster.command(leader, &["transfer-leader"])?;
        table.add(clients.first_commits(at)?);
        cluster.await_leader_other_than(leader);
    }
    table.print();
    let mut table = Table::new("restart of one node after the other");
    for _ in 0..restarts {
        for index in 0..NODES {
            clients.quiet()?;
            let at = now();
            cluster.nodes[index].stop()?;
            cluster.start_node(index)?;
            table.add(clients.first_commits(at)?);
            cluster.await_healthy();
        }
    }
    table.print();
    drop(clients);
    Ok(cluster.stop()?)
}

/// Stock clients; each began at another node.
struct Clients(Vec<Client>);

struct Client {
    child: Child,
    commits: Arc<Mutex<Vec<Commit>>>,
}

/// In seconds of the machine's monotonic clock.
#[derive(Clone, Copy)]
struct Commit {
    begun: f64,
    acknowledged: f64,
}

impl Clients {
    fn start(cluster: &Cluster) -> Result<Self, Failure> {
        let servers: Vec<SocketAddr> = cluster
            .nodes
            .iter()
            .map(|node| node.place.clients)
            .collect();
        let clients = (0..servers.len()).map(|first| Client::start(&servers, first));
        Ok(Self(clients.collect::<Result<_, _>>()?))
    }

    /// Waits until all commit, and a little more.
    fn quiet(&self) -> Result<(), Failure> {
        self.first_commits(now())?;
        sleep(QUIET);
        Ok(())
    }

    /// For each client the seconds until its first commit that was begun after `at` came through, and
    /// the longest time without one since.
    fn first_commits(&self, at: f64) -> Result<Vec<f64>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let firsts: Option<Vec<f64>> = self
                .0
                .iter()
                .map(|client| client.first_commit(at))
                .collect();
            if let Some(firsts) = firsts {
                return Ok(firsts);
            }
            if Instant::now() > deadline {
                let what = "a client commits nothing any more".to_owned();
                return Err(Failure::Setup(what));
            }
            sleep(POLL);
        }
    }
}

impl Client {
    fn start(servers: &[SocketAddr], first: usize) -> Result<Self, Failure> {
        let python = python_env::python()
            .ok_or_else(|| Failure::Setup("there is no Python with ZEO".into()))?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cluster/failover.py");
        let servers: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        let mut child = Network::Loopback
            .at_clients(python)
            .arg(script)
            .arg(first.to_string())
            .arg(servers.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A stock client says a lot when it loses its server.
            .stderr(Stdio::null())
            .spawn()?;
        let commits = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("it is piped");
        let found = Arc::clone(&commits);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((begun, acknowledged)) = line.split_once(' ')
                    && let (Ok(begun), Ok(acknowledged)) = (begun.parse(), acknowledged.parse())
                {
                    found.lock().unwrap().push(Commit {
                        begun,
                        acknowledged,
                    });
                }
            }
        });
        Ok(Self { child, commits })
    }

    fn first_commit(&self, at: f64) -> Option<f64> {
        let commits = self.commits.lock().unwrap();
        let mut newest = commits.iter().rev().take_while(|commit| commit.begun > at);
        let mut first = newest.next()?;
        for commit in newest {
            first = commit;
        }
        Some(first.acknowledged - at)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of the machine's monotonic clock, which Python's clients tell, too.
fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().unwrap(),
        now.tv_nsec.try_into().unwrap(),
    )
    .as_secs_f64()
}

/// The figures of one kind of event.
struct Table {
    name: &'static str,
    /// Until the first client was back, and the last one.
    first: Vec<f64>,
    last: Vec<f64>,
}

impl Table {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            first: Vec::new(),
            last: Vec::new(),
        }
    }

    fn add(&mut self, seconds: Vec<f64>) {
        self.first
            .push(seconds.iter().copied().fold(f64::INFINITY, f64::min));
        self.last.push(seconds.into_iter().fold(0.0, f64::max));
    }

    fn print(&mut self) {
        let figures = |values: &mut Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            format!(
                "median {:.2} s, max {:.2} s",
                values.get(values.len() / 2).copied().unwrap_or_default(),
                values.last().copied().unwrap_or_default()
            )
        };
        println!(
            "{} ({} times): the first client commits again after {}; all {NODES} after {}",
            self.name,
            self.first.len(),
            figures(&mut self.first),
            figures(&mut self.last)
        );
    }
}
