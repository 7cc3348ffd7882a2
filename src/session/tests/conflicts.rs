//! Two transactions that want the same object.

use super::Server;
use super::client::{Client, Raised, key, oid, tid};
use crate::types::Tid;
use crate::wire::{Request, Value};

/// A record as Python writes it: the class, then the state.
const RECORD: &[u8] = b"\x80\x03cshop.stock\nItem\nq\x00.\x80\x03}q\x00.";

fn nothing() -> Value<'static> {
    Value::List(Vec::new())
}

fn serials(committed: Tid, read: Tid) -> Value<'static> {
    Value::Tuple(vec![committed.into(), read.into()])
}

/// A server whose object 1 was changed after `old`, which a client still
/// stores upon; the client, `old` and the newest serial.
fn conflicting(server: &Server) -> (Client, Tid, Tid) {
    let mut other = server.client();
    let old = other.commit(&[(1, Tid::ZERO, b"old")]);
    let new = other.commit(&[(1, old, b"new")]);
    let mut client = server.client();
    client.begin(1);
    client.store(1, 1, old, RECORD);
    client.store(1, 2, Tid::ZERO, b"unrelated");
    (client, old, new)
}

fn check(client: &mut Client, number: u64, serial: Tid) {
    client.send(Request::CheckCurrentSerial {
        oid: oid(number),
        serial,
        transaction: key(1),
    });
}

fn delete(client: &mut Client, number: u64, serial: Tid) {
    client.send(Request::DeleteObject {
        oid: oid(number),
        serial,
        transaction: key(1),
    });
}

#[test]
fn a_conflict_is_handed_back_and_its_resolution_is_taken() {
    for server in Server::both() {
        let (mut client, old, new) = conflicting(&server);
        let conflicts = client.vote(1).unwrap();
        let [conflict] = conflicts.as_items().unwrap() else {
            panic!("{conflicts:?}");
        };
        assert_eq!(conflict.get("oid"), Some(&oid(1).into()));
        assert_eq!(conflict.get("serials"), Some(&serials(new, old)));
        assert_eq!(conflict.get("data"), Some(&RECORD.into()));
        // Nobody comes between: the locks are held while the client resolves.
        let mut third = server.client();
        let waiting = third.vote_store(1, 1, new);
        assert_eq!(third.answer(waiting), None);
        client.store(1, 1, new, b"resolved");
        assert_eq!(client.vote(1), Ok(nothing()));
        assert_eq!(third.answer(waiting), None);
        let serial = tid(&client.finish(1).unwrap());
        assert_eq!(client.load(1), Ok((b"resolved".to_vec(), serial)));
        assert_eq!(client.load(2), Ok((b"unrelated".to_vec(), serial)));
        // The one that waited meets the new serial.
        let conflicts = third.answer(waiting).unwrap().unwrap();
        let conflict = &conflicts.as_items().unwrap()[0];
        assert_eq!(conflict.get("serials"), Some(&serials(serial, new)));
    }
}

#[test]
fn a_conflict_without_resolution_is_handed_back_again() {
    let server = Server::file();
    let (mut client, ..) = conflicting(&server);
    let first = client.vote(1).unwrap();
    assert_eq!(client.vote(1).unwrap(), first);
    client.abort(1).unwrap();
    assert!(server.database.locks.held_since().is_none());
}

#[test]
fn a_resolution_that_touches_more_objects_takes_their_locks_too() {
    let server = Server::file();
    let (mut client, _, new) = conflicting(&server);
    client.vote(1).unwrap();
    let mut third = server.client();
    third.vote_store(1, 3, Tid::ZERO);
    client.store(1, 1, new, b"resolved");
    client.store(1, 3, Tid::ZERO, b"more");
    let vote = client.send_vote(1);
    assert_eq!(client.answer(vote), None);
    third.abort(1).unwrap();
    assert_eq!(client.answer(vote), Some(Ok(nothing())));
    client.finish(1).unwrap();
}

#[test]
fn one_who_waits_for_a_resolution_that_never_comes_is_let_in() {
    let server = Server::file();
    let (mut client, _, new) = conflicting(&server);
    client.vote(1).unwrap();
    let mut third = server.client();
    let waiting = third.vote_store(1, 1, new);
    drop(client);
    assert_eq!(third.answer(waiting), Some(Ok(nothing())));
}

