//! A running server with what tests ask of it again and again.

#![allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "each test that includes this module uses a part of it; a panic there is a failed test"
)]

use std::fs;
use std::time::{Duration, Instant};

use serde_pickle::Value;

use crate::raw_client::{PATIENCE, RawClient, Reply, decode, int, push_str};
use crate::server_process::{ServerProcess, Zeod};

/// Message id and name of the transaction in all tests.
const TRANSACTION: i32 = 1;
/// The serial of objects that are new.
pub const NEW: [u8; 8] = [0; 8];

pub struct Site {
    pub zeod: Zeod,
    /// A client that is served while others misbehave.
    bystander: RawClient,
    rss_kib: u64,
}

impl Site {
    pub fn start(arguments: &[&str]) -> Self {
        Self::of(Zeod::start(arguments).unwrap())
    }

    /// With these lines in the `<zeod>` section.
    pub fn configured(section: &str) -> Self {
        Self::of(Zeod::start_configured(section).unwrap())
    }

    fn of(zeod: Zeod) -> Self {
        let bystander = RawClient::open(zeod.process.address(), "1", false).unwrap();
        let rss_kib = rss_kib(&zeod.process);
        Self {
            zeod,
            bystander,
            rss_kib,
        }
    }

    /// A client that has registered.
    pub fn client(&self) -> RawClient {
        RawClient::open(self.zeod.process.address(), "1", false).unwrap()
    }

    /// A client that has heard the greeting and said nothing.
    pub fn stranger(&self) -> RawClient {
        let mut client = RawClient::connect(self.zeod.process.address()).unwrap();
        assert_eq!(client.read_frame(PATIENCE).unwrap(), b"Z5");
        client
    }

    /// The bystander's calls are answered.
    pub fn assert_serves(&mut self) {
        let reply = self.bystander.call("ping", b")").unwrap();
        assert_eq!(decode(&reply).unwrap(), Reply::Value(Value::None));
    }

    /// The server has not grown by more than this since its start.
    pub fn assert_grown_at_most(&self, bound_kib: u64) {
        let grown = self.grown_kib();
        // Shown with --nocapture.
        eprintln!("grown by {grown} KiB, {bound_kib} allowed");
        assert!(grown <= bound_kib, "{grown} KiB, {bound_kib} at most");
    }

    pub fn grown_kib(&self) -> u64 {
        rss_kib(&self.zeod.process).saturating_sub(self.rss_kib)
    }

    /// Waits until the log has a line with `text`.
    pub fn await_log(&self, text: &str) {
        self.zeod.process.await_stderr(text);
    }

    /// Waits until only the bystander is connected.
    pub fn await_all_gone(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while count(&status(&mut self.bystander), "connections") != 1 {
            assert!(Instant::now() < deadline, "connections are left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn rss_kib(process: &ServerProcess) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// What `server_status` says.
pub fn status(client: &mut RawClient) -> Value {
    match decode(&client.call("server_status", b")").unwrap()).unwrap() {
        Reply::Value(status) => status,
        Reply::Error(error) => panic!("{error}"),
    }
}

pub fn count(status: &Value, name: &str) -> i64 {
    let Value::Dict(items) = status else {
        panic!("{status}");
    };
    let key = serde_pickle::HashableValue::String(name.to_owned());
    match items[&key] {
        Value::I64(count) => count,
        ref other => panic!("{name}: {other}"),
    }
}

/// Pickled arguments: a tuple of pickled values.
pub fn tuple(items: &[&[u8]]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

/// A pickled bytes object.
pub fn bytes(value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    [b"B", &length.to_le_bytes()[..], value].concat()
}

/// A pickled str.
pub fn text(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_str(&mut out, value);
    out
}

pub fn begin_arguments() -> Vec<u8> {
    tuple(&[
        &int(TRANSACTION),
        &bytes(b""),
        &bytes(b""),
        b"}",
        b"N",
        &text(" "),
    ])
}

pub fn store_arguments(oid: u64, serial: [u8; 8], data: &[u8]) -> Vec<u8> {
    tuple(&[
        &bytes(&oid.to_be_bytes()),
        &bytes(&serial),
        &bytes(data),
        &int(TRANSACTION),
    ])
}

pub fn transaction_arguments() -> Vec<u8> {
    tuple(&[&int(TRANSACTION)])
}

pub fn load_arguments(oid: u64) -> Vec<u8> {
    // The greatest tid that the stock client asks with.
    let before = b"\x7f\xff\xff\xff\xff\xff\xff\xff";
    tuple(&[&bytes(&oid.to_be_bytes()), &bytes(before)])
}

/// Begins, stores, and sends the vote; returns the vote's message id.
pub fn send_vote(client: &mut RawClient, oid: u64, serial: [u8; 8], data: &[u8]) -> i32 {
    value(client, "tpc_begin", &begin_arguments());
    let store = store_arguments(oid, serial, data);
    client.send_one_way("storea", &store).unwrap();
    client.send_call("vote", &transaction_arguments()).unwrap()
}

/// Waits for the reply to a vote: it is granted without conflict.
pub fn await_vote(client: &mut RawClient, id: i32) {
    loop {
        let payload = client.read_frame(PATIENCE).unwrap();
        let head = crate::raw_client::head(&payload).unwrap();
        if head.method == b".reply" {
            assert_eq!(head.int_id(), Some(id));
            let expected = Reply::Value(Value::List(Vec::new()));
            assert_eq!(decode(&payload).unwrap(), expected);
            return;
        }
    }
}

/// A whole transaction that stores one object; its tid.
pub fn commit(client: &mut RawClient, oid: u64, serial: [u8; 8], data: &[u8]) -> [u8; 8] {
    let vote = send_vote(client, oid, serial, data);
    await_vote(client, vote);
    finish(client)
}

/// Finishes the voted transaction; its tid.
pub fn finish(client: &mut RawClient) -> [u8; 8] {
    match value(client, "tpc_finish", &transaction_arguments()) {
        Value::Bytes(tid) => tid.try_into().unwrap(),
        other => panic!("{other}"),
    }
}

/// Calls, and expects a value.
pub fn value(client: &mut RawClient, method: &str, arguments: &[u8]) -> Value {
    match decode(&client.call(method, arguments).unwrap()).unwrap() {
        Reply::Value(value) => value,
        Reply::Error(error) => panic!("{method}: {error}"),
    }
}

/// Calls, and expects an error; its class and arguments as text.
pub fn error(client: &mut RawClient, method: &str, arguments: &[u8]) -> String {
    match decode(&client.call(method, arguments).unwrap()).unwrap() {
        Reply::Error(error) => error,
        Reply::Value(value) => panic!("{method}: {value}"),
    }
}

/// The current data of an object.
pub fn load(client: &mut RawClient, oid: u64) -> Vec<u8> {
    match value(client, "loadBefore", &load_arguments(oid)) {
        Value::Tuple(items) => match &items[0] {
            Value::Bytes(data) => data.clone(),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}
