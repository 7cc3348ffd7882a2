use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::rotation::Rotator;
use crate::config::Rotation;

/// A file that lines are appended to. Other programs may rename it at any time
/// (then [`LogFile::reopen`] begins a new one), or empty it.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// `None`: not opened yet, key `delay`.
    file: Option<File>,
    rotator: Option<Rotator>,
    /// Whether the open file was put aside and no new one could be opened yet.
    has_moved: bool,
}

impl LogFile {
    /// Opens the file, unless that is to be delayed.
    pub fn new(
        path: &Path,
        rotation: Option<Rotation>,
        delay: bool,
        now: Timestamp,
        zone: TimeZone,
    ) -> io::Result<Self> {
        let begun = last_change(path).unwrap_or(now);
        Ok(Self {
            path: path.to_owned(),
            file: if delay { None } else { Some(open(path)?) },
            rotator: rotation.map(|rotation| Rotator::new(rotation, begun, zone)),
            has_moved: false,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line in one call. A rotation that fails is reported only
    /// after the line has been written to the former file.
    pub fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(open(&self.path)?);
        }
        let rotated = match (&self.rotator, &self.file) {
            (Some(_), _) if self.has_moved => self.rotate(now),
            (Some(rotator), Some(file)) if rotator.is_due(now, line.len(), || size_of(file)) => {
                self.rotate(now)
            }
            _ => Ok(()),
        };
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
        }
        rotated
    }

    /// Lets go of the file and opens the one that has its name now. A file with
    /// rotation that still has its name is put aside first, as ZConfig does. On
    /// error the former file stays in use.
    pub fn reopen(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        if self.rotator.is_some() && is_at(file, &self.path) && size_of(file) > 0 {
            return self.rotate(now);
        }
        self.file = Some(open(&self.path)?);
        self.has_moved = false;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(rotator) = &mut self.rotator else {
            return Ok(());
        };
        if self.path.metadata().is_ok_and(|it| it.is_file()) {
            let rotated = rotator
                .rotate(&self.path, now)
                .map_err(|error| not_rotated(&error))?;
            self.has_moved = rotated;
        }
        self.file = Some(open(&self.path)?);
        self.has_moved = false;
        rotator
            .remove_oldest(&self.path, now)
            .map_err(|error| not_rotated(&error))
    }
}

fn not_rotated(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("it cannot be rotated: {error}"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// 0 if it cannot be told; then nothing is rotated.
fn size_of(file: &File) -> u64 {
    file.metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map_or(0, |metadata| metadata.len())
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn last_change(path: &Path) -> Option<Timestamp> {
    let changed = path.metadata().ok()?.modified().ok()?;
    Timestamp::try_from(changed).ok()
}
