//! What undoing transactions does, and what keeps it from being done.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Server;
use super::client::{Answer, Client, Raised, key, oid, oids, tid};
use crate::types::{Oid, Tid};
use crate::wire::{Request, Value};

const MODIFIED: &str = "Some data were modified by a later transaction";
const ADDED: &str = "Can't undo an add transaction followed by conflicting transactions.";
const GONE: &str = "_loadBack() failed";

fn send_undo_of(client: &mut Client, id: &[u8]) {
    client.send(Request::Undo {
        undone: Cow::Borrowed(id),
        transaction: key(1),
    });
}

pub fn send_undo(client: &mut Client, undone: Tid) {
    send_undo_of(client, STANDARD.encode(undone.0).as_bytes());
}

/// The vote of a transaction that undoes these, in this order.
fn vote_undo(client: &mut Client, undone: &[Tid]) -> Answer {
    client.begin(1);
    for &undone in undone {
        send_undo(client, undone);
    }
    client.vote(1)
}

/// Undoes these in one transaction: its id.
fn undo(client: &mut Client, undone: &[Tid]) -> Tid {
    vote_undo(client, undone).unwrap();
    tid(&client.finish(1).unwrap())
}

fn delete(client: &mut Client, number: u64, serial: Tid) -> Tid {
    client.begin(1);
    client.send(Request::DeleteObject {
        oid: oid(number),
        serial,
        transaction: key(1),
    });
    client.vote(1).unwrap();
    tid(&client.finish(1).unwrap())
}

fn data(client: &mut Client, number: u64) -> Vec<u8> {
    client.load(number).unwrap().0
}

fn assert_no_such_object(client: &mut Client, number: u64) {
    assert_eq!(client.load(number).unwrap_err().name(), "POSKeyError");
}

/// The objects and reasons of a `MultipleUndoErrors`.
fn failures(raised: &Raised) -> Vec<(Oid, String)> {
    assert_eq!(raised.class, "ZODB.POSException.MultipleUndoErrors");
    let failures = raised.state.get("_errs").unwrap().as_items().unwrap();
    let pair = |failure: &Value<'_>| {
        let pair = failure.as_items().unwrap();
        let oid = Oid::from_slice(pair[0].as_bytes().unwrap()).unwrap();
        (oid, pair[1].as_str().unwrap().to_owned())
    };
    failures.iter().map(pair).collect()
}

fn assert_all_free(server: &Server) {
    assert!(server.database.locks.held_since().is_none());
    assert_eq!(server.database.stats.active_txns.get(), 0);
}

#[test]
fn a_change_is_undone_by_the_older_state_under_a_new_serial() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second")]);
    let undone = undo(&mut client, &[second]);
    assert!(undone > second);
    assert_eq!(client.load(1), Ok((b"first".to_vec(), undone)));
    // The next change is one upon the new serial.
    let third = client.commit(&[(1, undone, b"third")]);
    assert_eq!(client.load(1), Ok((b"third".to_vec(), third)));
}

#[test]
fn the_vote_names_the_objects_that_the_client_cannot_know() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"a"), (2, Tid::ZERO, b"b")]);
    let second = client.commit(&[(2, first, b"c"), (3, Tid::ZERO, b"d")]);
    let voted = vote_undo(&mut client, &[second, first]).unwrap();
    assert_eq!(oids(&voted), [oid(2), oid(3), oid(1), oid(2)]);
}

#[test]
fn others_are_told_of_undone_objects_and_the_one_who_undoes_is_not() {
    let server = Server::file();
    let mut client = server.client();
    let mut other = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"a"), (2, Tid::ZERO, b"b")]);
    let second = client.commit(&[(2, first, b"c"), (3, Tid::ZERO, b"d")]);
    other.take_events();
    let undone = undo(&mut client, &[second, first]);
    // Each once, in the order of the records.
    assert_eq!(
        other.invalidations(),
        [(undone, vec![oid(2), oid(3), oid(1)])]
    );
    assert_eq!(client.invalidations(), []);
}

#[test]
fn several_transactions_are_undone_in_one_from_the_newest_on() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second"), (2, Tid::ZERO, b"new")]);
    let third = client.commit(&[(1, second, b"third")]);
    let undone = undo(&mut client, &[third, second]);
    assert_eq!(client.load(1), Ok((b"first".to_vec(), undone)));
    assert_no_such_object(&mut client, 2);
    // All of it is one transaction, which is undone as one.
    undo(&mut client, &[undone]);
    assert_eq!(data(&mut client, 1), b"third");
    assert_eq!(data(&mut client, 2), b"new");
}

#[test]
fn several_transactions_are_not_undone_from_the_oldest_on() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second")]);
    let third = client.commit(&[(1, second, b"third")]);
    let refused = vote_undo(&mut client, &[second, third]).unwrap_err();
    assert_eq!(failures(&refused), [(oid(1), MODIFIED.to_owned())]);
    assert_eq!(client.load(1), Ok((b"third".to_vec(), third)));
}

