//! Packs a `Data.fs`: writes a new file without the revisions that nobody can
//! ask for any more, and puts it in the place of the old one, while reads and
//! commits go on.
//!
//! ```text
//! reachable   which revisions are kept: three passes, no more than bits per object
//! copy        what is kept up to the pack time
//! rest        the transactions behind it, in steps, until little is left
//! switch      under a pause of commits: the last of them, then the exchange
//! ```
//!
//! The new file is, byte for byte, what ZODB's packer writes. It differs where
//! that one fails or writes something wrong:
//!
//! - Pointers from behind the pack time to older revisions survive a pack
//!   without garbage collection (ZODB stops with an assertion).
//! - A pointer to an object's second record in one transaction still leads to
//!   that record's data (ZODB takes the first, whatever it holds).
//! - Records in pickle protocols 4 and 5, Python 2 texts beyond ASCII, and bytes
//!   in protocols 0 to 2 are understood (ZODB stops).
//!
//! Memory: the index of the new file, which takes the place of the old one's;
//! while references are followed, two bits per object; 48 bytes per record
//! behind the pack time that points before it (undo); windows of a few MB; the
//! largest record; 16 bytes per record of the largest transaction behind the
//! pack time.

mod blob_record;
mod copy;
mod leftovers;
mod oid_set;
pub(super) mod progress;
mod reachable;
mod references;
mod rest;
mod switch;
mod text;
mod time;
pub(super) mod walk;
pub(super) mod window;

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

pub use super::format::STATUS_PACKED;
pub use blob_record::{PROBE_BYTES as BLOB_PROBE_BYTES, is_blob_record};
pub use leftovers::put_in_order;
pub use progress::{PackPhase, PackProgress};
pub use references::{ReferenceError, Scanner};
pub(super) use switch::directory;
pub use time::pack_time;

use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};
use progress::Progress;

/// A blob file that a pack makes superfluous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedBlob {
    /// The object is not kept: all its blobs go.
    Object(Oid),
    /// This revision is not kept; others are.
    Revision(Oid, Tid),
    /// All were named; the new file is about to be put in place.
    NoMore,
}

/// How to pack, beside the time.
#[derive(Default)]
pub struct PackOptions<'a> {
    /// Drop objects that cannot be reached? None: as the storage is configured.
    pub gc: Option<bool>,
    /// The last transaction that is looked at to know what is kept; None: the
    /// last one there is.
    pub until: Option<Tid>,
    /// Is told of superfluous blobs while the file is copied. They are needed
    /// until the pack has returned [`PackOutcome::Packed`], and if it does not.
    pub on_removed_blob: Option<&'a mut dyn FnMut(RemovedBlob) -> Result<()>>,
}

/// What a pack did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackOutcome {
    /// There was nothing to drop; nothing changed.
    Nothing,
    /// The new file is in place.
    Packed {
        /// Length of the file before, and of the new one.
        bytes: (u64, u64),
        /// Number of objects before, and in the new file.
        objects: (u64, u64),
        /// Time that the pack took.
        took: Duration,
        /// Time for which commits were held up.
        paused: Duration,
    },
}

/// One pack at a time, and how far it is.
#[derive(Debug, Default)]
pub struct Packing {
    is_running: Mutex<bool>,
    ended: Condvar,
    progress: Progress,
}

impl Packing {
    /// Begins a pack, which goes on until the result is dropped.
    pub fn begin(&self) -> Result<Running<'_>> {
        let mut is_running = self.is_running.lock();
        if *is_running {
            return Err(StorageError::AlreadyPacking);
        }
        *is_running = true;
        self.progress.reset();
        Ok(Running(self))
    }

    /// Does a pack run?
    pub fn is_running(&self) -> bool {
        *self.is_running.lock()
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Makes a pack that runs stop, and waits until it has.
    pub fn stop(&self) {
        let mut is_running = self.is_running.lock();
        while *is_running {
            self.progress.cancel();
            self.ended.wait(&mut is_running);
        }
    }
}

/// While this lives, no other pack begins.
pub struct Running<'a>(&'a Packing);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut is_running = self.0.is_running.lock();
        self.0.progress.reset();
        *is_running = false;
        self.0.ended.notify_all();
    }
}
