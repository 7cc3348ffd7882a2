//! Counters that every part increments and `status` reads. All of them are
//! atomics that nobody waits for.

mod clients;
mod histogram;
pub mod replication;
mod requests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

pub use clients::{Client, Clients, Connected, Connections, TransactionStage};
pub use histogram::{Histogram, Observed};
pub use requests::RequestStats;

use replication::{GroupSource, GroupStatus};

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn decrement(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a gauge counts things that exist");
    }

    /// So many from now on, whatever it was.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// So many now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of one storage. The names, as far as ZEO has them, are those
/// of its `server_status`.
#[derive(Debug)]
pub struct StorageStats {
    /// When the server started.
    pub start: SystemTime,
    /// Objects stored, transactions that came to nothing included.
    pub stores: Counter,
    /// Transactions finished.
    pub commits: Counter,
    /// Transactions aborted by their client.
    pub aborts: Counter,
    /// Votes that failed with a conflict.
    pub conflicts: Counter,
    /// Votes whose conflicts were given to the client to resolve.
    pub conflicts_handed_back: Counter,
    /// Requests that failed since the disk was full.
    pub full_disk_refusals: Counter,
    /// Conflicts resolved on the server.
    pub conflicts_resolved: Counter,
    /// Transactions begun and not ended.
    pub active_txns: Gauge,
    /// Every request.
    pub requests: RequestStats,
    /// Transactions that were written with one sync.
    pub batch_sizes: Histogram,
    /// How long making a batch durable took.
    pub commit_times: Histogram,
    /// Packs that came to their end.
    pub packs: Counter,
    /// Packs that did not.
    pub packs_failed: Counter,
    /// Blobs that clients sent.
    pub blobs_received: Counter,
    /// Their bytes.
    pub blob_bytes_received: Counter,
    /// Blobs that clients were sent.
    pub blobs_sent: Counter,
    /// Their bytes.
    pub blob_bytes_sent: Counter,
    /// Set where other nodes have the storage, too.
    group: OnceLock<Arc<dyn GroupSource>>,
}

impl StorageStats {
    /// Nothing has happened yet. Requests have so many methods.
    pub fn new(methods: usize) -> Self {
        Self {
            start: SystemTime::now(),
            stores: Counter::default(),
            commits: Counter::default(),
            aborts: Counter::default(),
            conflicts: Counter::default(),
            conflicts_handed_back: Counter::default(),
            full_disk_refusals: Counter::default(),
            conflicts_resolved: Counter::default(),
            active_txns: Gauge::default(),
            requests: RequestStats::new(methods),
            batch_sizes: Histogram::of_batches(),
            commit_times: Histogram::of_times(),
            packs: Counter::default(),
            packs_failed: Counter::default(),
            blobs_received: Counter::default(),
            blob_bytes_received: Counter::default(),
            blobs_sent: Counter::default(),
            blob_bytes_sent: Counter::default(),
            group: OnceLock::new(),
        }
    }

    /// Other nodes have the storage, too; `group` tells how that goes.
    pub fn set_group(&self, group: Arc<dyn GroupSource>) {
        // A storage is in one group as long as it is open.
        let _ = self.group.set(group);
    }

    /// How replication goes. None: no other node has the storage.
    pub fn group(&self) -> Option<GroupStatus> {
        self.group.get().map(|group| group.status())
    }
}
