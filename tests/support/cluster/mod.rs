//! Several zeod on hosts of their own, one database: started, joined, tormented and stopped.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test and bench that includes this module uses a part of it; a panic there is a failed test"
)]

pub mod chance;
pub mod load;
pub mod network;
pub mod node;
pub mod power;
pub mod shim;
pub mod status;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use chance::Chance;
use network::{Network, run, said, succeed};
use node::{Node, fill_disk, filler, zeod};
use status::View;

/// Until all nodes agree, and each has all.
const CONVERGENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);
/// Nobody has a pack to do any more.
const STABLE_ROUNDS: u32 = 10;

/// A node with a disk that can be filled: big enough for what the test writes.
#[derive(Clone, Copy, Debug)]
pub struct SmallDisk {
    /// The node's index.
    pub node: usize,
    pub megabytes: u32,
}

/// What the nodes of a cluster have in common.
#[derive(Clone)]
pub struct Settings {
    /// Lines for `<replication>`.
    pub replication: String,
    /// Loaded into each server: see `shim`.
    pub shim: Option<PathBuf>,
    pub small_disk: Option<SmallDisk>,
    /// So many storages: 1, 2 and so on.
    pub storages: usize,
    /// The program.
    pub binary: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replication: String::new(),
            shim: None,
            small_disk: None,
            storages: 1,
            binary: zeod(),
        }
    }
}

/// The nodes, and where they are. All ends with this.
pub struct Cluster {
    // In front of the network, whose namespaces they are in, and of the directory.
    pub nodes: Vec<Node>,
    pub network: Network,
    pub settings: Settings,
    directory: PathBuf,
    cuts: BTreeSet<(usize, usize)>,
    isolated: Vec<usize>,
}

impl Cluster {
    /// Starts `count` nodes in `directory`; the first one begins the cluster, the others join it.
    pub fn start(
        directory: &Path,
        network: Network,
        count: usize,
        settings: Settings,
    ) -> io::Result<Self> {
        let mut cluster = Self::prepare(directory, network, settings)?;
        cluster.begin()?;
        for _ in 1..count {
            cluster.add_node(&[])?;
        }
        cluster.await_healthy();
        Ok(cluster)
    }

    /// The first node, which runs not yet, and belongs to no cluster.
    pub fn prepare(directory: &Path, network: Network, settings: Settings) -> io::Result<Self> {
        let mut cluster = Self {
            nodes: Vec::new(),
            network,
            settings,
            directory: directory.to_owned(),
            cuts: BTreeSet::new(),
            isolated: Vec::new(),
        };
        cluster.create_node()?;
        Ok(cluster)
    }

    /// The first node, with the files that it has, is a cluster of its own.
    pub fn begin(&mut self) -> io::Result<()> {
        self.command(0, &["init"])?;
        self.start_node(0)?;
        self.await_leader();
        Ok(())
    }

    /// A new node joins; `arguments` are those of `zeod cluster join`.
    pub fn add_node(&mut self, arguments: &[&str]) -> io::Result<usize> {
        let index = self.create_node()?;
        self.start_node(index)?;
        let mut join = vec!["join"];
        join.extend(arguments);
        self.command(index, &join)?;
        Ok(index)
    }

    /// A node with a configuration, and nothing else.
    pub fn create_node(&mut self) -> io::Result<usize> {
        let index = self.nodes.len();
        let place = self.network.add_host(index)?;
        let node = Node::create(index, place, &self.directory, &self.nodes, &self.settings)?;
        let disk = self.settings.small_disk.filter(|disk| disk.node == index);
        if let Some(disk) = disk {
            let size = format!("size={}m", disk.megabytes);
            let mut mount = self.network.at_clients("mount");
            run(mount
                .args(["-t", "tmpfs", "-o", &size, "none"])
                .arg(node.disk()))?;
        }
        for storage in 1..=self.settings.storages {
            fs::create_dir_all(self.network.seen_from_here(&node.storage(storage)))?;
        }
        self.nodes.push(node);
        Ok(index)
    }

    pub fn start_node(&mut self, index: usize) -> io::Result<()> {
        self.nodes[index].start(&self.network, &self.settings)
    }

    /// From now on nodes start with another program.
    pub fn upgrade_to(&mut self, binary: PathBuf) {
        self.settings.binary = binary;
    }

    /// Runs `zeod cluster …` at a node; what it said.
    pub fn command(&self, index: usize, arguments: &[&str]) -> io::Result<String> {
        let output =
            self.nodes[index].cluster_command(&self.network, &self.settings.binary, arguments)?;
        let said = said(&output);
        if output.status.success() {
            return Ok(said);
        }
        let (id, status) = (index + 1, output.status);
        Err(io::Error::other(format!(
            "zeod cluster {arguments:?} at node {id}: {status}\n{said}{}",
            self.last_words()
        )))
    }

    pub fn status(&self, index: usize) -> Option<Value> {
        self.nodes[index].status(&self.network, &self.settings.binary)
    }

