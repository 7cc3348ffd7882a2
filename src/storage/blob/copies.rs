//! Second names and copies of blobs' files, in the directory or out of it.

use std::io::{self, IoSlice};
use std::path::Path;

use super::BlobDirectory;
use crate::disk::{Access, DiskFile, OpenMode};

/// Files are copied in pieces of this size.
const COPY_BYTES: usize = 128 << 10;

impl BlobDirectory {
    /// Gives a file a second name, or copies it where that cannot be.
    pub(super) fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.disk.link(from, to) {
            Err(error) if is_not_possible(&error) => self.copy(from, to),
            result => result,
        }
    }

    /// Moves a file, by copying it where it goes to another volume.
    pub(super) fn move_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.disk.move_file(from, to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.copy(from, to)?;
                self.disk.remove(from)
            }
            result => result,
        }
    }

    /// Copies a file with its mode to a new one, durably (but for its name).
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mode = self.disk.status(from)?.mode;
        let target = self.disk.open(to, OpenMode::New)?;
        self.disk
            .set_mode(to, mode)
            .and_then(|()| self.copy_content(from, &*target))
            .inspect_err(|_| {
                let _ = self.disk.remove(to);
            })
    }

    /// Copies what is in a file to an empty one, durably. Commits go first, as
    /// before uploads.
    pub(super) fn copy_content(&self, from: &Path, target: &dyn DiskFile) -> io::Result<()> {
        let source = self.disk.open(from, OpenMode::Read)?;
        let mut buffer = vec![0; COPY_BYTES];
        let (mut position, mut unwritten) = (0, 0);
        loop {
            let count = source.read_at(&mut buffer, position, Access::Wait)?;
            let piece = buffer.get(..count).unwrap_or_default();
            if !piece.is_empty() {
                target.write_at(&[IoSlice::new(piece)], position)?;
            }
            position += count as u64;
            unwritten += count as u64;
            if piece.is_empty() || unwritten >= self.precedence.piece_bytes() {
                self.precedence.later(unwritten, || target.sync())?;
                unwritten = 0;
            }
            if piece.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Other volumes, file systems without links, files of other users
/// (`protected_hardlinks`), too many links.
fn is_not_possible(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
    )
}
