//! The client against real servers: zeod and Python's, over both wires.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a helper is a failed test"
)]

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/server_process.rs"]
mod server_process;
#[path = "client/servers.rs"]
mod servers;

use std::time::Duration;

use servers::{Kind, Server};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeod::client::{
    self, CallError, Connection, Listener, LoadedRevision, Options, Plain, VoteItem,
};
use zeod::types::{Oid, Tid, TransactionMeta};
use zeod::wire::{Format, Request, ServerNotice, TransactionKey, Value};

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(1);
const KEY: TransactionKey = TransactionKey::Int(4711);
/// A `PersistentMapping` with nothing in it.
const RECORD: &[u8] = b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}.";
/// The same, written differently.
const OTHER: &[u8] = b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x02}.";
const BLOB: &[u8] = b"\x80\x03cZODB.blob\nBlob\n.\x80\x03N.";

#[test]
fn zeod_is_understood_over_pickle() {
    check(Kind::Zeod, Format::Pickle);
}

#[test]
fn zeod_is_understood_over_msgpack() {
    check(Kind::Zeod, Format::Msgpack);
}

#[test]
fn pythons_server_is_understood_over_pickle() {
    check(Kind::Python, Format::Pickle);
}

#[test]
fn pythons_server_is_understood_over_msgpack() {
    check(Kind::Python, Format::Msgpack);
}

fn check(kind: Kind, format: Format) {
    let Some(server) = Server::start(kind, format) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        timeout(PATIENCE, conversation(&server, format))
            .await
            .unwrap();
    });
}

async fn conversation(server: &Server, format: Format) {
    let (writer, _) = open(server).await;
    assert_eq!(writer.format(), format);
    let (reader, mut notices) = open(server).await;
    let info = writer.get_info().await.unwrap();
    assert!(
        info.supports_undo && info.name.ends_with("Data.fs"),
        "{info:?}"
    );
    let oids = writer.new_oids(100).await.unwrap();
    assert_eq!(oids.len(), 100);

    let first = stores(&writer, &oids, &mut notices).await;
    reads(&reader, &oids, first).await;
    let second = conflicts(&writer, &oids, first).await;
    await_invalidation(&mut notices, second).await;
    let third = undoes(&writer, &oids, second).await;
    let changes = reader.get_invalidations(first).await.unwrap().unwrap();
    assert_eq!(changes.tid, third);
    assert_eq!(changes.oids, [oids[0]]);
    iterates(&reader, [first, second, third], &oids).await;
    let fourth = restores(&writer, &oids).await;
    await_invalidation(&mut notices, fourth).await;
    errors(&writer, &oids, second).await;
    let now = std::time::SystemTime::now();
    let since_1970 = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    writer
        .pack(since_1970.as_secs_f64() - 1000.0, true)
        .await
        .unwrap();
    let status = writer.call(&Request::ServerStatus).await.unwrap();
    assert_eq!(
        status.get("commits").and_then(Value::as_int),
        Some(4),
        "{status:?}"
    );
}

async fn open(server: &Server) -> (Connection, mpsc::UnboundedReceiver<ServerNotice<'static>>) {
    let stream = client::connect(&server.address, &Plain, PATIENCE)
        .await
        .unwrap();
    let (sender, notices) = mpsc::unbounded_channel();
    let listener = Listener::callback(move |notice| {
        // Not all tests listen.
        let _ = sender.send(notice.into_owned());
    });
    let connection = Connection::open(stream, Options::default(), listener)
        .await
        .unwrap();
    let last = connection.register("1", false).await.unwrap();
    assert_eq!(last, connection.last_transaction().await.unwrap());
    (connection, notices)
}

/// The oids that `tid` changed, once the server tells of it.
async fn await_invalidation(
    notices: &mut mpsc::UnboundedReceiver<ServerNotice<'static>>,
    wanted: Tid,
) -> Vec<Oid> {
    loop {
        match notices.recv().await {
            Some(ServerNotice::Invalidation { tid, oids }) if tid == wanted => return oids,
            Some(_) => {}
            None => panic!("no invalidation of {wanted}"),
        }
    }
}

