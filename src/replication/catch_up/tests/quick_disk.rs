//! The real disk without its syncs: a test of thousands of commits waits for none.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{
    Access, DirectoryNames, Disk, DiskFile, FileIdentity, FileStatus, OpenMode, RealDisk,
};

#[derive(Debug)]
pub struct QuickDisk;

impl Disk for QuickDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(QuickFile(RealDisk.open(path, mode)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.move_file(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
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
struct QuickFile(Arc<dyn DiskFile>);

impl DiskFile for QuickFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize> {
        self.0.read_at(buffer, position, access)
    }
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.0.write_at(slices, position)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn reserve(&self, position: u64, length: u64) -> io::Result<bool> {
        self.0.reserve(position, length)
    }
    fn identity(&self) -> io::Result<FileIdentity> {
        self.0.identity()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}
