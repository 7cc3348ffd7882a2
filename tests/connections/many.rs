//! Many clients that behave.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic in a helper is a failed test"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::python_script;
use crate::raw_client::RawClient;
use crate::site::{NEW, Site, commit, load_arguments};

const IDLE: u64 = 2000;
const READERS: u64 = 190;
const WRITERS: u64 = 10;
const DEFAULT_SECONDS: u32 = 3;

/// What the server may take for a connection that is idle: its task, its
/// session, and what the runtime and the allocator add.
const IDLE_BYTES: u64 = 12 << 10;
/// What it may take for one at work.
const BUSY_KIB: u64 = 128;
/// Threads, their buffers, the allocator's reserves.
const BASE_KIB: u64 = 24 << 10;

/// The test itself holds as many sockets as the server.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Works until told to stop; how often it did.
fn repeat(stop: &AtomicBool, mut work: impl FnMut()) -> u64 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        work();
        count += 1;
    }
    count
}

fn read(mut client: RawClient, stop: &AtomicBool) -> u64 {
    repeat(stop, || {
        client.call("loadBefore", &load_arguments(1)).unwrap();
        client.notices.clear();
    })
}

fn write(mut client: RawClient, oid: u64, stop: &AtomicBool) -> u64 {
    let mut serial = NEW;
    repeat(stop, || {
        serial = commit(&mut client, oid, serial, b"data");
        client.notices.clear();
    })
}

#[test]
fn idle_clients_cost_little_and_busy_ones_all_get_their_turn() {
    let _alone = crate::alone();
    raise_descriptor_limit();
    let seconds = python_script::number("ZEOD_CONNECTIONS_SECONDS", DEFAULT_SECONDS);
    let mut site = Site::start(&[]);
    commit(&mut site.client(), 1, NEW, &[7; 1000]);
    let before_kib = site.grown_kib();
    let idle: Vec<_> = (0..IDLE).map(|_| site.client()).collect();
    let idle_bytes = (site.grown_kib() - before_kib) * 1024 / IDLE;
    eprintln!("{idle_bytes} bytes for each of {IDLE} idle connections");
    assert!(idle_bytes <= IDLE_BYTES, "{idle_bytes} bytes");

    let stop = AtomicBool::new(false);
    let stop = &stop;
    let readers: Vec<_> = (0..READERS).map(|_| site.client()).collect();
    let writers: Vec<_> = (0..WRITERS).map(|_| site.client()).collect();
    let (mut loads, commits) = scope(|scope| {
        let spawn = |client| scope.spawn(move || read(client, stop));
        let readers: Vec<_> = readers.into_iter().map(spawn).collect();
        let spawn = |(client, oid)| scope.spawn(move || write(client, oid, stop));
        let writers: Vec<_> = writers.into_iter().zip(100..).map(spawn).collect();
        let end = Instant::now() + Duration::from_secs(seconds.into());
        while Instant::now() < end {
            site.assert_serves();
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, u64>| thread.join().unwrap();
        let loads: Vec<_> = readers.into_iter().map(join).collect();
        let commits: Vec<_> = writers.into_iter().map(join).collect();
        (loads, commits)
    });
    loads.sort_unstable();
    let (slowest, median) = (loads[0], loads[loads.len() / 2]);
    eprintln!("loads: {slowest} by the slowest, {median} by the median; commits: {commits:?}");
    assert!(slowest * 3 >= median, "{slowest} and {median}");
    assert!(commits.iter().all(|&count| count > 0), "{commits:?}");
    site.assert_grown_at_most(BASE_KIB + IDLE * IDLE_BYTES / 1024 + (READERS + WRITERS) * BUSY_KIB);
    drop(idle);
    site.await_all_gone();
}
