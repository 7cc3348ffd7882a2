//! The real disk with a difference, for tests.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::{Access, DirectoryNames, Disk, DiskFile, FileIdentity, FileStatus, OpenMode, RealDisk};

/// What is different; all else is as on the real disk.
pub trait Difference: fmt::Debug + Send + Sync + 'static {
    /// Is it for the file at `path`?
    fn concerns(&self, _path: &Path) -> bool {
        true
    }
    /// As [`DiskFile::write_at`].
    fn write_at(
        &self,
        file: &dyn DiskFile,
        slices: &[IoSlice<'_>],
        position: u64,
    ) -> io::Result<()> {
        file.write_at(slices, position)
    }
    /// As [`DiskFile::sync`].
    fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.sync()
    }
    /// As [`Disk::sync_directory`], also after a rename.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_directory(path)
    }
}

/// The real disk with this difference.
#[derive(Debug)]
pub struct AlteredDisk<D>(pub Arc<D>);

impl<D: Difference> Disk for AlteredDisk<D> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        if !self.0.concerns(path) {
            return Ok(file);
        }
        Ok(Arc::new(AlteredFile {
            file,
            difference: Arc::clone(&self.0),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.move_file(from, to)?;
        to.parent()
            .map_or(Ok(()), |directory| self.0.sync_directory(directory))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.sync_directory(path)
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
struct AlteredFile<D> {
    file: Arc<dyn DiskFile>,
    difference: Arc<D>,
}

impl<D: Difference> DiskFile for AlteredFile<D> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize> {
        self.file.read_at(buffer, position, access)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.difference.write_at(&*self.file, slices, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.difference.sync(&*self.file)
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
