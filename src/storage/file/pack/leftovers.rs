//! What a pack that a crash ended leaves beside `Data.fs`, and how it is put
//! in order when the file is opened next.

use std::path::Path;

use crate::disk::Disk;
use crate::storage::file::beside;
use crate::storage::{Result, StorageError};

/// The file that a pack writes.
pub const PACK_SUFFIX: &str = ".pack";
/// Where the file goes that a pack replaced.
pub const OLD_SUFFIX: &str = ".old";

/// Removes an unfinished `.pack`. Where a crash came between the two renames
/// of a pack (Python's makes two), so that there is no `Data.fs` any more, the
/// old one is put back: it has all that was committed.
pub fn put_in_order(disk: &dyn Disk, path: &Path) -> Result<()> {
    let packed = beside(path, PACK_SUFFIX);
    let old = beside(path, OLD_SUFFIX);
    if !disk.exists(&packed) {
        return Ok(());
    }
    if disk.exists(path) {
        forget_link(disk, path, &old)?;
    } else if disk.exists(&old) {
        tracing::warn!(
            "{} is not there, and a pack was going on: putting {} back in its place",
            path.display(),
            old.display()
        );
        disk.rename(&old, path)
            .map_err(StorageError::io(format!("renaming {}", old.display())))?;
    } else {
        return Err(StorageError::CannotOpen {
            file: path.display().to_string(),
            problem: format!(
                "it is not there, but {} is, which a pack writes. It may be complete: look \
                 whether it opens under another name, and rename or remove it",
                packed.display()
            ),
        });
    }
    tracing::info!(
        "removing {}, which an interrupted pack left",
        packed.display()
    );
    disk.remove(&packed)
        .map_err(StorageError::io(format!("removing {}", packed.display())))
}

/// Removes `.old` where it is another name of `Data.fs`: the pack that was to
/// replace `Data.fs` never came to it.
pub fn forget_link(disk: &dyn Disk, path: &Path, old: &Path) -> Result<()> {
    let is_link = matches!(
        (disk.identity(old), disk.identity(path)),
        (Ok(old), Ok(path)) if old == path
    );
    if is_link {
        disk.remove(old)
            .map_err(StorageError::io(format!("removing {}", old.display())))?;
    }
    Ok(())
}
