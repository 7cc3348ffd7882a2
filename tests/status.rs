//! What the real program tells those who watch it.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a panic in a helper is a failed test; counts are whole numbers"
)]

#[path = "status/prometheus.rs"]
mod prometheus;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "support/server_process.rs"]
mod server_process;
#[path = "support/site.rs"]
mod site;
#[path = "status/watched.rs"]
mod watched;

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use raw_client::{PATIENCE, RawClient, decode};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use server_process::ServerProcess;
use site::{
    NEW, await_vote, commit, error, finish, load, load_arguments, send_vote, text,
    transaction_arguments, tuple,
};
use watched::{Answer, Watched, read_answer};

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_fresh_server_is_healthy_and_ready_and_has_counted_nothing() {
    let server = Watched::start("");
    assert!(server.status.ip().is_loopback(), "{}", server.status);
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    let metrics = server.metrics();
    assert_eq!(metrics.get("zeod_ready"), 1.0);
    assert_eq!(metrics.get("zeod_connections"), 0.0);
    assert_eq!(metrics.get("zeod_commits_total{storage=\"1\"}"), 0.0);
    assert!(metrics.get("process_resident_memory_bytes") > 1e6);
    assert!(metrics.has_family("zeod_request_duration_seconds"));
    let json = server.json();
    assert_eq!(json["state"], "ready");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["addresses"][0], server.process.address().to_string());
    assert_eq!(json["process"]["pid"], server.process.pid());
    assert_eq!(
        json["storages"][0]["last_transaction"],
        serde_json::Value::Null
    );
    assert_eq!(json["clients"], serde_json::json!([]));
}

#[test]
fn what_clients_do_is_counted_and_timed() {
    let server = Watched::start("");
    let mut client = server.client();
    let serial = commit(&mut client, 1, NEW, b"first");
    commit(&mut client, 1, serial, b"second");
    for _ in 0..40 {
        assert_eq!(load(&mut client, 1), b"second");
    }
    assert!(error(&mut client, "loadBefore", &load_arguments(9)).contains("POSKeyError"));
    let metrics = server.metrics();
    let of = |name: &str, method: &str| {
        metrics.get(&format!("{name}{{storage=\"1\",method=\"{method}\"}}"))
    };
    assert_eq!(of("zeod_requests_total", "loadBefore"), 41.0);
    assert_eq!(of("zeod_requests_failed_total", "loadBefore"), 1.0);
    assert_eq!(of("zeod_request_duration_seconds_count", "loadBefore"), 2.0);
    for method in ["tpc_begin", "vote", "tpc_finish"] {
        assert_eq!(of("zeod_requests_total", method), 2.0, "{method}");
        assert_eq!(
            of("zeod_request_duration_seconds_count", method),
            2.0,
            "{method}"
        );
        assert!(
            of("zeod_request_duration_seconds_sum", method) > 0.0,
            "{method}"
        );
    }
    // A finish is over when the client is told, not when it is handed on.
    let finished = of("zeod_request_duration_seconds_sum", "tpc_finish");
    let of_storage = |name: &str| metrics.get(&format!("{name}{{storage=\"1\"}}"));
    assert!(finished > of_storage("zeod_sync_duration_seconds_sum"));
    assert_eq!(of_storage("zeod_sync_duration_seconds_count"), 2.0);
    assert_eq!(of_storage("zeod_commit_batch_transactions_sum"), 2.0);
    assert_eq!(of_storage("zeod_commits_total"), 2.0);
    assert_eq!(of_storage("zeod_storage_objects"), 1.0);
    let size = fs::metadata(server.directory.path().join("Data.fs"))
        .unwrap()
        .len();
    assert_eq!(server.json()["storages"][0]["size_bytes"], size);
    assert!(metrics.get("zeod_received_bytes_total") > 1000.0);
    assert!(metrics.get("zeod_sent_bytes_total") > 1000.0);
}

#[test]
fn conflicts_are_counted_by_what_became_of_them() {
    for (config, outcome) in [
        ("", "handed_back"),
        ("client-conflict-resolution false", "refused"),
    ] {
        let server = Watched::start(config);
        let mut client = server.client();
        commit(&mut client, 1, NEW, b"first");
        // Its serial says that it never saw the first.
        send_vote(&mut client, 1, NEW, b"second");
        wait_until("the conflict is counted", || {
            let sample = format!("zeod_conflicts_total{{storage=\"1\",outcome=\"{outcome}\"}}");
            server.metrics().get(&sample) == 1.0
        });
    }
}

