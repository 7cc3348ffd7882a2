//! Files that are filled with zeros some way ahead of what is written.
//!
//! A file system marks room that was only allocated, and has to note with each
//! sync which part of it is used by now; where there are zeros already it has
//! nothing to note. On ext4 that makes a sync of a small record a third shorter
//! (three logs on one disk: 143 µs instead of 212).
//!
//! And a file's new length is durable before anything is written there: otherwise a
//! power cut could leave the beginning of a record that is longer than the file,
//! which looks like damage and not like a record that was being written.

use std::io::{Result, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

/// So far ahead. It goes to the disk with the next sync.
const AHEAD_BYTES: usize = 256 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file system whose files are filled ahead.
pub(super) struct Filled<F>(pub F);

impl<F: FileSystem> FileSystem for Filled<F> {
    type Handle = F::Handle;
    type Reader = F::Reader;
    type Writer = FilledWriter<F::Writer, F::Handle>;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<F::Handle> {
        self.0.create(path)
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<F::Handle> {
        self.0.open(path, permission)
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        self.0.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        self.0.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<F::Handle>) -> Result<F::Reader> {
        self.0.new_reader(handle)
    }

    fn new_writer(&self, handle: Arc<F::Handle>) -> Result<Self::Writer> {
        Ok(FilledWriter {
            inner: self.0.new_writer(Arc::clone(&handle))?,
            handle,
            at: 0,
            filled: 0,
            allocated: 0,
        })
    }
}

/// Writes a file from its beginning to its end: raft-engine never goes back but
/// to write again what has failed.
pub(super) struct FilledWriter<W, H> {
    inner: W,
    handle: Arc<H>,
    /// The next byte goes here.
    at: usize,
    /// Zeros, or what was written, stand before this.
    filled: usize,
    /// The file system has given room up to here.
    allocated: usize,
}

impl<W: Write + Seek, H> FilledWriter<W, H> {
    /// Fills what comes behind `end`, where a write is about to end.
    fn fill(&mut self, end: usize) -> Result<()> {
        let to = (end + AHEAD_BYTES).min(self.allocated);
        let mut from = self.filled.max(end);
        while from < to {
            let count = (to - from).min(ZEROS.len());
            self.inner.seek(SeekFrom::Start(from as u64))?;
            self.inner
                .write_all(ZEROS.get(..count).unwrap_or_default())?;
            from += count;
        }
        self.filled = from;
        Ok(())
    }
}

impl<W: Write + Seek, H> Write for FilledWriter<W, H> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        let end = self.at + buffer.len();
        if end > self.filled {
            // Without it the sync takes longer, and that is all.
            let _ = self.fill(end);
            self.inner.seek(SeekFrom::Start(self.at as u64))?;
        }
        let written = self.inner.write(buffer)?;
        self.at += written;
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

impl<W: Seek, H> Seek for FilledWriter<W, H> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = self.inner.seek(to)?;
        self.at = usize::try_from(at).map_err(std::io::Error::other)?;
        Ok(at)
    }
}

impl<W: WriteExt, H: Handle> WriteExt for FilledWriter<W, H> {
    fn truncate(&mut self, offset: usize) -> Result<()> {
        self.inner.truncate(offset)?;
        self.at = offset;
        self.filled = self.filled.min(offset);
        self.allocated = self.allocated.min(offset);
        Ok(())
    }

    fn allocate(&mut self, offset: usize, size: usize) -> Result<()> {
        self.inner.allocate(offset, size)?;
        if let Err(error) = self.handle.sync() {
            // As the engine does where its own sync fails: an error of this function it takes for a
            // file system that cannot allocate, and the next sync would tell of nothing.
            panic!("a log file's new length cannot be made durable: {error}");
        }
        self.allocated = offset + size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use raft_engine::env::DefaultFileSystem;

    use super::*;

    /// Counts syncs.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Handle for Counted {
        fn truncate(&self, _: usize) -> Result<()> {
            Ok(())
        }

        fn file_size(&self) -> Result<usize> {
            Ok(0)
        }

        fn sync(&self) -> Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn a_new_length_is_durable_before_anything_is_written_there() {
        let directory = tempfile::tempdir().unwrap();
        let files = DefaultFileSystem;
        let file = files.create(directory.path().join("file")).unwrap();
        let handle = Arc::new(Counted::default());
        let mut writer = FilledWriter {
            inner: files.new_writer(Arc::new(file)).unwrap(),
            handle: Arc::clone(&handle),
            at: 0,
            filled: 0,
            allocated: 0,
        };
        writer.allocate(0, AHEAD_BYTES).unwrap();
        assert_eq!(handle.0.load(Ordering::Relaxed), 1);
        writer.write_all(b"record").unwrap();
        assert_eq!(handle.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn zeros_stand_behind_what_is_written_and_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let files = Filled(DefaultFileSystem);
        let handle = Arc::new(files.create(&path).unwrap());
        let mut writer = files.new_writer(handle).unwrap();
        writer.write_all(b"head").unwrap();
        writer.allocate(4, 3 * AHEAD_BYTES).unwrap();
        let piece = vec![7; AHEAD_BYTES / 2 + 1];
        for _ in 0..4 {
            writer.write_all(&piece).unwrap();
        }
        let end = 4 + 4 * piece.len();
        // The last write ended within what the one before had filled, or filled anew.
        assert!(writer.filled > end && writer.filled <= end + AHEAD_BYTES);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content[..4], *b"head");
        assert!(content[4..end].iter().all(|&byte| byte == 7));
        assert!(content[end..].iter().all(|&byte| byte == 0));
        // What failed half-way is written again from its beginning.
        writer.truncate(4).unwrap();
        writer.seek(SeekFrom::Start(4)).unwrap();
        writer.write_all(b"once more").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"headonce more");
    }
}
