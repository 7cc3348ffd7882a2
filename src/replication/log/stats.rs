use crate::stats::{Counter, Histogram};

/// What is counted of a node's log, all storages together.
#[derive(Debug)]
pub struct LogStats {
    /// Writes that were made durable, each with one sync.
    pub writes: Counter,
    /// Appends, votes and cuts that were part of them.
    pub jobs: Counter,
    /// Entries appended.
    pub entries: Counter,
    /// Bytes written.
    pub bytes: Counter,
    /// How long a write with its sync took.
    pub write_times: Histogram,
    /// Appends, votes and cuts that shared one write.
    pub jobs_per_write: Histogram,
    /// Entries that had to be read from the files, for they were no longer in memory.
    pub entries_read: Counter,
    /// Writes that found the disk full and were tried again.
    pub full: Counter,
}

impl Default for LogStats {
    fn default() -> Self {
        Self {
            writes: Counter::default(),
            jobs: Counter::default(),
            entries: Counter::default(),
            bytes: Counter::default(),
            write_times: Histogram::of_times(),
            jobs_per_write: Histogram::of_batches(),
            entries_read: Counter::default(),
            full: Counter::default(),
        }
    }
}
