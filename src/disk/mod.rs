//! The disk as the storages see it: a small trait with one real
//! implementation, so that tests can put one that fails, lies or stops in its place.

#[cfg(test)]
pub mod altered;
mod precedence;
mod real;
mod tree;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use precedence::{First, Precedence};
pub use real::RealDisk;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it is made where it does not exist.
    Create,
    /// For reading and writing; it is made, or emptied where it exists.
    Truncate,
    /// For reading and writing; it is made, for its owner only, and must not exist.
    New,
}

/// Which reads are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only what is in memory already: a read that would wait for the device
    /// fails with [`io::ErrorKind::WouldBlock`].
    Cached,
    /// Wait for the device where need be. Only on threads that may wait.
    Wait,
}

/// Names a file whatever its path: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// What is at a path; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// File, directory or something else.
    pub kind: FileKind,
    /// The permission bits.
    pub mode: u32,
}

/// See [`FileStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, a device, …
    Other,
}

/// The names in a directory, in no order.
pub type DirectoryNames = Box<dyn Iterator<Item = io::Result<OsString>> + Send>;

/// What the storages need of a file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens `path`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Puts `from` in the place of `to`, at once, and makes that durable
    /// (syncs the directory).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; it is no error where there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Is there something at `path`?
    fn exists(&self, path: &Path) -> bool;
    /// Makes the entries of a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Which file is at `path` now.
    fn identity(&self, path: &Path) -> io::Result<FileIdentity>;

    /// Puts `from` in the place of `to`, at once. Durable only once the directories are synced.
    fn move_file(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file `from` a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes one directory; false where there was one. Not durable by itself.
    fn create_directory(&self, path: &Path) -> io::Result<bool>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// What is in a directory.
    fn read_directory(&self, path: &Path) -> io::Result<DirectoryNames>;
    /// What is at `path`.
    fn status(&self, path: &Path) -> io::Result<FileStatus>;
    /// Sets the permission bits.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
}

/// An open file. All positions are bytes from its start; all calls can be made
/// from any thread.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Is the file empty?
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buffer` from `position` as far as the file goes; the number of bytes read.
    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize>;
    /// Writes all slices one behind the other from `position`.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Makes all written data durable, and the length (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes sure that `length` bytes from `position` can be written later
    /// without running out of space; the file's length stays. False where the
    /// file system cannot promise that.
    fn reserve(&self, position: u64, length: u64) -> io::Result<bool>;
    /// Which file this is.
    fn identity(&self) -> io::Result<FileIdentity>;
    /// Takes the lock that keeps other processes out (`flock`, exclusive);
    /// false where another process has it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// Has the file system no room left, for all or for this user?
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Fills all of `buffer`, or fails with [`io::ErrorKind::UnexpectedEof`].
pub fn read_exact_at(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    position: u64,
    access: Access,
) -> io::Result<()> {
    if file.read_at(buffer, position, access)? == buffer.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!(
                "{} bytes wanted at {position}, the file ends before",
                buffer.len()
            ),
        ))
    }
}
