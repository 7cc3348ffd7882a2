//! A client that goes, at whatever stage of its transaction, leaves nothing locked.

use std::sync::Arc;

use super::Server;
use super::client::Client;
use crate::types::Tid;
use crate::wire::Value;

fn assert_all_free(server: &Server) {
    assert!(server.database.locks.held_since().is_none());
    assert_eq!(server.database.locks.waiting(), 0);
    assert_eq!(server.database.stats.active_txns.get(), 0);
    assert_eq!(server.database.connections(), 0);
    // And whoever comes gets its vote at once.
    let mut next = server.client();
    let serial = next.load(1).map_or(Tid::ZERO, |(_, serial)| serial);
    next.commit(&[(1, serial, b"next")]);
}

#[test]
fn a_disconnect_after_register_leaves_nothing() {
    let server = Server::file();
    drop(server.client());
    assert_all_free(&server);
}

#[test]
fn a_disconnect_while_storing_leaves_nothing() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, b"data");
    drop(client);
    assert_all_free(&server);
}

#[test]
fn a_disconnect_after_the_vote_lets_the_next_one_in() {
    let server = Server::file();
    let mut holder = server.client();
    holder.vote_store(1, 1, Tid::ZERO);
    let mut waiter = server.client();
    let vote = waiter.vote_store(1, 1, Tid::ZERO);
    assert_eq!(waiter.answer(vote), None);
    drop(holder);
    assert_eq!(waiter.answer(vote), Some(Ok(Value::List(Vec::new()))));
    waiter.finish(1).unwrap();
    drop(waiter);
    assert_all_free(&server);
}

#[test]
fn a_disconnect_while_waiting_does_not_keep_others_waiting() {
    let server = Server::file();
    let mut holder = server.client();
    holder.vote_store(1, 1, Tid::ZERO);
    let mut gone = server.client();
    gone.vote_store(1, 1, Tid::ZERO);
    let mut waiter = server.client();
    let vote = waiter.vote_store(1, 1, Tid::ZERO);
    drop(gone);
    assert_eq!(server.database.locks.waiting(), 1);
    holder.abort(1).unwrap();
    assert_eq!(waiter.answer(vote), Some(Ok(Value::List(Vec::new()))));
    drop((holder, waiter));
    assert_all_free(&server);
}

#[test]
fn a_disconnect_between_grant_and_delivery_releases_what_was_granted() {
    let server = Server::file();
    let mut holder = server.client();
    holder.vote_store(1, 1, Tid::ZERO);
    let mut granted = server.client();
    granted.vote_store(1, 1, Tid::ZERO);
    let mut waiter = server.client();
    let vote = waiter.vote_store(1, 1, Tid::ZERO);
    // The grant lies in the inbox of one who never looks.
    drop(holder);
    assert_eq!(waiter.answer(vote), None);
    drop(granted);
    assert_eq!(waiter.answer(vote), Some(Ok(Value::List(Vec::new()))));
    drop(waiter);
    assert_all_free(&server);
}

#[test]
fn a_disconnect_after_the_finish_was_asked_for_commits_all_the_same() {
    let server = Server::file();
    let mut reader = server.client();
    let mut client = server.client();
    client.vote_store(1, 1, Tid::ZERO);
    client.send_finish(1);
    // The reply lies in the inbox of one who never looks.
    drop(client);
    assert_eq!(reader.invalidations().len(), 1);
    assert_eq!(reader.load(1).unwrap().0, b"data");
    drop(reader);
    assert_all_free(&server);
}

#[test]
fn an_abort_at_every_stage_leaves_nothing() {
    let server = Server::file();
    let mut holder = server.client();
    holder.vote_store(9, 2, Tid::ZERO);
    let mut client = server.client();
    let steps: [&dyn Fn(&mut Client); 4] = [
        &|client| client.begin(1),
        &|client| client.store(1, 1, Tid::ZERO, b"data"),
        &|client| drop(client.vote(1)),
        &|client| {
            client.abort(1).unwrap();
            client.begin(1);
            // This one waits.
            client.store(1, 2, Tid::ZERO, b"data");
            client.send_vote(1);
        },
    ];
    for last in 0..steps.len() {
        for step in &steps[..=last] {
            step(&mut client);
        }
        assert_eq!(client.abort(1), Ok(Value::None));
        assert_eq!(server.database.stats.active_txns.get(), 1, "step {last}");
    }
    holder.abort(9).unwrap();
    drop((holder, client));
    assert_all_free(&server);
}

#[test]
fn the_deadline_runs_from_the_grant_of_the_locks_to_the_end() {
    let mut options = super::options();
    options.transaction_timeout = Some(std::time::Duration::from_secs(5));
    let server = Server::file_with(options);
    let mut holder = server.client();
    let mut waiter = server.client();
    holder.begin(1);
    holder.store(1, 1, Tid::ZERO, b"data");
    assert_eq!(holder.session.deadline(), None);
    holder.vote(1).unwrap();
    assert!(holder.session.deadline().is_some());
    let vote = waiter.vote_store(1, 1, Tid::ZERO);
    assert_eq!(waiter.session.deadline(), None);
    holder.abort(1).unwrap();
    assert_eq!(holder.session.deadline(), None);
    assert!(waiter.answer(vote).is_some());
    assert!(waiter.session.deadline().is_some());
}

#[test]
fn a_stop_waits_for_the_committer_and_refuses_what_comes_later() {
    let server = Server::file();
    let mut client = server.client();
    client.vote_store(1, 1, Tid::ZERO);
    server.close();
    let refused = client.finish(1).unwrap_err();
    assert_eq!(refused.name(), "StorageSystemError");
    assert!(refused.text().contains("closed"), "{refused:?}");
    // The committer's thread is gone, and with it its hold on the database.
    drop(client);
    assert_eq!(Arc::strong_count(&server.database), 2);
}
