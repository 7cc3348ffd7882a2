//! Locks that a client holds for too long, or takes along.

use crate::raw_client::{PATIENCE, decode};
use crate::site::{NEW, Site, await_vote, commit, finish, load, send_vote, status, value};

#[test]
fn a_vote_that_is_never_finished_is_ended_by_the_timeout() {
    let mut site = Site::start(&["-t", "1"]);
    let mut holder = site.client();
    let vote = send_vote(&mut holder, 1, NEW, b"held");
    await_vote(&mut holder, vote);
    let mut waiter = site.client();
    let vote = send_vote(&mut waiter, 1, NEW, b"waited");
    let short = std::time::Duration::from_millis(50);
    assert!(waiter.read_frame(short).is_err(), "it has to wait");
    await_vote(&mut waiter, vote);
    finish(&mut waiter);
    assert!(holder.is_closed_within(PATIENCE));
    site.await_log("Transaction timeout after 1 seconds");
    site.assert_serves();
    assert_eq!(load(&mut waiter, 1), b"waited");
    assert_eq!(crate::site::count(&status(&mut waiter), "active_txns"), 0);
}

#[test]
fn a_client_that_works_quickly_meets_no_timeout() {
    let site = Site::start(&["-t", "1"]);
    let mut client = site.client();
    let mut serial = NEW;
    let start = std::time::Instant::now();
    // Many transactions, longer in all than the timeout.
    while start.elapsed().as_millis() < 1500 {
        serial = commit(&mut client, 1, serial, b"data");
    }
    // A transaction that holds no locks may take its time.
    value(&mut client, "tpc_begin", &crate::site::begin_arguments());
    assert!(!client.is_closed_within(std::time::Duration::from_millis(1500)));
}

#[test]
fn a_client_that_breaks_off_in_its_vote_lets_the_next_one_in() {
    let site = Site::start(&[]);
    // By closing, by garbage, by an unknown method, by a failing one-way call.
    let endings: [&[u8]; 3] = [b"garbage", b"", b"\x80\x03(K\x01K\0X\x04\0\0\0nope)t."];
    for ending in endings {
        let mut holder = site.client();
        let vote = send_vote(&mut holder, 1, NEW, b"held");
        await_vote(&mut holder, vote);
        let mut waiter = site.client();
        let vote = send_vote(&mut waiter, 1, NEW, b"waited");
        if ending.is_empty() {
            drop(holder);
        } else {
            holder.send_frame(ending).unwrap();
        }
        await_vote(&mut waiter, vote);
        let abort = crate::site::transaction_arguments();
        let aborted = decode(&waiter.call("tpc_abort", &abort).unwrap());
        assert!(aborted.is_ok());
    }
}