    /// What all nodes that run and answer say of the cluster, by index.
    pub fn views(&mut self) -> Vec<(usize, View)> {
        let mut views = Vec::new();
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_awake()
                && let Some(status) = self.status(index)
                && let Some(view) = View::of(&status)
            {
                views.push((index, view));
            }
        }
        views
    }

    /// The index of the leader, as a majority of the nodes that answer sees it.
    pub fn leader(&mut self) -> Option<usize> {
        let views = self.views();
        let mut leaders: Vec<_> = views.iter().filter_map(|(_, view)| view.leader).collect();
        leaders.sort_unstable();
        let candidate = *leaders.get(leaders.len() / 2)?;
        let votes = leaders.iter().filter(|id| **id == candidate).count();
        (votes * 2 > views.len()).then(|| usize::try_from(candidate).unwrap() - 1)
    }

    /// Waits for a leader. Its index.
    ///
    /// # Panics
    ///
    /// Where there is none in time.
    pub fn await_leader(&mut self) -> usize {
        let deadline = Instant::now() + CONVERGENCE;
        loop {
            if let Some(leader) = self.leader() {
                return leader;
            }
            assert!(
                Instant::now() < deadline,
                "there is no leader\n{}",
                self.last_words()
            );
            sleep(POLL);
        }
    }

    /// Waits until another node than this one leads. Its index.
    ///
    /// # Panics
    ///
    /// Where that takes too long.
    pub fn await_leader_other_than(&mut self, former: usize) -> usize {
        let deadline = Instant::now() + CONVERGENCE;
        loop {
            let leader = self.await_leader();
            if leader != former {
                return leader;
            }
            assert!(
                Instant::now() < deadline,
                "node {} is still seen as the leader\n{}",
                former + 1,
                self.last_words()
            );
            sleep(POLL);
        }
    }

    /// Waits until all nodes that run see one leader and one another, and none is behind.
    ///
    /// # Panics
    ///
    /// Where they do not in time.
    pub fn await_healthy(&mut self) {
        let deadline = Instant::now() + CONVERGENCE;
        loop {
            let running = (0..self.nodes.len())
                .filter(|&index| self.nodes[index].is_running())
                .count();
            let views = self.views();
            let first = views.first().map(|(_, view)| view.clone());
            let agree = first.is_some_and(|first| {
                views.len() == running
                    && first.leader.is_some()
                    && views.iter().all(|(_, view)| {
                        view.leader == first.leader && view.membership() == first.membership()
                    })
            });
            if agree && views.iter().all(|(_, view)| view.is_caught_up()) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the nodes do not agree: {views:#?}\n{}",
                self.last_words()
            );
            sleep(POLL);
        }
    }

    /// Waits until all running nodes have files of one length that stay so.
    ///
    /// # Panics
    ///
    /// Where they do not in time.
    pub fn await_equal_files(&mut self) {
        for storage in 1..=self.settings.storages {
            self.await_equal(storage);
        }
    }

    fn await_equal(&mut self, storage: usize) {
        let deadline = Instant::now() + CONVERGENCE;
        let mut before = Vec::new();
        let mut rounds = 0;
        while rounds < STABLE_ROUNDS {
            let lengths = self.file_lengths(storage);
            let equal = lengths.windows(2).all(|pair| pair[0] == pair[1]);
            rounds = if equal && lengths == before {
                rounds + 1
            } else {
                0
            };
            assert!(
                Instant::now() < deadline,
                "the lengths of the files stay different: {lengths:?}\n{}",
                self.last_words()
            );
            before = lengths;
            sleep(POLL * 2);
        }
    }

    /// The lengths of all Data.fs of one storage; of nodes that run.
    pub fn file_lengths(&mut self, storage: usize) -> Vec<u64> {
        let paths: Vec<_> = self
            .nodes
            .iter_mut()
            .filter_map(|node| node.is_running().then(|| node.storage(storage)))
            .map(|storage| storage.join("Data.fs"))
            .collect();
        let mut stat = self.network.at_clients("stat");
        let said = succeed(stat.args(["-c", "%s"]).args(paths)).unwrap_or_default();
        said.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The node hears and is heard by nobody, clients included.
    pub fn isolate(&mut self, index: usize) -> io::Result<()> {
        self.isolated.push(index);
        self.network.isolate(index)
    }

    /// Cuts the ways from some nodes to others, one way only.
    pub fn cut(&mut self, from: &[usize], to: &[usize]) -> io::Result<()> {
        for &from in from {
            for &to in to {
                self.network.cut(from, to)?;
                self.cuts.insert((from, to));
            }
        }
        Ok(())
    }

    /// Cuts the nodes off from all other nodes, both ways; clients still reach them.
    pub fn part(&mut self, some: &[usize]) -> io::Result<()> {
        let others: Vec<_> = (0..self.nodes.len())
            .filter(|index| !some.contains(index))
            .collect();
        self.cut(some, &others)?;
        self.cut(&others, some)
    }

    /// Undoes all cuts.
    pub fn heal(&mut self) -> io::Result<()> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            self.network.mend(from, to)?;
        }
        for index in std::mem::take(&mut self.isolated) {
            self.network.plug_in(index)?;
        }
        Ok(())
    }

    /// Kills a node, and takes from its files what was not synced.
    pub fn cut_power(&mut self, index: usize, chance: &mut Chance) -> io::Result<()> {
        let node = &mut self.nodes[index];
        node.kill();
        let disk = self.network.seen_from_here(&node.disk());
        power::cut(&disk, &node.control.synced(), chance)
    }

    /// Leaves no byte on the small disk. The room comes back by [`Self::make_room`].
    pub fn fill_disk(&self, index: usize) -> io::Result<()> {
        fill_disk(&self.network, &self.nodes[index])
    }

    pub fn make_room(&self, index: usize) -> io::Result<()> {
        let filler = filler(&self.nodes[index]);
        run(self.network.at_clients("rm").arg(filler))
    }

    /// Clean stops of all that run.
    pub fn stop(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            node.stop()?;
        }
        Ok(())
    }

    /// The ends of all logs, to explain a failure.
    pub fn last_words(&self) -> String {
        const LINES: usize = 25;
        let words = |node: &Node| format!("== node {}\n{}\n", node.id(), node.last_words(LINES));
        self.nodes.iter().map(words).collect()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
