//! What a stop does to those who are in the middle of something.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::raw_client::{PATIENCE, RawClient};
use crate::server_process::{PATIENCE as STOP_PATIENCE, ServerProcess, Zeod};
use crate::site::{
    NEW, await_vote, begin_arguments, commit, finish, load, send_vote, store_arguments,
    transaction_arguments, value,
};

/// A server that waits for so long when it stops.
fn start(directory: &Path, shutdown_time: &str) -> ServerProcess {
    let conf = directory.join("zeo.conf");
    let text = format!(
        "<zeo>\n  address 127.0.0.1:0\n</zeo>\n<zeod>\n  shutdown-time {shutdown_time}\n</zeod>\n\
         <filestorage 1>\n  path {}/Data.fs\n</filestorage>\n",
        directory.display()
    );
    fs::write(&conf, text).unwrap();
    Zeod::start_in(directory, &["-C", conf.to_str().unwrap()]).unwrap()
}

fn client(server: &ServerProcess) -> RawClient {
    RawClient::open(server.address(), "1", false).unwrap()
}

fn voted(server: &ServerProcess, oid: u64) -> RawClient {
    let mut client = client(server);
    let vote = send_vote(&mut client, oid, NEW, b"voted");
    await_vote(&mut client, vote);
    client
}

#[test]
fn a_voted_transaction_can_be_finished_during_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "10m");
    let mut first = voted(&server, 1);
    let mut second = voted(&server, 2);
    let mut idle = client(&server);
    let mut stranger = RawClient::connect(server.address()).unwrap();
    server.signal(Signal::TERM).unwrap();
    assert!(idle.is_closed_within(PATIENCE));
    assert!(stranger.is_closed_within(PATIENCE));
    assert!(
        TcpStream::connect(server.address()).is_err(),
        "it still listens"
    );
    // Answered, told of in the right order, and only then closed.
    let tid = finish(&mut first);
    assert!(first.is_closed_within(PATIENCE));
    assert!(
        server.wait(Duration::from_millis(50)).is_err(),
        "it has stopped"
    );
    let last = finish(&mut second);
    assert!(last > tid);
    assert!(second.is_closed_within(PATIENCE));
    assert_eq!(server.wait(STOP_PATIENCE).unwrap().code(), Some(0));
    assert!(
        !server.stderr().contains("did not end"),
        "{}",
        server.stderr()
    );

    let server = start(directory.path(), "10m");
    let mut client = client(&server);
    assert_eq!(load(&mut client, 1), b"voted");
    assert_eq!(load(&mut client, 2), b"voted");
    let value = value(&mut client, "lastTransaction", b")");
    assert_eq!(value, serde_pickle::Value::Bytes(last.to_vec()));
}

#[test]
fn an_abort_ends_the_stop_as_a_finish_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "10m");
    let mut client = voted(&server, 1);
    server.signal(Signal::TERM).unwrap();
    server.await_stderr("stopping");
    value(&mut client, "tpc_abort", &transaction_arguments());
    assert!(client.is_closed_within(PATIENCE));
    assert_eq!(server.wait(STOP_PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn no_new_vote_is_taken_during_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "10m");
    commit(&mut client(&server), 3, NEW, b"committed");
    let mut holder = voted(&server, 1);
    // One that is storing, one whose vote waits, one that is not in a transaction yet.
    let mut storing = client(&server);
    value(&mut storing, "tpc_begin", &begin_arguments());
    let store = store_arguments(2, NEW, b"stored");
    storing.send_one_way("storea", &store).unwrap();
    let mut waiting = client(&server);
    let vote = send_vote(&mut waiting, 1, NEW, b"waits");
    let mut idle = client(&server);
    server.signal(Signal::TERM).unwrap();
    server.await_stderr("stopping");
    // Both writes can fail already: that is a refusal, too.
    let _ = storing.send_call("vote", &transaction_arguments());
    assert!(storing.is_closed_within(PATIENCE));
    let _ = idle.send_call("tpc_begin", &begin_arguments());
    assert!(idle.is_closed_within(PATIENCE));
    // Its locks become free, but not for this vote.
    finish(&mut holder);
    loop {
        match waiting.read_frame(PATIENCE) {
            Ok(payload) => {
                let head = crate::raw_client::head(&payload).unwrap();
                assert_ne!(head.int_id(), Some(vote), "the vote was answered");
            }
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::TimedOut);
                break;
            }
        }
    }
    assert_eq!(server.wait(STOP_PATIENCE).unwrap().code(), Some(0));
    let server = start(directory.path(), "10m");
    let mut client = client(&server);
    assert_eq!(load(&mut client, 1), b"voted");
    let missing = crate::site::error(&mut client, "loadBefore", &crate::site::load_arguments(2));
    assert!(missing.contains("POSKeyError"), "{missing}");
}

#[test]
fn whoever_never_finishes_is_waited_for_so_long_and_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "1s");
    let mut client = voted(&server, 1);
    server.signal(Signal::TERM).unwrap();
    assert!(client.is_closed_within(PATIENCE));
    assert_eq!(server.wait(STOP_PATIENCE).unwrap().code(), Some(0));
    let log = server.stderr();
    assert!(
        log.contains("1 connections did not end within 1 s (shutdown-time)"),
        "{log}"
    );
}

#[test]
fn a_second_signal_hastens_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "10m");
    let mut client = voted(&server, 1);
    server.signal(Signal::TERM).unwrap();
    server.await_stderr("stopping");
    assert!(server.wait(Duration::from_millis(100)).is_err());
    server.signal(Signal::INT).unwrap();
    assert!(client.is_closed_within(PATIENCE));
    assert_eq!(server.wait(STOP_PATIENCE).unwrap().code(), Some(0));
    let log = server.stderr();
    assert!(log.contains("stopping at once"), "{log}");
    // The next one takes over at once, and finds nothing of it.
    let server = start(directory.path(), "10m");
    let mut client = RawClient::open(server.address(), "1", false).unwrap();
    commit(&mut client, 1, NEW, b"another's");
}

/// A stock client that is let in, and cut off before the first word, leaves that server out as long as
/// it tries any other one.
#[test]
fn nobody_is_let_in_by_a_server_that_is_being_killed() {
    const CLIENTS: usize = 30;
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), "1s");
    let address = server.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut lost = client(&server);
            std::thread::spawn(move || {
                assert!(lost.is_closed_within(PATIENCE));
                TcpStream::connect(address).is_ok()
            })
        })
        .collect();
    server.signal(Signal::KILL).unwrap();
    server.wait(STOP_PATIENCE).unwrap();
    let let_in = clients.into_iter().map(|client| client.join().unwrap());
    let let_in: Vec<_> = let_in.collect();
    assert_eq!(let_in, [false; CLIENTS]);
}