#[test]
fn an_object_whose_creation_is_undone_is_gone_and_redone_is_there() {
    let server = Server::file();
    let mut client = server.client();
    let created = client.commit(&[(1, Tid::ZERO, b"new")]);
    let undone = undo(&mut client, &[created]);
    assert_no_such_object(&mut client, 1);
    let serial = Request::LoadSerial {
        oid: oid(1),
        serial: created,
    };
    assert_eq!(client.call(serial), Ok(b"new"[..].into()));
    let redone = undo(&mut client, &[undone]);
    assert_eq!(client.load(1), Ok((b"new".to_vec(), redone)));
    undo(&mut client, &[redone]);
    assert_no_such_object(&mut client, 1);
}

#[test]
fn a_deletion_is_undone() {
    let server = Server::file();
    let mut client = server.client();
    let created = client.commit(&[(1, Tid::ZERO, b"data")]);
    let deleted = delete(&mut client, 1, created);
    assert_no_such_object(&mut client, 1);
    let undone = undo(&mut client, &[deleted]);
    assert_eq!(client.load(1), Ok((b"data".to_vec(), undone)));
    undo(&mut client, &[undone]);
    assert_no_such_object(&mut client, 1);
}

#[test]
fn an_undo_is_undone_again_and_again() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let mut last = client.commit(&[(1, first, b"second")]);
    for state in [&b"first"[..], b"second", b"first", b"second"] {
        last = undo(&mut client, &[last]);
        assert_eq!(client.load(1), Ok((state.to_vec(), last)));
    }
}

#[test]
fn every_object_that_was_changed_later_is_named_with_its_reason() {
    let server = Server::file();
    let mut client = server.client();
    let old = client.commit(&[(2, Tid::ZERO, b"old"), (3, Tid::ZERO, b"old")]);
    let undone = client.commit(&[
        (1, Tid::ZERO, b"added"),
        (2, old, b"changed"),
        (3, old, b"changed"),
        (4, Tid::ZERO, b"untouched later"),
    ]);
    let last = client.commit(&[(1, undone, b"later"), (2, undone, b"later")]);
    delete(&mut client, 3, undone);
    let refused = vote_undo(&mut client, &[undone]).unwrap_err();
    let expected = [(1, ADDED), (2, MODIFIED), (3, GONE)];
    let expected = expected.map(|(number, reason)| (oid(number), reason.to_owned()));
    assert_eq!(failures(&refused), expected);
    // The transaction is over, and nothing of it was done.
    assert_all_free(&server);
    assert_eq!(client.load(2), Ok((b"later".to_vec(), last)));
    assert_eq!(client.load(4), Ok((b"untouched later".to_vec(), undone)));
}

#[test]
fn changes_that_led_back_to_the_same_state_do_not_stand_against_it() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second")]);
    let third = client.commit(&[(1, second, b"third")]);
    client.commit(&[(1, third, b"second")]);
    undo(&mut client, &[second]);
    assert_eq!(data(&mut client, 1), b"first");
}

#[test]
fn an_undo_goes_on_top_of_what_its_own_transaction_stored() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second")]);
    client.begin(1);
    client.store(1, 1, second, b"mine");
    send_undo(&mut client, second);
    let refused = client.vote(1).unwrap_err();
    assert_eq!(failures(&refused), [(oid(1), MODIFIED.to_owned())]);
    client.begin(1);
    client.store(1, 1, second, b"second");
    client.store(1, 2, Tid::ZERO, b"another");
    send_undo(&mut client, second);
    assert_eq!(oids(&client.vote(1).unwrap()), [oid(1)]);
    client.finish(1).unwrap();
    assert_eq!(data(&mut client, 1), b"first");
    assert_eq!(data(&mut client, 2), b"another");
}

#[test]
fn what_names_no_transaction_is_no_undoable_one() {
    let server = Server::file();
    let mut client = server.client();
    let known = client.commit(&[(1, Tid::ZERO, b"data")]);
    let encoded = STANDARD.encode(known.0);
    let unknown = [
        STANDARD.encode(known.next().0).into_bytes(),
        STANDARD.encode([0; 8]).into_bytes(),
        STANDARD.encode([0xff; 8]).into_bytes(),
        // Too short, too long, raw, and nothing.
        STANDARD.encode(&known.0[..7]).into_bytes(),
        STANDARD.encode([known.0, known.0].concat()).into_bytes(),
        known.0.to_vec(),
        encoded.as_bytes()[..5].to_vec(),
        b"!!!!".to_vec(),
        Vec::new(),
    ];
    for id in unknown {
        client.begin(1);
        send_undo_of(&mut client, &id);
        let refused = client.vote(1).unwrap_err();
        assert_eq!(refused.class, "ZODB.POSException.UndoError", "{id:?}");
        assert!(refused.text().contains("Invalid transaction id"));
        assert_all_free(&server);
    }
    // As `undoLog` gives it, and with the newline of Python's encoder.
    client.begin(1);
    send_undo_of(&mut client, format!("{encoded}\n").as_bytes());
    assert_eq!(oids(&client.vote(1).unwrap()), [oid(1)]);
}

