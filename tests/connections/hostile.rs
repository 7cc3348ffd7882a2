//! Clients that take what they can get and give nothing back.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic in a helper is a failed test"
)]

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::python_script;
use crate::raw_client::{PATIENCE, RawClient, int, push_request};
use crate::site::{NEW, Site, begin_arguments, commit, error, load, load_arguments};
use crate::site::{store_arguments, transaction_arguments, value};

/// What the allocator and the threads add to what is bounded.
const SLACK_KIB: u64 = 32 << 10;

/// Lines of the log with this in it.
fn count_log(site: &Site, text: &str) -> usize {
    site.zeod.process.stderr().matches(text).count()
}

/// Waits until so many lines of the log have `text`, while `meanwhile` goes on.
fn await_count(site: &mut Site, text: &str, count: usize, mut meanwhile: impl FnMut(&mut Site)) {
    let deadline = Instant::now() + PATIENCE * 3;
    while count_log(site, text) < count {
        let log = count_log(site, text);
        assert!(
            Instant::now() < deadline,
            "{log} of {count} lines with {text:?}"
        );
        meanwhile(site);
    }
}

#[test]
fn those_who_never_read_are_cut_off_while_others_commit() {
    const CLIENTS: usize = 500;
    const RECORD_BYTES: usize = 32 << 10;
    const BUDGET_KIB: u64 = 64 << 10;
    const BETWEEN_COMMITS: Duration = Duration::from_millis(5);
    let _alone = crate::alone();
    let mut site = Site::configured("max-unsent 1MB\nmemory-budget 64MB\nstall-time 3s");
    commit(&mut site.client(), 1, NEW, &vec![7; RECORD_BYTES]);
    let mut writer = site.client();
    let mut serial = NEW;
    let mut timed_commit = || {
        let began = Instant::now();
        serial = commit(&mut writer, 2, serial, b"data");
        let took = began.elapsed();
        std::thread::sleep(BETWEEN_COMMITS);
        took
    };
    // They are told of each commit, then and now.
    let mut unread: Vec<_> = (0..CLIENTS).map(|_| site.client()).collect();
    let alone: Vec<_> = (0..200).map(|_| timed_commit()).collect();
    // 10 MB are asked for by each.
    let mut requests = Vec::new();
    for id in 1..=300 {
        push_request(
            &mut requests,
            &int(id),
            false,
            "loadBefore",
            &load_arguments(1),
        );
    }
    let base_kib = site.grown_kib();
    for client in &mut unread {
        set_socket_recv_buffer_size(client.parts().0, 64 << 10).unwrap();
        client.send_raw(&requests).unwrap();
    }
    let mut beside = Vec::new();
    await_count(
        &mut site,
        "the client has read nothing for 3 s",
        CLIENTS,
        |site| {
            beside.push(timed_commit());
            // Small answers to all, and one that is under way to each; half as much
            // again is what the allocator keeps between them.
            let each_kib = 64 + 2 * RECORD_BYTES as u64 / 1024;
            let bound_kib = (BUDGET_KIB + CLIENTS as u64 * each_kib) * 3 / 2;
            site.assert_grown_at_most(base_kib + bound_kib + SLACK_KIB);
        },
    );
    assert!(beside.len() >= 20, "{} commits", beside.len());
    for (what, mut times) in [("before", alone), ("meanwhile", beside)] {
        times.sort();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        let count = times.len();
        eprintln!("{count} commits {what}, in {median:.2?} by the median, {most:.2?} at most");
    }
    drop(writer);
    site.await_all_gone();
}

#[test]
fn long_messages_that_come_slowly_stay_within_the_memory_for_all() {
    const CLIENTS: usize = 100;
    const MESSAGE_BYTES: u32 = 256 << 20;
    const SENT_BYTES: usize = 4 << 20;
    const BUDGET_KIB: u64 = 257 << 10;
    let _alone = crate::alone();
    let mut site = Site::configured("memory-budget 257MB\nstall-time 3s");
    let serial = commit(&mut site.client(), 1, NEW, b"data");
    let mut slow: Vec<(RawClient, usize)> = (0..CLIENTS).map(|_| (site.client(), 0)).collect();
    for (client, _) in &mut slow {
        client.send_raw(&MESSAGE_BYTES.to_be_bytes()).unwrap();
        client.parts().0.set_nonblocking(true).unwrap();
    }
    let piece = vec![0; 64 << 10];
    let mut last_progress = Instant::now();
    // All that the server takes, of 4 MiB from each; then nobody goes on.
    while last_progress.elapsed() < Duration::from_secs(1) {
        for (client, sent) in slow.iter_mut().filter(|(_, sent)| *sent < SENT_BYTES) {
            match client.parts().0.write(&piece) {
                Ok(count) => {
                    *sent += count;
                    last_progress = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        site.assert_serves();
    }
    site.assert_grown_at_most(BUDGET_KIB + SLACK_KIB);
    assert!(
        site.grown_kib() > BUDGET_KIB / 2,
        "the budget was not in use"
    );
    assert!(load(&mut site.client(), 1) == b"data");
    commit(&mut site.client(), 1, serial, b"more");
    site.await_log("a message of 268435460 bytes has waited for memory for 3 s");
    site.await_all_gone();
}

#[test]
fn more_connections_than_allowed_are_refused() {
    let mut site = Site::configured("max-connections 20");
    // The bystander is one of them.
    let mut clients: Vec<_> = (0..19).map(|_| site.client()).collect();
    for _ in 0..30 {
        let mut refused = RawClient::connect(site.zeod.process.address()).unwrap();
        assert!(refused.is_closed_within(PATIENCE));
    }
    site.await_log("refused: there are 20 connections already (max-connections)");
    assert_eq!(count_log(&site, " refused: there are "), 1);
    site.assert_serves();
    clients.pop();
    let deadline = Instant::now() + PATIENCE;
    while RawClient::open(site.zeod.process.address(), "1", false).is_err() {
        assert!(Instant::now() < deadline, "nobody is let in");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_message_longer_than_configured_is_refused_with_the_name_of_the_key() {
    let mut site = Site::configured("max-message-size 1MB");
    let mut client = site.client();
    client.send_raw(&((1 << 20) + 1_u32).to_be_bytes()).unwrap();
    assert!(client.is_closed_within(PATIENCE));
    site.await_log("a frame of 1048577 bytes is longer than the 1048576 allowed; max-message-size");
    site.assert_serves();
}

#[test]
fn the_vote_of_a_transaction_larger_than_allowed_fails() {
    let mut site = Site::configured("max-transaction-size 10MB");
    let mut client = site.client();
    value(&mut client, "tpc_begin", &begin_arguments());
    for oid in 0..20 {
        let store = store_arguments(oid, NEW, &vec![7; 1 << 20]);
        client.send_one_way("storea", &store).unwrap();
    }
    let failure = error(&mut client, "vote", &transaction_arguments());
    assert!(failure.contains("StorageTransactionError"), "{failure}");
    assert!(failure.contains("max-transaction-size"), "{failure}");
    site.await_log("vote: the transaction's records take more than 10485760 bytes");
    // The connection is as good as before.
    commit(&mut client, 1, NEW, &vec![7; 1 << 20]);
    site.assert_serves();
}

#[test]
fn a_stock_client_goes_on_after_a_transaction_that_was_too_large() {
    python_script::run("connections/too_large.py", &[] as &[&str], PATIENCE * 6);
}
