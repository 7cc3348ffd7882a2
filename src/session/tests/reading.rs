//! Loads, history, new object ids, and what is not offered.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::Server;
use super::client::{Client, key, load, oid, oids, tid};
use crate::disk::RealDisk;
use crate::session::Outcome;
use crate::types::{Oid, Tid};
use crate::wire::{Exception, Request, Value};

#[test]
fn a_load_names_the_serial_and_where_it_ended() {
    for server in Server::both() {
        let mut client = server.client();
        let first = client.commit(&[(1, Tid::ZERO, b"one")]);
        let second = client.commit(&[(1, first, b"two")]);
        let loaded = |data: &[u8], serial: Tid, end: Option<Tid>| {
            let data = Value::from(data.to_vec());
            Ok(Value::Tuple(vec![data, serial.into(), end.into()]))
        };
        let current = client.call(load(1, second.next()));
        assert_eq!(current, loaded(b"two", second, None));
        let old = client.call(load(1, second));
        assert_eq!(old, loaded(b"one", first, Some(second)));
        // Before it was made there is None; what never was is an error.
        assert_eq!(client.call(load(1, first)), Ok(Value::None));
        assert_eq!(
            client.call(load(5, second)).unwrap_err().name(),
            "POSKeyError"
        );
        let get_tid = client.call(Request::GetTid { oid: oid(1) });
        assert_eq!(get_tid, Ok(second.into()));
    }
}

#[test]
fn a_revision_is_found_by_its_serial() {
    for server in Server::both() {
        let mut client = server.client();
        let first = client.commit(&[(1, Tid::ZERO, b"one")]);
        let second = client.commit(&[(1, first, b"two")]);
        let mut revision = |serial| {
            let oid = oid(1);
            client.call(Request::LoadSerial { oid, serial })
        };
        assert_eq!(revision(first), Ok(b"one"[..].into()));
        assert_eq!(revision(second), Ok(b"two"[..].into()));
        let missing = revision(first.next()).unwrap_err();
        assert_eq!(missing.class, "ZODB.POSException.POSKeyError");
        // ZODB's FileStorage names the object alone.
        assert_eq!(missing.state.as_items().unwrap()[0], oid(1).into());
    }
}

#[test]
fn history_is_newest_first_and_says_who_and_when() {
    for server in Server::both() {
        let mut client = server.client();
        let first = client.commit(&[(1, Tid::ZERO, b"one")]);
        let second = client.commit(&[(1, first, b"three")]);
        let history = |size| Request::History { oid: oid(1), size };
        let lines = client.call(history(9)).unwrap();
        let lines = lines.as_items().unwrap();
        assert_eq!(lines.len(), 2);
        let line = &lines[0];
        assert_eq!(line.get("tid"), Some(&second.into()));
        assert_eq!(line.get("size"), Some(&Value::Int(5)));
        assert_eq!(line.get("user_name"), Some(&b"user"[..].into()));
        assert_eq!(line.get("description"), Some(&b"description"[..].into()));
        let time = line.get("time").unwrap().as_float().unwrap();
        assert!((time - second.to_unix_seconds()).abs() < 1e-6);
        assert_eq!(lines[1].get("tid"), Some(&first.into()));
        let newest = client.call(history(1)).unwrap();
        assert_eq!(newest.as_items().unwrap(), &lines[..1]);
        let unknown = Request::History {
            oid: oid(9),
            size: 1,
        };
        assert_eq!(client.call(unknown).unwrap_err().name(), "POSKeyError");
    }
}

