//! A disk that fails, fills up or loses its power at the Nth thing that is asked of it.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use zeod::disk::{
    Access, DirectoryNames, Disk, DiskFile, FileIdentity, FileStatus, OpenMode, RealDisk,
};

/// What happens at the Nth step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes before it is done.
    CrashBefore,
    /// The power goes when it is done, and before anyone is told.
    CrashAfter,
    /// The power goes when a write is half done.
    Torn,
    /// It fails, and all else goes on.
    Once,
    /// From there on nothing more can be written.
    Full,
}

/// The disk. A step is a call that changes something.
#[derive(Debug)]
pub struct FaultyDisk {
    state: Arc<State>,
    /// Files can have a second name.
    links: bool,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    at: AtomicU64,
    step: AtomicU64,
    /// What was written since the last sync, by file: it is lost with the power.
    unsynced: Mutex<HashMap<PathBuf, Vec<(u64, u64)>>>,
}

/// What is to be done about one step.
enum Verdict {
    Do,
    Half,
    DoAndFail,
    Fail,
}

impl FaultyDisk {
    /// Fails at step `at`, counted from 0, once [`Self::arm`] was called.
    pub fn new(fault: Fault, links: bool) -> Self {
        Self {
            links,
            state: Arc::new(State {
                fault,
                at: AtomicU64::new(u64::MAX),
                step: AtomicU64::new(0),
                unsynced: Mutex::default(),
            }),
        }
    }

    /// From now on steps count; the one with number `at` fails.
    pub fn arm(&self, at: u64) {
        self.state.step.store(0, Ordering::SeqCst);
        self.state.at.store(at, Ordering::SeqCst);
    }

    /// Has it come to the fault?
    pub fn has_failed(&self) -> bool {
        self.state.step.load(Ordering::SeqCst) > self.state.at.load(Ordering::SeqCst)
    }

    /// Is there no disk any more?
    pub fn is_dead(&self) -> bool {
        self.has_failed() && !matches!(self.state.fault, Fault::Once | Fault::Full)
    }

    /// What is found once the power is back: all that was not synced is gone.
    pub fn lose_unsynced(&self) {
        for (path, ranges) in self.state.unsynced.lock().unwrap().drain() {
            let Ok(file) = RealDisk.open(&path, OpenMode::ReadWrite) else {
                continue;
            };
            for (start, length) in ranges {
                let lost = vec![0; usize::try_from(length).unwrap()];
                file.write_at(&[IoSlice::new(&lost)], start).unwrap();
            }
        }
    }
}

impl State {
    fn next(&self, is_write: bool) -> Verdict {
        let step = self.step.fetch_add(1, Ordering::SeqCst);
        let at = self.at.load(Ordering::SeqCst);
        if step < at {
            return Verdict::Do;
        }
        match self.fault {
            Fault::Full if is_write => Verdict::Fail,
            Fault::Once if step == at => Verdict::Fail,
            Fault::Full | Fault::Once => Verdict::Do,
            Fault::CrashAfter if step == at => Verdict::DoAndFail,
            Fault::Torn if step == at && is_write => Verdict::Half,
            _ => Verdict::Fail,
        }
    }

    fn error(&self) -> io::Error {
        match self.fault {
            Fault::Full => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("the disk failed"),
        }
    }

    fn step<T>(&self, is_write: bool, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next(is_write) {
            Verdict::Do => work(),
            Verdict::DoAndFail => {
                work()?;
                Err(self.error())
            }
            Verdict::Half | Verdict::Fail => Err(self.error()),
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = match mode {
            OpenMode::Read => RealDisk.open(path, mode)?,
            _ => self.state.step(false, || RealDisk.open(path, mode))?,
        };
        Ok(Arc::new(FaultyFile {
            file,
            path: path.to_owned(),
            state: Arc::clone(&self.state),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.step(false, || {
            let mut unsynced = self.state.unsynced.lock().unwrap();
            let moved = unsynced.remove(from).unwrap_or_default();
            unsynced.insert(to.to_owned(), moved);
            RealDisk.rename(from, to)
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.links {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.state.step(false, || RealDisk.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state.step(false, || {
            self.state.unsynced.lock().unwrap().remove(path);
            RealDisk.remove(path)
        })
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.state.step(false, || RealDisk.sync_directory(path))
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        RealDisk.identity(path)
    }

    fn move_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.step(false, || RealDisk.move_file(from, to))
    }

    fn create_directory(&self, path: &Path) -> io::Result<bool> {
        self.state.step(false, || RealDisk.create_directory(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.state.step(false, || RealDisk.remove_directory(path))
    }

    fn read_directory(&self, path: &Path) -> io::Result<DirectoryNames> {
        RealDisk.read_directory(path)
    }

    fn status(&self, path: &Path) -> io::Result<FileStatus> {
        RealDisk.status(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.state.step(false, || RealDisk.set_mode(path, mode))
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    state: Arc<State>,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize> {
        self.file.read_at(buffer, position, access)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let length = match self.state.next(true) {
            Verdict::Do | Verdict::DoAndFail => bytes.len(),
            Verdict::Half => bytes.len() / 2,
            Verdict::Fail => return Err(self.state.error()),
        };
        self.file
            .write_at(&[IoSlice::new(&bytes[..length])], position)?;
        let mut unsynced = self.state.unsynced.lock().unwrap();
        let ranges = unsynced.entry(self.path.clone()).or_default();
        ranges.push((position, length as u64));
        let step = self.state.step.load(Ordering::SeqCst);
        if step > self.state.at.load(Ordering::SeqCst) && self.state.fault != Fault::Once {
            return Err(self.state.error());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // A full disk can show as late as here.
        self.state.step(true, || {
            self.state.unsynced.lock().unwrap().remove(&self.path);
            self.file.sync()
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.state.step(false, || self.file.set_len(length))
    }

    fn reserve(&self, position: u64, length: u64) -> io::Result<bool> {
        self.state
            .step(true, || self.file.reserve(position, length))
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.file.identity()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
