//! Transactions that another server decides, by deputies that do as they are told.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::client::{Client, oid};
use super::{STORAGE, options};
use crate::session::DatabaseMap;
use crate::storage::{MappingStorage, Result};
use crate::transaction::{
    Authority, CommitRequest, Database, DatabaseOptions, Delivery, Deputy, Inbox, PackDone, Remote,
    Term, TransactionBuffer, VotedElsewhere,
};
use crate::types::{Oid, Tid};
use crate::wire::{LEADERSHIP, Request, Value};

/// What deputies were asked for: `vote N` with the number of operations, and so on.
type Asked = Arc<Mutex<Vec<String>>>;

#[derive(Debug)]
struct Other {
    asked: Asked,
    catches_up: CatchesUp,
    /// It is decided here, at first.
    term: Mutex<Option<Term>>,
}

/// What whoever wants to be up to date hears.
#[derive(Debug)]
enum CatchesUp {
    Yes,
    No,
    Later,
}

#[derive(Debug)]
struct OtherDeputy {
    asked: Asked,
    transaction: Option<TransactionBuffer>,
}

impl Authority for Other {
    fn term(&self) -> Option<Term> {
        *self.term.lock()
    }

    fn finish(&self, _: CommitRequest) {
        panic!("nothing is voted here");
    }

    fn waiting(&self) -> usize {
        0
    }

    fn deputy(&self, _: &Arc<Inbox>) -> Box<dyn Deputy> {
        Box::new(OtherDeputy {
            asked: Arc::clone(&self.asked),
            transaction: None,
        })
    }

    fn catch_up(&self, inbox: &Arc<Inbox>, _: bool) {
        match self.catches_up {
            CatchesUp::Yes => inbox.push(Delivery::UpToDate(Ok(()))),
            CatchesUp::No => inbox.push(Delivery::UpToDate(Err("it is cut off".into()))),
            CatchesUp::Later => {}
        }
    }

    fn new_oids(&self, _: usize) -> Result<Vec<Oid>> {
        Ok(Vec::new())
    }

    fn pack(&self, _: Tid, done: PackDone) {
        done(Ok(()));
    }
}

impl Deputy for OtherDeputy {
    fn vote(&mut self, transaction: TransactionBuffer) {
        let count = transaction.operations().len();
        self.asked.lock().push(format!("vote {count}"));
        self.transaction = Some(transaction);
    }

    fn take_back(&mut self) -> Option<TransactionBuffer> {
        self.transaction.take()
    }

    fn finish(&mut self) {
        self.asked.lock().push("finish".to_owned());
    }

    fn abort(&mut self) {
        self.asked.lock().push("abort".to_owned());
        self.transaction = None;
    }
}

/// A client of a storage that is decided elsewhere, and what is asked there.
fn served() -> (Arc<Database>, Client, Asked) {
    let (database, mut client, asked) = unregistered(CatchesUp::Yes);
    client.register(STORAGE, false).unwrap();
    (database, client, asked)
}

fn unregistered(catches_up: CatchesUp) -> (Arc<Database>, Client, Asked) {
    let asked = Asked::default();
    let storage = Arc::new(MappingStorage::new("mapping"));
    let authority = Arc::new(Other {
        asked: Arc::clone(&asked),
        catches_up,
        term: Mutex::default(),
    });
    let database = Database::with_authority(STORAGE, storage, options(), authority).unwrap();
    let database = Arc::new(database);
    let databases = DatabaseMap::from([(STORAGE.to_owned(), Arc::clone(&database))]);
    (database, Client::new(Arc::new(databases)), asked)
}

fn send_register(client: &mut Client) -> i64 {
    client.send(Request::Register {
        storage: STORAGE.into(),
        read_only: false,
    })
}

#[test]
fn a_client_that_is_sent_away_is_answered_before() {
    let (database, mut client, _) = unregistered(CatchesUp::No);
    let id = send_register(&mut client);
    assert_eq!(client.answer(id), Some(Ok(Value::None)));
    assert_eq!(client.closed.as_deref(), Some("it is cut off"));
    assert_eq!(database.connections(), 0);
}

