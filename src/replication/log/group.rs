//! A storage's log, as openraft wants it.

use std::fmt::{self, Debug};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    AnyError, Entry, LogId, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::early::may_be_told_early;
use super::engine::{Change, EngineError, GroupId, Key, LogEngine, Step};
use super::identity::Identity;
use super::state::State;
use super::tail::size;
use super::writer::{Job, Lazy, Writer, closed};
use super::{LogCondition, LogError};
use crate::replication::entry_codec::{decode, encode, encode_entry};
use crate::replication::types::{NodeId, Types};

/// What one request to a node that is behind carries at most: its entries' bytes, or one entry.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// What is read from the files with one call.
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;

/// The log of one storage: given to openraft, which alone writes it.
pub struct GroupLog {
    reader: GroupReader,
}

/// Reads a [`GroupLog`], and tells about it; there can be many.
#[derive(Clone)]
pub struct GroupReader {
    pub(super) shared: Arc<Shared>,
}

/// What the readers and the log of one storage share.
pub(super) struct Shared {
    pub name: String,
    /// Whose log it is.
    pub node: NodeId,
    pub id: GroupId,
    pub writer: Arc<Writer>,
    pub identity: Arc<Mutex<Identity>>,
    pub condition: Mutex<LogCondition>,
    pub state: Mutex<State>,
    /// Tells of `durable` in the state.
    pub durable: watch::Sender<u64>,
}

impl GroupLog {
    pub(super) const fn new(reader: GroupReader) -> Self {
        Self { reader }
    }

    /// For those who only look.
    pub fn reader(&self) -> GroupReader {
        self.reader.clone()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.reader.shared
    }

    /// Makes `steps` durable.
    async fn write(&self, steps: Vec<Step>) -> Result<(), EngineError> {
        let shared = self.shared();
        let (sender, outcome) = oneshot::channel();
        shared.writer.submit(Job {
            room: shared.writer.room_for(0).await,
            changes: steps.into_iter().map(|step| shared.change(step)).collect(),
            done: Box::new(move |result| drop(sender.send(result))),
        });
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }
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

    /// Bytes of the entries that are kept, in steps of some 256 KiB.
    pub fn size_bytes(&self) -> u64 {
        self.shared.state.lock().sizes.total()
    }

    /// The first index to be kept so that the entries have `bytes` at most; None: all may be kept.
    pub fn index_keeping(&self, bytes: u64) -> Option<u64> {
        self.shared.state.lock().sizes.keeping(bytes)
    }

