//! A disk whose writes or syncs of `Data.fs` fail from a given one on.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::disk::altered::{AlteredDisk, Difference};
use crate::disk::{Disk, DiskFile};

/// Counts down; what is left over when it is 0 fails.
#[derive(Debug)]
pub struct Fuse(AtomicUsize);

impl Fuse {
    fn new() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    /// The call after `count` more, and all after it, fail.
    pub fn fail_after(&self, count: usize) {
        self.0.store(count, Ordering::SeqCst);
    }

    fn burn(&self) -> io::Result<()> {
        let burn = |left: usize| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, burn)
            .map(|_| ())
            .map_err(|_| io::Error::other("the disk is broken"))
    }
}

#[derive(Debug)]
pub struct FailingDisk {
    pub writes: Fuse,
    pub syncs: Fuse,
}

impl FailingDisk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            writes: Fuse::new(),
            syncs: Fuse::new(),
        })
    }

    /// The disk, for a storage.
    pub fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(AlteredDisk(Arc::clone(self)))
    }
}

impl Difference for FailingDisk {
    fn concerns(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "fs")
    }

    fn write_at(
        &self,
        file: &dyn DiskFile,
        slices: &[IoSlice<'_>],
        position: u64,
    ) -> io::Result<()> {
        self.writes.burn()?;
        file.write_at(slices, position)
    }

    fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.syncs.burn()?;
        file.sync()
    }
}