#[test]
fn clients_are_listed_with_what_they_wait_for() {
    let server = Watched::start("");
    let mut holder = server.client();
    let label = tuple(&[&text("first instance")]);
    holder.send_one_way("set_client_label", &label).unwrap();
    let vote = send_vote(&mut holder, 1, NEW, b"held");
    await_vote(&mut holder, vote);
    let mut waiter = RawClient::open(server.process.address(), "1", false).unwrap();
    let vote = send_vote(&mut waiter, 1, NEW, b"waits");
    wait_until("the second waits", || {
        server.json()["clients"][1]["transaction"] == "waiting"
    });
    let json = server.json();
    let first = &json["clients"][0];
    assert_eq!(first["label"], "first instance");
    assert_eq!(first["transaction"], "voted");
    assert_eq!(first["storage"], "1");
    assert_eq!(first["read_only"], false);
    assert!(first["since"].as_str().unwrap().ends_with('Z'));
    assert!(first["received_bytes"].as_u64() > Some(100));
    assert_eq!(json["storages"][0]["locks_waiting"], 1);
    assert!(json["storages"][0]["lock_held_seconds"].as_f64() > Some(0.0));
    let waits = "zeod_lock_wait_seconds_count{storage=\"1\"}";
    assert_eq!(server.metrics().get(waits), 0.0);
    let aborted = holder.call("tpc_abort", &transaction_arguments()).unwrap();
    assert!(decode(&aborted).is_ok());
    await_vote(&mut waiter, vote);
    finish(&mut waiter);
    let metrics = server.metrics();
    assert_eq!(metrics.get(waits), 1.0);
    // The vote took as long as it waited.
    let voted = "zeod_request_duration_seconds_sum{storage=\"1\",method=\"vote\"}";
    assert!(metrics.get(voted) >= metrics.get("zeod_lock_wait_seconds_sum{storage=\"1\"}"));
    assert_eq!(server.json()["clients"][1]["transaction"], "none");
}

#[test]
fn a_client_that_is_cut_off_is_counted_and_its_bytes_stay() {
    let server = Watched::start("");
    let mut client = server.client();
    client.send_frame(b"garbage").unwrap();
    assert!(client.is_closed_within(PATIENCE));
    wait_until("it is gone", || {
        server.metrics().get("zeod_connections") == 0.0
    });
    let metrics = server.metrics();
    let cut_off = metrics.get("zeod_connections_cut_off_total{reason=\"rule\"}");
    assert_eq!(cut_off, 1.0);
    assert_eq!(metrics.get("zeod_connections_accepted_total"), 1.0);
    assert!(metrics.get("zeod_received_bytes_total") > 0.0);
}

#[test]
fn a_storage_that_stopped_writing_is_unhealthy_and_says_why() {
    let server = Watched::start("");
    let mut client = server.client();
    commit(&mut client, 1, NEW, b"first");
    let vote = send_vote(&mut client, 2, NEW, b"second");
    await_vote(&mut client, vote);
    // Somebody else writes to the file.
    let path = server.directory.path().join("Data.fs");
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"x").unwrap();
    error(&mut client, "tpc_finish", &transaction_arguments());
    let answer = server.get("/healthz");
    assert_eq!(answer.status, 503);
    let words = "storage 1 takes no changes since an error: ";
    assert!(answer.body.starts_with(words), "{}", answer.body);
    assert!(answer.body.contains("another program"), "{}", answer.body);
    assert_eq!(server.get("/readyz").status, 200, "reads go on");
    let metrics = server.metrics();
    assert_eq!(metrics.get("zeod_storage_stopped{storage=\"1\"}"), 1.0);
    assert_eq!(metrics.get("zeod_storage_writable{storage=\"1\"}"), 0.0);
    assert_eq!(load(&mut client, 1), b"first");
}

