//! The log of a node: entries, raft votes and a few marks of all its storages, in one
//! raft-engine, which makes what they write durable together.
//!
//! ```text
//! group     RaftLogStorage for openraft; reader: what is read of it; state, tail, sizes: what is in memory
//! writer    the one thread that writes, the one that reads; what is not urgent; a full disk
//! engine    what an engine has to do; guarded: raft-engine; stored: its entries; filled: its files
//! early     what a leader may send before it is on its own disk
//! alone     the end of a log whose other nodes are gone for good
//! load      a storage's log when it is opened
//! reclaim   room is given back
//! recovery  the files before the engine opens them; scan: torn or damaged?
//! identity  whose log it is, which storage has which id, which are damaged
//! ```
//!
//! After a failed sync nothing is certain, so nothing is done any more:
//! [`Log::health`] says so, and the owner stops serving. A full disk only delays.

mod alone;
mod early;
mod engine;
mod error;
mod filled;
mod group;
mod guarded;
mod identity;
mod load;
mod reader;
mod reclaim;
mod recovery;
mod scan;
mod sizes;
mod state;
mod stats;
mod stored;
mod tail;
mod writer;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use openraft::LogId;
use parking_lot::Mutex;
use raft_engine::env::{DefaultFileSystem, FileSystem};
use tokio::sync::watch;

pub use early::may_be_told_early;
pub use error::{LogCondition, LogError, LogHealth};
pub use group::GroupLog;
pub use reader::{Extent, GroupReader, MAX_REQUEST_BYTES};
pub use stats::LogStats;

use self::engine::LogEngine;
use self::filled::Filled;
use self::group::Shared;
use self::guarded::Guarded;
use self::identity::Identity;
use self::reclaim::{Groups, Reclaimer};
use self::state::State;
use self::writer::Writer;
use super::types::NodeId;

/// Held while the log is open.
const LOCK_FILE: &str = "lock";

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of each file, about.
    pub file_size: u64,
    /// Of the entries of each storage that are kept in memory.
    pub tail_bytes: usize,
    /// Files that nobody needs any more are deleted so often at most.
    pub reclaim_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file_size: 32 * 1024 * 1024,
            tail_bytes: 16 * 1024 * 1024,
            reclaim_interval: Duration::from_secs(5),
        }
    }
}

/// The log of this node.
pub struct Log {
    directory: PathBuf,
    node: NodeId,
    options: Options,
    writer: Arc<Writer>,
    identity: Arc<Mutex<Identity>>,
    /// Each may be handed out only once.
    groups: Arc<Groups>,
    threads: Vec<JoinHandle<()>>,
    /// Freed at the very end.
    _lock: fs::File,
}

impl Log {
    /// Opens the log of node `node` in `directory`; makes it if there is none. Reads the newest
    /// file and the headers of the others; blocks.
    ///
    /// The condition is that of the files; a single storage's may be worse, see [`Log::group`].
    pub fn open(
        directory: &Path,
        node: NodeId,
        options: Options,
    ) -> Result<(Self, LogCondition), LogError> {
        Self::open_on(directory, node, options, DefaultFileSystem)
    }

    fn open_on<F: FileSystem + 'static>(
        directory: &Path,
        node: NodeId,
        options: Options,
        files: F,
    ) -> Result<(Self, LogCondition), LogError> {
        let lock = lock(directory)?;
        let is_new = !recovery::has_files(directory)?;
        let mut identity = Identity::open(directory, node, is_new)?;
        let (engine, condition) = open_engine(directory, &options, files, &mut identity)?;
        let writer = Arc::new(Writer::new(directory.to_owned(), engine));
        let groups = Arc::<Groups>::default();
        let threads = start_threads(Reclaimer {
            writer: Arc::clone(&writer),
            groups: Arc::clone(&groups),
            directory: directory.to_owned(),
            file_size: options.file_size,
            interval: options.reclaim_interval,
        })?;
        let log = Self {
            directory: directory.to_owned(),
            node,
            options,
            writer,
            identity: Arc::new(Mutex::new(identity)),
            groups,
            threads,
            _lock: lock,
        };
        Ok((log, condition))
    }

    /// Whether storage `name` has a log here. If not, what is noted beside its file is of another one.
    pub fn has_group(&self, name: &str) -> bool {
        self.identity.lock().has_group(name)
    }

    /// The log of storage `name`, a new one if there was none. `applied`: what the storage has
    /// durably applied. Reads every entry; blocks. Refused while it is open already.
    ///
    /// Look at [`GroupReader::condition`]: a damaged log's node may not vote.
    pub fn group(&self, name: &str, applied: Option<LogId<NodeId>>) -> Result<GroupLog, LogError> {
        let known = self.identity.lock().group(name)?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            node: self.node,
            id: known.id,
            writer: Arc::clone(&self.writer),
            identity: Arc::clone(&self.identity),
            condition: Mutex::new(LogCondition::Whole),
            state: Mutex::new(State::new(self.options.tail_bytes)),
            durable: watch::Sender::default(),
        });
        {
            let mut groups = self.groups.lock();
            if groups
                .get(&known.id)
                .is_some_and(|open| open.strong_count() > 0)
            {
                return Err(LogError::Unusable(format!(
                    "storage {name}: its log is open already"
                )));
            }
            groups.insert(known.id, Arc::downgrade(&shared));
        }
        let found = load::load(&shared, applied)?;
        if let Some(why) = &found {
            tracing::error!("storage {name}: its log is damaged: {why}");
        }
        if let Some(why) = known.damage.or(found) {
            *shared.condition.lock() = LogCondition::Damaged(why);
        }
        Ok(GroupLog::new(GroupReader { shared }))
    }

    /// How it fares; changes are told. Who learns that it is dead stops serving.
    pub fn health(&self) -> watch::Receiver<LogHealth> {
        self.writer.health()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.writer.stats)
    }

    /// Bytes on disk, with what is allocated ahead. Beside the entries that are kept, this is a
    /// third of theirs and a few files at most, if no storage keeps much older ones than others.
    pub fn size_bytes(&self) -> u64 {
        reclaim::size_bytes(&self.directory)
    }

    /// Bytes of the entries that are kept, of all storages. What counts for how much is purged.
    pub fn live_bytes(&self) -> u64 {
        reclaim::live_bytes(&self.groups)
    }

    /// Makes durable what was asked for, and lets go of the directory. The storages'
    /// logs may be around for a while; they fail from now on. Blocks.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.writer.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        self.writer.close_engine();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Log")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Does a process have the log in `directory` open?
