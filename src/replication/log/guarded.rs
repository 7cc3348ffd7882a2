//! raft-engine, guarded: it panics where a sync fails, and its groups of
//! concurrent writers would then be told that all is well. So one thread
//! writes, its panics are caught, and after one nothing is done any more.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use raft_engine::env::FileSystem;
use raft_engine::{Command, Config, Engine, Error, LogBatch, ReadableSize, RecoveryMode};

use super::engine::{Change, EngineError, GroupId, Key, LogEngine, Step};
use super::stored::{Stored, Stores};
use crate::disk::is_full;

/// Entries that raft-engine reads with one call, so that their places take little memory.
const MAX_READ_ENTRIES: u64 = 4096;

/// raft-engine looks up where entries are, and then reads there: `reclaim` may have moved them
/// meanwhile, and deleted the file. What is damaged stays so, however often it is read.
const READ_ATTEMPTS: u32 = 10;

/// raft-engine over the files of `F`.
pub(super) struct Guarded<F: FileSystem + 'static> {
    state: RwLock<State<F>>,
}

enum State<F: FileSystem + 'static> {
    Alive(Engine<F>),
    /// Why. The engine is kept, for closing it would sync its files once more;
    /// its lock keeps others from the directory until the process ends.
    Dead(String, Option<Engine<F>>),
}

impl<F: FileSystem + 'static> Guarded<F> {
    /// Opens what is in `directory`; refuses damage of any kind.
    pub fn open(directory: &Path, file_size: u64, files: Arc<F>) -> Result<Self, Error> {
        let path = directory.to_str().ok_or_else(|| {
            Error::InvalidArgument(format!("{} is not UTF-8", directory.display()))
        })?;
        let config = Config {
            dir: path.to_owned(),
            recovery_mode: RecoveryMode::AbsoluteConsistency,
            // One after the other: no merging of what several threads have read.
            recovery_threads: 1,
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(file_size),
            // When there is something to purge is known here better; see `reclaim`.
            purge_threshold: ReadableSize(2 * file_size),
            // A used file has old records behind the last one; see `scan`.
            enable_log_recycle: false,
            ..Config::default()
        };
        let open = || Engine::open_with_file_system(config, files);
        let engine = catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
            let what = format!("raft-engine panicked: {}", text_of(&*panic));
            Err(Error::Other(what.into()))
        })?;
        Ok(Self {
            state: RwLock::new(State::Alive(engine)),
        })
    }

    /// Does it with the engine, if that lives. A panic is its end.
    fn with<T>(
        &self,
        act: impl FnOnce(&Engine<F>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let failed = match &*self.state.read() {
            State::Dead(why, _) => return Err(EngineError::Dead(why.clone())),
            State::Alive(engine) => match catch_unwind(AssertUnwindSafe(|| act(engine))) {
                Ok(Err(EngineError::Dead(why))) => why,
                Ok(done) => return done,
                Err(panic) => format!("raft-engine panicked: {}", text_of(&*panic)),
            },
        };
        Err(EngineError::Dead(self.die(failed)))
    }

    /// The first reason counts.
    fn die(&self, why: String) -> String {
        let mut state = self.state.write();
        let dead = State::Dead(why.clone(), None);
        match std::mem::replace(&mut *state, dead) {
            State::Alive(engine) => {
                *state = State::Dead(why.clone(), Some(engine));
                why
            }
            State::Dead(first, engine) => {
                *state = State::Dead(first.clone(), engine);
                first
            }
        }
    }
}

impl<F: FileSystem + 'static> Drop for Guarded<F> {
    /// Closing syncs, and panics where that fails.
    fn drop(&mut self) {
        match std::mem::replace(self.state.get_mut(), State::Dead(String::new(), None)) {
            State::Alive(engine) => {
                let close = AssertUnwindSafe(|| drop(engine));
                if let Err(panic) = catch_unwind(close) {
                    tracing::error!("the log was not closed in order: {}", text_of(&*panic));
                }
            }
            State::Dead(_, engine) => std::mem::forget(engine),
        }
    }
}

impl<F: FileSystem + 'static> fmt::Debug for Guarded<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guarded").finish_non_exhaustive()
    }
}

