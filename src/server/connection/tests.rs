//! A connection over a pipe in memory, whose other end reads when a test says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::storage::MappingStorage;
use crate::transaction::{Database, DatabaseOptions, Delivery, Inbox, Invalidation};
use crate::types::{Oid, Tid};

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
}

impl Peer {
    async fn new() -> Self {
        let options = DatabaseOptions {
            invalidation_queue_size: 100,
            invalidation_age: None,
            transaction_timeout: None,
            hand_back_conflicts: true,
            read_only: false,
        };
        let storage = Arc::new(MappingStorage::new("mapping"));
        let database = Database::start("1", storage, options).unwrap();
        let databases = Arc::new(Databases::from([("1".to_owned(), Arc::clone(&database))]));
        let session = Session::new(Arc::clone(&databases), "test");
        let inbox = Arc::clone(session.inbox());
        let (stream, server_end) = tokio::io::duplex(PIPE_BYTES);
        let served = tokio::spawn(async move {
            serve(server_end, session, &databases, Format::Pickle).await;
        });
        let mut peer = Self {
            stream,
            inbox,
            served,
            database,
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
    let bound = (MAX_OUTBOX_BYTES + MAX_BEHIND_BYTES) as u64 / 1_000_000 + 2;
    for tid in 1..=bound {
        peer.invalidate(tid);
        peer.taken().await;
    }
    // Though it never reads, it is not waited for.
    let ended = async {
        while !peer.served.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(peer.database.connections(), 0);
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
