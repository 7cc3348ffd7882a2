//! Counters that every part increments and the status reports read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
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

    /// So many now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of one storage. The names are those of ZEO's `server_status`.
#[derive(Debug)]
pub struct StorageStats {
    /// When the server started.
    pub start: SystemTime,
    /// Objects loaded.
    pub loads: Counter,
    /// Objects stored, transactions that came to nothing included.
    pub stores: Counter,
    /// Transactions finished.
    pub commits: Counter,
    /// Transactions aborted by their client.
    pub aborts: Counter,
    /// Votes that failed with a conflict.
    pub conflicts: Counter,
    /// Conflicts resolved on the server.
    pub conflicts_resolved: Counter,
    /// Transactions begun and not ended.
    pub active_txns: Gauge,
}

impl Default for StorageStats {
    fn default() -> Self {
        Self {
            start: SystemTime::now(),
            loads: Counter::default(),
            stores: Counter::default(),
            commits: Counter::default(),
            aborts: Counter::default(),
            conflicts: Counter::default(),
            conflicts_resolved: Counter::default(),
            active_txns: Gauge::default(),
        }
    }
}