#[test]
fn a_client_that_waits_to_be_registered_is_answered_when_the_server_stops() {
    let (_, mut client, _) = unregistered(CatchesUp::Later);
    let id = send_register(&mut client);
    assert_eq!(client.answer(id), None);
    client.session.inbox().push(Delivery::Drain);
    assert_eq!(client.answer(id), Some(Ok(Value::None)));
    assert!(client.session.is_drained());
}

fn take(asked: &Asked) -> Vec<String> {
    std::mem::take(&mut asked.lock())
}

/// A vote that is answered with a conflict.
fn conflicting(client: &mut Client) {
    let id = client.vote_store(1, 1, Tid::from_u64(1));
    let told = Value::List(vec![Value::Dict(vec![("oid".into(), oid(1).into())])]);
    let voted = VotedElsewhere::Conflicts(told.clone());
    client.session.inbox().push(Delivery::VotedElsewhere(voted));
    assert_eq!(client.wait_for(id), Ok(told));
}

#[test]
fn after_conflicts_the_next_vote_has_the_resolution_too() {
    let (database, mut client, asked) = served();
    database.set_transaction_timeout(Some(Duration::from_secs(5)));
    conflicting(&mut client);
    client.store(1, 1, Tid::from_u64(2), b"resolved");
    let id = client.send_vote(1);
    assert_eq!(take(&asked), ["vote 1", "vote 2"]);
    let voted = VotedElsewhere::Voted(Value::List(Vec::new()));
    client.session.inbox().push(Delivery::VotedElsewhere(voted));
    assert_eq!(client.session.deadline(), None);
    assert_eq!(client.wait_for(id), Ok(Value::List(Vec::new())));
    assert!(client.session.deadline().is_some());
    client.send_finish(1);
    assert_eq!(client.session.deadline(), None);
    assert_eq!(take(&asked), ["finish"]);
}

#[test]
fn a_read_only_server_refuses_its_own_writers_and_not_those_of_other_servers() {
    let options = DatabaseOptions {
        read_only: true,
        ..options()
    };
    let storage = Arc::new(MappingStorage::new("mapping"));
    let database = Database::start(STORAGE, storage, options).unwrap();
    let databases = Arc::new(DatabaseMap::from([(STORAGE.to_owned(), database)]));
    let mut own = Client::new(Arc::clone(&databases));
    let refused = own.register(STORAGE, false).unwrap_err();
    assert_eq!(refused.name(), "ReadOnlyError");
    let mut other = Client::new(databases);
    other.session = other.session.for_remote(Remote {
        node: 2,
        session: 7,
    });
    other.register(STORAGE, false).unwrap();
    other.begin(1);
}

#[test]
fn what_is_given_up_after_conflicts_is_given_up_there_too() {
    let (_database, mut client, asked) = served();
    conflicting(&mut client);
    client.abort(1).unwrap();
    assert_eq!(take(&asked), ["vote 1", "abort"]);
    // The next transaction has nothing of it.
    client.vote_store(2, 1, Tid::from_u64(2));
    assert_eq!(take(&asked), ["vote 1"]);
}

#[test]
fn others_are_told_of_a_transaction_and_its_own_client_of_its_end() {
    let (database, mut client, asked) = served();
    let mut other = Client::new(Arc::new(DatabaseMap::from([(
        STORAGE.to_owned(),
        Arc::clone(&database),
    )])));
    other.register(STORAGE, false).unwrap();
    let id = client.vote_store(1, 1, Tid::ZERO);
    let voted = VotedElsewhere::Voted(Value::List(Vec::new()));
    client.session.inbox().push(Delivery::VotedElsewhere(voted));
    client.wait_for(id).unwrap();
    let finish = client.send_finish(1);
    assert_eq!(take(&asked), ["vote 1", "finish"]);
    let tid = Tid::from_u64(7);
    let owner = Arc::clone(client.session.inbox());
    database.announce(tid, vec![oid(1), oid(1)], Some(&owner), || {});
    assert_eq!(client.wait_for(finish), Ok(tid.into()));
    assert_eq!(client.invalidations(), []);
    assert_eq!(other.invalidations(), [(tid, vec![oid(1)])]);
}

