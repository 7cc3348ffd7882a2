//! Start, stop, and what lies beside the database.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::raw_client::{PATIENCE, RawClient, int, push_frame, push_request, register_arguments};
use crate::server_process::Zeod;
use crate::site::{NEW, Site, await_vote, commit, error, load, load_arguments, send_vote, value};

/// A process that is ended with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn ruok_is_answered_with_the_status_as_json() {
    let site = Site::start(&[]);
    commit(&mut site.client(), 1, NEW, b"data");
    let mut monitor = site.stranger();
    monitor.send_frame(b"ruok").unwrap();
    let answer = monitor.read_frame(PATIENCE).unwrap();
    assert!(monitor.is_closed_within(PATIENCE));
    let status: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(status["1"]["commits"], 1);
    assert!(status["1"]["connections"].as_u64() >= Some(1));
}

#[test]
fn a_stop_saves_the_index_and_leaves_the_database_free() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("zeod.pid");
    let arguments = ["--pid-file", pid_file.to_str().unwrap()];
    let server = Zeod::start_in(directory.path(), &arguments).unwrap();
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid.trim(), server.pid().to_string());
    let mut client = RawClient::open(server.address(), "1", false).unwrap();
    let tid = commit(&mut client, 1, NEW, b"data");
    assert_eq!(server.stop().unwrap().code(), Some(0));
    assert!(client.is_closed_within(PATIENCE));
    let names = names_in(directory.path());
    assert!(names.contains(&"Data.fs.index".to_owned()), "{names:?}");
    assert!(!names.contains(&"zeod.pid".to_owned()), "{names:?}");
    let unfinished = names.iter().any(|name| name.contains(".new"));
    assert!(!unfinished, "{names:?}");
    // The next one takes the lock at once and has all.
    let server = Zeod::start_in(directory.path(), &[]).unwrap();
    let mut client = RawClient::open(server.address(), "1", false).unwrap();
    let last = value(&mut client, "lastTransaction", b")");
    assert_eq!(last, serde_pickle::Value::Bytes(tid.to_vec()));
    assert_eq!(load(&mut client, 1), b"data");
}

#[test]
fn a_stop_gives_a_voted_transaction_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = Zeod::start_in(directory.path(), &[]).unwrap();
    let mut client = RawClient::open(server.address(), "1", false).unwrap();
    let tid = commit(&mut client, 1, NEW, b"committed");
    let vote = send_vote(&mut client, 2, NEW, b"only voted");
    await_vote(&mut client, vote);
    let mut waiter = RawClient::open(server.address(), "1", false).unwrap();
    send_vote(&mut waiter, 2, NEW, b"waits");
    let size = fs::metadata(directory.path().join("Data.fs"))
        .unwrap()
        .len();
    // The second signal, for nobody is going to finish.
    server.signal(Signal::TERM).unwrap();
    wait_until("the stop begins", || server.stderr().contains("stopping"));
    assert_eq!(server.stop().unwrap().code(), Some(0));
    let stopped_size = fs::metadata(directory.path().join("Data.fs"))
        .unwrap()
        .len();
    assert_eq!(stopped_size, size);
    // A tid that was never committed is never shown.
    let server = Zeod::start_in(directory.path(), &[]).unwrap();
    let mut client = RawClient::open(server.address(), "1", false).unwrap();
    let last = value(&mut client, "lastTransaction", b")");
    assert_eq!(last, serde_pickle::Value::Bytes(tid.to_vec()));
    let missing = error(&mut client, "loadBefore", &load_arguments(2));
    assert!(missing.contains("POSKeyError"), "{missing}");
    commit(&mut client, 2, NEW, b"at last");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut serial = NEW;
    for round in 0..3_u8 {
        let server = Zeod::start_in(directory.path(), &[]).unwrap();
        let mut client = RawClient::open(server.address(), "1", false).unwrap();
        if round > 0 {
            assert_eq!(load(&mut client, 1), [round - 1, 19]);
        }
        for number in 0..20_u8 {
            serial = commit(&mut client, 1, serial, &[round, number]);
        }
        server.kill().unwrap();
    }
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let mut site = Site::start(&[]);
    let directory = site.zeod.directory.path();
    let data = directory.join("Data.fs");
    let second = program()
        .args(["-a", "127.0.0.1:0", "-f"])
        .arg(&data)
        .arg("--address-file")
        .arg(directory.join("second"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another process has it open"), "{said}");
    assert!(said.contains("Data.fs.lock"), "{said}");
    assert!(!directory.join("second").exists());
    site.assert_serves();
    commit(&mut site.client(), 1, NEW, b"data");
}

#[test]
fn a_server_that_cannot_encrypt_as_configured_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("zeo.conf");
    let data = directory.path().join("Data.fs");
    let certificate = directory.path().join("server.pem");
    let text = format!(
        "<zeo>\n  address 127.0.0.1:0\n  <ssl>\n    certificate {}\n    authenticate {}\n  </ssl>\n</zeo>\n\
         <filestorage>\n  path {}\n</filestorage>\n",
        certificate.display(),
        certificate.display(),
        data.display()
    );
    std::fs::write(&conf, text).unwrap();
    let refused = program().arg("-C").arg(&conf).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("<ssl>: "), "{said}");
    assert!(said.contains("server.pem: No such file"), "{said}");
    assert!(!data.exists(), "nothing was opened");
}

