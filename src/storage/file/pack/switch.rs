//! A pack from beginning to end, and how the new file takes the old one's place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::copy::Copier;
use super::leftovers::{OLD_SUFFIX, PACK_SUFFIX, forget_link};
use super::progress::{PackPhase, Progress};
use super::reachable;
use super::rest::Rest;
use super::window::Output;
use super::{PackOptions, PackOutcome};
use crate::disk::{Access, Disk, OpenMode};
use crate::storage::file::index::Index;
use crate::storage::file::iterator::find_start;
use crate::storage::file::reader::DataFile;
use crate::storage::file::{Append, FileStorage, Generation, SyncedState, beside, index_file};
use crate::storage::{Result, StorageError};
use crate::types::Tid;

/// Once no more than this is left to copy, commits are held up for it …
const PAUSE_BYTES: u64 = 256 << 10;
/// … or after so many steps, where commits come as fast as they are copied.
const MAX_STEPS: usize = 64;
/// A wait for the committer to publish what it wrote is looked at again after this.
const PUBLISH_WAIT: Duration = Duration::from_millis(50);

impl FileStorage {
    /// Packs to the time `stop`: drops all revisions that were not current any
    /// more then, and (with garbage collection) all objects that could not be
    /// reached then. Reads and commits go on.
    ///
    /// After an error, everything is as it was, but for the `.old` of an
    /// earlier pack, which makes room before anything is written.
    pub fn pack_with(&self, stop: Tid, options: PackOptions<'_>) -> Result<PackOutcome> {
        self.check_writable()?;
        if stop == Tid::ZERO {
            return Err(StorageError::InvalidPackTime);
        }
        if self.generation.load().index.len() == 0 {
            return Ok(PackOutcome::Nothing);
        }
        let _running = self.packing.begin()?;
        let name = &self.description.name;
        tracing::info!("{name}: packing to {stop}");
        let outcome = Pack::new(self).run(stop, options);
        match &outcome {
            Ok(PackOutcome::Packed {
                bytes: (before, after),
                objects: (all, kept),
                took,
                paused,
            }) => tracing::info!(
                "{name}: packed in {:.1} s: {before} bytes became {after}, {all} objects {kept}; \
                 commits waited {:.1} ms",
                took.as_secs_f64(),
                paused.as_secs_f64() * 1000.0
            ),
            Ok(PackOutcome::Nothing) => tracing::info!(
                "{name}: already packed to this time or a later one, or there is nothing to drop"
            ),
            Err(error) => tracing::error!("{name}: the pack failed, nothing changed: {error}"),
        }
        outcome
    }

    /// Does a pack run? Undo is refused meanwhile.
    pub fn is_packing(&self) -> bool {
        self.packing.is_running()
    }

    /// The append state once nothing is written that is not published: only
    /// then do its positions, the index and the end belong together.
    pub(in crate::storage::file) fn pause_commits(&self) -> MutexGuard<'_, Append> {
        let mut append = self.append.lock();
        while append.end != self.generation.load().end.load(Ordering::Acquire)
            && self.stopped.get().is_none()
        {
            self.published.wait_for(&mut append, PUBLISH_WAIT);
        }
        append
    }
}

/// One pack.
struct Pack<'a> {
    storage: &'a FileStorage,
    disk: &'a dyn Disk,
    progress: &'a Progress,
    old: Arc<Generation>,
    path: &'a Path,
    packed_path: PathBuf,
    old_path: PathBuf,
    begun: Instant,
}

/// How the old file gets its name `.old`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeepOld {
    /// Not at all.
    No,
    /// It has it already, beside its own.
    Linked,
    /// By a rename: the file system knows no second names.
    Rename,
}

impl<'a> Pack<'a> {
    fn new(storage: &'a FileStorage) -> Self {
        let path = storage.options.path.as_path();
        Self {
            storage,
            disk: &*storage.disk,
            progress: storage.packing.progress(),
            old: storage.generation.load_full(),
            path,
            packed_path: beside(path, PACK_SUFFIX),
            old_path: beside(path, OLD_SUFFIX),
            begun: Instant::now(),
        }
    }

    fn run(&self, stop: Tid, options: PackOptions<'_>) -> Result<PackOutcome> {
        let gc = options.gc.unwrap_or(self.storage.options.pack_gc);
        let data = &self.old.data;
        let mut end = self.old.end.load(Ordering::Acquire);
        if let Some(until) = options.until {
            end = find_start(data, end, until.next())?;
        }
        let Some(mut reachable) = reachable::find(data, self.progress, end, stop, gc)? else {
            return Ok(PackOutcome::Nothing);
        };
        self.tell("what is kept is known");
        self.disk
            .remove(&self.old_path)
            .map_err(StorageError::io(format!(
                "removing {}",
                self.old_path.display()
            )))?;
        let written = self.write(&mut reachable, options);
        match written {
            Ok(Some(paused)) => {
                self.save_index();
                Ok(self.outcome(paused))
            }
            Ok(None) => {
                self.clean()?;
                Ok(PackOutcome::Nothing)
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.clean();
                Err(error)
            }
        }
    }

