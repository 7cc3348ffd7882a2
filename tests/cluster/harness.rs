//! The parts of these tests, tried where all is well: on a lone server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::chance::Chance;
use crate::cluster::load::{Clients, Load, check, check_the_checker};
use crate::cluster::network::{Network, run, succeed};
use crate::cluster::node::zeod;
use crate::cluster::power;
use crate::cluster::shim::{self, Control};
use crate::python_env;
use crate::run::hosts;
use crate::server_process::{PATIENCE, ServerProcess};
use crate::waiting::wait_until;

/// A server as any, with blobs.
struct Lone {
    process: ServerProcess,
    disk: PathBuf,
    control: Control,
}

impl Lone {
    fn start(network: &Network, directory: &Path) -> Self {
        let disk = directory.join("disk");
        fs::create_dir(&disk).unwrap();
        let configuration = directory.join("zeo.conf");
        let text = format!(
            "<zeo>\n  address 127.0.0.1:0\n</zeo>\n\
             <filestorage 1>\n  path {0}/Data.fs\n  blob-dir {0}/blobs\n</filestorage>\n",
            disk.display()
        );
        fs::write(&configuration, text).unwrap();
        let address_file = directory.join("address");
        let mut command = network.at_clients(zeod());
        command
            .arg("-C")
            .arg(&configuration)
            .arg("--address-file")
            .arg(&address_file);
        let control = Control::create(&directory.join("control")).unwrap();
        control.apply(&shim::compile(directory), &mut command);
        let stderr = directory.join("stderr.log");
        Self {
            process: ServerProcess::start(command, &address_file, &stderr).unwrap(),
            disk,
            control,
        }
    }
}

/// A lone server with clients that write.
struct Trial {
    // In this order all ends.
    load: Load,
    lone: Lone,
    network: Network,
    python: PathBuf,
    /// Where the clients write down what they do.
    histories: PathBuf,
    directory: TempDir,
}

impl Trial {
    /// None where there is no Python.
    fn start(writers: usize, seed: u32, pack_pause: Duration) -> Option<Self> {
        let python = python_env::python()?;
        let directory = tempfile::tempdir().unwrap();
        let network = Network::best();
        let lone = Lone::start(&network, directory.path());
        let clients = Clients {
            storage: 1,
            writers,
            seed,
            pack_pause,
        };
        let histories = directory.path().join("clients");
        let server = lone.process.address();
        let load = Load::start(&python, &network, &histories, &[server], clients).unwrap();
        Some(Self {
            load,
            lone,
            network,
            python,
            histories,
            directory,
        })
    }
}

/// Each loss, doubling, tear and difference that can be made by hand is found.
#[test]
fn the_checker_finds_every_loss() {
    let Some(mut trial) = Trial::start(2, 5, Duration::ZERO) else {
        return;
    };
    trial.load.await_progress(300);
    trial.load.finish();
    assert!(trial.lone.process.stop().unwrap().success());
    let other = trial.directory.path().join("other");
    run(Command::new("cp")
        .arg("-r")
        .arg(&trial.lone.disk)
        .arg(&other))
    .unwrap();
    check_the_checker(
        &trial.python,
        &trial.network,
        &trial.histories,
        &[trial.lone.disk, other],
    );
}

/// With packs, and clients that lose the server for a while.
#[test]
fn a_lone_server_passes() {
    let Some(mut trial) = Trial::start(3, 6, Duration::from_secs(1)) else {
        return;
    };
    trial.load.await_progress(100);
    trial.load.note("a pause").unwrap();
    trial
        .lone
        .process
        .signal(rustix::process::Signal::STOP)
        .unwrap();
    trial.load.pass(Duration::from_millis(300));
    trial
        .lone
        .process
        .signal(rustix::process::Signal::CONT)
        .unwrap();
    trial.lone.control.set_clock(3600).unwrap();
    trial.load.await_progress(100);
    trial.lone.control.set_clock(-3600).unwrap();
    trial.load.await_progress(100);
    trial.load.finish();
    assert!(trial.lone.process.stop().unwrap().success());
    check(
        &trial.python,
        &trial.network,
        &trial.histories,
        &[trial.lone.disk],
    );
}

/// The server's clock is as far off as it is told, and its syncs fail when they are told to.
#[test]
fn the_shim_reaches_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let library = shim::compile(directory.path());
    let control = Control::create(&directory.path().join("control")).unwrap();
    let date = || {
        let mut date = Command::new("date");
        control.apply(&library, date.arg("+%s"));
        succeed(&mut date).unwrap().trim().parse::<i64>().unwrap()
    };
    let before = date();
    control.set_clock(100_000).unwrap();
    let ahead = date() - before;
    assert!((100_000..100_100).contains(&ahead), "{ahead}");
    let sync = || {
        let mut sync = Command::new("sync");
        control.apply(
            &library,
            sync.arg("--data").arg(directory.path().join("control")),
        );
        sync.output().unwrap().status.success()
    };
    assert!(sync());
    control.fail_syncs(true).unwrap();
    assert!(!sync());
    control.fail_syncs(false).unwrap();
    assert!(sync());
}

