//! A log in memory that forgets at a crash what was not yet synced. Like the real one it
//! tells a leader at once that entries are written, and writes them afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{Entry, LogId, RaftLogReader, StorageError, StorageIOError, Vote};
use parking_lot::Mutex;
use tokio::sync::watch;
use zeod::replication::log::may_be_told_early;
use zeod::replication::types::{NodeId, Types};

use crate::chaos::Chance;

type Error = StorageError<NodeId>;

/// What has got to the disk; outlives the node's process.
#[derive(Debug, Default)]
pub struct LogDisk {
    pub entries: BTreeMap<u64, Entry<Types>>,
    pub vote: Option<Vote<NodeId>>,
    pub committed: Option<LogId<NodeId>>,
    pub purged: Option<LogId<NodeId>>,
    /// It lacks what it had: its node abstains until that is there again.
    pub is_damaged: bool,
}

impl LogDisk {
    pub fn has(&self, log_id: LogId<NodeId>) -> bool {
        let purged = self
            .purged
            .is_some_and(|purged| log_id.index <= purged.index);
        let entry = self.entries.get(&log_id.index);
        purged || entry.is_some_and(|entry| entry.log_id == log_id)
    }

    /// The index behind the last entry.
    fn end(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        let last = last.or(self.purged.map(|purged| purged.index));
        last.map_or(0, |last| last + 1)
    }

    /// Entries from `end` on are damaged.
    pub fn lose(&mut self, end: u64) {
        self.is_damaged = true;
        self.entries.split_off(&end);
        let is_there = |committed: &LogId<NodeId>| committed.index < end;
        self.committed = self.committed.filter(is_there);
    }

    fn append(&mut self, entry: Entry<Types>) {
        let end = self.end();
        assert!(entry.log_id.index <= end, "a hole before {}", entry.log_id);
        self.entries.split_off(&entry.log_id.index);
        self.entries.insert(entry.log_id.index, entry);
    }
}

/// One process' way to its log.
#[derive(Clone, Debug)]
pub struct Log {
    pub disk: Arc<Mutex<LogDisk>>,
    run: Arc<Mutex<Run>>,
}

/// What ends with the process.
#[derive(Debug)]
struct Run {
    node: NodeId,
    dead: bool,
    /// What is being written, in order.
    unsynced: VecDeque<Entry<Types>>,
    /// Tells of the end of what is synced.
    durable: watch::Sender<u64>,
    /// As Raft was told.
    committed: Option<u64>,
    /// A write takes between this and ten times of it.
    sync: Duration,
    chance: Chance,
}

impl Log {
    pub fn open(node: NodeId, disk: Arc<Mutex<LogDisk>>, seed: u64) -> Self {
        let end = disk.lock().end();
        let run = Run {
            node,
            dead: false,
            unsynced: VecDeque::new(),
            durable: watch::Sender::new(end),
            committed: None,
            sync: Duration::from_micros(200),
            chance: Chance::new(seed),
        };
        Self {
            disk,
            run: Arc::new(Mutex::new(run)),
        }
    }

    /// The process is gone; of what was being written any part may have got to the disk.
    pub fn crash(&self) {
        let mut run = self.run.lock();
        run.dead = true;
        let unsynced = std::mem::take(&mut run.unsynced);
        let torn = run.chance.below(unsynced.len() as u64 + 1);
        let torn = usize::try_from(torn).unwrap();
        let mut disk = self.disk.lock();
        for entry in unsynced.into_iter().take(torn) {
            disk.append(entry);
        }
    }

    /// Entries before this index are synced.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.run.lock().durable.subscribe()
    }

    /// The last entry that Raft took for committed in this run.
    pub fn committed(&self) -> Option<u64> {
        self.run.lock().committed
    }

    pub fn set_sync(&self, sync: Duration) {
        self.run.lock().sync = sync;
    }

    /// Writes the first `count` of what waits.
    async fn write(&self, count: usize) -> Result<(), Error> {
        self.sync().await?;
        let mut run = self.run.lock();
        let mut disk = self.disk.lock();
        let count = count.min(run.unsynced.len());
        for entry in run.unsynced.drain(..count) {
            disk.append(entry);
        }
        run.durable.send_replace(disk.end());
        Ok(())
    }

    /// Waits until no more than `count` entries wait: what was told early is written before
    /// anything else is.
    async fn settle(&self, count: usize) -> Result<(), Error> {
        while self.run.lock().unsynced.len() > count {
            self.sync().await?;
        }
        Ok(())
    }

    async fn sync(&self) -> Result<(), Error> {
        let pause = {
            let mut run = self.run.lock();
            let most = u64::try_from(run.sync.as_micros()).unwrap() * 9;
            run.sync + Duration::from_micros(run.chance.below(most + 1))
        };
        tokio::time::sleep(pause).await;
        self.alive()
    }

    #[allow(clippy::result_large_err, reason = "openraft's own")]
    fn alive(&self) -> Result<(), Error> {
        if self.run.lock().dead {
            let gone = std::io::Error::other("the process is gone");
            return Err(StorageIOError::write_logs(&gone).into());
        }
        Ok(())
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry<Types>>, Error>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.alive()?;
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let run = self.run.lock();
        let disk = self.disk.lock();
        let found = disk.entries.range(start..end.max(start));
        let found = found.map(|(_, entry)| entry);
        let wanted = |entry: &&Entry<Types>| (start..end).contains(&entry.log_id.index);
        let unsynced = run.unsynced.iter().filter(wanted);
        Ok(found.chain(unsynced).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Error> {
        let disk = self.disk.lock();
        let last = disk.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: disk.purged,
            last_log_id: last.or(disk.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Result<(), Error> {
        self.settle(0).await?;
        self.sync().await?;
        self.disk.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, Error> {
        Ok(self.disk.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<NodeId>>) -> Result<(), Error> {
        self.alive()?;
        // Never synced: now and then it gets to the disk, behind the entries.
        let is_written = {
            let mut run = self.run.lock();
            run.committed = committed.map(|committed| committed.index);
            run.chance.below(4) == 0
        };
        let mut disk = self.disk.lock();
        if is_written && committed.is_none_or(|committed| committed.index < disk.end()) {
            disk.committed = committed;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<NodeId>>, Error> {
        Ok(self.disk.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Error>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let count = entries.len();
        let vote = self.disk.lock().vote;
        let is_told_early = {
            let mut run = self.run.lock();
            let is_told_early = may_be_told_early(run.node, vote, &entries);
            run.unsynced.extend(entries);
            is_told_early
        };
        if is_told_early {
            callback.log_io_completed(Ok(()));
            let log = self.clone();
            tokio::spawn(async move { log.write(count).await });
        } else {
            self.settle(count).await?;
            self.write(count).await?;
            callback.log_io_completed(Ok(()));
        }
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<NodeId>) -> Result<(), Error> {
        {
            let mut run = self.run.lock();
            run.unsynced
                .retain(|entry| entry.log_id.index < since.index);
            let durable = run.durable.borrow().min(since.index);
            run.durable.send_replace(durable);
        }
        self.settle(0).await?;
        self.sync().await?;
        self.disk.lock().entries.split_off(&since.index);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<NodeId>) -> Result<(), Error> {
        self.settle(0).await?;
        self.sync().await?;
        let run = self.run.lock();
        let mut disk = self.disk.lock();
        disk.entries = disk.entries.split_off(&(upto.index + 1));
        disk.purged = Some(upto);
        run.durable.send_replace(disk.end());
        Ok(())
    }
}
