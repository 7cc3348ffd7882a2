//! A connection over a pipe in memory, whose other end reads when a test says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::ZeodSection;
use crate::disk::RealDisk;
use crate::server::limits::Limits;
use crate::stats::Client;
use crate::storage::blob::BlobDirectory;
use crate::storage::{MappingStorage, Storage};
use crate::transaction::{Database, DatabaseOptions, Delivery, Inbox, Invalidation};
use crate::types::{Oid, Tid};
use crate::wire::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const PIPE_BYTES: usize = 64 << 10;
/// `register("1", True)`, called under the id 1.
const REGISTER: &[u8] = b"\x80\x03(K\x01K\x00X\x08\0\0\0registerX\x01\0\0\x001\x88\x86t.";

/// A registered client's end, its inbox, and the task that serves it.
struct Peer {
    stream: DuplexStream,
    inbox: Arc<Inbox>,
    served: JoinHandle<()>,
    database: Arc<Database>,
    bounds: Arc<Bounds>,
    client: Arc<Client>,
}

fn limits() -> Limits {
    Limits::new(&ZeodSection::default(), None)
}

impl Peer {
    async fn new() -> Self {
        Self::within(limits()).await
    }

    async fn within(limits: Limits) -> Self {
        Self::of(Arc::new(MappingStorage::new("mapping")), limits).await
    }

    async fn of(storage: Arc<dyn Storage>, limits: Limits) -> Self {
        let options = DatabaseOptions {
            invalidation_queue_size: 100,
            invalidation_age: None,
            transaction_timeout: None,
            hand_back_conflicts: true,
            read_only: false,
            max_transaction_bytes: 16 << 30,
        };
        let database = Database::start("1", storage, options).unwrap();
        let databases = Arc::new(Databases::from([("1".to_owned(), Arc::clone(&database))]));
        let session = Session::new(Arc::clone(&databases), "test");
        let inbox = Arc::clone(session.inbox());
        let client = Arc::clone(session.client());
        let (stream, server_end) = tokio::io::duplex(PIPE_BYTES);
        let bounds = Arc::new(Bounds::new(limits));
        let own_bounds = Arc::clone(&bounds);
        let served = tokio::spawn(async move {
            serve(server_end, session, &databases, Format::Pickle, &own_bounds).await;
        });
        let mut peer = Self {
            stream,
            inbox,
            served,
            database,
            bounds,
            client,
        };
        assert_eq!(peer.read_frame().await, b"Z5");
        peer.send(b"Z5").await;
        peer.send(REGISTER).await;
        peer.read_frame().await;
        peer
    }

