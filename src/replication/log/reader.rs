//! Reads a storage's log: what is in memory, and what is in the files.

use std::fmt::{self, Debug};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::{AnyError, Entry, LogId, OptionalSend, RaftLogReader, StorageError, StorageIOError};
use tokio::sync::{oneshot, watch};

use super::engine::{EngineError, LogEngine};
use super::group::Shared;
use super::tail::size;
use super::writer::closed;
use super::{LogCondition, LogError};
use crate::replication::entry_codec::decode;
use crate::replication::types::{NodeId, Types};

/// What one request to a node that is behind carries at most: its entries' bytes, or one entry.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// What is read from the files with one call.
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;

const NEW: &str = "it is new, and there may have been another one before";

/// Where a log begins and ends: entries from `first` up to, not including, `next` exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first one.
    pub first: u64,
    /// The one behind the last.
    pub next: u64,
    /// Those before this index are known to be committed.
    pub committed: u64,
    /// How often the end was cut off since the start.
    pub cuts: u64,
}

/// Reads a [`GroupLog`](super::GroupLog), and tells about it; there can be many.
#[derive(Clone)]
pub struct GroupReader {
    pub(super) shared: Arc<Shared>,
}

impl GroupReader {
    /// The storage's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it has all that it ever acknowledged.
    pub fn condition(&self) -> LogCondition {
        self.shared.condition.lock().clone()
    }

    /// A damaged log has caught up with what was committed after it came back: it is
    /// whole again. Durable when it returns; blocks.
    pub fn declare_whole(&self) -> Result<(), LogError> {
        self.shared.identity.lock().mark_whole(self.name())?;
        *self.shared.condition.lock() = LogCondition::Whole;
        Ok(())
    }

    /// The log has just been begun, by a node that may have had another one before: it is as one that has lost
    /// all. Durable when it returns; blocks.
    pub fn declare_new(&self) -> Result<(), LogError> {
        let mut identity = self.shared.identity.lock();
        identity.mark_damaged(Some(self.name()), NEW)?;
        *self.shared.condition.lock() = LogCondition::Damaged(NEW.to_owned());
        Ok(())
    }

    /// Entries before this index are durable. Grows, unless entries are cut off.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    /// How long the disk has taken so far for the write that is under way.
    pub fn writing_for(&self) -> Duration {
        self.shared.writer.writing_for()
    }

    /// The last entry that is known to be committed; None: there is none yet.
    pub fn committed(&self) -> Option<u64> {
        let committed = self.shared.state.lock().committed;
        committed.map(|log_id| log_id.index)
    }

    /// The last entry; None: there has never been one.
    pub fn last(&self) -> Option<LogId<NodeId>> {
        self.shared.state.lock().last
    }

    /// What the log has now.
    pub fn extent(&self) -> Extent {
        let state = self.shared.state.lock();
        Extent {
            first: state.first,
            next: state.next,
            committed: state.committed.map_or(0, |log_id| log_id.index + 1),
            cuts: state.cuts,
        }
    }

    /// Bytes of the entries that are kept, in steps of some 256 KiB.
    pub fn size_bytes(&self) -> u64 {
        self.shared.state.lock().sizes.total()
    }

    /// The first index to be kept so that the entries have `bytes` at most; None: all may be kept.
    pub fn index_keeping(&self, bytes: u64) -> Option<u64> {
        self.shared.state.lock().sizes.keeping(bytes)
    }

