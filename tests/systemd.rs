//! What systemd sees of the server and hands to it, with a socket of the test's in systemd's place.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic in a helper is a failed test"
)]

#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "support/server_process.rs"]
mod server_process;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use raw_client::RawClient;
use rustix::process::Signal;
use server_process::{PATIENCE, ServerProcess};

/// The variable that a service manager sets in the child: only a shell knows the number then.
const SET_PID: &str = r#"export LISTEN_PID=$$; exec "$0" "$@""#;
/// Standard error stands in for the journal.
const SET_JOURNAL: &str =
    r#"export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2); exec "$0" "$@""#;

/// zeod with a file in the directory, started by a shell that first runs `script`.
fn zeod(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_zeod")])
        .args(["-a", "127.0.0.1:0", "-f"])
        .arg(directory.join("Data.fs"))
        .arg("--address-file")
        .arg(directory.join("address"))
        .current_dir(directory);
    command
}

fn start(directory: &Path, command: Command) -> ServerProcess {
    let address_file = directory.join("address");
    ServerProcess::start(command, &address_file, &directory.join("stderr.log")).unwrap()
}

fn write_configuration(directory: &Path) {
    let conf = "<zeo>\n  address localhost:1\n</zeo>\n<mappingstorage 1>\n</mappingstorage>\n";
    std::fs::write(directory.join("zeo.conf"), conf).unwrap();
}

/// The manager's end: the messages in the order of their coming.
struct Manager(UnixDatagram);

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let count = self.0.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..count]).into_owned()
    }

    /// The messages up to the first with this line, and that one.
    fn until(&self, line: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut messages = Vec::new();
        while Instant::now() < deadline {
            messages.push(self.next());
            if has(messages.last().unwrap(), line) {
                return messages;
            }
        }
        panic!("no {line} among {messages:?}");
    }
}

fn has(message: &str, line: &str) -> bool {
    message.lines().any(|own| own == line)
}

#[test]
fn the_manager_is_told_of_start_life_reload_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = Manager::new(&socket);
    write_configuration(directory.path());
    let mut command = zeod(directory.path(), r#"exec "$0" "$@""#);
    command
        .args(["-C", "zeo.conf"])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "100000");
    let mut server = start(directory.path(), command);

    let starting = manager.until("READY=1");
    let (ready, before) = starting.split_last().unwrap();
    let is_told = |line: &str| before.iter().any(|message| has(message, line));
    assert!(is_told("STATUS=opening storage 1"), "{before:?}");
    let extended = before
        .iter()
        .any(|message| message.starts_with("EXTEND_TIMEOUT_USEC="));
    assert!(extended, "{before:?}");
    let status = format!("STATUS=serving on {}", server.address());
    assert!(has(ready, &status), "{ready}");
    RawClient::open(server.address(), "1", false).unwrap();

    for _ in 0..5 {
        manager.until("WATCHDOG=1");
    }

    server.signal(Signal::HUP).unwrap();
    let reloading = manager.until("RELOADING=1");
    let began = reloading.last().unwrap();
    let time = began
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        time.is_some_and(|time| time.parse::<u64>().is_ok()),
        "{began}"
    );
    let ended = manager.until("READY=1");
    assert!(has(ended.last().unwrap(), &status), "{ended:?}");

    server.signal(Signal::TERM).unwrap();
    manager.until("STOPPING=1");
    assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn a_server_that_hangs_does_not_feed_the_watchdog() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = Manager::new(&socket);
    let mut command = zeod(directory.path(), r#"exec "$0" "$@""#);
    command
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "100000");
    let server = start(directory.path(), command);
    manager.until("WATCHDOG=1");
    server.signal(Signal::STOP).unwrap();
    // What was said before may still lie there.
    manager
        .0
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut message = [0; 4096];
    while manager.0.recv(&mut message).is_ok() {}
    assert!(manager.0.recv(&mut message).is_err());
    server.signal(Signal::CONT).unwrap();
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    manager.until("WATCHDOG=1");
}

