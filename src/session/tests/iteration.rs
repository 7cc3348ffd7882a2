//! Going through the history by transactions and records.

use super::Server;
use super::client::{Client, oid, tid};
use crate::types::Tid;
use crate::wire::{Request, Value};

fn start(client: &mut Client, start: Option<Tid>, stop: Option<Tid>) -> u64 {
    let iterator = client.call(Request::IteratorStart { start, stop });
    number(&iterator.unwrap())
}

fn number(value: &Value<'_>) -> u64 {
    u64::try_from(value.as_int().unwrap()).unwrap()
}

fn next(client: &mut Client, iterator: u64) -> Value<'static> {
    client.call(Request::IteratorNext { iterator }).unwrap()
}

fn tids(client: &mut Client, from: Option<Tid>, to: Option<Tid>) -> Vec<Tid> {
    let iterator = start(client, from, to);
    let mut tids = Vec::new();
    loop {
        match next(client, iterator) {
            Value::None => return tids,
            item => tids.push(tid(&item.as_items().unwrap()[0])),
        }
    }
}

#[test]
fn transactions_come_in_order_between_the_ends_both_included() {
    for server in Server::both() {
        let mut client = server.client();
        let all: Vec<_> = (1..6)
            .map(|number| client.commit(&[(number, Tid::ZERO, b"data")]))
            .collect();
        let mut range = |from, to| tids(&mut client, from, to);
        assert_eq!(range(None, None), all);
        assert_eq!(range(Some(all[1]), Some(all[3])), all[1..=3]);
        assert_eq!(range(Some(all[1].next()), Some(all[3])), all[2..=3]);
        assert_eq!(range(Some(all[4].next()), None), []);
        assert_eq!(range(Some(all[3]), Some(all[1])), []);
        assert_eq!(range(None, Some(Tid::ZERO)), []);
    }
}

#[test]
fn a_transaction_says_what_it_is_and_gives_its_records() {
    for server in Server::both() {
        let mut client = server.client();
        let serial = client.commit(&[(1, Tid::ZERO, b"one"), (2, Tid::ZERO, b"two")]);
        let iterator = start(&mut client, None, None);
        let item = next(&mut client, iterator);
        let expected = Value::Tuple(vec![
            serial.into(),
            " ".into(),
            b"user"[..].into(),
            b"description"[..].into(),
            Value::Dict(Vec::new()),
        ]);
        assert_eq!(item, expected);
        let records = client.call(Request::IteratorRecordStart {
            iterator,
            tid: serial,
        });
        let records = number(&records.unwrap());
        for (object, data) in [(1, &b"one"[..]), (2, b"two")] {
            let record = client.call(Request::IteratorRecordNext { iterator: records });
            let expected = vec![oid(object).into(), serial.into(), data.into(), Value::None];
            assert_eq!(record, Ok(Value::Tuple(expected)));
        }
        let end = client.call(Request::IteratorRecordNext { iterator: records });
        assert_eq!(end, Ok(Value::None));
        let gone = client.call(Request::IteratorRecordNext { iterator: records });
        assert_eq!(gone.unwrap_err().class, "builtins.KeyError");
    }
}

#[test]
fn what_is_committed_later_is_not_seen() {
    for server in Server::both() {
        let mut client = server.client();
        let first = client.commit(&[(1, Tid::ZERO, b"one")]);
        let iterator = start(&mut client, None, None);
        client.commit(&[(2, Tid::ZERO, b"two")]);
        let item = next(&mut client, iterator);
        assert_eq!(tid(&item.as_items().unwrap()[0]), first);
        assert_eq!(next(&mut client, iterator), Value::None);
    }
}

#[test]
fn records_of_another_transaction_than_the_last_are_refused() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"one")]);
    client.commit(&[(2, Tid::ZERO, b"two")]);
    let iterator = start(&mut client, None, None);
    for _ in 0..2 {
        next(&mut client, iterator);
    }
    let refused = client.call(Request::IteratorRecordStart {
        iterator,
        tid: first,
    });
    assert!(refused.unwrap_err().text().contains("Out-of-order"));
}

#[test]
fn an_iterator_that_was_dropped_or_never_was_is_a_key_error() {
    let server = Server::file();
    let mut client = server.client();
    client.commit(&[(1, Tid::ZERO, b"one")]);
    let iterator = start(&mut client, None, None);
    let iterators = vec![iterator, 12345];
    assert_eq!(
        client.call(Request::IteratorGc { iterators }),
        Ok(Value::None)
    );
    for unknown in [iterator, 12345] {
        let refused = client.call(Request::IteratorNext { iterator: unknown });
        assert_eq!(refused.unwrap_err().class, "builtins.KeyError");
    }
    // Another client's iterators are its own.
    let iterator = start(&mut client, None, None);
    let refused = server.client().call(Request::IteratorNext { iterator });
    assert_eq!(refused.unwrap_err().class, "builtins.KeyError");
}

#[test]
fn a_client_has_a_thousand_iterators_at_most() {
    let server = Server::mapping();
    let mut client = server.client();
    for _ in 0..1000 {
        start(&mut client, None, None);
    }
    let request = || Request::IteratorStart {
        start: None,
        stop: None,
    };
    let refused = client.call(request()).unwrap_err();
    assert_eq!(refused.name(), "StorageError");
    let iterators = vec![0, 1];
    client.call(Request::IteratorGc { iterators }).unwrap();
    client.call(request()).unwrap();
}