    /// Entries of `range` that exist: so many from its beginning as have `max_bytes`, one at least.
    pub(super) async fn read(
        &self,
        range: std::ops::Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        let mut entries = Vec::new();
        let mut at = range.start;
        let mut seen = None;
        loop {
            let left = max_bytes.saturating_sub(total(&entries));
            let (from, until) = {
                let state = self.shared.state.lock();
                let from = at.max(state.first);
                let until = range.end.min(state.next);
                if from >= until || (left == 0 && !entries.is_empty()) {
                    return Ok(entries);
                }
                if state.tail.span().contains(&from) {
                    let more = state.tail.get(from..until, left);
                    extend(&mut entries, more, max_bytes);
                    return Ok(entries);
                }
                // Who asks for what is gone meanwhile asks again, once for each change.
                let now = Some((state.first, state.next, state.cuts, at));
                if std::mem::replace(&mut seen, now) == now {
                    return Err(read_error(from, &EngineError::Missing));
                }
                // What is in memory need not be in the files yet.
                let tail = state.tail.span();
                let in_files = if tail.is_empty() { until } else { tail.start };
                (from, until.min(in_files))
            };
            match self.read_files(from..until, left.min(MAX_READ_BYTES)).await {
                Ok(more) => {
                    let count = more.len();
                    at = from + count as u64;
                    if extend(&mut entries, more, max_bytes) < count {
                        return Ok(entries);
                    }
                }
                Err(EngineError::Missing) => {}
                Err(error) => {
                    tracing::error!(
                        "storage {}: log entry {from} or one behind it cannot be read: {error}",
                        self.name()
                    );
                    return Err(read_error(from, &error));
                }
            }
        }
    }

    async fn read_files(
        &self,
        range: std::ops::Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry<Types>>, EngineError> {
        let (sender, outcome) = oneshot::channel();
        let (start, id) = (range.start, self.shared.id);
        let writer = &self.shared.writer;
        let done = move |result| drop(sender.send(result));
        writer.read(move |engine| engine.read(id, range, max_bytes), done);
        let found = outcome.await.unwrap_or_else(|_| Err(closed()))?;
        self.shared.decode(start, found)
    }
}

impl Shared {
    /// Reads from the files; blocks.
    pub fn read_files(
        &self,
        range: std::ops::Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry<Types>>, EngineError> {
        let (start, id) = (range.start, self.id);
        let read = move |engine: &dyn LogEngine| engine.read(id, range, max_bytes);
        let found = self.writer.read_now(read)?;
        self.decode(start, found)
    }

    fn decode(&self, start: u64, found: Vec<Bytes>) -> Result<Vec<Entry<Types>>, EngineError> {
        self.writer.stats.entries_read.add(found.len() as u64);
        let entries = (start..).zip(found);
        entries
            .map(|(index, bytes)| entry_of(index, bytes))
            .collect()
    }
}

impl RaftLogReader<Types> for GroupReader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index.saturating_add(1),
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start..end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        let entries = self.read(start..end, MAX_REQUEST_BYTES).await?;
        // What follows a gap is of no use to who asks; openraft takes nothing for "later".
        let is_first = entries
            .first()
            .is_some_and(|entry| entry.log_id.index == start);
        Ok(if is_first { entries } else { Vec::new() })
    }
}

/// What entries take of a bound in bytes.
pub(super) fn total(entries: &[Entry<Types>]) -> usize {
    entries.iter().map(size).sum()
}

/// Takes of `more` what fits, but one if there is none so far. How many that were.
fn extend(entries: &mut Vec<Entry<Types>>, more: Vec<Entry<Types>>, max_bytes: usize) -> usize {
    let before = entries.len();
    let mut bytes = total(entries);
    for entry in more {
        bytes = bytes.saturating_add(size(&entry));
        if bytes > max_bytes && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    entries.len() - before
}

fn entry_of(index: u64, bytes: Bytes) -> Result<Entry<Types>, EngineError> {
    let entry: Entry<Types> = decode(bytes)
        .map_err(|error| EngineError::Unreadable(format!("log entry {index}: {error}")))?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        let found = entry.log_id.index;
        let what = format!("entry {found} stands in place of log entry {index}");
        Err(EngineError::Unreadable(what))
    }
}

fn read_error(index: u64, error: &EngineError) -> StorageError<NodeId> {
    StorageIOError::read_log_at_index(index, AnyError::new(error)).into()
}

impl fmt::Debug for GroupReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        formatter
            .debug_struct("GroupReader")
            .field("name", &self.shared.name)
            .field("purged", &state.purged)
            .field("last", &state.last)
            .finish_non_exhaustive()
    }
}