    /// Entries of `range` that exist: so many from its beginning as have `max_bytes`, one at least.
    async fn read(
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
    pub fn change(&self, step: Step) -> Change {
        Change {
            group: self.id,
            step,
        }
    }

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

    /// Entries up to here are durable, unless some were cut off since `cuts`.
    fn became_durable(&self, next: u64, cuts: u64) {
        let mut state = self.state.lock();
        if state.cuts == cuts {
            state.durable = state.durable.max(next);
            let durable = state.durable;
            state.tail.shrink(durable);
        }
        self.tell_durable(&state);
    }

    /// Tells those who wait how much is durable.
    pub fn tell_durable(&self, state: &State) {
        let now = state.durable;
        self.durable
            .send_if_modified(|told| std::mem::replace(told, now) != now);
    }
}

fn total(entries: &[Entry<Types>]) -> usize {
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

impl RaftLogReader<Types> for GroupLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        self.reader.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        self.reader.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = GroupReader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<NodeId>> {
        let state = self.shared().state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> GroupReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Result<(), StorageError<NodeId>> {
        let put = Step::Put(Key::RaftVote, encode(vote));
        self.write(vec![put])
            .await
            .map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        self.shared().state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, StorageError<NodeId>> {
        Ok(self.shared().state.lock().vote)
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogId<NodeId>>,
    ) -> Result<(), StorageError<NodeId>> {
        let shared = self.shared();
        shared.state.lock().committed = committed;
        if let Some(committed) = committed {
            let put = Step::Put(Key::Committed, encode(&committed));
            let writer = &shared.writer;
            writer.submit_lazily(Lazy::Committed, shared.change(put));
        }
        Ok(())
    }

    /// None: openraft would apply up to there before it starts, and an entry may
    /// need files that only other nodes have, which start at the same time. A
    /// leader tells soon enough.
    async fn read_committed(&mut self) -> Result<Option<LogId<NodeId>>, StorageError<NodeId>> {
        Ok(None)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError<NodeId>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // What was purged is known to be part of the storage.
        let first = self.shared().state.lock().first;
        let entries = entries.into_iter();
        let entries: Vec<_> = entries
            .skip_while(|entry| entry.log_id.index < first)
            .collect();
        let encoded: Vec<_> = entries
            .iter()
            .map(|entry| (entry.log_id.index, encode_entry(entry)))
            .collect();
        let bytes = total(&entries);
        let shared = Arc::clone(self.shared());
        let room = shared.writer.room_for(bytes).await;
        let (next, cuts, is_told_early) = {
            let mut state = shared.state.lock();
            let is_told_early = may_be_told_early(shared.node, state.vote, &entries);
            // The engine would not survive a hole.
            state
                .append(entries)
                .map_err(|hole| StorageIOError::write_logs(AnyError::new(&hole)))?;
            (state.next, state.cuts, is_told_early)
        };
        if encoded.is_empty() {
            callback.log_io_completed(Ok(()));
            return Ok(());
        }
        let changes = vec![shared.change(Step::Append(encoded))];
        let appended = Arc::clone(&shared);
        let mut callback = Some(callback);
        if is_told_early && let Some(callback) = callback.take() {
            callback.log_io_completed(Ok(()));
        }
        let done = Box::new(move |result: Result<(), EngineError>| {
            if result.is_ok() {
                appended.became_durable(next, cuts);
            }
            // A log that failed says so by its health, and its node stops.
            if let Some(callback) = callback {
                callback.log_io_completed(result.map_err(std::io::Error::other));
            }
        });
        shared.writer.submit(Job {
            changes,
            done,
            room,
        });
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<NodeId>) -> Result<(), StorageError<NodeId>> {
        let (first, next, purged) = {
            let state = self.shared().state.lock();
            (state.first, state.next, state.purged)
        };
        let since = since.index.max(first);
        if since >= next {
            return Ok(());
        }
        let last = if since == first {
            purged
        } else {
            let before = self.reader.read(since - 1..since, 0).await?;
            before.last().map(|entry| entry.log_id)
        };
        let shared = Arc::clone(self.shared());
        {
            let mut state = shared.state.lock();
            state.cut_end(since, last);
            shared.tell_durable(&state);
        }
        self.write(vec![Step::CutEnd(since)])
            .await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        // What was written before it is durable with it.
        let cuts = shared.state.lock().cuts;
        shared.became_durable(since, cuts);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<NodeId>) -> Result<(), StorageError<NodeId>> {
        let shared = self.shared();
        let purged = {
            let mut state = shared.state.lock();
            let purged = state.purge(upto);
            shared.tell_durable(&state);
            purged
        };
        let Some(is_beyond_end) = purged else {
            return Ok(());
        };
        let put = Step::Put(Key::Purged, encode(&upto));
        let cut = Step::CutBeginning(upto.index + 1);
        if is_beyond_end {
            // A state was taken over whole, and its note is about to become durable.
            let written = self.write(vec![put, cut]).await;
            written.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        } else {
            let writer = &shared.writer;
            writer.submit_lazily(Lazy::Purged, shared.change(put));
            // Once more, or the vote would keep the file where it stands.
            let vote = shared.state.lock().vote;
            if let Some(vote) = vote {
                let put = Step::Put(Key::RaftVote, encode(&vote));
                writer.submit_lazily(Lazy::RaftVote, shared.change(put));
            }
            writer.submit_lazily(Lazy::CutBeginning, shared.change(cut));
        }
        Ok(())
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

impl fmt::Debug for GroupLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(formatter)
    }
}