#[test]
fn without_a_watchdog_none_is_fed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = Manager::new(&socket);
    let mut command = zeod(directory.path(), r#"exec "$0" "$@""#);
    // The watchdog is another process's.
    command
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1");
    let server = start(directory.path(), command);
    manager.until("READY=1");
    server.signal(Signal::TERM).unwrap();
    let rest = manager.until("STOPPING=1");
    assert_eq!(rest.len(), 1, "{rest:?}");
}

/// Gives the child these descriptors from 3 on.
fn hand_over(command: &mut Command, sockets: Vec<OwnedFd>) {
    let count = sockets.len();
    let mappings = (3..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    command.fd_mappings(mappings.collect()).unwrap();
    command.env("LISTEN_FDS", count.to_string());
}

#[test]
fn sockets_that_are_handed_over_take_the_place_of_the_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeo.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    // Who comes before the server does is served, too.
    let mut early = RawClient::connect(address).unwrap();
    let mut command = zeod(directory.path(), SET_PID);
    hand_over(&mut command, vec![tcp.into(), unix.into()]);
    command.env("LISTEN_FDNAMES", "tcp:unix");
    let mut server = start(directory.path(), command);
    assert_eq!(server.address(), address);
    assert_eq!(early.read_frame(PATIENCE).unwrap(), b"Z5");
    RawClient::open(address, "1", false).unwrap();
    let mut greeting = [0; 6];
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::io::Read::read_exact(&mut stream, &mut greeting).unwrap();
    assert_eq!(&greeting, b"\0\0\0\x02Z5");
    server.await_stderr(&format!("listening on {address}"));
    let log = server.await_stderr(&format!("listening on {}", path.display()));
    let warning = "address 127.0.0.1:0 of the configuration is not used";
    assert!(log.contains(warning), "{log}");
    server.signal(Signal::TERM).unwrap();
    assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
    assert!(path.exists(), "it belongs to the manager");
}

#[test]
fn the_configured_address_is_used_silently_where_it_is_handed_over() {
    let directory = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    write_configuration(directory.path());
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SET_PID, env!("CARGO_BIN_EXE_zeod"), "-C", "zeo.conf"])
        .args(["-a", &address.to_string(), "--address-file", "address"])
        .current_dir(directory.path());
    hand_over(&mut command, vec![tcp.into()]);
    let server = start(directory.path(), command);
    assert_eq!(server.address(), address);
    server.await_stderr("listening on");
    assert!(
        !server.stderr().contains("is not used"),
        "{}",
        server.stderr()
    );
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let mut command = zeod(directory.path(), r#"export LISTEN_PID=1; exec "$0" "$@""#);
    hand_over(&mut command, vec![tcp.into()]);
    let server = start(directory.path(), command);
    assert_ne!(server.address(), address);
}

fn refused(script: &str, sockets: Vec<OwnedFd>) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = zeod(directory.path(), script);
    hand_over(&mut command, sockets);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = refused(SET_PID, vec![datagrams.into()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("socket 0 (unnamed) of the service manager"),
        "{said}"
    );
    assert!(said.contains("ListenStream="), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let output = refused(SET_PID, vec![client.into()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Accept=yes"), "{said}");
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), zeod(directory.path(), SET_JOURNAL));
    let line = format!("\n<6>ZEO.runzeo listening on {}\n", server.address());
    let log = server.await_stderr(&line);
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    // A warning is one for the journal, too.
    let mut stranger = RawClient::connect(server.address()).unwrap();
    stranger.send_frame(b"no such protocol").unwrap();
    assert!(stranger.is_closed_within(PATIENCE));
    server.await_stderr("\n<4>ZEO.StorageServer (");
}

#[test]
fn another_stream_than_the_journal_gets_times() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = zeod(directory.path(), r#"exec "$0" "$@""#);
    command.env("JOURNAL_STREAM", "1:2");
    let server = start(directory.path(), command);
    let log = server.await_stderr("listening on");
    assert!(log.starts_with("20"), "{log}");
}