#[test]
fn only_get_and_head_of_known_paths_are_answered() {
    let server = Watched::start("");
    let got = server.get("/readyz");
    let head = server.ask("HEAD /readyz HTTP/1.1\r\nHost: zeod\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for answer in [&got, &head] {
        assert!(answer.head.contains("content-length: 6"), "{answer:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    let answer = server.get("/status");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("/status.json"), "{answer:?}");
    assert_eq!(server.get("/metrics?name=x").status, 200);
    for method in ["POST", "DELETE", "BREW"] {
        let request =
            format!("{method} /metrics HTTP/1.1\r\nHost: zeod\r\nContent-Length: 3\r\n\r\nabc");
        let answer = server.ask(&request);
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{answer:?}");
    }
}

#[test]
fn garbage_and_long_heads_are_refused_and_nobody_else_notices() {
    let server = Watched::start("");
    let mut client = server.client();
    for garbage in ["\0\0\0\x02Z5", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = server.connect();
        stream.write_all(garbage.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        if let Ok(Answer { status, .. }) = read_answer(&mut stream) {
            assert!((400..600).contains(&status), "{garbage:?}: {status}");
        }
    }
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut stream = server.connect();
    // It may be closed before it has read all of that.
    let _ = stream.write_all(long.as_bytes());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let answer = String::from_utf8_lossy(&rest);
    assert!(
        rest.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    commit(&mut client, 1, NEW, b"data");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn those_who_ask_slowly_are_closed_and_keep_nobody_out_for_long() {
    let server = Watched::start("");
    // More than are served at the same time.
    let mut slow: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHos").unwrap();
    }
    let mut client = server.client();
    commit(&mut client, 1, NEW, b"data");
    assert_eq!(server.get("/healthz").status, 200);
    for stream in &mut slow {
        let mut rest = Vec::new();
        // Closed, by an end or a reset; a timeout of the read is neither.
        let closed = stream.read_to_end(&mut rest);
        let in_time = closed
            .err()
            .is_none_or(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(in_time, "a slow connection is still open");
    }
}

#[test]
fn the_monitor_tells_what_plugins_read() {
    let server = Watched::start("");
    let mut client = server.client();
    commit(&mut client, 1, NEW, b"data");
    load(&mut client, 1);
    let mut text = String::new();
    let mut stream = TcpStream::connect(server.monitor).unwrap();
    stream.read_to_string(&mut text).unwrap();
    // As munin's plugin does it.
    let mut lines = text.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("ZEO monitor server version 3.")
    );
    assert_eq!(
        lines.next().unwrap().len(),
        "Sun Nov 22 12:38:55 2026".len()
    );
    assert_eq!(lines.next(), Some(""));
    assert_eq!(lines.next(), Some("Storage: 1"));
    let numbers: Vec<(&str, f64)> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("Server started:"))
        .map(|line| line.split_once(':').unwrap())
        .map(|(key, number)| (key, number.trim().parse().unwrap()))
        .collect();
    let expected = [
        ("Clients", 1.0),
        ("Clients verifying", 0.0),
        ("Active transactions", 0.0),
        ("Commits", 1.0),
        ("Aborts", 0.0),
        ("Loads", 1.0),
        ("Stores", 1.0),
        ("Conflicts", 0.0),
        ("Conflicts resolved", 0.0),
    ];
    assert_eq!(numbers, expected);
}

/// A process that is ended with the test.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_still_opens_its_storages_says_so() {
    let directory = tempfile::tempdir().unwrap();
    // Opening a pipe for reading lasts until somebody writes to it.
    let pipe = directory.path().join("slow.fs");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = directory.path().join("status.sock");
    let config = directory.path().join("zeo.conf");
    let conf = format!(
        "<zeo>\naddress 127.0.0.1:0\n</zeo>\n<zeod>\nstatus-address {}\n</zeod>\n\
         <mappingstorage quick>\n</mappingstorage>\n\
         <filestorage slow>\npath {}\nread-only true\n</filestorage>\n",
        socket.display(),
        pipe.display()
    );
    fs::write(&config, conf).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
    command.arg("-C").arg(&config).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _guard = Guard(command.spawn().unwrap());
    let get = |path: &str| {
        let mut stream = UnixStream::connect(&socket).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: zeod\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Some(read_answer(&mut stream).unwrap())
    };
    let opening = "starting: opening storage slow\n";
    wait_until("it opens the second storage", || {
        get("/readyz").is_some_and(|answer| (answer.status, &*answer.body) == (503, opening))
    });
    assert_eq!(get("/healthz").unwrap().status, 200);
    let metrics = prometheus::Samples::read(&get("/metrics").unwrap().body).unwrap();
    assert_eq!(metrics.get("zeod_ready"), 0.0);
    let json: serde_json::Value = serde_json::from_str(&get("/status.json").unwrap().body).unwrap();
    assert_eq!(json["doing"], "opening storage slow");
}

#[test]
fn a_status_address_that_is_taken_stops_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("zeo.conf");
    let conf = format!(
        "<zeo>\naddress 127.0.0.1:0\n</zeo>\n<zeod>\nstatus-address {address}\n</zeod>\n\
         <mappingstorage 1>\n</mappingstorage>\n"
    );
    fs::write(&config, conf).unwrap();
    let address_file = directory.path().join("address");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
    command.arg("-C").arg(&config);
    let stderr = directory.path().join("stderr.log");
    let problem = ServerProcess::start(command, &address_file, &stderr)
        .err()
        .unwrap();
    let words = format!("cannot listen on {address}: the address is in use");
    assert!(problem.to_string().contains(&words), "{problem}");
}
