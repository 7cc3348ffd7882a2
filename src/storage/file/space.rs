//! Reserves disk space when a transaction votes, so that its finish does not
//! meet a full disk.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{DiskFile, is_full};
use crate::storage::{Reservation, Result, StorageError};

/// Space is reserved in steps of this size: few calls, and a file that the
/// file system can keep together. Given back at a clean stop.
const STEP_BYTES: u64 = 16 << 20;

/// What was reserved behind the end of the file, and who counts on it.
#[derive(Debug, Default)]
pub struct Space {
    /// The file system has promised the bytes up to this position.
    allocated_end: u64,
    /// What voted transactions will take.
    outstanding_bytes: u64,
    /// Set once the file system has said that it cannot promise.
    refused: bool,
}

/// The share of one transaction.
#[derive(Debug)]
pub struct Reserved {
    space: Arc<Mutex<Space>>,
    bytes: u64,
}

impl Reservation for Reserved {}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut space = self.space.lock();
        space.outstanding_bytes = space.outstanding_bytes.saturating_sub(self.bytes);
    }
}

impl Space {
    /// Makes the file system promise in another file, behind its `end`, what
    /// voted transactions will take. The position up to which it has.
    pub fn promise_in(&self, file: &dyn DiskFile, end: u64) -> Result<u64> {
        if self.refused || self.outstanding_bytes == 0 {
            return Ok(0);
        }
        let promised = file.reserve(end, self.outstanding_bytes);
        match promised {
            Ok(true) => Ok(end + self.outstanding_bytes),
            Ok(false) => Ok(0),
            Err(cause) => Err(StorageError::NoSpace {
                needed_bytes: self.outstanding_bytes,
                cause,
            }),
        }
    }

    /// What is reserved is now that of the other file, up to `promised`.
    pub fn moved(&mut self, promised: u64) {
        self.allocated_end = promised;
    }
}

/// Reserves `bytes` more behind the file's end and behind what others reserved.
/// `file` gives the file and its end; it is asked under the lock, since a pack
/// can exchange the file.
///
/// A file system that cannot reserve (some network ones) is taken as it is:
/// there a full disk shows when the transaction is written.
pub fn reserve(
    space: &Arc<Mutex<Space>>,
    bytes: u64,
    file: impl FnOnce() -> (Arc<dyn DiskFile>, u64),
) -> Result<Reserved> {
    let mut locked = space.lock();
    let (file, end) = file();
    let outstanding = locked.outstanding_bytes.saturating_add(bytes);
    let needed_end = end.saturating_add(outstanding);
    if needed_end > locked.allocated_end && !locked.refused {
        let no_space = |cause: io::Error| StorageError::NoSpace {
            needed_bytes: bytes,
            cause,
        };
        let from = locked.allocated_end.max(end);
        let wanted = (needed_end - from).max(STEP_BYTES);
        let promised = match file.reserve(from, wanted) {
            Ok(promised) => Ok((promised, wanted)),
            // A whole step does not fit any more; perhaps the transaction does.
            Err(error) if is_full(&error) => file
                .reserve(from, needed_end - from)
                .map(|promised| (promised, needed_end - from)),
            Err(error) => Err(error),
        };
        let (promised, length) = promised.map_err(no_space)?;
        if promised {
            locked.allocated_end = from + length;
        } else {
            tracing::info!("the file system cannot reserve space; a full disk will show late");
            locked.refused = true;
        }
    }
    locked.outstanding_bytes = outstanding;
    Ok(Reserved {
        space: Arc::clone(space),
        bytes,
    })
}
