//! Several clients at once, each on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::Server;
use super::client::{Client, Event, invalidation, load, oid, tid};
use super::hooked_storage::HookedStorage;
use crate::types::{Oid, Tid};
use crate::wire::Value;

/// A client's cache as the stock client keeps it: what has no end is believed
/// until an invalidation comes.
#[derive(Default)]
struct Cache {
    current: HashMap<Oid, Tid>,
    last: Tid,
}

impl Cache {
    /// Takes in what arrived, in its order; `asked` tells which object a load was for.
    fn take(&mut self, events: Vec<Event>, asked: &HashMap<i64, Oid>) {
        for event in events {
            if let Some((tid, oids)) = invalidation(&event) {
                assert!(tid > self.last, "{tid} after {}", self.last);
                self.last = tid;
                for oid in oids {
                    self.current.remove(&oid);
                }
            }
            let Event::Reply(id, Value::Tuple(items)) = &event else {
                continue;
            };
            if let (Some(oid), [_, serial, Value::None]) = (asked.get(id), items.as_slice()) {
                self.current.insert(*oid, tid(serial));
            }
        }
    }
}

#[test]
fn no_cache_believes_what_is_no_longer_so() {
    const OBJECTS: u64 = 5;
    for server in Server::both() {
        let mut setup = server.client();
        for number in 0..OBJECTS {
            setup.commit(&[(number, Tid::ZERO, b"data")]);
        }
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let mut reader = server.client();
                    let done = &done;
                    scope.spawn(move || {
                        let mut cache = Cache::default();
                        let mut asked = HashMap::new();
                        let mut number = 0;
                        while !done.load(Ordering::SeqCst) {
                            number = (number + 1) % OBJECTS;
                            asked.insert(reader.send(load(number, Tid::MAX)), oid(number));
                            cache.take(reader.events.drain(..).collect(), &asked);
                        }
                        let last = reader.last_transaction();
                        cache.take(reader.take_events(), &asked);
                        (reader, cache, last)
                    })
                })
                .collect();
            let writers: Vec<_> = (0..2_u64)
                .map(|_| {
                    let client = server.client();
                    scope.spawn(|| increment(client, OBJECTS, 150))
                })
                .collect();
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::SeqCst);
            for reader in readers {
                let (mut reader, cache, last) = reader.join().unwrap();
                assert_eq!(last, server.database.storage.last_tid());
                for (oid, serial) in cache.current {
                    let (_, current) = reader.load(oid.to_u64()).unwrap();
                    assert_eq!(serial, current, "a stale {oid} in a cache");
                }
            }
        });
    }
}

/// Stores upon what it loads, `times` times; a conflict means another round.
fn increment(mut client: Client, objects: u64, times: u64) {
    for round in 0..times {
        let number = round % objects;
        loop {
            let (_, serial) = client.load(number).unwrap();
            client.begin(1);
            client.store(1, number, serial, b"data");
            if client.vote(1) == Ok(Value::List(Vec::new())) {
                client.finish(1).unwrap();
                break;
            }
            client.abort(1).unwrap();
        }
    }
}

#[test]
fn no_update_of_a_counter_is_lost() {
    const TIMES: u64 = 100;
    const CLIENTS: u64 = 3;
    for server in Server::both() {
        server
            .client()
            .commit(&[(1, Tid::ZERO, &0_u64.to_be_bytes())]);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let mut client = server.client();
                scope.spawn(move || {
                    for _ in 0..TIMES {
                        count_up(&mut client);
                    }
                });
            }
        });
        let (data, _) = server.client().load(1).unwrap();
        assert_eq!(data, (CLIENTS * TIMES).to_be_bytes());
    }
}

/// Adds one, resolving conflicts as the stock client does: with the locks held,
/// upon the serial that the server names.
fn count_up(client: &mut Client) {
    let (data, serial) = client.load(1).unwrap();
    let read = u64::from_be_bytes(data.try_into().unwrap());
    client.begin(1);
    client.store(1, 1, serial, &(read + 1).to_be_bytes());
    loop {
        let conflicts = client.vote(1).unwrap();
        let Some(conflict) = conflicts.as_items().unwrap().first() else {
            break;
        };
        let committed = tid(&conflict.get("serials").unwrap().as_items().unwrap()[0]);
        let (data, serial) = client.load(1).unwrap();
        assert_eq!(
            serial, committed,
            "nobody changes it while its lock is held"
        );
        let now = u64::from_be_bytes(data.try_into().unwrap());
        client.store(1, 1, committed, &(now + 1).to_be_bytes());
    }
    client.finish(1).unwrap();
    client.events.clear();
}

#[test]
fn from_the_register_on_nothing_is_missing() {
    let server = Server::file();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let mut client = server.client();
                scope.spawn(move || {
                    let commit = |n: u64| client.commit(&[(writer * 1000 + n, Tid::ZERO, b"data")]);
                    (1..200).map(commit).collect::<Vec<_>>()
                })
            })
            .collect();
        let newcomers: Vec<_> = (0..2)
            .map(|_| {
                let (server, done) = (&server, &done);
                scope.spawn(move || {
                    let mut clients = Vec::new();
                    while !done.load(Ordering::SeqCst) && clients.len() < 200 {
                        let mut client = server.stranger();
                        let from = tid(&client.register(super::STORAGE, false).unwrap());
                        clients.push((from, client));
                    }
                    clients
                })
            })
            .collect();
        let mut all: Vec<_> = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        all.sort();
        done.store(true, Ordering::SeqCst);
        for newcomer in newcomers {
            for (from, mut client) in newcomer.join().unwrap() {
                let told: Vec<_> = client.invalidations().iter().map(|(tid, _)| *tid).collect();
                let after = all.partition_point(|&tid| tid <= from);
                assert_eq!(told, all[after..], "after {from}");
            }
        }
    });
}

fn hooked() -> (Server, Arc<HookedStorage>) {
    let storage = Arc::new(HookedStorage::new());
    let directory = tempfile::tempdir().unwrap();
    let server = Server::serving(Arc::clone(&storage) as _, directory, super::options());
    (server, storage)
}

#[test]
fn nobody_is_told_before_what_is_new_can_be_loaded() {
    let (server, storage) = hooked();
    let mut writer = server.client();
    let mut reader = server.client();
    let inbox = Arc::clone(reader.session.inbox());
    let calls = Arc::new(AtomicUsize::new(0));
    let told_early = Arc::new(AtomicBool::new(false));
    let (count, early) = (Arc::clone(&calls), Arc::clone(&told_early));
    let hook = move || {
        count.fetch_add(1, Ordering::SeqCst);
        early.fetch_or(inbox.is_filled(), Ordering::SeqCst);
    };
    assert!(storage.around_publish.set(Box::new(hook)).is_ok());
    writer.commit(&[(1, Tid::ZERO, b"data")]);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!(!told_early.load(Ordering::SeqCst));
    assert_eq!(reader.invalidations().len(), 1);
}