/// A state that is received changes the storage before anybody can be told of it.
#[test]
fn a_client_that_comes_in_between_is_told_of_what_the_storage_has_already() {
    let storage = Arc::new(MappingStorage::new("mapping"));
    let authority = Arc::new(Other {
        asked: Asked::default(),
        catches_up: CatchesUp::Yes,
        term: Mutex::default(),
    });
    let database =
        Database::with_authority(STORAGE, Arc::clone(&storage) as _, options(), authority);
    let database = Arc::new(database.unwrap());
    let changes = Database::start(STORAGE, storage, options()).unwrap();
    let mut changing = Client::new(Arc::new(DatabaseMap::from([(STORAGE.to_owned(), changes)])));
    changing.register(STORAGE, false).unwrap();
    let tid = changing.commit(&[(1, Tid::ZERO, b"data")]);
    let databases = DatabaseMap::from([(STORAGE.to_owned(), Arc::clone(&database))]);
    let mut client = Client::new(Arc::new(databases));
    assert_eq!(client.register(STORAGE, true), Ok(Value::from(Tid::ZERO)));
    database.announce(tid, vec![oid(1)], None, || {});
    assert_eq!(client.invalidations(), [(tid, vec![oid(1)])]);
}

/// It keeps the locks for the next vote, which never comes to be one.
#[test]
fn a_session_of_another_server_leaves_no_locks_where_nobody_decides_any_more() {
    let storage = Arc::new(MappingStorage::new("mapping"));
    let alone = Database::start(STORAGE, Arc::clone(&storage) as _, options()).unwrap();
    let alone = DatabaseMap::from([(STORAGE.to_owned(), alone)]);
    let mut first = Client::new(Arc::new(alone));
    first.register(STORAGE, false).unwrap();
    first.commit(&[(1, Tid::ZERO, b"data")]);
    let authority = Arc::new(Other {
        asked: Asked::default(),
        catches_up: CatchesUp::Yes,
        term: Mutex::new(Some(1)),
    });
    let decides = Arc::clone(&authority) as Arc<dyn Authority>;
    let database = Database::with_authority(STORAGE, storage, options(), decides).unwrap();
    let database = Arc::new(database);
    let databases = DatabaseMap::from([(STORAGE.to_owned(), Arc::clone(&database))]);
    let remote = Remote {
        node: 2,
        session: 7,
    };
    let mut client = Client::new(Arc::new(databases));
    client.session = client.session.for_remote(remote);
    client.register(STORAGE, false).unwrap();
    let id = client.vote_store(1, 1, Tid::from_u64(1));
    let conflicts = client.wait_for(id).unwrap();
    assert_eq!(conflicts.as_items().unwrap().len(), 1);
    assert!(database.locks.held_since().is_some());
    *authority.term.lock() = None;
    client.send_vote(1);
    assert!(client.closed.is_some());
    client.session.disconnect();
    assert!(database.locks.held_since().is_none());
}

/// Whose deputy it is looks for what became of a commit among the entries of the leadership
/// that it came for.
#[test]
fn a_session_of_another_server_is_of_one_leadership() {
    let authority = Arc::new(Other {
        asked: Asked::default(),
        catches_up: CatchesUp::Yes,
        term: Mutex::new(Some(1)),
    });
    let storage = Arc::new(MappingStorage::new("mapping"));
    let decides = Arc::clone(&authority) as Arc<dyn Authority>;
    let database = Database::with_authority(STORAGE, storage, options(), decides).unwrap();
    let databases = DatabaseMap::from([(STORAGE.to_owned(), Arc::new(database))]);
    let mut client = Client::new(Arc::new(databases));
    client.session = client.session.for_remote(Remote {
        node: 2,
        session: 7,
    });
    client.register(STORAGE, false).unwrap();
    let info = client.call(Request::GetInfo).unwrap();
    assert_eq!(info.get(LEADERSHIP).and_then(Value::as_count), Some(1));
    let id = client.vote_store(1, 1, Tid::ZERO);
    assert_eq!(client.wait_for(id), Ok(Value::List(Vec::new())));
    client.abort(1).unwrap();
    *authority.term.lock() = Some(3);
    client.vote_store(2, 1, Tid::ZERO);
    assert!(client.closed.is_some());
}
