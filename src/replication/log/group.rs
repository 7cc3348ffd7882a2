//! A storage's log, as openraft wants it.

use std::fmt::{self, Debug};
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    AnyError, Entry, LogId, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::LogCondition;
use super::early::may_be_told_early;
use super::engine::{Change, EngineError, GroupId, Key, Step};
use super::identity::Identity;
use super::reader::{GroupReader, total};
use super::state::State;
use super::writer::{Job, Lazy, Writer, closed};
use crate::replication::entry_codec::{encode, encode_entry};
use crate::replication::types::{NodeId, Types};

/// The log of one storage: given to openraft, which alone writes it.
pub struct GroupLog {
    reader: GroupReader,
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
    pub(super) async fn write(&self, steps: Vec<Step>) -> Result<(), EngineError> {
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

impl Shared {
    pub fn change(&self, step: Step) -> Change {
        Change {
            group: self.id,
            step,
        }
    }

    /// Entries up to here are durable, unless some were cut off since `cuts`.
    pub(super) fn became_durable(&self, next: u64, cuts: u64) {
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

impl fmt::Debug for GroupLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(formatter)
    }
}
