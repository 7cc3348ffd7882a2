//! One test: a cluster, clients that never pause, faults, and the reckoning.

use std::env;
use std::io::{self, Write};
use std::iter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::cluster::chance::Chance;
use crate::cluster::load::{Clients, Load, check, script};
use crate::cluster::network::{self, Network};
use crate::cluster::node::zeod;
use crate::cluster::{Cluster, Settings, SmallDisk, shim};
use crate::python_env;

/// One at a time: each wants the machine's cores for itself.
static TURN: Mutex<()> = Mutex::new(());

/// A node cut off says so soon, for a test has no time.
const REPLICATION: &str = "    quorum-wait 2s\n";
pub const WRITERS: usize = 4;

/// A cluster under load.
pub struct Run {
    // In this order all ends.
    pub load: Load,
    /// Of the other storages.
    pub more_loads: Vec<Load>,
    pub cluster: Cluster,
    python: PathBuf,
    name: &'static str,
    /// Nodes that left the cluster: their files are of the past.
    pub gone: Vec<usize>,
    chance: Chance,
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// What a run begins with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    pub nodes: usize,
    pub writers: usize,
    pub seed: u32,
    pub pack_pause: Duration,
    /// Only where links can be cut, or disks be filled.
    pub needs_namespaces: bool,
    pub small_disk: Option<SmallDisk>,
    pub storages: usize,
    /// Lines for `<replication>`, beside those that all have.
    pub replication: &'a str,
    /// Another program than the one that was just built.
    pub binary: Option<&'a Path>,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self {
            nodes: 3,
            writers: WRITERS,
            seed: 1,
            pack_pause: Duration::from_secs(4),
            needs_namespaces: false,
            small_disk: None,
            storages: 1,
            replication: "",
            binary: None,
        }
    }
}