async fn begin(connection: &Connection) {
    let meta = TransactionMeta {
        tid: None,
        status: b' ',
        user: b"user".to_vec(),
        description: b"description".to_vec(),
        // {'key': 1}
        extension: b"\x80\x03}X\x03\0\0\0keyK\x01s.".to_vec(),
    };
    connection.tpc_begin(KEY, &meta).await.unwrap();
}

async fn finish(connection: &Connection) -> Tid {
    assert_eq!(vote(connection).await, Ok(vec![]));
    connection.tpc_finish(KEY).await.unwrap()
}

async fn vote(connection: &Connection) -> Result<Vec<VoteItem>, CallError> {
    let answer = connection.call(&Request::Vote { transaction: KEY }).await?;
    VoteItem::from_value(&answer)
}

async fn load_before(
    connection: &Connection,
    oid: Oid,
    tid: Tid,
) -> Result<Option<LoadedRevision>, CallError> {
    LoadedRevision::from_value(connection.call(&Request::LoadBefore { oid, tid }).await?)
}

fn blob_bytes() -> Vec<u8> {
    (0..251_u8).cycle().take(300_000).collect()
}

/// An object and a blob.
async fn stores(
    writer: &Connection,
    oids: &[Oid],
    notices: &mut mpsc::UnboundedReceiver<ServerNotice<'static>>,
) -> Tid {
    begin(writer).await;
    writer.store(oids[0], Tid::ZERO, RECORD, KEY).await.unwrap();
    let bytes = blob_bytes();
    let read = move |position, count, buffer: &mut Vec<u8>| {
        let rest = &bytes[usize::try_from(position).unwrap()..];
        buffer.extend_from_slice(&rest[..rest.len().min(count)]);
        Ok(())
    };
    let stored = writer.store_blob(oids[1], Tid::ZERO, BLOB, KEY, read);
    stored.await.unwrap();
    let tid = finish(writer).await;
    let mut changed = await_invalidation(notices, tid).await;
    changed.sort_unstable();
    let mut expected = [oids[0], oids[1]];
    expected.sort_unstable();
    assert_eq!(changed, expected);
    tid
}

async fn reads(reader: &Connection, oids: &[Oid], tid: Tid) {
    let loaded = load_before(reader, oids[0], Tid::MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (&*loaded.data, loaded.serial, loaded.end),
        (RECORD, tid, None)
    );
    assert_eq!(load_before(reader, oids[0], tid).await, Ok(None));
    assert_eq!(reader.load_serial(oids[0], tid).await.unwrap(), RECORD);
    assert_eq!(reader.get_tid(oids[0]).await, Ok(tid));
    let history = reader.history(oids[0], 10).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].get("key").and_then(Value::as_int), Some(1));
    let (sender, receiver) = std::sync::mpsc::channel();
    let write = move |piece: &[u8]| {
        sender.send(piece.to_vec()).unwrap();
        Ok(())
    };
    reader.fetch_blob(oids[1], tid, write).await.unwrap();
    assert!(receiver.try_iter().flatten().eq(blob_bytes()));
    let record = reader.record_iternext(None).await.unwrap();
    assert!(oids.contains(&record.oid));
}

/// A stale store is handed back, and goes through once it is resolved.
async fn conflicts(writer: &Connection, oids: &[Oid], current: Tid) -> Tid {
    begin(writer).await;
    let stale = Tid::from_u64(17);
    writer.store(oids[0], stale, OTHER, KEY).await.unwrap();
    let conflicts = vote(writer).await.unwrap();
    let [VoteItem::Conflict(conflict)] = &*conflicts else {
        panic!("{conflicts:?}");
    };
    assert_eq!((conflict.oid, conflict.committed), (oids[0], current));
    assert_eq!((conflict.read, &*conflict.data), (stale, OTHER));
    writer.store(oids[0], current, OTHER, KEY).await.unwrap();
    finish(writer).await
}

