//! One thread writes for all groups: what waits of them goes into one record,
//! with one sync. Another one reads. A record is durable before the next is begun; `scan` builds on that.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::engine::{Change, EngineError, GroupId, Key, LogEngine, Step};
use super::error::LogHealth;
use super::stats::LogStats;

/// Jobs are put together until they have so many bytes; one larger goes alone.
const MAX_WRITE_BYTES: usize = 8 * 1024 * 1024;
/// So much may wait to be written; who wants to append more waits before.
const MAX_WAITING_BYTES: u32 = 64 * 1024 * 1024;
/// What is not urgent waits so long for a write to go along with. It also says that
/// what stands before it was acknowledged, so it is written soon.
const LAZY_DELAY: Duration = Duration::from_millis(200);
/// A write that found the disk full is tried again so often.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// Beyond the write itself, so much must be free before it is tried again: the engine
/// allocates ahead, and starts a new file each time that there was no room.
const FULL_SPARE_BYTES: u64 = 4 * 1024 * 1024;
/// A job's own share of the bound.
const JOB_BYTES: usize = 256;

/// What the reading thread does.
type Read = Box<dyn FnOnce() + Send>;

/// Told how its job ended; on the writing thread.
pub(super) type Done = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// Something to be made durable.
pub(super) struct Job {
    pub changes: Vec<Change>,
    pub done: Done,
    /// Gives the room back.
    pub room: Option<OwnedSemaphorePermit>,
}

/// What the owner, the groups and the threads of a log share.
pub(super) struct Writer {
    directory: PathBuf,
    /// None: closed.
    engine: RwLock<Option<Box<dyn LogEngine>>>,
    queue: Mutex<Queue>,
    work: Condvar,
    room: Arc<Semaphore>,
    health: watch::Sender<LogHealth>,
    /// When the write under way was begun.
    writing_since: Mutex<Option<Instant>>,
    /// To the reading thread. None: stopped, or not started. Everybody has one read in it.
    reads: Mutex<Option<mpsc::Sender<Read>>>,
    pub stats: Arc<LogStats>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// By what they replace.
    lazy: BTreeMap<(GroupId, Lazy), Change>,
    lazy_since: Option<Instant>,
    stopping: bool,
}

/// Kinds of changes that need not be durable at once; the last one of a kind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lazy {
    Committed,
    RaftVote,
    Purged,
    CutBeginning,
}

impl Writer {
    pub fn new(directory: PathBuf, engine: Box<dyn LogEngine>) -> Self {
        Self {
            directory,
            engine: RwLock::new(Some(engine)),
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Arc::new(Semaphore::new(MAX_WAITING_BYTES as usize)),
            health: watch::Sender::new(LogHealth::Well),
            writing_since: Mutex::default(),
            reads: Mutex::default(),
            stats: Arc::default(),
        }
    }

    pub fn health(&self) -> watch::Receiver<LogHealth> {
        self.health.subscribe()
    }

