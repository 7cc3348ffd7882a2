use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{Access, Disk, DiskFile, FileIdentity, OpenMode};

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(false),
            OpenMode::Truncate => options.write(true).create(true).truncate(true),
        };
        Ok(Arc::new(RealFile {
            file: options.open(path)?,
            no_wait_refused: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.sync_directory(parent(to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        identity(&fs::metadata(path)?)
    }
}

/// The directory that holds `path`; the working directory for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "called in result chains")]
fn identity(metadata: &fs::Metadata) -> io::Result<FileIdentity> {
    Ok(FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Set once the file system has said that it knows no `RWF_NOWAIT`
    /// (overlay and network file systems); reads then always wait.
    no_wait_refused: AtomicBool,
}

impl RealFile {
    fn read_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = position + done as u64;
            match preadv2(
                &self.file,
                &mut [IoSliceMut::new(rest)],
                at,
                ReadWriteFlags::NOWAIT,
            ) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.no_wait_refused.store(true, Ordering::Relaxed);
                    return self.read_waiting(buffer, position);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn read_waiting(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize> {
        if access == Access::Cached && !self.no_wait_refused.load(Ordering::Relaxed) {
            self.read_cached(buffer, position)
        } else {
            self.read_waiting(buffer, position)
        }
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        /// What Linux takes in one call (`IOV_MAX`).
        const MAX_SLICES: usize = 1024;
        let mut position = position;
        for group in slices.chunks(MAX_SLICES) {
            let mut group = group.to_vec();
            let mut rest: &mut [IoSlice<'_>] = &mut group;
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        position += count as u64;
                        IoSlice::advance_slices(&mut rest, count);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, position: u64, length: u64) -> io::Result<bool> {
        loop {
            return match fallocate(&self.file, FallocateFlags::KEEP_SIZE, position, length) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        identity(&self.file.metadata()?)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::read_exact_at;

    #[test]
    fn many_slices_arrive_in_order_and_short_reads_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = RealDisk.open(&path, OpenMode::Create).unwrap();
        let pieces: Vec<[u8; 2]> = (0..3000_u16).map(u16::to_be_bytes).collect();
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        file.write_at(&slices, 4).unwrap();
        assert_eq!(file.len().unwrap(), 6004);
        let mut buffer = [0; 6000];
        read_exact_at(&*file, &mut buffer, 4, Access::Cached).unwrap();
        assert_eq!(buffer.as_slice(), pieces.concat());
        let error = read_exact_at(&*file, &mut buffer, 5, Access::Wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_lock_keeps_a_second_opener_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.lock");
        let first = RealDisk.open(&path, OpenMode::Create).unwrap();
        let second = RealDisk.open(&path, OpenMode::Create).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn reserving_keeps_the_length() {
        let directory = tempfile::tempdir().unwrap();
        let file = RealDisk
            .open(&directory.path().join("file"), OpenMode::Create)
            .unwrap();
        file.reserve(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 0);
    }
}
