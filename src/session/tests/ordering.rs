//! The order in which a client hears of states of the database.

use super::Server;
use super::client::{Event, invalidation, load, oid, oids, tid};
use crate::session::put;
use crate::types::Tid;
use crate::wire::{Request, Value};

#[test]
fn others_hear_of_a_commit_before_any_newer_answer() {
    for server in Server::both() {
        let mut writer = server.client();
        let mut reader = server.client();
        let first = writer.commit(&[(1, Tid::ZERO, b"one")]);
        let second = writer.commit(&[(1, first, b"two"), (2, Tid::ZERO, b"new")]);
        assert_eq!(reader.last_transaction(), second);
        // Created objects are named too.
        let expected = [(first, vec![oid(1)]), (second, vec![oid(1), oid(2)])];
        assert_eq!(reader.invalidations(), expected);
    }
}

#[test]
fn answers_about_time_come_from_what_was_delivered() {
    for server in Server::both() {
        let mut writer = server.client();
        let mut reader = server.client();
        let first = writer.commit(&[(1, Tid::ZERO, b"one")]);
        reader.deliver();
        let second = writer.commit(&[(2, Tid::ZERO, b"two")]);
        // Handled, as the connection would, without looking at the inbox again.
        let mut outbox = crate::session::Outbox::new(crate::wire::Format::Pickle);
        let (id, outcome) = reader.handle(Request::LastTransaction);
        put(&mut outbox, &id, false, outcome).unwrap();
        let (id, outcome) = reader.handle(Request::GetInvalidations { tid: first });
        put(&mut outbox, &id, false, outcome).unwrap();
        assert!(contains(outbox.unsent(), &first.0));
        assert!(!contains(outbox.unsent(), &second.0));
        assert_eq!(reader.last_transaction(), second);
    }
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

#[test]
fn a_load_from_before_a_commit_is_put_before_its_invalidation() {
    for server in Server::both() {
        let mut writer = server.client();
        let first = writer.commit(&[(1, Tid::ZERO, b"one")]);
        let mut reader = server.client();
        let mut outbox = crate::session::Outbox::new(crate::wire::Format::Pickle);
        let (id, outcome) = reader.handle(load(1, Tid::MAX));
        // The commit falls between the reading and the answering.
        let second = writer.commit(&[(1, first, b"two")]);
        put(&mut outbox, &id, false, outcome).unwrap();
        reader
            .session
            .deliver(&mut outbox, &crate::transaction::Inline)
            .unwrap();
        reader.outbox = outbox;
        let events = reader.take_events();
        let [Event::Reply(_, loaded), told] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(tid(&loaded.as_items().unwrap()[1]), first);
        assert_eq!(loaded.as_items().unwrap()[2], Value::None);
        assert_eq!(invalidation(told), Some((second, vec![oid(1)])));
    }
}

#[test]
fn the_own_commit_stands_among_those_of_others() {
    let server = Server::file();
    let mut own = server.client();
    let mut other = server.client();
    let before = other.commit(&[(1, Tid::ZERO, b"a")]);
    own.vote_store(7, 2, Tid::ZERO);
    let finish = own.send_finish(7);
    let after = other.commit(&[(3, Tid::ZERO, b"c")]);
    let events = own.take_events();
    let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let told =
        |wanted: Tid| place(&|event| invalidation(event).is_some_and(|(tid, _)| tid == wanted));
    let replied = place(&|event| matches!(event, Event::Reply(id, _) if *id == finish));
    let Event::Reply(_, own_tid) = &events[replied] else {
        panic!("{events:?}");
    };
    assert!(told(before) < replied && replied < told(after));
    assert!(before < tid(own_tid) && tid(own_tid) < after);
    // It is not invalidated for who made it, but told of the new size.
    let of_own = |event: &&Event| invalidation(event).is_some_and(|(t, _)| t == tid(own_tid));
    assert_eq!(events.iter().filter(of_own).count(), 0);
    assert!(matches!(&events[replied - 1], Event::Call(method, _) if method == "info"));
    assert_eq!(own.last_transaction(), after);
}

#[test]
fn a_transaction_without_changes_is_told_too() {
    for server in Server::both() {
        let mut writer = server.client();
        let mut reader = server.client();
        let empty = writer.commit(&[]);
        assert_eq!(reader.invalidations(), [(empty, vec![])]);
        assert_eq!(reader.last_transaction(), empty);
        assert_eq!(writer.last_transaction(), empty);
    }
}

#[test]
fn what_was_missed_is_told_up_to_what_was_delivered() {
    let server = Server::file();
    let mut writer = server.client();
    let first = writer.commit(&[(1, Tid::ZERO, b"a"), (2, Tid::ZERO, b"a")]);
    let second = writer.commit(&[(2, first, b"b")]);
    let third = writer.commit(&[(3, Tid::ZERO, b"c")]);
    let mut late = server.client();
    let mut since = |from: Tid| {
        let answer = late.call(Request::GetInvalidations { tid: from }).unwrap();
        let [until, changed] = answer.as_items().unwrap() else {
            panic!("{answer:?}");
        };
        let mut changed = oids(changed);
        changed.sort();
        (tid(until), changed)
    };
    assert_eq!(since(third), (third, vec![]));
    assert_eq!(since(second), (third, vec![oid(3)]));
    assert_eq!(since(first), (third, vec![oid(2), oid(3)]));
}

#[test]
fn a_queue_that_is_too_short_makes_the_client_verify_all() {
    let mut options = super::options();
    options.invalidation_queue_size = 2;
    let server = Server::file_with(options);
    let mut writer = server.client();
    let first = writer.commit(&[(1, Tid::ZERO, b"a")]);
    let second = writer.commit(&[(2, Tid::ZERO, b"b")]);
    for number in 3..6 {
        writer.commit(&[(number, Tid::ZERO, b"c")]);
    }
    let mut late = server.client();
    for old in [first, second] {
        let answer = late.call(Request::GetInvalidations { tid: old });
        assert_eq!(answer, Ok(Value::None));
    }
}

#[test]
fn with_an_age_what_the_queue_lost_comes_from_the_file() {
    let mut options = super::options();
    options.invalidation_queue_size = 1;
    options.invalidation_age = Some(std::time::Duration::from_hours(1));
    let server = Server::file_with(options);
    let mut writer = server.client();
    let first = writer.commit(&[(1, Tid::ZERO, b"a")]);
    writer.commit(&[(2, Tid::ZERO, b"b")]);
    let last = writer.commit(&[(3, Tid::ZERO, b"c")]);
    let mut late = server.client();
    let answer = late.call(Request::GetInvalidations { tid: first });
    let answer = answer.unwrap();
    let items = answer.as_items().unwrap();
    let mut changed = oids(&items[1]);
    changed.sort();
    assert_eq!((tid(&items[0]), changed), (last, vec![oid(2), oid(3)]));
}

#[test]
fn tids_strictly_increase_also_after_a_prescribed_one() {
    let server = Server::file();
    let mut client = server.client();
    let now = client.commit(&[(1, Tid::ZERO, b"a")]);
    // A year ahead of the clock.
    let ahead = Tid::from_u64(now.to_u64() + ((12 * 31 * 24 * 60) << 32));
    client.begin_at(1, Some(ahead)).unwrap();
    client.store(1, 2, Tid::ZERO, b"b");
    client.vote(1).unwrap();
    assert_eq!(tid(&client.finish(1).unwrap()), ahead);
    let next = client.commit(&[(3, Tid::ZERO, b"c")]);
    assert!(next > ahead, "{next} is not after {ahead}");
}

#[test]
fn a_prescribed_tid_that_is_not_later_is_refused() {
    let server = Server::file();
    let mut client = server.client();
    let last = client.commit(&[(1, Tid::ZERO, b"a")]);
    for prescribed in [last, Tid::from_u64(last.to_u64() - 1), Tid::ZERO] {
        client.begin_at(1, Some(prescribed)).unwrap();
        client.store(1, 2, Tid::ZERO, b"b");
        let refused = client.vote(1).unwrap_err();
        assert_eq!(refused.name(), "StorageTransactionError", "{refused:?}");
    }
    // Nothing of it stays locked, and a later one is taken.
    assert!(server.database.locks.held_since().is_none());
    assert!(client.commit(&[(2, Tid::ZERO, b"b")]) > last);
}
