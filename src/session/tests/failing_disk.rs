//! A disk whose writes or syncs of `Data.fs` fail from a given one on.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::disk::{
    Access, DirectoryNames, Disk, DiskFile, FileIdentity, FileStatus, OpenMode, RealDisk,
};

/// Counts down; what is left over when it is 0 fails.
#[derive(Debug)]
pub struct Fuse(AtomicUsize);

impl Fuse {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(usize::MAX)))
    }

    /// The call after `count` more, and all after it, fail.
    pub fn fail_after(&self, count: usize) {
        self.0.store(count, Ordering::SeqCst);
    }

    fn burn(&self) -> io::Result<()> {
        let burn = |left: usize| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, burn)
            .map(|_| ())
            .map_err(|_| io::Error::other("the disk is broken"))
    }
}

#[derive(Debug)]
pub struct FailingDisk {
    pub writes: Arc<Fuse>,
    pub syncs: Arc<Fuse>,
}

impl FailingDisk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            writes: Fuse::new(),
            syncs: Fuse::new(),
        })
    }
}

impl Disk for FailingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        if path.extension().is_none_or(|extension| extension != "fs") {
            return Ok(file);
        }
        Ok(Arc::new(FailingFile {
            file,
            writes: Arc::clone(&self.writes),
            syncs: Arc::clone(&self.syncs),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_directory(path)
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        RealDisk.identity(path)
    }

    fn move_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.move_file(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn create_directory(&self, path: &Path) -> io::Result<bool> {
        RealDisk.create_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_directory(path)
    }

    fn read_directory(&self, path: &Path) -> io::Result<DirectoryNames> {
        RealDisk.read_directory(path)
    }

    fn status(&self, path: &Path) -> io::Result<FileStatus> {
        RealDisk.status(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealDisk.set_mode(path, mode)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    writes: Arc<Fuse>,
    syncs: Arc<Fuse>,
}

impl DiskFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize> {
        self.file.read_at(buffer, position, access)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.writes.burn()?;
        self.file.write_at(slices, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.burn()?;
        self.file.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, position: u64, length: u64) -> io::Result<bool> {
        self.file.reserve(position, length)
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.file.identity()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