#[test]
fn all_objects_can_be_gone_through() {
    let server = Server::file();
    let mut client = server.client();
    let first = client.commit(&[(1, Tid::ZERO, b"one"), (70_000, Tid::ZERO, b"far")]);
    let second = client.commit(&[(1, first, b"two"), (0, Tid::ZERO, b"root")]);
    let mut next = None;
    let mut found = Vec::new();
    loop {
        let record = client.call(Request::RecordIternext { next }).unwrap();
        let items = record.as_items().unwrap();
        let number = Oid::from_slice(items[0].as_bytes().unwrap()).unwrap();
        found.push((number.to_u64(), tid(&items[1]), items[2].clone()));
        next = match &items[3] {
            Value::None => break,
            oid => Oid::from_slice(oid.as_bytes().unwrap()),
        };
    }
    let expected = [
        (0, second, b"root"[..].into()),
        (1, second, b"two"[..].into()),
        (70_000, first, b"far"[..].into()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_empty_storage_has_no_first_object() {
    let server = Server::file();
    let nothing = server.client().call(Request::RecordIternext { next: None });
    assert_eq!(nothing.unwrap_err().name(), "ValueError");
    let refused = Server::mapping()
        .client()
        .call(Request::RecordIternext { next: None });
    assert_eq!(refused.unwrap_err().class, "ZODB.POSException.Unsupported");
}

fn batch(client: &mut Client, count: u64) -> Vec<Oid> {
    oids(&client.call(Request::NewOids { count }).unwrap())
}

#[test]
fn new_oids_come_in_bounded_batches() {
    for server in Server::both() {
        let mut client = server.client();
        assert_eq!(batch(&mut client, 100).len(), 100);
        assert_eq!(batch(&mut client, 7).len(), 7);
        assert_eq!(batch(&mut client, u64::MAX).len(), 100);
        assert_eq!(batch(&mut client, 0).len(), 1);
        let one = client.call(Request::NewOid).unwrap();
        assert_eq!(one.as_bytes().unwrap().len(), 8);
    }
}

#[test]
fn no_oid_comes_twice_over_stops_and_crashes() {
    let mut server = Server::file();
    let mut seen = HashSet::new();
    for round in 0..6 {
        let mut clients = [server.client(), server.client()];
        for client in &mut clients {
            // What clients hold in advance survives a restart of the server.
            for oid in [batch(client, 100), batch(client, 100)].concat() {
                assert!(seen.insert(oid), "{oid} again in round {round}");
            }
        }
        // One is used, and a great one comes in from elsewhere.
        let used = *seen.iter().max().unwrap();
        clients[0].commit(&[(used.to_u64() + 1000 * round, Tid::ZERO, b"data")]);
        seen.insert(Oid::from_u64(used.to_u64() + 1000 * round));
        drop(clients);
        let directory = if round % 2 == 0 {
            server.crash()
        } else {
            server.close();
            server.crash()
        };
        server = Server::open(directory, Arc::new(RealDisk), super::options());
    }
}

#[test]
fn blobs_of_a_storage_without_a_place_for_them_are_refused() {
    for server in Server::both() {
        let mut client = server.client();
        client.begin(1);
        let shared = Request::StoreBlobShared {
            oid: oid(1),
            serial: Tid::ZERO,
            data: Cow::Borrowed(b"data"),
            filename: Cow::Borrowed("x.tmp"),
            transaction: key(1),
        };
        let sent = Request::SendBlob {
            oid: oid(1),
            serial: Tid::ZERO,
        };
        for request in [Request::StoreBlobStart, shared, sent] {
            let method = request.method();
            let (_, outcome) = client.handle(request);
            let Outcome::Error(Exception::TypeError(message)) = outcome else {
                panic!("{method}: {outcome:?}");
            };
            assert!(message.contains("Blobs are not supported"), "{message}");
        }
        // The transaction that was begun is none the worse.
        client.store(1, 1, Tid::ZERO, b"data");
        client.vote(1).unwrap();
        client.finish(1).unwrap();
    }
}

#[test]
fn restored_revisions_keep_their_serials() {
    let server = Server::file();
    let mut client = server.client();
    let old = Tid::from_u64(1 << 40);
    client.begin_at(1, Some(old)).unwrap();
    client.send(Request::Restore {
        oid: oid(1),
        serial: old,
        data: Some(Cow::Borrowed(b"restored")),
        previous: None,
        transaction: key(1),
    });
    client.vote(1).unwrap();
    assert_eq!(tid(&client.finish(1).unwrap()), old);
    assert_eq!(client.load(1), Ok((b"restored".to_vec(), old)));
}
