//! Clients that do not read.

use std::time::Duration;

use crate::raw_client::{PATIENCE, int, push_request};
use crate::site::{NEW, Site, begin_arguments, commit, load, load_arguments, store_arguments};
use crate::site::{finish, transaction_arguments, value};

/// Unread answers (8 MiB and one more), the buffer's room to grow, what the
/// system gives the sockets not counted.
const OUTBOX_KIB: u64 = 40 << 10;

#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let mut site = Site::start(&[]);
    let data = vec![7; 200_000];
    commit(&mut site.client(), 1, NEW, &data);
    // 3000 answers of 200 kB: 600 MB.
    let mut requests = Vec::new();
    for id in 1..=3000 {
        push_request(
            &mut requests,
            &int(id),
            false,
            "loadBefore",
            &load_arguments(1),
        );
    }
    let mut stalled = site.client();
    stalled.send_raw(&requests).unwrap();
    for _ in 0..5 {
        // Others do as they would, meanwhile.
        assert!(load(&mut site.client(), 1) == data);
        site.assert_serves();
        site.assert_grown_at_most(OUTBOX_KIB);
    }
    // It is not lost to the server: when it reads at last, all answers come.
    for id in 1..=3000 {
        let payload = stalled.read_frame(PATIENCE).unwrap();
        let head = crate::raw_client::head(&payload).unwrap();
        assert_eq!(head.int_id(), Some(id));
        if id % 100 == 0 {
            site.assert_grown_at_most(OUTBOX_KIB);
        }
    }
}

#[test]
fn a_client_that_is_always_behind_costs_no_more() {
    let mut site = Site::start(&[]);
    commit(&mut site.client(), 1, NEW, &vec![7; 200_000]);
    let mut requests = Vec::new();
    for id in 1..=200 {
        push_request(
            &mut requests,
            &int(id),
            false,
            "loadBefore",
            &load_arguments(1),
        );
    }
    // 40 MB are asked for ahead of what is read, and stay so.
    let mut slow = site.client();
    slow.send_raw(&requests).unwrap();
    for _ in 0..8 {
        slow.send_raw(&requests).unwrap();
        for _ in 0..200 {
            slow.read_frame(PATIENCE).unwrap();
        }
        site.assert_grown_at_most(OUTBOX_KIB);
    }
    site.assert_serves();
}

#[test]
fn invalidations_that_nobody_reads_keep_nobody_waiting() {
    const OBJECTS: u64 = 2000;
    const TRANSACTIONS: u64 = 100;
    let mut site = Site::start(&[]);
    let readers: Vec<_> = (0..10).map(|_| site.client()).collect();
    let mut writer = site.client();
    let mut serial = NEW;
    for _ in 0..TRANSACTIONS {
        value(&mut writer, "tpc_begin", &begin_arguments());
        let mut stores = Vec::new();
        for oid in 0..OBJECTS {
            let store = store_arguments(oid, serial, b"data");
            push_request(&mut stores, &int(0), true, "storea", &store);
        }
        writer.send_raw(&stores).unwrap();
        value(&mut writer, "vote", &transaction_arguments());
        serial = finish(&mut writer);
    }
    site.assert_serves();
    // 10 clients with 2 MB each, shared where it waits in the inboxes.
    site.assert_grown_at_most(OUTBOX_KIB);
    drop(readers);
    drop(writer);
    site.await_all_gone();
}

#[test]
fn a_client_that_is_cut_off_while_it_does_not_read_is_not_waited_for() {
    let mut site = Site::start(&[]);
    let data = vec![7; 1 << 20];
    commit(&mut site.client(), 1, NEW, &data);
    let mut stalled = site.client();
    let vote = crate::site::send_vote(&mut stalled, 2, NEW, b"data");
    crate::site::await_vote(&mut stalled, vote);
    // Less than fills the outbox, so that what comes behind it is still handled;
    // more than the sockets take.
    let mut requests = Vec::new();
    for id in 1..=8 {
        push_request(
            &mut requests,
            &int(id),
            false,
            "loadBefore",
            &load_arguments(1),
        );
    }
    push_request(&mut requests, &int(9), false, "nonsense", b")");
    stalled.send_raw(&requests).unwrap();
    // Its locks are free at once, and it is closed though it reads nothing.
    let mut other = site.client();
    commit(&mut other, 2, NEW, b"data");
    site.await_log("connection closed: unknown method \"nonsense\"");
    assert!(stalled.is_closed_within(PATIENCE + Duration::from_secs(5)));
    drop(other);
    site.await_all_gone();
}