    /// Writes the new file and puts it in place. None: it would be no better.
    fn write(
        &self,
        reachable: &mut reachable::Reachable,
        options: PackOptions<'_>,
    ) -> Result<Option<Duration>> {
        let name = self.packed_path.display().to_string();
        let file = self
            .disk
            .open(&self.packed_path, OpenMode::Truncate)
            .map_err(StorageError::io(format!("making {name}")))?;
        let mut out = Output::new(file, name, &self.storage.precedence);
        let data = &self.old.data;
        let on_removed = options.on_removed_blob;
        let begin = reachable.packed_end;
        let moved = Copier::new(data, self.progress, reachable, &mut out, on_removed)
            .copy(self.progress)?;
        if out.position() == begin {
            return Ok(None);
        }
        self.tell("copied up to the pack time");
        let positions = std::mem::take(&mut reachable.positions);
        let mut rest = Rest::new(data, self.progress, begin, out.position(), moved);
        self.progress
            .begin(PackPhase::CatchingUp, self.old.end.load(Ordering::Acquire));
        self.catch_up(&mut rest, &mut out, &positions)?;
        // What is synced now need not be while commits wait.
        out.sync()?;
        self.catch_up(&mut rest, &mut out, &positions)?;
        self.switch(rest, out, positions).map(Some)
    }

    /// Copies what was committed, until little is left.
    fn catch_up(&self, rest: &mut Rest<'_>, out: &mut Output<'_>, positions: &Index) -> Result<()> {
        for _ in 0..MAX_STEPS {
            let end = self.old.end.load(Ordering::Acquire);
            if end - rest.position() <= PAUSE_BYTES {
                break;
            }
            rest.copy(out, positions, end)?;
        }
        Ok(())
    }

    /// Copies the last transactions while commits wait, and exchanges the files.
    fn switch(
        &self,
        mut rest: Rest<'_>,
        mut out: Output<'_>,
        positions: Index,
    ) -> Result<Duration> {
        // No index is saved from here on that is of the old file.
        let _saving = self.storage.saving.lock();
        self.forget_saved_index()?;
        let keep = self.link_old()?;
        self.progress
            .begin(PackPhase::Switching, self.old.end.load(Ordering::Acquire));
        // While this runs no undo is voted any more.
        self.storage.undos.wait();
        let mut append = self.storage.pause_commits();
        let paused = Instant::now();
        self.storage.check_writable()?;
        if append.closed {
            return Err(StorageError::PackInterrupted);
        }
        out.hurry();
        rest.copy(&mut out, &positions, append.end)?;
        out.sync()?;
        let end = out.position();
        let new = Generation {
            data: DataFile {
                file: Arc::clone(out.file()),
                name: Arc::clone(&self.old.data.name),
            },
            index: positions,
            end: end.into(),
        };
        let mut space = self.storage.space.lock();
        let promised = space.promise_in(&*new.data.file, end)?;
        let ledger = self.storage.ledger.get();
        let state = self.synced_state(append.end, ledger.is_some())?;
        if let Some(ledger) = ledger {
            ledger.before_switch(state, end)?;
        }
        let exchanged = self.exchange(keep);
        if let Err(error) = exchanged {
            if !self.is_in_place(&new.data) {
                if let Some(ledger) = ledger {
                    ledger.after_switch(None);
                }
                return Err(error);
            }
            // The new file is there, but after a crash it may not be: nothing
            // may be committed to either.
            tracing::error!(
                "{}: {error}. The packed file is in place, but a crash may bring the old one \
                 back; no more changes are taken. Repair the disk, then restart the server",
                self.old.data.name
            );
            let _ = self.storage.stopped.set(error.to_string());
        }
        space.moved(promised);
        append.end = end;
        if let Some(ledger) = ledger {
            ledger.after_switch(Some(SyncedState {
                length: end,
                ..state
            }));
        }
        self.storage.generation.store(Arc::new(new));
        self.storage.saved_end.store(0, Ordering::Release);
        drop(space);
        drop(append);
        Ok(paused.elapsed())
    }

    /// The old file as it is; synced where a ledger wants that.
    fn synced_state(&self, length: u64, sync: bool) -> Result<SyncedState> {
        if sync {
            self.old
                .data
                .file
                .sync()
                .map_err(StorageError::io(format!("syncing {}", self.old.data.name)))?;
        }
        Ok(SyncedState {
            last_tid: Tid::from_u64(self.storage.last_tid.load(Ordering::Acquire)),
            length,
        })
    }