#[test]
fn without_handing_back_a_conflict_is_an_error_that_names_the_class() {
    let mut options = super::options();
    options.hand_back_conflicts = false;
    let server = Server::file_with(options);
    let (mut client, old, new) = conflicting(&server);
    let Raised { class, state } = client.vote(1).unwrap_err();
    assert_eq!(class, "ZODB.POSException.ConflictError");
    assert_eq!(state.get("oid"), Some(&oid(1).into()));
    assert_eq!(state.get("class_name"), Some(&"shop.stock.Item".into()));
    assert_eq!(state.get("serials"), Some(&serials(new, old)));
    // The transaction is over and holds nothing.
    assert!(server.database.locks.held_since().is_none());
    assert_eq!(client.abort(1), Ok(Value::None));
    client.commit(&[(1, new, b"next")]);
    assert_eq!(server.database.stats.conflicts.get(), 1);
}

#[test]
fn a_new_object_that_is_there_already_is_a_conflict() {
    let server = Server::file();
    let mut client = server.client();
    let serial = client.commit(&[(1, Tid::ZERO, b"a")]);
    let vote = client.vote_store(1, 1, Tid::ZERO);
    let conflicts = client.answer(vote).unwrap().unwrap();
    let conflict = &conflicts.as_items().unwrap()[0];
    assert_eq!(conflict.get("serials"), Some(&serials(serial, Tid::ZERO)));
    client.abort(1).unwrap();
    assert_eq!(client.load(1).unwrap().1, serial);
}

#[test]
fn an_object_that_had_to_stay_and_did_not_is_a_read_conflict() {
    for server in Server::both() {
        let (mut client, old, new) = conflicting(&server);
        client.abort(1).unwrap();
        client.begin(1);
        client.store(1, 2, Tid::ZERO, b"data");
        check(&mut client, 1, old);
        let Raised { class, state } = client.vote(1).unwrap_err();
        assert_eq!(class, "ZODB.POSException.ReadConflictError");
        assert_eq!(state.get("oid"), Some(&oid(1).into()));
        assert_eq!(state.get("serials"), Some(&serials(new, old)));
        assert_eq!(client.load(2).unwrap_err().name(), "POSKeyError");
    }
}

#[test]
fn an_object_that_has_to_stay_stays_until_the_finish() {
    let server = Server::file();
    let mut other = server.client();
    let serial = other.commit(&[(1, Tid::ZERO, b"a")]);
    let mut client = server.client();
    client.begin(1);
    client.store(1, 2, Tid::ZERO, b"data");
    check(&mut client, 1, serial);
    assert_eq!(client.vote(1), Ok(nothing()));
    let waiting = other.vote_store(1, 1, serial);
    assert_eq!(other.answer(waiting), None);
    let finished = tid(&client.finish(1).unwrap());
    assert_eq!(other.answer(waiting), Some(Ok(nothing())));
    assert!(tid(&other.finish(1).unwrap()) > finished);
}

#[test]
fn a_check_of_an_object_that_is_not_there_is_a_key_error() {
    let server = Server::file();
    let mut client = server.client();
    client.begin(1);
    check(&mut client, 5, Tid::ZERO);
    assert_eq!(client.vote(1).unwrap_err().name(), "POSKeyError");
}

#[test]
fn deleting_what_is_unknown_or_changed_meanwhile_is_refused() {
    let server = Server::file();
    let (mut client, old, new) = conflicting(&server);
    client.abort(1).unwrap();
    client.begin(1);
    delete(&mut client, 77, new);
    let Raised { class, state } = client.vote(1).unwrap_err();
    assert_eq!(class, "ZODB.POSException.POSKeyError");
    assert_eq!(state.as_items().unwrap()[0], oid(77).into());
    client.begin(1);
    delete(&mut client, 1, old);
    let stale = client.vote(1).unwrap_err();
    assert_eq!(stale.class, "ZODB.POSException.ConflictError");
    client.begin(1);
    delete(&mut client, 1, new);
    client.vote(1).unwrap();
    let deleted = tid(&client.finish(1).unwrap());
    assert_eq!(client.load(1).unwrap_err().name(), "POSKeyError");
    let get_tid = client.call(Request::GetTid { oid: oid(1) });
    assert_eq!(get_tid.unwrap_err().name(), "POSKeyError");
    // What it was before can still be read.
    let before = super::client::load(1, deleted);
    let loaded = client.call(before).unwrap();
    assert_eq!(loaded.as_items().unwrap()[2], deleted.into());
}