    /// How long the write under way has taken so far.
    pub fn writing_for(&self) -> Duration {
        let since = *self.writing_since.lock();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Waits until so much may be queued.
    pub async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes + JOB_BYTES).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        // The semaphore is never closed; without room the job goes all the same.
        room.acquire_many_owned(bytes.min(MAX_WAITING_BYTES))
            .await
            .ok()
    }

    /// Jobs are carried out in the order of the calls.
    pub fn submit(&self, job: Job) {
        let mut queue = self.queue.lock();
        if queue.stopping {
            drop(queue);
            (job.done)(Err(closed()));
            return;
        }
        for change in &job.changes {
            queue.forget_lazy(change);
        }
        queue.jobs.push_back(job);
        self.work.notify_all();
    }

    /// To be made durable with the next job, or a little later.
    pub fn submit_lazily(&self, kind: Lazy, change: Change) {
        let mut queue = self.queue.lock();
        queue.lazy.insert((change.group, kind), change);
        queue.lazy_since.get_or_insert_with(Instant::now);
        // The thread looks by itself: to wake it costs more than the rest.
    }

    /// Waits for it on this thread.
    pub fn write_now(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let (sender, outcome) = mpsc::channel();
        self.submit(Job {
            changes,
            done: Box::new(move |result| drop(sender.send(result))),
            room: None,
        });
        outcome.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Reads entries on the thread for that; `done` is told there. raft-engine keeps the last block
    /// that a thread has read, and takes it for that of another log at the same place:
    /// a thread must not read two logs, and there may be more of them in a process.
    pub fn read<T: 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&dyn LogEngine) -> Result<T, EngineError> + Send + 'static,
        done: impl FnOnce(Result<T, EngineError>) + Send + 'static,
    ) {
        let reads = self.reads.lock();
        let writer = Arc::clone(self);
        // Whoever waits learns that `done` is gone.
        if let Some(reads) = &*reads {
            let _ = reads.send(Box::new(move || done(writer.with_engine(act))));
        }
    }

    /// As [`Writer::read`]; waits on this thread.
    pub fn read_now<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&dyn LogEngine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (sender, outcome) = mpsc::channel();
        self.read(act, move |result| drop(sender.send(result)));
        outcome.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// The reading thread's work, until [`Writer::stop`].
    pub fn start_reads(&self) -> impl FnOnce() + Send + 'static {
        let (sender, reads) = mpsc::channel::<Read>();
        *self.reads.lock() = Some(sender);
        move || reads.into_iter().for_each(|read| read())
    }

    /// Does it with the engine, on this thread: not for reading entries.
    pub fn with_engine<T>(
        &self,
        act: impl FnOnce(&dyn LogEngine) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let result = match &*self.engine.read() {
            Some(engine) => act(&**engine),
            None => return Err(closed()),
        };
        if let Err(EngineError::Dead(why)) = &result {
            self.died(why);
        }
        result
    }

    /// What is queued is still done, unless the disk is full.
    pub fn stop(&self) {
        self.queue.lock().stopping = true;
        self.work.notify_all();
        *self.reads.lock() = None;
    }

    /// The directory is free when it returns. Only after [`Writer::stop`].
    pub fn close_engine(&self) {
        drop(self.engine.write().take());
    }

    /// Until [`Writer::stop`]. `cut` hears of every write that cut off a beginning.
    pub fn run(&self, cut: &mpsc::SyncSender<()>) {
        if catch_unwind(AssertUnwindSafe(|| self.run_guarded(cut))).is_err() {
            self.died("its writing thread panicked");
            self.stop();
            for job in std::mem::take(&mut self.queue.lock().jobs) {
                (job.done)(Err(closed()));
            }
        }
    }

    fn run_guarded(&self, cut: &mpsc::SyncSender<()>) {
        while let Some(jobs) = self.next() {
            let is_cut = |change: &Change| matches!(change.step, Step::CutBeginning(_));
            let has_cut = jobs.changes.iter().any(is_cut);
            self.carry_out(jobs);
            if has_cut {
                // One that was not heard yet says the same.
                let _ = cut.try_send(());
            }
        }
    }

    fn next(&self) -> Option<Batch> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.jobs.is_empty() {
                return Some(queue.take());
            }
            match queue.lazy_since {
                Some(since) if queue.stopping || since.elapsed() >= LAZY_DELAY => {
                    return Some(queue.take());
                }
                Some(since) => {
                    let left = LAZY_DELAY.saturating_sub(since.elapsed());
                    self.work.wait_for(&mut queue, left);
                }
                None if queue.stopping => return None,
                None => {
                    self.work.wait_for(&mut queue, LAZY_DELAY);
                }
            }
        }
    }

    fn carry_out(&self, batch: Batch) {
        let mut was_full = false;
        *self.writing_since.lock() = Some(Instant::now());
        let result = loop {
            let started = Instant::now();
            match self.with_engine(|engine| engine.write(&batch.changes)) {
                Ok(bytes) => {
                    self.count(&batch, bytes, started.elapsed());
                    break Ok(());
                }
                Err(EngineError::Full(why)) => {
                    self.stats.full.increment();
                    if !std::mem::replace(&mut was_full, true) {
                        self.filled_up(&why);
                    }
                    if !self.wait_for_room(batch.bytes) {
                        break Err(EngineError::Full(why));
                    }
                }
                Err(error) => break Err(error),
            }
        };
        *self.writing_since.lock() = None;
        if was_full && result.is_ok() {
            tracing::info!("the log in {} has room again", self.directory.display());
            self.health.send_replace(LogHealth::Well);
        }
        for (done, room) in batch.jobs {
            drop(room);
            done(result.clone());
        }
    }

    fn count(&self, batch: &Batch, bytes: usize, took: Duration) {
        let stats = &self.stats;
        stats.writes.increment();
        stats.jobs.add(batch.jobs.len() as u64);
        stats.bytes.add(bytes as u64);
        stats.write_times.observe_time(took);
        stats.jobs_per_write.observe(batch.jobs.len() as u64);
        for change in &batch.changes {
            if let Step::Append(entries) = &change.step {
                stats.entries.add(entries.len() as u64);
            }
        }
    }

    fn filled_up(&self, why: &str) {
        tracing::error!(
            "the log in {} cannot be written: {why}. Storages wait until there is room",
            self.directory.display()
        );
        self.health.send_replace(LogHealth::Full(why.to_owned()));
    }

    /// False: stopped before there was any.
    fn wait_for_room(&self, bytes: usize) -> bool {
        let wanted = bytes as u64 + FULL_SPARE_BYTES;
        let mut queue = self.queue.lock();
        loop {
            let until = Instant::now() + FULL_RETRY;
            // Jobs that come meanwhile wake this thread, and change nothing.
            while !queue.stopping && !self.work.wait_until(&mut queue, until).timed_out() {}
            if queue.stopping {
                return false;
            }
            match rustix::fs::statvfs(&self.directory) {
                Ok(room) if room.f_bavail.saturating_mul(room.f_frsize) < wanted => {}
                _ => return true,
            }
        }
    }

    fn died(&self, why: &str) {
        self.health.send_if_modified(|health| {
            let is_new = !matches!(health, LogHealth::Dead(_));
            if is_new {
                tracing::error!(
                    "CRITICAL: the log in {} failed, and it is not known what is on the disk: {why}. \
                     This node stops serving the storages; restart it when the disk is in order",
                    self.directory.display()
                );
                *health = LogHealth::Dead(why.to_owned());
            }
            is_new
        });
    }
}

