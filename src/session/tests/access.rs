//! What certificates are good for.

use std::sync::Arc;

use super::client::{Client, key};
use super::{STORAGE, Server};
use crate::config::{AccessSection, Subject};
use crate::session::{AccessLists, Peer, Session};
use crate::types::Tid;
use crate::wire::Request;

/// A client of a storage that `writer` may write and `reader` may read.
fn client(server: &Server, common_name: &str) -> Client {
    let section = AccessSection {
        storage: STORAGE.to_owned(),
        read_write: vec!["writer".to_owned()],
        read_only: vec!["CN=reader".to_owned()],
    };
    let access = Arc::new(AccessLists::new(&[section]).unwrap());
    let peer = Peer {
        fingerprint: [0; 32],
        subject: Subject::new([("CN", common_name.to_owned())]),
    };
    let mut client = server.stranger();
    client.session = Session::new(Arc::clone(&server.databases), "test").with_peer(peer, access);
    client
}

#[test]
fn who_is_not_listed_is_refused() {
    let server = Server::mapping();
    let mut other = client(&server, "other");
    for read_only in [false, true] {
        let refused = other.register(STORAGE, read_only).unwrap_err();
        assert_eq!(refused.class, "ZODB.POSException.StorageError");
        assert!(refused.text().contains("no access to storage 1"));
    }
    assert_eq!(server.database.connections(), 0);
}

/// A client with `read-only-fallback` asks again when it is told so.
#[test]
fn who_may_only_read_is_told_so_and_can_read() {
    let server = Server::mapping();
    let mut writer = client(&server, "writer");
    writer.register(STORAGE, false).unwrap();
    writer.commit(&[(1, Tid::ZERO, b"a")]);
    let mut reader = client(&server, "reader");
    let refused = reader.register(STORAGE, false).unwrap_err();
    assert_eq!(refused.name(), "ReadOnlyError");
    reader.register(STORAGE, true).unwrap();
    assert_eq!(reader.load(1).unwrap().0, b"a");
    let refused = reader.begin_at(2, None).unwrap_err();
    assert_eq!(refused.name(), "ReadOnlyError");
    let store = Request::Store {
        oid: super::client::oid(1),
        serial: Tid::ZERO,
        data: b"b".into(),
        transaction: key(2),
    };
    reader.send(store);
    assert!(reader.closed.is_some());
}

/// In the reference reading clients may pack; but this one may not change anything.
#[test]
fn who_may_only_read_may_not_pack() {
    let server = Server::mapping();
    let pack = || Request::Pack {
        time: 1e9,
        wait: true,
    };
    let mut reader = client(&server, "reader");
    reader.register(STORAGE, true).unwrap();
    assert_eq!(reader.call(pack()).unwrap_err().name(), "ReadOnlyError");
    let mut writer = client(&server, "writer");
    writer.register(STORAGE, true).unwrap();
    writer.call(pack()).unwrap();
}
