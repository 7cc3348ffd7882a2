//! What comes before a client may ask for anything.

use std::borrow::Cow;
use std::sync::Arc;

use super::client::{key, oid, tid};
use super::{STORAGE, Server};
use crate::stats::replication::{GroupRole, GroupSource, GroupStatus, Lag, MemberStatus};
use crate::types::Tid;
use crate::wire::{Request, Value};

#[test]
fn nothing_is_answered_before_register() {
    let server = Server::mapping();
    let requests = [
        Request::Ping,
        Request::LastTransaction,
        Request::GetInfo,
        Request::Vote {
            transaction: key(1),
        },
        Request::LoadBefore {
            oid: oid(1),
            tid: Tid::MAX,
        },
    ];
    for request in requests {
        let method = request.method();
        let mut client = server.stranger();
        client.send(request);
        let why = client.closed.take().unwrap();
        assert_eq!(why, format!("{method}: asked for before register"));
    }
}

#[test]
fn an_unknown_storage_is_refused_and_another_can_be_asked_for() {
    let server = Server::mapping();
    let mut client = server.stranger();
    let refused = client.register("other", false).unwrap_err();
    assert_eq!(refused.name(), "ValueError");
    assert!(refused.text().contains("unknown storage: other"));
    assert_eq!(client.register(STORAGE, false), Ok(Tid::ZERO.into()));
}

#[test]
fn a_second_register_is_an_error_and_changes_nothing() {
    let server = Server::mapping();
    let mut client = server.client();
    let refused = client.register(STORAGE, true).unwrap_err();
    assert_eq!(refused.name(), "ValueError");
    assert_eq!(server.database.connections(), 1);
    client.commit(&[(1, Tid::ZERO, b"a")]);
}

#[test]
fn info_describes_the_storage() {
    for server in Server::both() {
        let mut client = server.client();
        client.commit(&[(1, Tid::ZERO, b"a")]);
        let info = client.call(Request::GetInfo).unwrap();
        assert_eq!(info.get("length"), Some(&Value::Int(1)));
        assert!(info.get("size").unwrap().as_int().unwrap() > 0);
        let is_file = server.directory.path().join("Data.fs").exists();
        assert_eq!(info.get("supportsUndo"), Some(&Value::Bool(is_file)));
        let name = info.get("name").unwrap().as_str().unwrap();
        assert!(name.ends_with(if is_file { "Data.fs" } else { "mapping" }));
    }
}

#[test]
fn a_read_only_client_reads_and_cannot_write() {
    let server = Server::file();
    let serial = server.client().commit(&[(1, Tid::ZERO, b"a")]);
    let mut client = server.stranger();
    assert_eq!(tid(&client.register(STORAGE, true).unwrap()), serial);
    assert_eq!(client.load(1), Ok((b"a".to_vec(), serial)));
    let requests = [
        Request::NewOids { count: 1 },
        Request::NewOid,
        Request::Vote {
            transaction: key(1),
        },
        Request::TpcFinish {
            transaction: key(1),
        },
    ];
    for request in requests {
        assert_eq!(client.call(request).unwrap_err().name(), "ReadOnlyError");
    }
    let error = client.begin_at(1, None).unwrap_err();
    assert_eq!(error.name(), "ReadOnlyError");
    // A store is not answered; the connection ends.
    client.store(1, 1, serial, b"b");
    assert!(client.closed.unwrap().contains("ReadOnlyError"));
}

#[test]
fn a_read_only_server_takes_read_only_clients_alone() {
    let mut options = super::options();
    options.read_only = true;
    let server = Server::file_with(options);
    let mut client = server.stranger();
    let refused = client.register(STORAGE, false).unwrap_err();
    assert_eq!(refused.class, "ZODB.POSException.ReadOnlyError");
    // Clients with a read-only fallback ask again on the same connection.
    assert!(client.register(STORAGE, true).is_ok());
    assert_eq!(
        client.begin_at(1, None).unwrap_err().name(),
        "ReadOnlyError"
    );
}

#[test]
fn a_label_names_the_client_in_the_log() {
    let server = Server::mapping();
    let mut client = server.client();
    let label = |label| Request::SetClientLabel {
        label: Cow::Borrowed(label),
    };
    client.call(label("instance-1")).unwrap();
    assert_eq!(client.session.label(), "instance-1 test");
    // It cannot forge lines of the log, nor fill it.
    let long = format!("a\nb\x1b[2J{}", "x".repeat(100_000));
    client.call(label(&long)).unwrap();
    let label = client.session.label();
    assert!(!label.chars().any(char::is_control) && label.len() < 1000);
    assert!(label.ends_with(" test"));
}

#[test]
fn status_counts_what_happened() {
    let server = Server::file();
    let mut client = server.client();
    let serial = client.commit(&[(1, Tid::ZERO, b"a"), (2, Tid::ZERO, b"a")]);
    client.load(1).unwrap();
    client.begin(1);
    client.store(1, 1, Tid::ZERO, b"conflict");
    client.abort(1).unwrap();
    client.vote_store(2, 1, serial);
    let status = client.call(Request::ServerStatus).unwrap();
    let count = |name: &str| status.get(name).unwrap().as_int().unwrap();
    assert_eq!(
        (count("loads"), count("stores"), count("commits")),
        (1, 4, 1)
    );
    assert_eq!((count("aborts"), count("active_txns")), (1, 1));
    assert_eq!(count("connections"), 1);
    assert!(matches!(status.get("lock_time"), Some(Value::Float(_))));
    let last = status.get("last-transaction").unwrap().as_str().unwrap();
    assert_eq!(last, format!("{:016x}", serial.to_u64()));
    let monitor = crate::session::ruok(&server.databases);
    let monitor: serde_json::Value = serde_json::from_str(&monitor).unwrap();
    assert_eq!(monitor[STORAGE]["commits"], 1);
    assert_eq!(monitor[STORAGE]["active_txns"], 1);
}

#[test]
fn status_tells_of_replication_where_there_is_one() {
    #[derive(Debug)]
    struct Follower;
    impl GroupSource for Follower {
        fn status(&self) -> GroupStatus {
            let own = MemberStatus {
                node: 2,
                lag: Some(Lag {
                    transactions: 5,
                    bytes: 100,
                    seconds: 0.5,
                }),
                ..MemberStatus::default()
            };
            GroupStatus {
                node: 2,
                role: GroupRole::Follower,
                term: 3,
                leader: Some(1),
                members: vec![own],
                ..GroupStatus::default()
            }
        }
    }
    let server = Server::file();
    let mut client = server.client();
    let alone = client.call(Request::ServerStatus).unwrap();
    assert!(alone.get("replication").is_none());
    let database = server.databases.get(STORAGE).unwrap();
    database.stats.set_group(Arc::new(Follower));
    let status = client.call(Request::ServerStatus).unwrap();
    assert_eq!(
        status.get("replication").unwrap().as_str(),
        Some("follower")
    );
    let monitor = crate::session::ruok(&server.databases);
    let monitor: serde_json::Value = serde_json::from_str(&monitor).unwrap();
    let told = &monitor[STORAGE];
    assert_eq!(told["replication"], "follower");
    assert_eq!(told["replication-term"], 3);
    assert_eq!(told["replication-leader"], 1);
    assert_eq!(told["replication-quorum"], true);
    assert_eq!(told["replication-lag-transactions"], 5);
    assert_eq!(told["replication-lag-seconds"], 0.5);
}