    async fn send(&mut self, payload: &[u8]) {
        let mut frame = Vec::new();
        wire::put_frame(&mut frame, payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn call(&mut self, id: i64, method: &'static str, arguments: Vec<Value<'_>>) {
        let id = Value::Int(id);
        let call = vec![id, Value::Int(0), method.into(), Value::Tuple(arguments)];
        let mut payload = Vec::new();
        wire::write_value(&mut payload, &Value::Tuple(call)).unwrap();
        self.send(&payload).await;
    }

    /// The id, the method and the arguments of what comes next.
    async fn read_message(&mut self) -> (i64, String, Value<'static>) {
        let payload = self.read_frame().await;
        let message = wire::read_value(&payload).unwrap().into_owned();
        let [id, _, method, arguments] = message.as_items().unwrap() else {
            panic!("a message is a tuple of four");
        };
        let method = method.as_str().unwrap().to_owned();
        (id.as_int().unwrap(), method, arguments.clone())
    }

    async fn read_frame(&mut self) -> Vec<u8> {
        let length = self.stream.read_u32().await.unwrap();
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        payload
    }

    /// What another's transaction of many objects leaves: about a megabyte.
    fn invalidate(&self, tid: u64) {
        let oids = (0..100_000).map(Oid::from_u64).collect();
        let invalidation = Invalidation::new(Tid::from_u64(tid), oids);
        self.inbox
            .push(Delivery::Invalidation(Arc::new(invalidation)));
    }

    /// Until the server has closed the connection.
    async fn ended(&self) {
        let ended = async {
            while !self.served.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
        assert_eq!(self.database.connections(), 0);
        assert_eq!(self.bounds.memory.used_bytes(), 0);
    }

    /// Until the task has taken what is in the inbox, or has ended.
    async fn taken(&self) {
        let taken = async {
            while self.inbox.is_filled() && !self.served.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.unwrap();
    }

    fn close(self) {
        self.database.close().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_invalidations_is_cut_off_at_the_bound() {
    let peer = Peer::new().await;
    // Some more, for those that are taken together.
    let bound = limits().max_unsent_bytes as u64 / 1_000_000 + 6;
    for tid in 1..=bound {
        peer.invalidate(tid);
        peer.taken().await;
    }
    // Though it never reads, it is not waited for.
    peer.ended().await;
    assert_eq!(peer.client.cut_off(), Some("unsent"));
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_is_told_any_number() {
    let mut peer = Peer::new().await;
    for tid in 1..=60 {
        peer.invalidate(tid);
        let told = peer.read_frame().await;
        assert!(told.len() > 1_000_000);
    }
    assert!(!peer.served.is_finished());
    peer.stream.shutdown().await.unwrap();
    let Peer {
        served, database, ..
    } = peer;
    tokio::time::timeout(PATIENCE, served)
        .await
        .unwrap()
        .unwrap();
    database.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_the_server_wants_reaches_a_client_that_does_not_read() {
    let peer = Peer::new().await;
    peer.database.close_connections("the test is over");
    let Peer {
        served,
        database,
        stream: _unread,
        ..
    } = peer;
    tokio::time::timeout(PATIENCE, served)
        .await
        .unwrap()
        .unwrap();
    database.close().unwrap();
}

/// What a client is sent until the answer to `last` has come: the content of
/// the blobs, and the ids of the answers with how much had come before each.
async fn read_blobs(peer: &mut Peer, last: i64) -> (Vec<u8>, Vec<(i64, usize)>) {
    let (mut content, mut answers) = (Vec::new(), Vec::new());
    loop {
        let (id, method, arguments) = peer.read_message().await;
        match method.as_str() {
            "receiveBlobChunk" => {
                let chunk = &arguments.as_items().unwrap()[2];
                content.extend_from_slice(chunk.as_bytes().unwrap());
            }
            ".reply" => answers.push((id, content.len())),
            _ => {}
        }
        if answers.last().is_some_and(|(id, _)| *id == last) {
            return (content, answers);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_answered_between_the_pieces_of_a_blob_it_reads_late() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blobs");
    let blobs = BlobDirectory::open(Arc::new(RealDisk), &path, false).unwrap();
    let (oid, serial) = (Oid::from_u64(7), Tid::from_u64(8));
    let content: Vec<u8> = (0..=250).cycle().take(5_000_000).collect();
    std::fs::create_dir_all(blobs.object_path(oid)).unwrap();
    std::fs::write(blobs.revision_path(oid, serial), &content).unwrap();
    let mut peer = Peer::of(
        Arc::new(MappingStorage::with_blobs("mapping", blobs)),
        limits(),
    )
    .await;
    let sent = async {
        peer.call(2, "sendBlob", vec![oid.into(), serial.into()])
            .await;
        // Nothing is read before the server has run into the pipe's end.
        peer.invalidate(1);
        peer.taken().await;
        for id in 3..6 {
            peer.call(id, "ping", Vec::new()).await;
        }
        read_blobs(&mut peer, 2).await
    };
    let (got, answers) = tokio::time::timeout(PATIENCE, sent).await.unwrap();
    assert!(got == content);
    let ids: Vec<_> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [3, 4, 5, 2]);
    assert!(answers[2].1 < content.len() / 2, "{answers:?}");
    peer.close();
}

/// The patience of tests in which it comes to an end.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_within_a_message_is_cut_off() {
    let mut peer = Peer::within(Limits {
        stall_time: SHORT,
        ..limits()
    })
    .await;
    // Nothing is owed between messages.
    tokio::time::sleep(SHORT * 3).await;
    assert!(!peer.served.is_finished());
    peer.stream.write_all(&[0, 0, 1]).await.unwrap();
    peer.ended().await;
    assert_eq!(peer.client.cut_off(), Some("stalled_sender"));
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut_off() {
    let peer = Peer::within(Limits {
        stall_time: SHORT,
        ..limits()
    })
    .await;
    peer.invalidate(1);
    peer.ended().await;
    assert_eq!(peer.client.cut_off(), Some("stalled_reader"));
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_longer_than_allowed_is_refused() {
    let mut peer = Peer::within(Limits {
        max_message_bytes: 1 << 20,
        ..limits()
    })
    .await;
    peer.stream.write_u32((1 << 20) + 1).await.unwrap();
    peer.ended().await;
    assert_eq!(peer.client.cut_off(), Some("message_length"));
    peer.close();
}

/// The head of a message of a megabyte and a part of it.
async fn begin_megabyte(peer: &mut Peer) {
    peer.stream.write_u32(1 << 20).await.unwrap();
    let part = vec![0; 200 << 10];
    peer.stream.write_all(&part).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_waits_for_memory_while_small_ones_are_answered() {
    let mut peer = Peer::within(Limits {
        memory_budget_bytes: 2 << 20,
        ..limits()
    })
    .await;
    let mut others = Share::new(Arc::clone(&peer.bounds.memory));
    others.set(2 << 20);
    peer.call(1, "ping", Vec::new()).await;
    assert_eq!(peer.read_message().await.0, 1);
    // It is read as far as its first buffer goes; the pipe takes as much.
    let stuck = tokio::time::timeout(SHORT, begin_megabyte(&mut peer)).await;
    assert!(stuck.is_err());
    drop(others);
    // The rest of it goes through, and is no pickle.
    let rest = vec![0; 1 << 20];
    let sent = peer.stream.write_all(&rest);
    let _ = tokio::time::timeout(PATIENCE, sent).await.unwrap();
    peer.ended().await;
    assert_eq!(peer.client.cut_off(), Some("rule"));
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_too_long_for_memory_is_cut_off() {
    let mut peer = Peer::within(Limits {
        memory_budget_bytes: 1 << 20,
        stall_time: SHORT,
        ..limits()
    })
    .await;
    let mut others = Share::new(Arc::clone(&peer.bounds.memory));
    others.set(1 << 20);
    let stuck = tokio::time::timeout(SHORT / 3, begin_megabyte(&mut peer)).await;
    assert!(stuck.is_err());
    let ended = async {
        while !peer.served.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(peer.client.cut_off(), Some("memory"));
    assert_eq!(peer.bounds.memory.used_bytes(), 1 << 20);
    peer.close();
}