async fn undoes(writer: &Connection, oids: &[Oid], undone: Tid) -> Tid {
    let log = writer.undo_info(0, -20, Value::None).await.unwrap();
    let id = log[0].get("id").and_then(Value::as_bytes).unwrap();
    let loaded = load_before(writer, oids[0], Tid::MAX).await.unwrap();
    assert_eq!(loaded.unwrap().serial, undone);
    begin(writer).await;
    writer.undo(id, KEY).await.unwrap();
    let vote = vote(writer).await;
    assert_eq!(vote, Ok(vec![VoteItem::Resolved(oids[0])]));
    let tid = writer.tpc_finish(KEY).await.unwrap();
    let loaded = load_before(writer, oids[0], Tid::MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&*loaded.data, loaded.serial), (RECORD, tid));
    tid
}

async fn iterates(reader: &Connection, tids: [Tid; 3], oids: &[Oid]) {
    let iterator = reader.iterator_start(Some(tids[0]), None).await.unwrap();
    for (number, tid) in tids.into_iter().enumerate() {
        let meta = reader.iterator_next(iterator).await.unwrap().unwrap();
        assert_eq!((meta.tid, meta.status), (Some(tid), b' '));
        assert_eq!(
            (&*meta.user, &*meta.description),
            (&b"user"[..], &b"description"[..])
        );
        assert!(!meta.extension.is_empty());
        let records = reader.iterator_record_start(iterator, tid).await.unwrap();
        let mut count = 0;
        while let Some(record) = reader.iterator_record_next(records).await.unwrap() {
            assert!(oids.contains(&record.oid) && record.tid == tid);
            assert_eq!(record.data_txn, (number == 2).then_some(tids[0]));
            count += 1;
        }
        assert_eq!(count, if number == 0 { 2 } else { 1 });
    }
    assert_eq!(reader.iterator_next(iterator).await, Ok(None));
    let unfinished = reader.iterator_start(None, None).await.unwrap();
    reader.iterator_gc(vec![unfinished]).await.unwrap();
    assert!(reader.iterator_next(unfinished).await.is_err());
}

/// A transaction with its id, as copied from another storage.
async fn restores(writer: &Connection, oids: &[Oid]) -> Tid {
    let last = writer.last_transaction().await.unwrap();
    let tid = Tid::from_u64(last.to_u64() + (1 << 20));
    let meta = TransactionMeta {
        tid: Some(tid),
        status: b' ',
        ..TransactionMeta::default()
    };
    writer.tpc_begin(KEY, &meta).await.unwrap();
    let restored = writer.restore(oids[2], tid, Some(RECORD), None, KEY);
    restored.await.unwrap();
    assert_eq!(finish(writer).await, tid);
    tid
}

async fn errors(writer: &Connection, oids: &[Oid], stale: Tid) {
    let missing = load_before(writer, Oid::from_u64(1 << 40), Tid::MAX).await;
    assert!(missing.unwrap_err().remote().unwrap().is_no_such_object());
    begin(writer).await;
    let check = writer.check_current_serial(oids[0], stale, KEY);
    check.await.unwrap();
    let error = vote(writer).await.unwrap_err();
    let CallError::Remote(raised) = &error else {
        panic!("{error}");
    };
    assert_eq!(raised.class(), "ZODB.POSException.ReadConflictError");
    assert!(raised.is_conflict());
    let serials = raised.state();
    let serials = serials.get("serials").and_then(Value::as_items).unwrap();
    assert_eq!(serials[1].as_tid(), Some(stale));
    assert_eq!(writer.tpc_abort(KEY).await, Ok(()));
    let error = vote(writer).await.unwrap_err();
    let class = error.remote().unwrap().class().to_owned();
    assert_eq!(class, "ZODB.POSException.StorageTransactionError");
    begin(writer).await;
    let delete = writer.delete_object(oids[2], stale, KEY);
    delete.await.unwrap();
    assert!(vote(writer).await.is_err());
    writer.tpc_abort(KEY).await.unwrap();
    writer.call(&Request::Ping).await.unwrap();
}
