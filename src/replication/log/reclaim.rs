//! Gives room back: files whose entries were all cut off are deleted.
//!
//! raft-engine does that by and by, and writes entries of old files again, at the
//! end, if only few of them keep a file from being deleted; or many, if it has found them
//! there nine times. So it is asked only when at least a quarter of what is there is of no use: by
//! then a storage that writes has none of its entries in the oldest fifth of the files, and raft-engine
//! leaves them where they are (source: raft-engine, `purge.rs`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::engine::{GroupId, LogEngine};
use super::group::Shared;
use super::writer::Writer;

/// Logs that were handed out.
pub(super) type Groups = Mutex<HashMap<GroupId, Weak<Shared>>>;

/// Files that may be of no use whatever there is: the one that is written, and its neighbours.
const SPARE_FILES: u64 = 3;

/// What decides when room is given back.
pub(super) struct Reclaimer {
    pub writer: Arc<Writer>,
    pub groups: Arc<Groups>,
    pub directory: PathBuf,
    pub file_size: u64,
    /// Not more often than this.
    pub interval: Duration,
}

impl Reclaimer {
    /// Until nobody tells of cuts any more.
    pub fn run(&self, cuts: &mpsc::Receiver<()>) {
        let mut next = Instant::now();
        while cuts.recv().is_ok() {
            // What is cut off meanwhile goes along.
            loop {
                match cuts.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(()) => {}
                    Err(mpsc::RecvTimeoutError::Timeout) => break,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
            if self.is_worthwhile() {
                self.reclaim();
            }
            next = Instant::now() + self.interval;
        }
    }

    fn is_worthwhile(&self) -> bool {
        let live = live_bytes(&self.groups);
        size_bytes(&self.directory) > live + live / 3 + SPARE_FILES * self.file_size
    }

    fn reclaim(&self) {
        if let Err(error) = self.writer.with_engine(LogEngine::reclaim) {
            tracing::warn!("files of the log that are not needed could not be deleted: {error}");
        }
    }
}

/// Of the entries that are kept.
pub(super) fn live_bytes(groups: &Groups) -> u64 {
    let groups = groups.lock();
    let open = groups.values().filter_map(Weak::upgrade);
    open.map(|group| group.state.lock().sizes.total()).sum()
}

/// Bytes of the files in `directory`, with what is allocated ahead.
pub(super) fn size_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten();
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
    let sizes = sizes.filter(fs::Metadata::is_file);
    sizes.map(|file| file.len()).sum()
}