    /// The saved index is that of the old file; beside the new one it would be
    /// wrong, and might look right.
    fn forget_saved_index(&self) -> Result<()> {
        let index = beside(self.path, ".index");
        self.storage.saved_end.store(0, Ordering::Release);
        self.disk
            .remove(&index)
            .and_then(|()| self.disk.sync_directory(directory(self.path)))
            .map_err(StorageError::io(format!("removing {}", index.display())))
    }

    /// Gives the old file its second name, so that there is no moment without
    /// a `Data.fs`.
    fn link_old(&self) -> Result<KeepOld> {
        if !self.storage.options.pack_keep_old {
            return Ok(KeepOld::No);
        }
        match self.disk.link(self.path, &self.old_path) {
            Ok(()) => {
                self.disk
                    .sync_directory(directory(self.path))
                    .map_err(StorageError::io("naming the old file"))?;
                Ok(KeepOld::Linked)
            }
            Err(error) => {
                tracing::debug!(
                    "{} cannot be a second name of the old file ({error}); it is renamed",
                    self.old_path.display()
                );
                Ok(KeepOld::Rename)
            }
        }
    }

    fn exchange(&self, keep: KeepOld) -> Result<()> {
        let doing = || format!("putting {} in place", self.packed_path.display());
        if keep == KeepOld::Rename {
            self.set_aside()?;
        }
        let renamed = self.disk.rename(&self.packed_path, self.path);
        // Where it was copied it is still there.
        if renamed.is_err() && !self.disk.exists(self.path) {
            self.disk
                .rename(&self.old_path, self.path)
                .map_err(StorageError::io("putting the old file back"))?;
        }
        renamed.map_err(StorageError::io(doing()))
    }

    /// Gives the old file its new name, or copies it where that lies on
    /// another volume.
    fn set_aside(&self) -> Result<()> {
        let doing = || format!("keeping the old file as {}", self.old_path.display());
        match self.disk.rename(self.path, &self.old_path) {
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                let copied = self.copy_old();
                if copied.is_err() {
                    // Half a file would look like a whole one.
                    let _ = self.disk.remove(&self.old_path);
                }
                copied.map_err(StorageError::io(doing()))
            }
            result => result.map_err(StorageError::io(doing())),
        }
    }

    fn copy_old(&self) -> std::io::Result<()> {
        let copy = self.disk.open(&self.old_path, OpenMode::Truncate)?;
        let end = self.old.end.load(Ordering::Acquire);
        let mut buffer = vec![0; super::window::PASS_BYTES];
        let mut position = 0;
        while position < end {
            let left = usize::try_from(end - position).unwrap_or(usize::MAX);
            let wanted = buffer.len().min(left);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            crate::disk::read_exact_at(&*self.old.data.file, piece, position, Access::Wait)?;
            copy.write_at(&[std::io::IoSlice::new(piece)], position)?;
            position += wanted as u64;
        }
        copy.sync()
    }

    /// Is the new file what is found under the database's name?
    fn is_in_place(&self, new: &DataFile) -> bool {
        matches!(
            (self.disk.identity(self.path), new.file.identity()),
            (Ok(found), Ok(new)) if found == new
        )
    }

    /// Removes what an unfinished pack would leave.
    fn clean(&self) -> Result<()> {
        forget_link(self.disk, self.path, &self.old_path)?;
        let name = self.packed_path.display();
        self.disk
            .remove(&self.packed_path)
            .map_err(StorageError::io(format!("removing {name}")))
    }

    /// A pack without a saved index is a pack all the same; the next start reads the file.
    fn save_index(&self) {
        self.progress.begin(PackPhase::Saving, 0);
        let storage = self.storage;
        let _saving = storage.saving.lock();
        let generation = storage.generation.load_full();
        let end = generation.end.load(Ordering::Acquire);
        storage.saved_end.store(end, Ordering::Release);
        let saved = index_file::save(
            self.disk,
            self.path,
            &generation.data,
            &generation.index,
            end,
        );
        if let Err(error) = saved {
            storage.saved_end.store(0, Ordering::Release);
            tracing::warn!("{}: the index was not saved: {error}", self.old.data.name);
        }
    }

    fn outcome(&self, paused: Duration) -> PackOutcome {
        let new = self.storage.generation.load();
        PackOutcome::Packed {
            bytes: (
                self.old.end.load(Ordering::Acquire),
                new.end.load(Ordering::Acquire),
            ),
            objects: (self.old.index.len(), new.index.len()),
            took: self.begun.elapsed(),
            paused,
        }
    }

    fn tell(&self, what: &str) {
        tracing::info!(
            "{}: {what}, {:.1} s after the begin",
            self.old.data.name,
            self.begun.elapsed().as_secs_f64()
        );
    }
}

/// The directory that holds `path`.
pub(in crate::storage::file) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