#[test]
fn an_address_in_use_is_refused() {
    let site = Site::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let second = program()
        .arg("-a")
        .arg(site.zeod.process.address().to_string())
        .arg("-f")
        .arg(directory.path().join("Data.fs"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("the address is in use"), "{said}");
}

/// Starts a server on a unix socket and waits until its address is told.
fn start_on_socket(directory: &Path) -> (Guard, PathBuf) {
    let socket = directory.join("zeo.sock");
    let address_file = directory.join("address");
    let child = program()
        .arg("-a")
        .arg(&socket)
        .arg("-f")
        .arg(directory.join("Data.fs"))
        .arg("--address-file")
        .arg(&address_file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let guard = Guard(child);
    let line = format!("zeo {}\n", socket.display());
    wait_until("the socket's address", || {
        fs::read_to_string(&address_file).is_ok_and(|text| text == line)
    });
    (guard, socket)
}

fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).unwrap();
    payload
}

#[test]
fn a_unix_socket_serves_and_is_removed_at_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    for kill in [true, false] {
        // After the kill the socket is still there, and nobody behind it.
        let (mut guard, socket) = start_on_socket(directory.path());
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read_frame(&mut stream), b"Z5");
        let mut out = Vec::new();
        push_frame(&mut out, |out| out.extend_from_slice(b"Z5"));
        let arguments = register_arguments("1", false);
        push_request(&mut out, &int(1), false, "register", &arguments);
        stream.write_all(&out).unwrap();
        let reply = read_frame(&mut stream);
        assert_eq!(crate::raw_client::head(&reply).unwrap().flag, 0);
        if kill {
            guard.0.kill().unwrap();
            guard.0.wait().unwrap();
            fs::remove_file(directory.path().join("address")).unwrap();
            assert!(socket.exists());
        } else {
            let pid = rustix::process::Pid::from_child(&guard.0);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            assert_eq!(guard.0.wait().unwrap().code(), Some(0));
            assert!(!socket.exists());
            assert!(!directory.path().join("address").exists());
        }
    }
}

#[test]
fn the_address_file_is_never_seen_unfinished() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let address_file = directory.path().join("address");
        let child = program()
            .args(["-a", "127.0.0.1:0", "-f"])
            .arg(directory.path().join("Data.fs"))
            .arg("--address-file")
            .arg(&address_file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _guard = Guard(child);
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            // The first thing that is there is all of it.
            match fs::read_to_string(&address_file) {
                Ok(text) => break text,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
            }
            assert!(Instant::now() < deadline, "no address file");
        };
        let address = text.strip_prefix("zeo ").and_then(|t| t.strip_suffix('\n'));
        let address = address.unwrap().parse().unwrap();
        // And whoever read it can connect.
        RawClient::open(address, "1", false).unwrap();
    }
}

#[test]
fn several_files_are_several_storages() {
    let directory = tempfile::tempdir().unwrap();
    let second = directory.path().join("Second.fs");
    let server = Zeod::start_in(directory.path(), &["-f", second.to_str().unwrap()]).unwrap();
    let mut one = RawClient::open(server.address(), "1", false).unwrap();
    let mut two = RawClient::open(server.address(), "2", false).unwrap();
    commit(&mut one, 1, NEW, b"in one");
    commit(&mut two, 1, NEW, b"in two");
    assert_eq!(load(&mut one, 1), b"in one");
    assert_eq!(load(&mut two, 1), b"in two");
    // What happens in one is not told in the other.
    assert!(one.notices.iter().all(|notice| {
        crate::raw_client::head(notice).is_some_and(|head| head.method == b"info")
    }));
    let unknown = RawClient::open(server.address(), "3", false);
    assert!(unknown.is_err_and(|error| error.to_string().contains("unknown storage: 3")));
    assert!(server.stop().unwrap().success());
    assert!(directory.path().join("Second.fs.index").exists());
}
