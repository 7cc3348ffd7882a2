//! A disk that fails, fills up or loses its power at the Nth thing that is asked of it.

use std::collections::HashMap;
use std::fs;
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

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Torn,
        Self::Once,
        Self::Full,
    ];
}

/// The disk. A step is a call that changes something.
#[derive(Debug)]
pub struct FaultyDisk {
    state: Arc<State>,
    names: Names,
}

/// What can be done about the name of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Files can have a second name.
    Links,
    /// They cannot.
    Renames,
    /// They cannot, and `.old` lies on another volume.
    Copies,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    at: AtomicU64,
    step: AtomicU64,
    /// What was written since the last sync, by inode: it is lost with the power.
    unsynced: Mutex<HashMap<u64, Unsynced>>,
    /// The names whose directory was not synced since, in order: these can be lost, too.
    unsynced_names: Mutex<Vec<Name>>,
}

#[derive(Debug)]
struct Unsynced {
    file: Arc<dyn DiskFile>,
    ranges: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Name {
    name: PathBuf,
    /// None: it is new.
    moved_from: Option<PathBuf>,
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
    pub fn new(fault: Fault, names: Names) -> Self {
        Self {
            names,
            state: Arc::new(State {
                fault,
                at: AtomicU64::new(u64::MAX),
                step: AtomicU64::new(0),
                unsynced: Mutex::default(),
                unsynced_names: Mutex::default(),
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

    /// What is found once the power is back: all data that was not synced is gone.
    pub fn lose_unsynced(&self) {
        for (_, Unsynced { file, ranges }) in self.state.unsynced.lock().unwrap().drain() {
            for (start, length) in ranges {
                let lost = vec![0; usize::try_from(length).unwrap()];
                file.write_at(&[IoSlice::new(&lost)], start).unwrap();
            }
        }
    }

    /// The names that were not synced may be gone as well, or not: files are
    /// where they were before, new ones and new directories are nowhere.
    #[allow(
        dead_code,
        reason = "not every test that includes this goes by directories"
    )]
    pub fn lose_names(&self) {
        for Name { name, moved_from } in self.state.unsynced_names.lock().unwrap().drain(..).rev() {
            // What has been removed since need not be lost.
            let _ = match moved_from {
                Some(from) => fs::rename(&name, from),
                None if name.is_dir() => fs::remove_dir_all(&name),
                None => fs::remove_file(&name),
            };
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

    fn new_name(&self, name: &Path, moved_from: Option<&Path>) {
        self.unsynced_names.lock().unwrap().push(Name {
            name: name.to_owned(),
            moved_from: moved_from.map(Path::to_owned),
        });
    }

    fn names_synced(&self, directory: &Path) {
        let mut names = self.unsynced_names.lock().unwrap();
        names.retain(|name| name.name.parent() != Some(directory));
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
        if mode == OpenMode::Read {
            return FaultyFile::new(RealDisk.open(path, mode)?, None, &self.state);
        }
        self.state.step(false, || {
            let is_new = !RealDisk.exists(path);
            let file = RealDisk.open(path, mode)?;
            if is_new {
                self.state.new_name(path, None);
            }
            // Not the same one again, which can hold a lock.
            let to_lose = RealDisk.open(path, OpenMode::ReadWrite)?;
            FaultyFile::new(file, Some(to_lose), &self.state)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.names == Names::Copies && to.extension().is_some_and(|e| e == "old") {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        self.state.step(false, || {
            RealDisk.rename(from, to)?;
            self.state.new_name(to, Some(from));
            to.parent()
                .into_iter()
                .for_each(|directory| self.state.names_synced(directory));
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.names != Names::Links {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.state.step(false, || {
            RealDisk.link(from, to)?;
            self.state.new_name(to, None);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state.step(false, || RealDisk.remove(path))
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.state.step(false, || {
            RealDisk.sync_directory(path)?;
            self.state.names_synced(path);
            Ok(())
        })
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        RealDisk.identity(path)
    }

    fn move_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.step(false, || {
            RealDisk.move_file(from, to)?;
            self.state.new_name(to, Some(from));
            Ok(())
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<bool> {
        self.state.step(false, || {
            let is_new = RealDisk.create_directory(path)?;
            if is_new {
                self.state.new_name(path, None);
            }
            Ok(is_new)
        })
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
    /// The same file once more, to take away what was not synced. None: it is only read.
    to_lose: Option<Arc<dyn DiskFile>>,
    inode: u64,
    state: Arc<State>,
}

impl FaultyFile {
    #[expect(
        clippy::new_ret_no_self,
        reason = "an open file, as the trait gives it"
    )]
    fn new(
        file: Arc<dyn DiskFile>,
        to_lose: Option<Arc<dyn DiskFile>>,
        state: &Arc<State>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Self {
            inode: file.identity()?.inode,
            file,
            to_lose,
            state: Arc::clone(state),
        }))
    }
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
        if let Some(file) = &self.to_lose {
            let mut unsynced = self.state.unsynced.lock().unwrap();
            let entry = unsynced.entry(self.inode).or_insert_with(|| Unsynced {
                file: Arc::clone(file),
                ranges: Vec::new(),
            });
            entry.ranges.push((position, length as u64));
        }
        let step = self.state.step.load(Ordering::SeqCst);
        if step > self.state.at.load(Ordering::SeqCst) && self.state.fault != Fault::Once {
            return Err(self.state.error());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // A full disk can show as late as here.
        self.state.step(true, || {
            self.file.sync()?;
            self.state.unsynced.lock().unwrap().remove(&self.inode);
            Ok(())
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
