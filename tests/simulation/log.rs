//! A log in memory that forgets at a crash what was not yet synced.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{Entry, LogId, RaftLogReader, StorageError, StorageIOError, Vote};
use parking_lot::Mutex;
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
}

impl LogDisk {
    pub fn has(&self, log_id: LogId<NodeId>) -> bool {
        let purged = self
            .purged
            .is_some_and(|purged| log_id.index <= purged.index);
        let entry = self.entries.get(&log_id.index);
        purged || entry.is_some_and(|entry| entry.log_id == log_id)
    }

    fn append(&mut self, entry: Entry<Types>) {
        let last = self.entries.keys().next_back().copied();
        let end = last.or(self.purged.map(|purged| purged.index));
        let next = end.map_or(0, |end| end + 1);
        assert!(entry.log_id.index <= next, "a hole before {}", entry.log_id);
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
    dead: bool,
    /// What is being written.
    unsynced: Vec<Entry<Types>>,
    /// A write takes between this and ten times of it.
    sync: Duration,
    chance: Chance,
}

impl Log {
    pub fn open(disk: Arc<Mutex<LogDisk>>, seed: u64) -> Self {
        let run = Run {
            dead: false,
            unsynced: Vec::new(),
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

    pub fn set_sync(&self, sync: Duration) {
        self.run.lock().sync = sync;
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
        let disk = self.disk.lock();
        let found = disk.entries.range(start..end.max(start));
        Ok(found.map(|(_, entry)| entry.clone()).collect())
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
        self.sync().await?;
        self.disk.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, Error> {
        Ok(self.disk.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<NodeId>>) -> Result<(), Error> {
        self.alive()?;
        // Never synced: now and then it gets to the disk.
        if self.run.lock().chance.below(4) == 0 {
            self.disk.lock().committed = committed;
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
        self.run.lock().unsynced = entries;
        self.sync().await?;
        {
            let mut run = self.run.lock();
            let mut disk = self.disk.lock();
            for entry in run.unsynced.drain(..) {
                disk.append(entry);
            }
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<NodeId>) -> Result<(), Error> {
        self.sync().await?;
        self.disk.lock().entries.split_off(&since.index);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<NodeId>) -> Result<(), Error> {
        self.sync().await?;
        let mut disk = self.disk.lock();
        disk.entries = disk.entries.split_off(&(upto.index + 1));
        disk.purged = Some(upto);
        Ok(())
    }
}