impl Run {
    /// Starts nodes and clients, and waits until these are at work. None, and why, where the machine
    /// does not permit it.
    pub fn start(name: &'static str, start: Start<'_>) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let python = python_env::python()?;
        let network = hosts(name, start.needs_namespaces)?;
        let directory = tempfile::Builder::new()
            .prefix("zeod-cluster-")
            .tempdir()
            .unwrap();
        let settings = Settings {
            replication: format!("{REPLICATION}{}", start.replication),
            shim: Some(shim::compile(directory.path())),
            small_disk: start.small_disk,
            storages: start.storages,
            binary: start.binary.map_or_else(zeod, Path::to_owned),
        };
        let started = Cluster::start(directory.path(), network, start.nodes, settings);
        let cluster = started.unwrap_or_else(|error| {
            keep(directory.path());
            panic!("{name}: {error}")
        });
        let servers: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| node.place.clients)
            .collect();
        let clients = |storage| Clients {
            storage,
            writers: start.writers,
            seed: start.seed,
            pack_pause: start.pack_pause,
        };
        let mut loads: Vec<_> = (1..=start.storages)
            .map(|storage| {
                begin(
                    &python,
                    &cluster,
                    directory.path(),
                    &servers,
                    clients(storage),
                )
            })
            .collect();
        let load = loads.remove(0);
        let mut run = Self {
            load,
            more_loads: loads,
            cluster,
            python,
            name,
            gone: Vec::new(),
            chance: Chance(start.seed.into()),
            directory,
            _turn: turn,
        };
        run.load.await_progress(5 * start.writers);
        Some(run)
    }

    /// A script of clients' doings, in a Python that has ZEO.
    pub fn script(&self, name: &str) -> Command {
        script(&self.python, &self.cluster.network, name)
    }

    /// Says, and writes down, what is done to the cluster now.
    pub fn note(&self, what: &str) {
        say(&format!("{}: {what}", self.name));
        self.load.note(what).unwrap();
    }

    /// Kills a node as a power cut of its process would.
    pub fn kill(&mut self, index: usize) {
        self.note(&format!("kill -9 of node {}", index + 1));
        self.cluster.nodes[index].kill();
    }

    /// All of these at the same time: they die, and lose of their files what they have not synced.
    pub fn cut_power(&mut self, nodes: &[usize]) {
        let ids: Vec<_> = nodes.iter().map(|index| index + 1).collect();
        self.note(&format!("the power of nodes {ids:?} is cut"));
        for &index in nodes {
            self.cluster.nodes[index].kill();
        }
        for &index in nodes {
            if !self.gone.contains(&index) {
                self.cluster.cut_power(index, &mut self.chance).unwrap();
            }
        }
    }

    pub fn start_node(&mut self, index: usize) {
        self.cluster.start_node(index).unwrap();
    }

    /// Clients go on, and all nodes become one again.
    pub fn recover(&mut self) {
        self.cluster.heal().unwrap();
        for index in 0..self.cluster.nodes.len() {
            if !self.gone.contains(&index) && !self.cluster.nodes[index].is_running() {
                self.start_node(index);
            }
        }
        self.cluster.await_leader();
        self.load.await_progress(10);
    }

    /// A node is no member any more.
    pub fn retire(&mut self, index: usize) {
        self.cluster.nodes[index].stop().unwrap();
        self.gone.push(index);
    }

    /// A node's host is lost for good, and a new node takes its place.
    pub fn replace(&mut self, index: usize) {
        self.cluster.nodes[index].kill();
        self.gone.push(index);
        self.cluster.await_leader();
        let new = self.cluster.add_node(&[]).unwrap();
        let id = (index + 1).to_string();
        self.cluster.command(new, &["remove", &id]).unwrap();
    }

    /// Ends the load, waits until all nodes are the same, stops them and checks everything.
    pub fn finish(mut self) {
        self.recover();
        self.end_loads();
        self.reckon();
    }

    /// All clients come to their end.
    pub fn end_loads(&mut self) {
        self.load.finish();
        for load in &mut self.more_loads {
            load.finish();
        }
    }

    /// The rest of [`Self::finish`].
    pub fn reckon(mut self) {
        self.cluster.await_healthy();
        self.cluster.await_equal_files();
        self.cluster.stop().unwrap();
        say(&format!("{}:", self.name));
        for (load, storage) in iter::once(&self.load).chain(&self.more_loads).zip(1..) {
            let nodes = self.cluster.nodes.iter();
            let disks: Vec<_> = nodes
                .filter(|node| !self.gone.contains(&node.index))
                .map(|node| node.storage(storage))
                .collect();
            check(&self.python, &self.cluster.network, &load.directory, &disks);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        say(&format!(
            "{} failed; what its nodes said last:\n{}",
            self.name,
            self.cluster.last_words()
        ));
        keep(self.directory.path());
    }
}

/// Copies the files of a failed test to where they stay, if somebody wants to look at them.
fn keep(directory: &Path) {
    if env::var_os("ZEOD_CLUSTER_KEEP").is_some() {
        let mut place = directory.as_os_str().to_owned();
        place.push("-kept");
        let copied = network::run(Command::new("cp").arg("-r").arg(directory).arg(&place));
        say(&format!(
            "all of it is in {}: {copied:?}",
            Path::new(&place).display()
        ));
    }
}

/// The network for a test; None, and why, where it needs namespaces and there can be none.
///
/// # Panics
///
/// Then under `CI=true`: there a skipped test is a failed one.
pub fn hosts(name: &str, needs_namespaces: bool) -> Option<Network> {
    match Network::namespaces() {
        Ok(network) => Some(network),
        Err(_) if !needs_namespaces => Some(Network::Loopback),
        Err(error) => {
            assert!(
                env::var("CI").as_deref() != Ok("true"),
                "{name} needs network namespaces, and under CI it must run: {error}"
            );
            say(&format!(
                "\n!!! SKIPPED: {name} needs network namespaces (unshare --net): {error}\n"
            ));
            None
        }
    }
}

fn begin(
    python: &Path,
    cluster: &Cluster,
    directory: &Path,
    servers: &[SocketAddr],
    clients: Clients,
) -> Load {
    let clients_directory = directory.join(format!("clients{}", clients.storage));
    Load::start(
        python,
        &cluster.network,
        &clients_directory,
        servers,
        clients,
    )
    .unwrap()
}

/// Past the test harness, which keeps what a passing test prints to itself.
pub fn say(line: &str) {
    // Nothing can be done where standard error is closed.
    let _ = writeln!(io::stderr(), "{line}");
}
