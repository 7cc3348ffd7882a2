//! Transactions that the server does not take: their vote fails, and nothing else.

use super::client::Raised;
use super::{Server, options};
use crate::transaction::DatabaseOptions;
use crate::types::Tid;

fn server_that_takes(max_transaction_bytes: u64) -> Server {
    Server::file_with(DatabaseOptions {
        max_transaction_bytes,
        ..options()
    })
}

fn assert_too_large(raised: &Raised, key: &str) {
    assert_eq!(raised.class, "ZODB.POSException.StorageTransactionError");
    assert!(raised.text().contains(key), "{}", raised.text());
}

#[test]
fn the_vote_fails_and_what_the_transaction_took_is_given_back_before() {
    let server = server_that_takes(10_000);
    let mut client = server.client();
    client.begin(1);
    for number in 0..3 {
        client.store(1, number, Tid::ZERO, &[7; 4000]);
    }
    assert_eq!(client.session.transaction_bytes(), 0);
    // It takes nothing more, in no form, until it is over.
    client.store(1, 3, Tid::ZERO, b"small");
    assert_eq!(client.session.transaction_bytes(), 0);
    assert_too_large(&client.vote(1).unwrap_err(), "max-transaction-size");
    assert_eq!(client.closed, None);
    assert_eq!(server.database.stats.active_txns.get(), 0);
    // As the stock client does then.
    client.abort(1).unwrap();
    client.commit(&[(1, Tid::ZERO, &[7; 4000])]);
}

#[test]
fn one_that_can_be_aborted_leaves_nothing() {
    let server = server_that_takes(1000);
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, &[7; 4000]);
    client.abort(1).unwrap();
    assert_eq!(server.database.stats.active_txns.get(), 0);
    client.commit(&[(1, Tid::ZERO, b"data")]);
}

#[test]
fn locks_kept_for_resolving_are_released_when_the_resolution_is_too_large() {
    let server = server_that_takes(1000);
    let mut client = server.client();
    let old = client.commit(&[(1, Tid::ZERO, b"old")]);
    let new = server.client().commit(&[(1, old, b"new")]);
    client.begin(1);
    client.store(1, 1, old, b"conflicts");
    client.vote(1).unwrap();
    assert!(server.database.locks.held_since().is_some());
    client.store(1, 1, new, &[7; 4000]);
    assert_too_large(&client.vote(1).unwrap_err(), "max-transaction-size");
    assert!(server.database.locks.held_since().is_none());
    server.client().commit(&[(1, new, b"another's")]);
}

#[test]
fn a_transaction_is_committed_from_a_file_when_memory_is_short() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, &vec![1; 100_000]);
    let before = client.session.transaction_bytes();
    client.session.save_memory();
    let after = client.session.transaction_bytes();
    assert!(before > 100_000 && after < 1000, "{before}, {after}");
    client.store(1, 2, Tid::ZERO, &vec![2; 100_000]);
    client.vote(1).unwrap();
    client.session.save_memory();
    client.finish(1).unwrap();
    assert_eq!(client.load(1).unwrap().0, vec![1; 100_000]);
    assert_eq!(client.load(2).unwrap().0, vec![2; 100_000]);
}

#[test]
fn too_many_operations_are_refused_when_memory_is_short() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    for number in 0..20_001 {
        client.store(1, number, Tid::ZERO, b"");
    }
    client.session.save_memory();
    assert_eq!(client.session.transaction_bytes(), 0);
    assert_too_large(&client.vote(1).unwrap_err(), "memory-budget");
    client.commit(&[(1, Tid::ZERO, b"data")]);
}
