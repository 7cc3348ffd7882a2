//! The steps of a transaction, in and out of their order.

use super::Server;
use super::client::{Raised, key, oid, tid};
use crate::types::{MAX_METADATA_BYTES, Tid};
use crate::wire::{Request, Value};

fn nothing() -> Value<'static> {
    Value::List(Vec::new())
}

fn assert_raised(raised: &Raised, name: &str, text: &str) {
    assert!(
        raised.name() == name && raised.text().contains(text),
        "{raised:?}"
    );
}

#[test]
fn a_second_vote_is_refused_and_the_first_one_stays_good() {
    for server in Server::both() {
        let mut client = server.client();
        client.vote_store(1, 1, Tid::ZERO);
        let refused = client.vote(1).unwrap_err();
        assert_raised(
            &refused,
            "StorageTransactionError",
            "Already voting (locked)",
        );
        client.finish(1).unwrap();
        assert_eq!(client.load(1).unwrap().0, b"data");
    }
}

#[test]
fn a_second_vote_while_the_first_one_waits_is_refused() {
    let server = Server::file();
    let mut holder = server.client();
    let mut waiter = server.client();
    holder.vote_store(1, 1, Tid::ZERO);
    let vote = waiter.vote_store(1, 1, Tid::ZERO);
    assert_eq!(waiter.answer(vote), None);
    let refused = waiter.vote(1).unwrap_err();
    assert_raised(
        &refused,
        "StorageTransactionError",
        "Already voting (waiting)",
    );
    let early = waiter.finish(1).unwrap_err();
    assert_raised(&early, "AssertionError", "without a vote");
    assert_eq!(server.database.locks.waiting(), 1);
    holder.abort(1).unwrap();
    assert_eq!(waiter.answer(vote), Some(Ok(nothing())));
    waiter.finish(1).unwrap();
}

#[test]
fn a_store_while_the_vote_waits_closes_the_connection() {
    let server = Server::file();
    let mut holder = server.client();
    holder.vote_store(1, 1, Tid::ZERO);
    let mut waiter = server.client();
    waiter.vote_store(1, 1, Tid::ZERO);
    waiter.store(1, 2, Tid::ZERO, b"late");
    assert!(waiter.closed.unwrap().contains("takes no more changes"));
}

#[test]
fn a_finish_without_a_vote_is_an_error_and_keeps_the_transaction() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, b"data");
    let refused = client.finish(1).unwrap_err();
    assert_raised(&refused, "AssertionError", "tpc_finish without a vote");
    assert_eq!(client.vote(1), Ok(nothing()));
    client.finish(1).unwrap();
}

#[test]
fn a_finish_or_abort_of_an_unknown_transaction_is_no_concern() {
    let server = Server::file();
    let mut client = server.client();
    assert_eq!(client.finish(9), Ok(Value::None));
    assert_eq!(client.abort(9), Ok(Value::None));
    client.vote_store(1, 1, Tid::ZERO);
    assert_eq!(client.finish(9), Ok(Value::None));
    assert_eq!(client.abort(9), Ok(Value::None));
    client.finish(1).unwrap();
}

#[test]
fn a_vote_of_an_unknown_transaction_is_an_error() {
    let server = Server::file();
    let mut client = server.client();
    assert_eq!(
        client.vote(9).unwrap_err().name(),
        "StorageTransactionError"
    );
    client.begin(1);
    assert_eq!(
        client.vote(9).unwrap_err().name(),
        "StorageTransactionError"
    );
    assert_eq!(client.vote(1), Ok(nothing()));
}

#[test]
fn a_begin_again_is_ignored_and_another_one_is_refused() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, b"data");
    client.begin(1);
    let refused = client.begin_at(2, None).unwrap_err();
    assert_raised(&refused, "StorageTransactionError", "Multiple simultaneous");
    client.vote(1).unwrap();
    client.begin(1);
    client.finish(1).unwrap();
    assert_eq!(client.load(1).unwrap().0, b"data");
    assert_eq!(server.database.stats.active_txns.get(), 0);
}

#[test]
fn of_several_stores_of_an_object_the_last_one_counts() {
    for server in Server::both() {
        let mut client = server.client();
        let mut reader = server.client();
        let serial = client.commit(&[
            (1, Tid::ZERO, b"first"),
            (2, Tid::ZERO, b"other"),
            (1, Tid::ZERO, b"last"),
        ]);
        assert_eq!(client.load(1), Ok((b"last".to_vec(), serial)));
        assert_eq!(reader.invalidations(), [(serial, vec![oid(1), oid(2)])]);
    }
}

#[test]
fn a_long_transaction_through_a_temporary_file_arrives_whole() {
    for server in Server::both() {
        let mut client = server.client();
        let data: Vec<Vec<u8>> = (0..7).map(|byte| vec![byte; 1 << 20]).collect();
        let stores: Vec<_> = (1..)
            .zip(&data)
            .map(|(n, d)| (n, Tid::ZERO, &d[..]))
            .collect();
        let serial = client.commit(&stores);
        for (number, data) in (1..).zip(&data) {
            assert!(client.load(number) == Ok((data.clone(), serial)));
        }
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused_at_the_vote() {
    let server = Server::file();
    let mut client = server.client();
    let long = vec![b'x'; MAX_METADATA_BYTES + 1];
    let begin = |user: &[u8], description: &[u8]| Request::TpcBegin {
        transaction: key(1),
        user: user.to_vec().into(),
        description: description.to_vec().into(),
        extension: Vec::new(),
        tid: None,
        status: b' ',
    };
    for (request, text) in [
        (begin(&long, b""), "user name too long"),
        (begin(b"", &long), "description too long"),
    ] {
        client.call(request).unwrap();
        client.store(1, 1, Tid::ZERO, b"data");
        assert_raised(&client.vote(1).unwrap_err(), "FileStorageError", text);
    }
    // The longest that it can hold arrives.
    client.call(begin(&long[1..], &long[1..])).unwrap();
    client.store(1, 1, Tid::ZERO, b"data");
    client.vote(1).unwrap();
    client.finish(1).unwrap();
    assert!(server.database.locks.held_since().is_none());
}

#[test]
fn an_empty_record_is_refused_at_the_vote() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, b"");
    let refused = client.vote(1).unwrap_err();
    assert_raised(&refused, "StorageTransactionError", "is empty");
    client.commit(&[(1, Tid::ZERO, b"data")]);
}

#[test]
fn votes_on_different_objects_do_not_wait_and_may_finish_in_any_order() {
    let server = Server::file();
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    for (number, client) in (1..).zip(&mut clients) {
        let vote = client.vote_store(1, number, Tid::ZERO);
        assert_eq!(client.answer(vote), Some(Ok(nothing())));
    }
    let mut last = Tid::ZERO;
    for client in clients.iter_mut().rev() {
        let finished = tid(&client.finish(1).unwrap());
        assert!(finished > last);
        last = finished;
    }
}

#[test]
fn votes_on_one_object_are_served_in_the_order_of_their_coming() {
    let server = Server::file();
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    let votes: Vec<_> = clients
        .iter_mut()
        .map(|client| client.vote_store(1, 1, Tid::ZERO))
        .collect();
    for turn in 0..clients.len() {
        for (place, client) in clients.iter_mut().enumerate().skip(turn) {
            let answer = client.answer(votes[place]);
            assert_eq!(answer.is_some(), place == turn, "{place} in turn {turn}");
        }
        clients[turn].abort(1).unwrap();
    }
}