#[test]
fn a_packed_transaction_is_not_undone() {
    let server = Server::file();
    let mut client = server.client();
    let packed = Tid::from_u64(1000);
    client
        .call(Request::TpcBegin {
            transaction: key(1),
            user: Cow::Borrowed(b""),
            description: Cow::Borrowed(b""),
            extension: Vec::new(),
            tid: Some(packed),
            status: b'p',
        })
        .unwrap();
    client.store(1, 1, Tid::ZERO, b"data");
    client.vote(1).unwrap();
    client.finish(1).unwrap();
    client.commit(&[(2, Tid::ZERO, b"data")]);
    let refused = vote_undo(&mut client, &[packed]).unwrap_err();
    assert_eq!(refused.class, "ZODB.POSException.UndoError");
    assert_eq!(client.load(1), Ok((b"data".to_vec(), packed)));
}

#[test]
fn a_change_of_an_undone_object_waits_for_the_end_of_the_undo() {
    let server = Server::file();
    let mut undoer = server.client();
    let mut other = server.client();
    let first = undoer.commit(&[(1, Tid::ZERO, b"first")]);
    let second = undoer.commit(&[(1, first, b"second"), (2, Tid::ZERO, b"new")]);
    vote_undo(&mut undoer, &[second]).unwrap();
    let vote = other.vote_store(1, 1, second);
    assert_eq!(other.answer(vote), None);
    // Objects that the undone transaction did not touch are free.
    server.client().commit(&[(3, Tid::ZERO, b"unrelated")]);
    let undone = tid(&undoer.finish(1).unwrap());
    let conflicts = other.wait_for(vote).unwrap();
    let conflict = &conflicts.as_items().unwrap()[0];
    let serials = Value::Tuple(vec![undone.into(), second.into()]);
    assert_eq!(conflict.get("serials"), Some(&serials));
}

#[test]
fn an_undo_waits_for_a_change_and_meets_what_it_left() {
    let server = Server::file();
    let mut undoer = server.client();
    let mut other = server.client();
    let first = undoer.commit(&[(1, Tid::ZERO, b"first")]);
    let second = undoer.commit(&[(1, first, b"second")]);
    for is_aborted in [false, true] {
        let serial = other.load(1).unwrap().1;
        let vote = other.vote_store(1, 1, serial);
        other.wait_for(vote).unwrap();
        undoer.begin(1);
        send_undo(&mut undoer, if is_aborted { serial } else { second });
        let vote = undoer.send_vote(1);
        assert_eq!(undoer.answer(vote), None);
        if is_aborted {
            other.abort(1).unwrap();
            assert_eq!(oids(&undoer.wait_for(vote).unwrap()), [oid(1)]);
        } else {
            other.finish(1).unwrap();
            let refused = undoer.wait_for(vote).unwrap_err();
            assert_eq!(failures(&refused), [(oid(1), MODIFIED.to_owned())]);
        }
    }
    undoer.finish(1).unwrap();
    assert_eq!(data(&mut undoer, 1), b"second");
    assert_all_free(&server);
}

#[test]
fn an_aborted_undo_leaves_everything_as_it_was() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second")]);
    vote_undo(&mut client, &[second]).unwrap();
    client.abort(1).unwrap();
    assert_eq!(client.load(1), Ok((b"second".to_vec(), second)));
    assert_all_free(&server);
    undo(&mut client, &[second]);
}

#[test]
fn an_undo_is_there_after_a_restart_and_can_be_undone_then() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"first")]);
    let second = client.commit(&[(1, first, b"second")]);
    let undone = undo(&mut client, &[second]);
    let disk = std::sync::Arc::new(crate::disk::RealDisk);
    let server = Server::open(server.crash(), disk, super::options());
    let mut client = server.client();
    assert_eq!(client.load(1), Ok((b"first".to_vec(), undone)));
    undo(&mut client, &[undone]);
    assert_eq!(data(&mut client, 1), b"second");
}

#[test]
fn a_storage_without_history_refuses_to_undo() {
    let server = Server::mapping();
    let mut client = server.client();
    let committed = client.commit(&[(1, Tid::ZERO, b"data")]);
    let refused = vote_undo(&mut client, &[committed]).unwrap_err();
    assert_eq!(refused.name(), "Unsupported");
    assert_all_free(&server);
}

#[test]
fn an_undo_outside_of_the_current_transaction_closes_the_connection() {
    let server = Server::file();
    let mut client = server.client();
    let committed = client.commit(&[(1, Tid::ZERO, b"data")]);
    send_undo(&mut client, committed);
    assert!(client.closed.is_some());
    let mut client = server.stranger();
    client.register(super::STORAGE, true).unwrap();
    send_undo(&mut client, committed);
    assert!(client.closed.is_some());
}
