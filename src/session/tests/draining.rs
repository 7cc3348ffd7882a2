//! A server that stops: what was promised is kept, and nothing new is.

use crate::transaction::Delivery;
use crate::types::Tid;

use super::Server;
use super::client::Client;

fn drain(client: &mut Client) {
    client.session.inbox().push(Delivery::Drain);
    client.deliver();
    assert_eq!(client.closed, None);
}

#[test]
fn whoever_was_promised_nothing_is_drained_at_once() {
    let server = Server::file();
    drain(&mut Client::new(server.databases.clone()));
    let mut idle = server.client();
    assert!(!idle.session.is_drained());
    drain(&mut idle);
    assert!(idle.session.is_drained());
    let mut storing = server.client();
    storing.begin(1);
    storing.store(1, 1, Tid::ZERO, b"data");
    drain(&mut storing);
    assert!(storing.session.is_drained());
    assert_eq!(server.database.connections(), 0);
}

#[test]
fn a_voted_transaction_is_finished_before_its_client_is_drained() {
    let server = Server::file();
    let mut client = server.client();
    client.vote_store(1, 1, Tid::ZERO);
    drain(&mut client);
    assert!(!client.session.is_drained());
    client.finish(1).unwrap();
    assert!(client.session.is_drained());
}

#[test]
fn a_vote_that_waits_does_not_get_its_locks_any_more() {
    let server = Server::file();
    let mut holder = server.client();
    holder.vote_store(1, 1, Tid::ZERO);
    let mut waiter = server.client();
    let vote = waiter.vote_store(1, 1, Tid::ZERO);
    // The locks become free between the stop and the waiter's hearing of it.
    waiter.session.inbox().push(Delivery::Drain);
    holder.finish(1).unwrap();
    waiter.deliver();
    assert_eq!(waiter.answer(vote), None);
    assert!(waiter.session.is_drained());
    assert!(server.database.locks.held_since().is_none());
    assert_eq!(server.database.stats.active_txns.get(), 0);
}
