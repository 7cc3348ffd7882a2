//! What was applied lately: how far nodes are behind, in words that
//! administrators use.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use crate::stats::replication::Lag;
use crate::types::Tid;

/// So many entries are remembered. Who is further behind is told to be at least
/// so far behind.
const REMEMBERED: usize = 16_384;

/// The last entries that were applied.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    log_index: u64,
    at: Instant,
    /// Counted since the start.
    transactions: u64,
    /// Length of the file then.
    bytes: u64,
    tid: Tid,
}

impl History {
    /// An entry with so many transactions was applied.
    pub fn note(&self, log_index: u64, transactions: u64, bytes: u64, tid: Tid) {
        let mut entries = self.0.lock();
        let before = entries.back().map_or(0, |last| last.transactions);
        if entries.len() >= REMEMBERED {
            entries.pop_front();
        }
        entries.push_back(Entry {
            log_index,
            at: Instant::now(),
            transactions: before + transactions,
            bytes,
            tid,
        });
    }

    /// The last transaction of a node that has the log up to `log_index`; None:
    /// that is too long ago.
    pub fn tid_at(&self, log_index: u64) -> Option<Tid> {
        let entries = self.0.lock();
        let behind = entries.partition_point(|entry| entry.log_index <= log_index);
        let entry = behind.checked_sub(1).and_then(|at| entries.get(at))?;
        Some(entry.tid)
    }

    /// What a node lacks that has the log up to `log_index`.
    pub fn behind(&self, log_index: u64) -> Lag {
        let entries = self.0.lock();
        let first = entries.partition_point(|entry| entry.log_index <= log_index);
        let (Some(missing), Some(last)) = (entries.get(first), entries.back()) else {
            return Lag::default();
        };
        let before = first.checked_sub(1).and_then(|at| entries.get(at));
        let transactions = last.transactions - before.map_or(0, |entry| entry.transactions);
        // A pack makes the file shorter.
        let bytes = last
            .bytes
            .saturating_sub(before.map_or(missing.bytes, |entry| entry.bytes));
        Lag {
            transactions,
            bytes,
            seconds: missing.at.elapsed().as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted() {
        let history = History::default();
        assert_eq!(history.behind(0), Lag::default());
        for index in 1..=10 {
            history.note(index, 2, index * 100, Tid::from_u64(index));
        }
        let lag = history.behind(7);
        assert_eq!((lag.transactions, lag.bytes), (6, 300));
        assert_eq!(history.behind(10), Lag::default());
        assert_eq!(history.behind(0).transactions, 20);
        assert_eq!(history.tid_at(7), Some(Tid::from_u64(7)));
        assert_eq!(history.tid_at(0), None);
    }
}