pub fn is_in_use(directory: &Path) -> Result<bool, LogError> {
    let path = directory.join(LOCK_FILE);
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(|error| LogError::io(path.clone(), error))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(LogError::io(path, error)),
    }
}

/// Makes the directory, and keeps others out of it.
fn lock(directory: &Path) -> Result<fs::File, LogError> {
    fs::create_dir_all(directory).map_err(|error| LogError::io(directory.to_owned(), error))?;
    if let Some(parent) = directory.parent().filter(|parent| parent.is_dir()) {
        recovery::sync_directory(parent)?;
    }
    let path = directory.join(LOCK_FILE);
    let file = fs::File::create(&path).map_err(|error| LogError::io(path.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LogError::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(LogError::io(path, error)),
    }
}

/// What is wrong with the files is remembered before anything is done about it.
fn open_engine<F: FileSystem + 'static>(
    directory: &Path,
    options: &Options,
    files: F,
    identity: &mut Identity,
) -> Result<(Box<dyn LogEngine>, LogCondition), LogError> {
    let files = Arc::new(Filled(files));
    let mut condition = LogCondition::Whole;
    let mut damaged = |why: &str, identity: &mut Identity| {
        tracing::error!("the log in {} is damaged: {why}", directory.display());
        condition = LogCondition::Damaged(why.to_owned());
        identity.mark_damaged(None, why)
    };
    let plan = recovery::inspect(directory, identity.has_groups())?;
    if let Some(why) = plan.why() {
        damaged(why, identity)?;
    }
    plan.carry_out(directory)?;
    let open = || Guarded::open(directory, options.file_size, Arc::clone(&files));
    let engine = match open() {
        Err(raft_engine::Error::Corruption(why)) => {
            damaged(&format!("an older file: {why}"), identity)?;
            recovery::set_all_aside(directory)?;
            open()
        }
        opened => opened,
    };
    match engine {
        Ok(engine) => {
            // raft-engine does so for all files but its first.
            recovery::sync_directory(directory)?;
            Ok((Box::new(engine), condition))
        }
        Err(raft_engine::Error::Io(error)) => Err(LogError::io(directory.to_owned(), error)),
        Err(error) => Err(LogError::Engine {
            directory: directory.to_owned(),
            why: error.to_string(),
        }),
    }
}

fn start_threads(reclaimer: Reclaimer) -> Result<Vec<JoinHandle<()>>, LogError> {
    let directory = reclaimer.directory.clone();
    let failed = |error| LogError::io(directory.clone(), error);
    let writer = Arc::clone(&reclaimer.writer);
    let (cut, cuts) = mpsc::sync_channel(1);
    let reclaiming = thread::Builder::new()
        .name("log-reclaim".into())
        .spawn(move || reclaimer.run(&cuts));
    let reading = thread::Builder::new()
        .name("log-read".into())
        .spawn(writer.start_reads());
    let writing = thread::Builder::new()
        .name("log-write".into())
        .spawn(move || writer.run(&cut));
    let threads = [writing, reading, reclaiming];
    let threads = threads.into_iter().map(|thread| thread.map_err(failed));
    threads.collect()
}

#[cfg(test)]
mod tests;
