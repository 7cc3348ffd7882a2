//! Stock clients under the fire of a test, and the checks that follow it: `tests/cluster/*.py`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::network::Network;

/// Until the clients have done something, or have come to their end.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// What the clients do.
#[derive(Debug, Clone, Copy)]
pub struct Clients {
    /// The name of the storage.
    pub storage: usize,
    pub writers: usize,
    pub seed: u32,
    /// Between two packs; none where it is zero.
    pub pack_pause: Duration,
}

/// Clients that write, read and check until they are told to stop.
pub struct Load {
    child: Child,
    /// Where they write down what they do.
    pub directory: PathBuf,
}

impl Load {
    /// Starts the clients; they know these servers.
    pub fn start(
        python: &Path,
        network: &Network,
        directory: &Path,
        servers: &[SocketAddr],
        clients: Clients,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let servers: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        let child = script(python, network, "load.py")
            .arg(directory)
            .arg(servers.join(","))
            .arg(clients.storage.to_string())
            .arg(clients.writers.to_string())
            .arg(clients.seed.to_string())
            .arg(clients.pack_pause.as_secs_f64().to_string())
            .spawn()?;
        Ok(Self {
            child,
            directory: directory.to_owned(),
        })
    }

    /// How many transactions were acknowledged so far, to all.
    pub fn acknowledged(&self) -> usize {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return 0;
        };
        entries
            .flatten()
            .filter(|entry| entry.path().extension() == Some(OsStr::new("history")))
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                text.matches("\"event\": \"ok\"").count()
            })
            .sum()
    }

    /// Waits until so many more transactions are acknowledged.
    ///
    /// # Panics
    ///
    /// Where a client found something wrong, and where nothing comes through.
    pub fn await_progress(&mut self, transactions: usize) {
        let wanted = self.acknowledged() + transactions;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.check();
            let acknowledged = self.acknowledged();
            if acknowledged >= wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no progress: {acknowledged} transactions acknowledged, and {wanted} waited for"
            );
            sleep(POLL);
        }
    }

    /// # Panics
    ///
    /// Where the clients have ended, for one of them found something wrong.
    pub fn check(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "a client failed: see above ({ended:?})");
    }

    /// Lets time pass under the clients' eyes.
    pub fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check();
            sleep(POLL);
        }
    }

    /// Writes down that something happens now, for the figures.
    pub fn note(&self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = Duration::new(
            now.tv_sec.try_into().unwrap(),
            now.tv_nsec.try_into().unwrap(),
        );
        let line = json!({"t": seconds.as_secs_f64(), "what": what});
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("faults.jsonl"))?;
        writeln!(file, "{line}")
    }

    /// Lets all clients come to their end.
    ///
    /// # Panics
    ///
    /// Where one fails, or does not end.
    pub fn finish(&mut self) {
        self.check();
        fs::write(self.directory.join("end"), "").unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "a client failed: see above");
                return;
            }
            assert!(Instant::now() < deadline, "the clients do not end");
            sleep(POLL);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both fail only when it has ended already. Its clients die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks what clients have written down against the data of all nodes, which are stopped.
///
/// # Panics
///
/// Where something is lost, doubled, torn, or different from node to node; it is said above.
pub fn check(python: &Path, network: &Network, clients: &Path, disks: &[PathBuf]) {
    run_script(python, network, "check.py", clients, disks);
}

/// Shows that [`check`] finds what it is for.
///
/// # Panics
///
/// Where it does not.
pub fn check_the_checker(python: &Path, network: &Network, clients: &Path, disks: &[PathBuf]) {
    run_script(python, network, "tamper.py", clients, disks);
}

fn run_script(python: &Path, network: &Network, name: &str, clients: &Path, disks: &[PathBuf]) {
    // What Python's own libraries print there is no one's concern where all is well.
    let output = script(python, network, name)
        .arg(clients)
        .args(disks)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    // Past the test harness, which keeps what a passing test prints to itself: these are figures.
    let _ = io::stderr().write_all(&said);
    assert!(output.status.success(), "{name} failed: see above");
}

/// One of the scripts beside the tests, to be run where clients are.
pub fn script(python: &Path, network: &Network, name: &str) -> Command {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut command = network.at_clients(python);
    command
        .arg(tests.join("cluster").join(name))
        .env("PYTHONPATH", tests.join("support"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}
