//! One node: a zeod with a configuration, a disk and a log of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::Settings;
use super::network::{Network, Place};
use super::shim::Control;
use crate::server_process::{PATIENCE, ServerProcess};

/// A member of the cluster, be it running or not.
pub struct Node {
    /// Its id is one more.
    pub index: usize,
    pub place: Place,
    /// Of all that is its own.
    pub directory: PathBuf,
    pub control: Control,
    process: Option<ServerProcess>,
    is_paused: bool,
    /// What it says, one file for each start.
    starts: usize,
}

impl Node {
    /// Writes what a node needs before it starts. `earlier` are the nodes that it asks.
    pub fn create(
        index: usize,
        place: Place,
        parent: &Path,
        earlier: &[Node],
        settings: &Settings,
    ) -> io::Result<Self> {
        let directory = parent.join(format!("node{}", index + 1));
        fs::create_dir_all(directory.join("disk"))?;
        let node = Self {
            index,
            place,
            control: Control::create(&directory.join("control"))?,
            directory,
            process: None,
            is_paused: false,
            starts: 0,
        };
        fs::write(
            node.configuration(),
            node.configuration_text(earlier, settings),
        )?;
        Ok(node)
    }

    fn configuration_text(&self, earlier: &[Node], settings: &Settings) -> String {
        let peer = |peer: &Node| format!("    peer {} {}\n", peer.id(), peer.place.peers);
        let peers: String = earlier.iter().map(peer).collect();
        let storage = |name: usize| {
            format!(
                "<filestorage {name}>\n  path {0}/Data.fs\n  blob-dir {0}/blobs\n</filestorage>\n",
                self.storage(name).display()
            )
        };
        let storages: String = (1..=settings.storages).map(storage).collect();
        format!(
            "<zeo>\n  address {clients}\n  msgpack {msgpack}\n</zeo>\n\
             <zeod>\n  <replication>\n    node-id {id}\n    address {own}\n    directory {disk}/raft\n\
             {peers}{replication}  </replication>\n</zeod>\n{storages}",
            clients = self.place.clients,
            // Both wires in one cluster.
            msgpack = self.index % 2 == 1,
            id = self.id(),
            own = self.place.peers,
            disk = self.disk().display(),
            replication = settings.replication,
        )
    }

    /// As the cluster knows it.
    pub fn id(&self) -> usize {
        self.index + 1
    }

    pub fn configuration(&self) -> PathBuf {
        self.directory.join("zeo.conf")
    }

    /// Where its data are; a mount point where its disk can be full.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Where the files of a storage are.
    pub fn storage(&self, name: usize) -> PathBuf {
        self.disk().join(name.to_string())
    }

    pub fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.wait(Duration::ZERO).is_err())
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::pid)
    }

    /// Starts the server and waits until it listens.
    pub fn start(&mut self, network: &Network, settings: &Settings) -> io::Result<()> {
        let address_file = self.directory.join("address");
        match fs::remove_file(&address_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.starts += 1;
        let stderr = self.directory.join(format!("stderr-{}.log", self.starts));
        let mut command = network.on_host(self.index, &settings.binary);
        command
            .arg("-C")
            .arg(self.configuration())
            .arg("--address-file")
            .arg(&address_file)
            .current_dir(&self.directory);
        if let Some(shim) = &settings.shim {
            self.control.apply(shim, &mut command);
        }
        self.process = Some(ServerProcess::start(command, &address_file, &stderr)?);
        Ok(())
    }

    /// SIGKILL; nothing where it has ended by itself.
    pub fn kill(&mut self) {
        self.process = None;
        self.is_paused = false;
    }

    /// SIGTERM, and waits for the clean stop.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(Signal::TERM)?;
        let status = process
            .wait(PATIENCE)
            .map_err(|error| self.complaint(&format!("does not stop: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(self.complaint(&format!("stopped with {status}")))
    }

    /// SIGSTOP.
    pub fn pause(&mut self) -> io::Result<()> {
        self.is_paused = true;
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> io::Result<()> {
        self.is_paused = false;
        self.signal(Signal::CONT)
    }

    /// It runs, and is not paused.
    pub fn is_awake(&mut self) -> bool {
        !self.is_paused && self.is_running()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.process {
            Some(process) => process.signal(signal),
            None => Err(self.complaint("does not run")),
        }
    }

    /// `zeod cluster …` on its host.
    pub fn cluster_command(
        &self,
        network: &Network,
        binary: &Path,
        arguments: &[&str],
    ) -> io::Result<Output> {
        let mut command = network.on_host(self.index, binary);
        command
            .arg("cluster")
            .args(arguments)
            .arg("-C")
            .arg(self.configuration())
            .stdin(Stdio::null());
        command.output()
    }

    /// What it knows of the cluster; nothing where it does not answer.
    pub fn status(&self, network: &Network, binary: &Path) -> Option<Value> {
        let mut command = network.on_host(self.index, "timeout");
        command
            .arg("10")
            .arg(binary)
            .args(["cluster", "status", "--json", "-C"])
            .arg(self.configuration())
            .stdin(Stdio::null());
        let output = command.output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The end of what it said, over all its starts.
    pub fn last_words(&self, lines: usize) -> String {
        let mut words = Vec::new();
        for start in 1..=self.starts {
            let path = self.directory.join(format!("stderr-{start}.log"));
            let said = fs::read(path).unwrap_or_default();
            words.push(format!("-- start {start}"));
            words.extend(String::from_utf8_lossy(&said).lines().map(str::to_owned));
        }
        let first = words.len().saturating_sub(lines);
        words[first..].join("\n")
    }

    fn complaint(&self, what: &str) -> io::Error {
        io::Error::other(format!("node {} {what}", self.id()))
    }
}

/// Fills the disk of a node to the last byte; what with is at [`filler`].
pub fn fill_disk(network: &Network, node: &Node) -> io::Result<()> {
    let mut dd = network.at_clients("dd");
    dd.arg("if=/dev/zero")
        .arg(format!("of={}", filler(node).display()))
        .arg("bs=4k");
    let output = dd.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No space left") {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the disk cannot be filled: {said}"
    )))
}

pub fn filler(node: &Node) -> PathBuf {
    node.disk().join("filler")
}

/// The program under test; another one can be named from outside.
pub fn zeod() -> PathBuf {
    std::env::var_os("ZEOD_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_zeod")), PathBuf::from)
}
