//! Directories and what is said of files, for [`super::RealDisk`].

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{DirectoryNames, FileKind, FileStatus};

const PERMISSION_BITS: u32 = 0o7777;

pub fn create_directory(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn read_directory(path: &Path) -> io::Result<DirectoryNames> {
    let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
    Ok(Box::new(names))
}

pub fn status(path: &Path) -> io::Result<FileStatus> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = if metadata.is_file() {
        FileKind::File
    } else if metadata.is_dir() {
        FileKind::Directory
    } else {
        FileKind::Other
    };
    Ok(FileStatus {
        kind,
        mode: metadata.permissions().mode() & PERMISSION_BITS,
    })
}

pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
