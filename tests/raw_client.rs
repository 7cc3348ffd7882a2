//! The raw client that the black-box tests and the benchmark rely on, against
//! a scripted peer.

#![allow(clippy::expect_used, reason = "a panic in a helper is a failed test")]

#[path = "support/raw_client.rs"]
mod raw_client;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use raw_client::{PATIENCE, RawClient, Reply, decode, head, int, push_frame, push_request};

/// A peer that accepts one connection and runs `script` on it.
fn peer<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let thread = thread::spawn(move || script(listener.accept().expect("the client connects").0));
    (address, thread)
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_frame(&mut out, |out| out.extend_from_slice(payload));
    out
}

/// The reply with the minimal form of the id, as Python's pickler writes it.
fn reply(id: u8, flag: u8, arguments: &[u8]) -> Vec<u8> {
    let head = [
        &b"\x80\x03(K"[..],
        &[id],
        b"K",
        &[flag],
        b"X\x06\0\0\0.reply",
    ]
    .concat();
    frame(&[&head, arguments, b"t."].concat())
}

#[test]
fn frames_are_whole_however_the_stream_is_cut() {
    let large = vec![7; 300_000];
    let bytes = [frame(b"Z5"), frame(b""), frame(&large), frame(b"end")].concat();
    let (address, thread) = peer(move |mut stream| {
        for (place, chunk) in bytes.chunks(50_001).enumerate() {
            // The first cut is inside a length.
            let (left, right) = chunk.split_at(if place == 0 { 7 } else { 0 });
            stream.write_all(left).unwrap();
            sleep(Duration::from_millis(5));
            stream.write_all(right).unwrap();
        }
    });
    let mut client = RawClient::connect(address).unwrap();
    for expected in [&b"Z5"[..], b"", &large, b"end"] {
        assert!(client.read_frame(PATIENCE).unwrap() == expected);
    }
    assert!(client.is_closed_within(PATIENCE));
    thread.join().unwrap();
}

#[test]
fn a_silent_server_is_waited_for_so_long_and_no_longer() {
    let (address, thread) = peer(|stream| {
        sleep(Duration::from_millis(300));
        drop(stream);
    });
    let mut client = RawClient::connect(address).unwrap();
    let start = Instant::now();
    let error = client.read_frame(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(90));
    assert!(!client.is_closed_within(Duration::from_millis(20)));
    assert!(client.is_closed_within(PATIENCE));
    thread.join().unwrap();
}

#[test]
fn a_reply_is_found_behind_notices() {
    let (address, thread) = peer(|mut stream| {
        stream.write_all(&frame(b"Z5")).unwrap();
        let mut notice = Vec::new();
        push_request(&mut notice, &int(0), true, "info", b")");
        let bytes = [notice, reply(1, 0, b"C\x03tid"), reply(2, 0, b"]")].concat();
        stream.write_all(&bytes).unwrap();
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).unwrap();
        sent
    });
    let mut client = RawClient::open(address, "1", true).unwrap();
    assert_eq!(client.notices.len(), 1);
    assert_eq!(head(&client.notices[0]).unwrap().method, b"info");
    let answer = decode(&client.call("vote", b"K\x07\x85").unwrap()).unwrap();
    assert_eq!(answer, Reply::Value(serde_pickle::Value::List(Vec::new())));
    drop(client);

    let mut expected = frame(b"Z5");
    let arguments = b"X\x01\0\0\x001\x88\x86";
    push_request(&mut expected, &int(1), false, "register", arguments);
    push_request(&mut expected, &int(2), false, "vote", b"K\x07\x85");
    assert_eq!(thread.join().unwrap(), expected);
}

#[test]
fn an_error_reply_names_its_class() {
    let (address, thread) = peer(|mut stream| {
        stream.write_all(&frame(b"Z5")).unwrap();
        let error = b"X\x1f\0\0\0ZODB.POSException.ReadOnlyError)\x86";
        stream.write_all(&reply(1, 2, error)).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let Err(error) = RawClient::open(address, "1", false) else {
        panic!("an error was taken for an answer");
    };
    let text = error.to_string();
    assert!(text.contains("ZODB.POSException.ReadOnlyError"), "{text}");
    thread.join().unwrap();
}

#[test]
fn a_head_is_not_found_in_what_is_cut_short() {
    let mut request = Vec::new();
    push_request(&mut request, &int(5), false, "ping", b")");
    let payload = &request[4..];
    let whole = head(payload).unwrap();
    assert_eq!(
        (whole.int_id(), whole.flag, whole.method),
        (Some(5), 0, &b"ping"[..])
    );
    let arguments_start = payload.len() - whole.arguments.len();
    for length in 0..arguments_start {
        assert!(head(&payload[..length]).is_none(), "{length} bytes");
    }
}
