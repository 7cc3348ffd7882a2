//! Disks that fail, through raft-engine's own door for that.

use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use raft_engine::env::{Handle, Permission, WriteExt};

use super::*;

type Inner = <DefaultFileSystem as FileSystem>::Handle;
type InnerFile = <DefaultFileSystem as FileSystem>::Writer;

#[derive(Default)]
struct Faults {
    syncs_fail: AtomicBool,
    is_full: AtomicBool,
    refused: AtomicU64,
}

struct FaultyFiles(Arc<Faults>);

struct FaultyHandle {
    inner: Arc<Inner>,
    faults: Arc<Faults>,
}

struct FaultyFile {
    inner: InnerFile,
    faults: Arc<Faults>,
}

impl FaultyFiles {
    fn handle(&self, inner: Inner) -> FaultyHandle {
        FaultyHandle {
            inner: Arc::new(inner),
            faults: Arc::clone(&self.0),
        }
    }

    fn file(&self, inner: InnerFile) -> FaultyFile {
        FaultyFile {
            inner,
            faults: Arc::clone(&self.0),
        }
    }
}

impl FileSystem for FaultyFiles {
    type Handle = FaultyHandle;
    type Reader = FaultyFile;
    type Writer = FaultyFile;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<FaultyHandle> {
        DefaultFileSystem
            .create(path)
            .map(|inner| self.handle(inner))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<FaultyHandle> {
        let inner = DefaultFileSystem.open(path, permission)?;
        Ok(self.handle(inner))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<FaultyHandle>) -> Result<FaultyFile> {
        let inner = DefaultFileSystem.new_reader(Arc::clone(&handle.inner))?;
        Ok(self.file(inner))
    }

    fn new_writer(&self, handle: Arc<FaultyHandle>) -> Result<FaultyFile> {
        let inner = DefaultFileSystem.new_writer(Arc::clone(&handle.inner))?;
        Ok(self.file(inner))
    }
}

impl Handle for FaultyHandle {
    fn truncate(&self, offset: usize) -> Result<()> {
        self.inner.truncate(offset)
    }

    fn file_size(&self) -> Result<usize> {
        self.inner.file_size()
    }

    fn sync(&self) -> Result<()> {
        if self.faults.syncs_fail.load(SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.inner.sync()
    }
}

impl Read for FaultyFile {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read(buffer)
    }
}

impl Seek for FaultyFile {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.inner.seek(to)
    }
}

impl Write for FaultyFile {
    /// As raft-engine's own file says it.
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        if self.faults.is_full.load(SeqCst) {
            self.faults.refused.fetch_add(1, SeqCst);
            // Some of it fits.
            self.inner.write_all(&buffer[..buffer.len() / 2])?;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "nospace"));
        }
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

impl WriteExt for FaultyFile {
    fn truncate(&mut self, offset: usize) -> Result<()> {
        self.inner.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> Result<()> {
        self.inner.allocate(offset, size)
    }
}

fn open_faulty(directory: &Path) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let files = FaultyFiles(Arc::clone(&faults));
    let (log, _) = Log::open_on(directory, 1, Options::default(), files).unwrap();
    (log, faults)
}

/// A log that is well, of two storages; the first has three entries of `size` and a vote.
async fn open_two(
    directory: &Path,
    size: usize,
) -> (Log, Arc<Faults>, watch::Receiver<LogHealth>, [GroupLog; 2]) {
    let (log, faults) = open_faulty(directory);
    let mut main = log.group("main", None).unwrap();
    let other = log.group("other", None).unwrap();
    let mut health = log.health();
    main.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut main, 1, 0..3, size).await.unwrap();
    assert_eq!(*health.borrow_and_update(), LogHealth::Well);
    (log, faults, health, [main, other])
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_done_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults, mut health, [mut group, mut other]) = open_two(directory.path(), 10).await;
    faults.syncs_fail.store(true, SeqCst);
    let (one, two) = tokio::join!(
        append(&mut group, 1, 3..4, 10),
        append(&mut other, 1, 0..1, 10)
    );
    one.unwrap_err();
    two.unwrap_err();
    health.changed().await.unwrap();
    assert!(matches!(&*health.borrow(), LogHealth::Dead(why) if why.contains("disk is gone")));
    // Whether the sync would do now says nothing about what came before.
    faults.syncs_fail.store(false, SeqCst);
    append(&mut group, 1, 4..5, 10).await.unwrap_err();
    group.save_vote(&Vote::new(2, 1)).await.unwrap_err();
    other.save_vote(&Vote::new(2, 1)).await.unwrap_err();
    log.group("third", None).unwrap_err();
    log.close();
    // raft-engine keeps its lock until the process ends, so the next one is another's.
    let copy = killed(directory.path());
    let (log, _) = open(copy.path(), Options::default());
    let mut group = log.group("main", None).unwrap();
    assert!(entries(&mut group).await.len() >= 3);
    assert_eq!(group.read_vote().await.unwrap(), Some(Vote::new(1, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_only_delays() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults, mut health, [mut group, mut other]) =
        open_two(directory.path(), 10_000).await;
    faults.is_full.store(true, SeqCst);
    let writing = tokio::spawn(async move {
        append(&mut group, 1, 3..6, 10_000).await.unwrap();
        append(&mut group, 1, 6..7, 10_000).await.unwrap();
        group
    });
    let voting = tokio::spawn(async move {
        other.save_vote(&Vote::new(5, 1)).await.unwrap();
    });
    health.changed().await.unwrap();
    assert!(matches!(&*health.borrow_and_update(), LogHealth::Full(_)));
    while faults.refused.load(SeqCst) < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!writing.is_finished());
    faults.is_full.store(false, SeqCst);
    let mut group = writing.await.unwrap();
    voting.await.unwrap();
    assert_eq!(*health.borrow_and_update(), LogHealth::Well);
    let before = entries(&mut group).await;
    assert_eq!(before.len(), 7);
    let copy = killed(directory.path());
    log.close();
    for directory in [directory.path(), copy.path()] {
        let (_log, mut group) = open_main(directory);
        assert_eq!(entries(&mut group).await, before);
    }
}