/// What goes into one record.
struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    jobs: Vec<(Done, Option<OwnedSemaphorePermit>)>,
}

impl Queue {
    fn take(&mut self) -> Batch {
        let mut batch = Batch {
            changes: Vec::new(),
            bytes: 0,
            jobs: Vec::new(),
        };
        while let Some(job) = self.jobs.pop_front() {
            batch.bytes += size(&job.changes);
            batch.changes.extend(job.changes);
            batch.jobs.push((job.done, job.room));
            let next = self.jobs.front().map_or(0, |job| size(&job.changes));
            if batch.bytes + next > MAX_WRITE_BYTES {
                break;
            }
        }
        // Behind all that was asked for before them.
        if self.jobs.is_empty() {
            let lazy = std::mem::take(&mut self.lazy);
            batch.changes.extend(lazy.into_values());
            self.lazy_since = None;
        }
        batch
    }

    /// What `change` makes obsolete must not come after it.
    fn forget_lazy(&mut self, change: &Change) {
        let kind = match &change.step {
            Step::Put(Key::Committed, _) => Lazy::Committed,
            Step::Put(Key::RaftVote, _) => Lazy::RaftVote,
            Step::Put(Key::Purged, _) => Lazy::Purged,
            Step::CutBeginning(_) => Lazy::CutBeginning,
            _ => return,
        };
        self.lazy.remove(&(change.group, kind));
    }
}

fn size(changes: &[Change]) -> usize {
    let sizes = changes.iter().map(|change| match &change.step {
        Step::Append(entries) => entries
            .iter()
            .map(|(_, entry)| entry.head.len() + entry.payload.len())
            .sum(),
        _ => JOB_BYTES,
    });
    sizes.sum()
}

/// What those are told that come too late.
pub(super) fn closed() -> EngineError {
    EngineError::Refused("the log is closed".into())
}