impl<F: FileSystem + 'static> LogEngine for Guarded<F> {
    fn write(&self, changes: &[Change]) -> Result<usize, EngineError> {
        self.with(|engine| {
            let mut batch = LogBatch::with_capacity(changes.len());
            for change in changes {
                add(&mut batch, change).map_err(of_write)?;
            }
            engine.write(&mut batch, true).map_err(of_write)
        })
    }

    fn read(
        &self,
        group: GroupId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, EngineError> {
        let end = range.end.min(range.start.saturating_add(MAX_READ_ENTRIES));
        let read = || {
            self.with(|engine| {
                let mut stored = Vec::new();
                engine
                    .fetch_entries_to::<Stores>(
                        group,
                        range.start,
                        end,
                        Some(max_bytes),
                        &mut stored,
                    )
                    .map_err(of_read)?;
                let entries: Option<Vec<_>> = stored.into_iter().map(Stored::into_bytes).collect();
                match entries {
                    Some(entries) if !entries.is_empty() || range.is_empty() => Ok(entries),
                    _ => Err(EngineError::Missing),
                }
            })
        };
        for _ in 1..READ_ATTEMPTS {
            match read() {
                Err(EngineError::Unreadable(_)) => {}
                done => return done,
            }
        }
        read()
    }

    fn span(&self, group: GroupId) -> Result<Range<u64>, EngineError> {
        self.with(|engine| {
            let ends = (engine.first_index(group), engine.last_index(group));
            let (Some(first), Some(last)) = ends else {
                return Ok(0..0);
            };
            let at_end = match engine.get_entry::<Stores>(group, last) {
                Ok(Some(stored)) => stored.into_bytes().is_some(),
                Ok(None) => return Err(EngineError::Missing),
                // Who reads it is told.
                Err(_) => true,
            };
            Ok(first..if at_end { last.saturating_add(1) } else { last })
        })
    }

    fn value(&self, group: GroupId, key: Key) -> Result<Option<Vec<u8>>, EngineError> {
        self.with(|engine| Ok(engine.get(group, key.name().as_bytes())))
    }

    fn reclaim(&self) -> Result<(), EngineError> {
        self.with(|engine| engine.purge_expired_files().map(drop).map_err(of_reclaim))
    }
}

fn add(batch: &mut LogBatch, change: &Change) -> Result<(), Error> {
    let group = change.group;
    match &change.step {
        Step::Append(entries) => {
            let stored: Vec<_> = entries
                .iter()
                .map(|(index, entry)| Stored::new(*index, entry.clone()))
                .collect();
            batch.add_entries::<Stores>(group, &stored)
        }
        Step::CutEnd(from) => batch.add_entries::<Stores>(group, &[Stored::mark(*from)]),
        Step::CutBeginning(index) => {
            batch.add_command(group, Command::Compact { index: *index });
            Ok(())
        }
        Step::Put(key, value) => batch.put(group, key.name().as_bytes().to_vec(), value.clone()),
    }
}

/// Whether anything of the batch is there is known of two errors only.
fn of_write(error: Error) -> EngineError {
    match error {
        Error::TryAgain(_) => EngineError::Full(error.to_string()),
        Error::Io(ref cause) if is_full(cause) => EngineError::Full(cause.to_string()),
        Error::Full => EngineError::Refused("entries of more than 2 GiB".into()),
        other => EngineError::Dead(other.to_string()),
    }
}

fn of_read(error: Error) -> EngineError {
    match error {
        Error::EntryCompacted | Error::EntryNotFound => EngineError::Missing,
        other => EngineError::Unreadable(other.to_string()),
    }
}

fn of_reclaim(error: Error) -> EngineError {
    match error {
        Error::Io(ref cause) if is_full(cause) => EngineError::Full(cause.to_string()),
        other => EngineError::Unreadable(other.to_string()),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use raft_engine::env::DefaultFileSystem;

    use super::*;
    use crate::replication::entry_codec::EntryPieces;

    const ROUNDS: u64 = 500;

    fn append(group: GroupId, indexes: Range<u64>) -> Change {
        let pieces = EntryPieces {
            head: vec![7; 1000],
            payload: Bytes::new(),
        };
        let entries = indexes.map(|index| (index, pieces.clone()));
        Change {
            group,
            step: Step::Append(entries.collect()),
        }
    }

    /// Entries of a group that writes little are written again, and their files deleted.
    #[test]
    fn what_is_kept_can_be_read_while_files_go() {
        const SLOW: GroupId = 1;
        const BUSY: GroupId = 2;
        const FILE_BYTES: u64 = 16 << 10;
        const KEPT: u64 = 40;
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(DefaultFileSystem);
        let engine = Guarded::open(directory.path(), FILE_BYTES, files).unwrap();
        engine.write(&[append(SLOW, 0..KEPT)]).unwrap();
        let first = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let from = first.load(Ordering::Relaxed) + 1;
                    match engine.read(SLOW, from..from + KEPT / 2, usize::MAX) {
                        Ok(_) | Err(EngineError::Missing) => reads += 1,
                        Err(error) => return Err(error),
                    }
                }
                Ok(reads)
            });
            for round in 0..ROUNDS {
                let cut = |group, index| Change {
                    group,
                    step: Step::CutBeginning(index),
                };
                let (next, busy) = (KEPT + round, round * 10);
                let changes = [
                    append(SLOW, next..next + 1),
                    cut(SLOW, round),
                    append(BUSY, busy..busy + 10),
                    cut(BUSY, busy),
                ];
                engine.write(&changes).unwrap();
                first.store(round, Ordering::Relaxed);
                engine.reclaim().unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            let reads: u64 = reader.join().unwrap().unwrap();
            assert!(reads > 0);
        });
    }
}