/// What a leader proposes goes on its way before it is written; and what is not
/// written is not said to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_need_not_wait_for_its_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = open_faulty(directory.path());
    let mut group = log.group("main", None).unwrap();
    group.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    append(&mut group, 1, 0..3, 10).await.unwrap();
    let mut durable = group.reader().durable();
    durable.wait_for(|&durable| durable == 3).await.unwrap();
    faults.is_full.store(true, SeqCst);
    append(&mut group, 1, 3..6, 10).await.unwrap();
    assert_eq!(entries(&mut group).await.len(), 6);
    while faults.refused.load(SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*durable.borrow(), 3);
    assert!(group.reader().writing_for() > Duration::ZERO);
    faults.is_full.store(false, SeqCst);
    durable.wait_for(|&durable| durable == 6).await.unwrap();
    // What is cut off was never durable; what stands before it is.
    append(&mut group, 1, 6..9, 10).await.unwrap();
    group.truncate(log_id(1, 8)).await.unwrap();
    assert_eq!(*durable.borrow_and_update(), 8);
    tokio::task::spawn_blocking(|| log.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_can_be_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (log, faults) = open_faulty(directory.path());
    let mut group = log.group("main", None).unwrap();
    append(&mut group, 1, 0..3, 10).await.unwrap();
    faults.is_full.store(true, SeqCst);
    let mut health = log.health();
    let writing = tokio::spawn(async move { append(&mut group, 1, 3..6, 10).await });
    health.changed().await.unwrap();
    tokio::task::spawn_blocking(|| log.close()).await.unwrap();
    writing.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_hole_is_refused_before_the_engine_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    append(&mut group, 1, 0..3, 10).await.unwrap();
    for indexes in [4..5, 2..4] {
        let error = append(&mut group, 1, indexes, 10).await.unwrap_err();
        assert!(error.to_string().contains("belongs"), "{error}");
    }
    group.purge(log_id(1, 10)).await.unwrap();
    append(&mut group, 1, 12..13, 10).await.unwrap_err();
    append(&mut group, 1, 11..13, 10).await.unwrap();
    assert_eq!(*log.health().borrow(), LogHealth::Well);
    assert_eq!(entries(&mut group).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn storages_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), small());
    let writing: Vec<_> = (0..4)
        .map(|number| {
            let mut group = log.group(&format!("storage {number}"), None).unwrap();
            tokio::spawn(async move {
                group.save_vote(&Vote::new(number, 1)).await.unwrap();
                for index in 0..200 {
                    append(&mut group, number, index..index + 1, 500)
                        .await
                        .unwrap();
                }
                entries(&mut group).await
            })
        })
        .collect();
    let mut written = Vec::new();
    for writing in writing {
        written.push(writing.await.unwrap());
    }
    assert!(log.stats().writes.get() < 804, "some went together");
    assert_eq!(log.stats().entries.get(), 800);
    log.close();
    let (log, condition) = open(directory.path(), small());
    assert_eq!(condition, LogCondition::Whole);
    for (number, written) in (0..).zip(written) {
        let mut group = log.group(&format!("storage {number}"), None).unwrap();
        assert_eq!(group.read_vote().await.unwrap(), Some(Vote::new(number, 1)));
        assert_eq!(entries(&mut group).await, written);
    }
}
