use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::{BlobOptions, Shared};
use crate::client::CallError;
use crate::storage::{BlobDirectory, BlobFile, Result, StorageError};
use crate::types::{Oid, Tid};

/// The files of the other server's blobs, fetched when somebody asks for them.
pub(super) struct Blobs {
    options: BlobOptions,
    /// One is fetched at a time, so none twice.
    turn: Mutex<()>,
    /// Bytes since the last look.
    fetched_bytes: AtomicU64,
    is_cleaning: Arc<AtomicBool>,
}

impl Blobs {
    pub(super) fn new(options: BlobOptions) -> Self {
        if !options.is_shared {
            // What a crash left of uploads; there is nothing here that counts.
            options.directory.clean_after_crash(Tid::MAX);
        }
        Self {
            options,
            turn: Mutex::new(()),
            // So that the first fetch looks.
            fetched_bytes: AtomicU64::new(u64::MAX / 2),
            is_cleaning: Arc::default(),
        }
    }

    pub(super) fn directory(&self) -> &Arc<BlobDirectory> {
        &self.options.directory
    }

    /// Opens a blob, which is fetched first where it is not here.
    pub(super) fn open(&self, shared: &Arc<Shared>, oid: Oid, serial: Tid) -> Result<BlobFile> {
        let directory = &self.options.directory;
        match directory.open_revision(oid, serial) {
            Err(StorageError::NoSuchBlob { .. }) if !self.options.is_shared => {}
            opened => return opened,
        }
        let _turn = self.turn.lock();
        match directory.open_revision(oid, serial) {
            Err(StorageError::NoSuchBlob { .. }) => {}
            opened => return opened,
        }
        let upload = Arc::new(Mutex::new(Some(directory.upload()?)));
        let asking = Arc::clone(shared);
        let writing = Arc::clone(&upload);
        shared.wait(async move {
            // Once only: a second time would write behind what came first.
            let live = asking.live_after(0).await?;
            let write = move |piece: &[u8]| {
                let mut upload = writing.lock();
                let upload = upload.as_mut().ok_or(std::io::ErrorKind::NotFound)?;
                upload.write(piece).map_err(std::io::Error::other)
            };
            live.connection.fetch_blob(oid, serial, write).await
        })?;
        let upload = upload.lock().take().ok_or_else(|| {
            StorageError::Remote(Box::new(CallError::Answer { method: "sendBlob" }))
        })?;
        let bytes = upload.length_bytes();
        directory.keep_revision(oid, serial, upload.finish())?;
        let opened = directory.open_revision(oid, serial);
        self.clean_if_due(bytes);
        opened
    }

    /// Removes the blobs that were not opened for longest, if more are here than
    /// may be. Those that are open stay readable.
    fn clean_if_due(&self, fetched_bytes: u64) {
        let Some(max_bytes) = self.options.max_bytes.filter(|_| !self.options.is_shared) else {
            return;
        };
        let slack = max_bytes / 100 * self.options.check_percent;
        let fetched = self
            .fetched_bytes
            .fetch_add(fetched_bytes, Ordering::AcqRel);
        if fetched.saturating_add(fetched_bytes) < slack
            || self.is_cleaning.swap(true, Ordering::AcqRel)
        {
            return;
        }
        self.fetched_bytes.store(0, Ordering::Release);
        let directory = Arc::clone(&self.options.directory);
        let is_cleaning = Arc::clone(&self.is_cleaning);
        let clean = move || {
            if let Err(error) = clean(&directory, max_bytes, max_bytes - slack) {
                tracing::warn!(
                    "the blobs in {} could not be looked through: {error}",
                    directory.path().display()
                );
            }
            is_cleaning.store(false, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("blob cache".to_owned());
        if let Err(error) = thread.spawn(clean) {
            tracing::warn!("no thread for cleaning the blob cache: {error}");
            self.is_cleaning.store(false, Ordering::Release);
        }
    }
}

/// Removes blobs until `target_bytes` are left, if there are more than `max_bytes`.
fn clean(directory: &BlobDirectory, max_bytes: u64, target_bytes: u64) -> Result<()> {
    let mut files: Vec<(SystemTime, u64, Oid, Tid)> = Vec::new();
    let mut total = 0;
    directory.for_each_object(&mut |oid| {
        for serial in directory.revisions(oid)? {
            let path = directory.revision_path(oid, serial);
            if let Ok(status) = std::fs::metadata(&path) {
                let used = status.accessed().or_else(|_| status.modified());
                total += status.len();
                files.push((
                    used.unwrap_or(SystemTime::UNIX_EPOCH),
                    status.len(),
                    oid,
                    serial,
                ));
            }
        }
        Ok(())
    })?;
    if total <= max_bytes {
        return Ok(());
    }
    files.sort_unstable();
    for (_, length, oid, serial) in files {
        if total <= target_bytes {
            break;
        }
        directory.remove_revision(oid, serial, None)?;
        total -= length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn what_was_not_opened_for_longest_goes_first() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = BlobDirectory::open(Arc::new(RealDisk), temporary.path(), false).unwrap();
        let serial = Tid::from_u64(5);
        let now = SystemTime::now();
        for number in 0..6 {
            let oid = Oid::from_u64(number);
            let mut upload = directory.upload().unwrap();
            upload.write(&[7; 1000]).unwrap();
            directory
                .keep_revision(oid, serial, upload.finish())
                .unwrap();
            // The later ones were opened before.
            let opened = now - Duration::from_mins(number);
            let times = std::fs::FileTimes::new().set_accessed(opened);
            let file = File::open(directory.revision_path(oid, serial)).unwrap();
            file.set_times(times).unwrap();
        }
        let left = || {
            let is_there = |number: &u64| {
                let blob = directory.open_revision(Oid::from_u64(*number), serial);
                blob.is_ok_and(|blob| blob.length_bytes == 1000)
            };
            (0..6).filter(is_there).collect::<Vec<_>>()
        };
        clean(&directory, 6000, 1000).unwrap();
        assert_eq!(left(), [0, 1, 2, 3, 4, 5]);
        clean(&directory, 5999, 4500).unwrap();
        assert_eq!(left(), [0, 1, 2, 3]);
        let temporary = std::fs::read_dir(directory.temporary_path()).unwrap();
        assert_eq!(temporary.count(), 0);
    }
}