/// Each host reaches each other, and what is cut is cut, one way or both, until it is mended.
#[test]
fn the_network_can_be_cut_and_mended() {
    let Some(mut network) = hosts("the_network_can_be_cut_and_mended", true) else {
        return;
    };
    let places: Vec<_> = (0..3)
        .map(|index| network.add_host(index).unwrap())
        .collect();
    let listeners: Vec<_> = (0..3)
        .map(|index| Listener::start(&network, index))
        .collect();
    let reaches = |from: usize, to: usize| {
        let mut probe = network.on_host(from, "timeout");
        let address = places[to].peers;
        probe.args(["0.3", "bash", "-c"]).arg(format!(
            "exec 3<>/dev/tcp/{}/{} && read -t 1 <&3",
            address.ip(),
            address.port()
        ));
        probe.output().unwrap().status.success()
    };
    assert!(reaches(0, 1) && reaches(1, 0) && reaches(2, 1));
    network.cut(0, 1).unwrap();
    // No connection without an answer: neither side gets one now.
    assert!(!reaches(0, 1) && !reaches(1, 0) && reaches(2, 1) && reaches(0, 2));
    network.mend(0, 1).unwrap();
    assert!(reaches(0, 1) && reaches(1, 0));
    network.slow_down(1, "8mbit").unwrap();
    let begun = Instant::now();
    let mut sending = network.on_host(1, "bash");
    let address = places[2].peers;
    sending.args([
        "-c",
        &format!(
            "head -c 2000000 /dev/zero > /dev/tcp/{}/{}",
            address.ip(),
            address.port()
        ),
    ]);
    let sent = sending.output().unwrap();
    assert!(
        sent.status.success() && begun.elapsed() > Duration::from_millis(500),
        "{sent:?}"
    );
    network.speed_up(1).unwrap();
    network.isolate(2).unwrap();
    assert!(!reaches(0, 2) && !reaches(2, 0) && reaches(0, 1));
    network.plug_in(2).unwrap();
    // The bridge takes a moment to see the link.
    wait_until("a link that is up again", || {
        (reaches(0, 2) && reaches(2, 0)).then_some(())
    });
    drop(listeners);
}

/// A lone server syncs each commit before it acknowledges it: it loses nothing with its power. What it
/// has not synced is lost, as a file of ours shows.
#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let Some(mut trial) = Trial::start(2, 7, Duration::ZERO) else {
        return;
    };
    trial.load.await_progress(100);
    trial.load.finish();
    trial
        .lone
        .process
        .signal(rustix::process::Signal::KILL)
        .unwrap();
    trial.lone.process.wait(PATIENCE).unwrap();
    let unsynced = trial.lone.disk.join("unsynced");
    fs::write(&unsynced, "").unwrap();
    let safe = power::synced_length(&unsynced, &trial.lone.control.synced()).unwrap();
    let content = vec![b'x'; usize::try_from(safe).unwrap() + 100];
    let mut is_lost = false;
    for seed in 0..20 {
        fs::write(&unsynced, &content).unwrap();
        power::cut(
            &trial.lone.disk,
            &trial.lone.control.synced(),
            &mut Chance(seed),
        )
        .unwrap();
        is_lost |= fs::read(&unsynced).unwrap() != content;
    }
    assert!(is_lost);
    check(
        &trial.python,
        &trial.network,
        &trial.histories,
        &[trial.lone.disk],
    );
}

/// Greets whoever connects to the replication port of a host.
struct Listener(std::process::Child);

impl Listener {
    fn start(network: &Network, index: usize) -> Self {
        const SERVER: &str = r"
import socketserver

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.send(b'hello\n')
        while self.request.recv(1 << 16):
            pass

server = socketserver.ThreadingTCPServer(('', 8101), Handler)
print('ready', flush=True)
server.serve_forever()
";
        let mut command = network.on_host(index, "python3");
        let mut child = command
            .args(["-c", SERVER])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server whose disk fails stops taking transactions; nothing that it acknowledged is lost.
#[test]
fn a_lone_server_whose_syncs_fail_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let network = Network::best();
    let mut lone = Lone::start(&network, directory.path());
    lone.control.fail_syncs(true).unwrap();
    lone.process.signal(rustix::process::Signal::TERM).unwrap();
    let status = lone.process.wait(PATIENCE).unwrap();
    assert!(
        !status.success() || lone.process.stderr().contains("error"),
        "{status}"
    );
}
