//! A disk that breaks: nothing that failed is acknowledged, nothing is written
//! after it, reads go on.

use std::sync::Arc;

use super::Server;
use super::client::Raised;
use super::failing_disk::FailingDisk;
use crate::disk::RealDisk;
use crate::types::Tid;
use crate::wire::{Method, Request};

fn assert_refused(raised: &Raised) {
    assert_eq!(raised.class, "ZODB.POSException.StorageSystemError");
    let text = raised.text();
    let cause = "the disk is broken";
    assert!(
        text.contains("writing stopped") && text.contains(cause),
        "{text}"
    );
    assert!(text.contains("restart"), "it says what to do: {text}");
}

/// A finish fails by `break_disk`; what holds from then on.
fn check_failure(break_disk: impl Fn(&FailingDisk)) {
    let disk = FailingDisk::new();
    let server = Server::file_on(disk.disk(), super::options());
    let mut client = server.client();
    let mut other = server.client();
    let mut voted = server.client();
    let good = client.commit(&[(1, Tid::ZERO, b"good")]);
    voted.vote_store(1, 3, Tid::ZERO);
    client.vote_store(1, 1, good);
    let waiting = other.vote_store(1, 1, good);
    assert_eq!(other.answer(waiting), None);

    break_disk(&disk);
    let failed = client.finish(1).unwrap_err();
    assert_eq!(failed.class, "ZODB.POSException.StorageSystemError");
    assert!(failed.text().contains("the disk is broken"), "{failed:?}");

    // Who waited for its locks, who has voted, and who begins now: refused.
    assert_refused(&other.answer(waiting).unwrap().unwrap_err());
    assert_refused(&voted.finish(1).unwrap_err());
    let vote = client.vote_store(2, 1, good);
    assert_refused(&client.answer(vote).unwrap().unwrap_err());
    let oids = client.call(Request::NewOids { count: 1 });
    assert_refused(&oids.unwrap_err());

    // Whoever watches sees it.
    let stopped = server.database.storage.condition().stopped.unwrap();
    assert!(stopped.contains("the disk is broken"), "{stopped}");
    let requests = &server.database.stats.requests;
    let counted = |method: Method| {
        let number = method.number();
        (requests.handled(number), requests.failed(number))
    };
    assert_eq!(counted(Method::TpcFinish), (3, 2));
    assert_eq!(counted(Method::Vote), (5, 2));

    // Nothing is locked, nothing was told, reads go on.
    assert!(server.database.locks.held_since().is_none());
    assert_eq!(server.database.stats.active_txns.get(), 0);
    for client in [&mut client, &mut other, &mut voted] {
        assert_eq!(client.load(1), Ok((b"good".to_vec(), good)));
        assert_eq!(client.last_transaction(), good);
    }
    drop((client, other, voted));

    // What was acknowledged is there after a restart, and changes are taken again.
    let directory = server.crash();
    drop(server);
    let server = Server::open(directory, Arc::new(RealDisk), super::options());
    let mut client = server.client();
    let (_, serial) = client.load(1).unwrap();
    assert!(serial >= good);
    client.commit(&[(1, serial, b"after")]);
}

#[test]
fn a_failed_write_stops_all_writing() {
    check_failure(|disk| disk.writes.fail_after(0));
}

#[test]
fn a_failed_sync_stops_all_writing_for_good() {
    check_failure(|disk| {
        disk.syncs.fail_after(0);
    });
}

#[test]
fn a_sync_that_works_again_is_not_believed() {
    let disk = FailingDisk::new();
    let server = Server::file_on(disk.disk(), super::options());
    let mut client = server.client();
    client.vote_store(1, 1, Tid::ZERO);
    disk.syncs.fail_after(0);
    client.finish(1).unwrap_err();
    disk.syncs.fail_after(usize::MAX);
    client.begin(1);
    client.store(1, 1, Tid::ZERO, b"data");
    assert_refused(&client.vote(1).unwrap_err());
}

#[test]
fn the_commits_before_the_failing_one_are_there() {
    let disk = FailingDisk::new();
    let server = Server::file_on(disk.disk(), super::options());
    let mut client = server.client();
    disk.syncs.fail_after(3);
    let serials: Vec<_> = (1..=3)
        .map(|number| client.commit(&[(number, Tid::ZERO, b"kept")]))
        .collect();
    client.vote_store(1, 4, Tid::ZERO);
    client.finish(1).unwrap_err();
    let directory = server.crash();
    drop((client, server));
    let server = Server::open(directory, Arc::new(RealDisk), super::options());
    let mut client = server.client();
    for (number, serial) in (1..).zip(serials) {
        assert_eq!(client.load(number), Ok((b"kept".to_vec(), serial)));
    }
}
