//! Every step of a storage with blobs fails once, or is the last one before a
//! crash; after reopening all that was acknowledged has to be there.

use std::collections::BTreeSet;
use std::fs;
use std::io::IoSlice;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::disk::{DirectoryNames, FileIdentity, FileStatus, RealDisk};
use crate::storage::file::{FileOptions, FileStorage};
use crate::storage::{Committing, RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord};
use crate::storage::{StagedRecordKind, Storage};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// No step from this one on is done.
    StopAt(usize),
    /// This one step is not done: the disk is full, or has no such link.
    Fail(usize, io::ErrorKind),
}

/// The real disk with a fault, and a ledger of what a power cut could lose.
/// Nothing is really synced.
#[derive(Debug)]
struct FaultDisk {
    fault: Fault,
    steps: AtomicUsize,
    ledger: Arc<Mutex<Ledger>>,
    /// Are renames between directories refused, as between volumes?
    volumes: bool,
}

/// What was changed and not synced since.
#[derive(Debug, Default)]
struct Ledger {
    /// Files with data that was not synced.
    files: BTreeSet<PathBuf>,
    /// Names whose directory was not synced.
    names: BTreeSet<PathBuf>,
    /// The blobs that were put in place.
    blobs: BTreeSet<PathBuf>,
}

impl Ledger {
    /// At the moment that a transaction becomes durable, every blob in place
    /// has to be durable with all that leads to it.
    fn check_blobs(&self) {
        for blob in self.blobs.iter().filter(|blob| blob.exists()) {
            assert!(!self.files.contains(blob), "{blob:?} was not synced");
            let unsynced = blob.ancestors().find(|path| self.names.contains(*path));
            assert_eq!(unsynced, None, "a name was not synced");
        }
    }
}

impl FaultDisk {
    fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            fault,
            steps: AtomicUsize::new(0),
            ledger: Arc::default(),
            volumes: false,
        })
    }

    fn step(&self) -> io::Result<()> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::StopAt(at) if step >= at => Err(io::Error::other("stopped")),
            Fault::Fail(at, kind) if step == at => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn changed(&self, path: &Path) {
        self.ledger.lock().names.insert(path.to_path_buf());
    }
}

impl Disk for Arc<FaultDisk> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(mode, OpenMode::New | OpenMode::Create | OpenMode::Truncate) {
            self.step()?;
        }
        let file = RealDisk.open(path, mode)?;
        // Names change while a file is open; the ledger goes by the name that it has.
        Ok(Arc::new(FaultFile {
            file,
            path: path.to_path_buf(),
            disk: Arc::clone(self),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.move_file(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.ledger.lock().files.remove(path);
        RealDisk.remove(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let mut ledger = self.ledger.lock();
        ledger.names.retain(|name| name.parent() != Some(path));
        Ok(())
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        RealDisk.identity(path)
    }

    fn move_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        if self.volumes && from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        RealDisk.move_file(from, to)?;
        self.changed(to);
        let mut ledger = self.ledger.lock();
        if to.extension().is_some_and(|extension| extension == "blob") {
            ledger.blobs.insert(to.to_path_buf());
        }
        if ledger.files.remove(from) {
            ledger.files.insert(to.to_path_buf());
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        if self.volumes {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        RealDisk.link(from, to)
    }

    fn create_directory(&self, path: &Path) -> io::Result<bool> {
        self.step()?;
        self.changed(path);
        RealDisk.create_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.remove_directory(path)
    }

    fn read_directory(&self, path: &Path) -> io::Result<DirectoryNames> {
        RealDisk.read_directory(path)
    }

    fn status(&self, path: &Path) -> io::Result<FileStatus> {
        RealDisk.status(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step()?;
        RealDisk.set_mode(path, mode)
    }
}

#[derive(Debug)]
struct FaultFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    disk: Arc<FaultDisk>,
}

impl DiskFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64, access: Access) -> io::Result<usize> {
        self.file.read_at(buffer, position, access)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        if let Err(error) = self.disk.step() {
            // A write that fails can have been done in part.
            let half: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let half = &half[..half.len() / 2];
            self.file.write_at(&[IoSlice::new(half)], position)?;
            return Err(error);
        }
        self.disk.ledger.lock().files.insert(self.path.clone());
        self.file.write_at(slices, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.step()?;
        if self.path.ends_with("Data.fs") {
            self.disk.ledger.lock().check_blobs();
        }
        self.disk.ledger.lock().files.remove(&self.path);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.set_len(length)
    }

    fn reserve(&self, _position: u64, _length: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.file.identity()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

/// The content of the blob of `oid` that `tid` commits.
fn content(oid: u64, tid: u64) -> Vec<u8> {
    format!("blob {oid} of {tid}; ").repeat(50).into_bytes()
}

fn options(root: &Path) -> FileOptions {
    FileOptions {
        blob_dir: Some(root.join("blobs")),
        ..FileOptions::new(root.join("Data.fs"))
    }
}

fn blob(storage: &FileStorage, oid: u64, tid: u64) -> Result<PendingBlob> {
    let blobs = storage.blobs().unwrap();
    if oid == SHARED {
        return blobs.adopt(Oid::from_u64(oid), &format!("{tid}.tmp-"));
    }
    let mut upload = blobs.upload()?;
    for chunk in content(oid, tid).chunks(300) {
        upload.write(chunk)?;
    }
    Ok(upload.finish())
}

/// The blobs of this object come from a client that shares the directory.
const SHARED: u64 = 0x1234;
/// Each transaction also stores an object without a blob, of its own: the locks
/// keep two transactions of a batch from storing the same.
const PLAIN: u64 = 1 << 40;
/// Transactions: id, and objects with blobs. Those in one line are one batch.
const BATCHES: [&[(u64, &[u64])]; 4] = [
    &[(10, &[1])],
    &[(20, &[SHARED, 2]), (21, &[]), (22, &[0x0102_0300])],
    &[(30, &[1, 0x0102_0301])],
    &[(40, &[SHARED])],
];

/// A transaction that stores a record, and its blob, for each object.
fn voted(storage: &FileStorage, tid: u64, oids: &[u64]) -> Result<Committing> {
    let mut body = Vec::new();
    let mut staged = Staged::default();
    for &oid in oids.iter().chain(&[PLAIN + tid]) {
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        body.extend_from_slice(b"record");
        staged.records.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data: start..body.len() as u64,
            kind: StagedRecordKind::Store,
        });
    }
    staged.body = StagedBody::Memory(body);
    for &oid in oids {
        staged
            .blobs
            .insert(Oid::from_u64(oid), blob(storage, oid, tid)?);
    }
    storage.prepare(&staged)?;
    staged.blobs.prepare(storage.last_tid())?;
    let tid = Tid::from_u64(tid);
    Ok(Committing { tid, staged })
}

/// Runs all batches; the transactions that were acknowledged.
fn run(disk: &Arc<FaultDisk>, root: &Path) -> Vec<(u64, Vec<u64>)> {
    let mut acknowledged = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(Arc::clone(disk));
    let Ok(storage) = FileStorage::open(disk, options(root)) else {
        return acknowledged;
    };
    let others = storage.blobs().unwrap().temporary_path().join("BUC1");
    fs::write(others, "a client's").unwrap();
    let shared = storage.blobs().unwrap().object_path(Oid::from_u64(SHARED));
    fs::create_dir_all(&shared).unwrap();
    for tid in [20, 40] {
        fs::write(shared.join(format!("{tid}.tmp-")), content(SHARED, tid)).unwrap();
    }
    for batch in BATCHES {
        let mut committing: Vec<_> = batch
            .iter()
            .filter_map(|(tid, oids)| voted(&storage, *tid, oids).ok())
            .collect();
        if storage.append(&mut committing).is_ok() {
            storage.publish(&committing);
            acknowledged.extend(committing.iter().map(|one| {
                let records = one.staged.records.iter().map(|r| r.oid.to_u64());
                (
                    one.tid.to_u64(),
                    records.filter(|oid| *oid < PLAIN).collect(),
                )
            }));
        }
        // One that is given up after its vote.
        drop(voted(&storage, 1000, &[1, 5]));
    }
    let _ = storage.close();
    acknowledged
}

/// Reopens, and holds what is there against what was acknowledged.
fn check(root: &Path, acknowledged: &[(u64, Vec<u64>)], why: &str) {
    let storage = FileStorage::open(Arc::new(RealDisk), options(root)).unwrap();
    let blobs = storage.blobs().unwrap();
    let read =
        |oid: u64, tid: u64| fs::read(blobs.revision_path(Oid::from_u64(oid), Tid::from_u64(tid)));
    for (tid, oids) in acknowledged {
        for &oid in oids.iter().chain(&[PLAIN + tid]) {
            let loaded = storage.load_serial(Oid::from_u64(oid), Tid::from_u64(*tid), Access::Wait);
            assert_eq!(
                loaded.ok().as_deref(),
                Some(&b"record"[..]),
                "{why}: {oid} of {tid}"
            );
        }
    }
    // Acknowledged or not: a transaction has all its blobs or is not there.
    for (tid, oids) in BATCHES.iter().copied().flatten() {
        for &oid in *oids {
            let serial = Tid::from_u64(*tid);
            let record = storage.load_serial(Oid::from_u64(oid), serial, Access::Wait);
            match record {
                Ok(_) => assert_eq!(read(oid, *tid).unwrap(), content(oid, *tid), "{why}"),
                Err(_) => assert!(read(oid, *tid).is_err(), "{why}: orphan {oid} of {tid}"),
            }
        }
    }
    blobs
        .for_each_object(&mut |oid| {
            for name in fs::read_dir(blobs.object_path(oid)).unwrap() {
                let name = name.unwrap().file_name().into_string().unwrap();
                assert!(!name.starts_with(OWN_PREFIX), "{why}: {name} stays");
            }
            Ok(())
        })
        .unwrap();
    for name in fs::read_dir(blobs.temporary_path()).unwrap() {
        assert_eq!(name.unwrap().file_name(), "BUC1", "{why}: in tmp");
    }
    storage.close().unwrap();
}

/// Tries a kind of fault at every step.
fn at_every_step(fault: impl Fn(usize) -> Fault, volumes: bool) -> usize {
    for step in 0.. {
        let root = tempfile::tempdir().unwrap();
        // The file's own beginning is not what is tried here.
        let file = FileOptions::new(root.path().join("Data.fs"));
        let empty = FileStorage::open(Arc::new(RealDisk), file).unwrap();
        empty.close().unwrap();
        drop(empty);
        let mut disk = FaultDisk::new(fault(step));
        Arc::get_mut(&mut disk).unwrap().volumes = volumes;
        let acknowledged = run(&disk, root.path());
        let why = format!("{:?}", disk.fault);
        check(root.path(), &acknowledged, &why);
        if disk.steps.load(Ordering::Relaxed) <= step {
            assert_eq!(acknowledged.len(), 6, "without a fault all is committed");
            return step;
        }
    }
    unreachable!("the loop ends when no step is left")
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_was_acknowledged() {
    assert!(at_every_step(Fault::StopAt, false) > 100);
}

#[test]
fn a_full_disk_at_any_step_loses_nothing_that_was_acknowledged() {
    at_every_step(|step| Fault::Fail(step, io::ErrorKind::StorageFull), false);
}

#[test]
fn the_same_holds_where_every_directory_is_a_volume() {
    at_every_step(Fault::StopAt, true);
    at_every_step(|step| Fault::Fail(step, io::ErrorKind::StorageFull), true);
}

#[test]
fn after_a_failed_sync_of_a_directory_no_blob_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new(Fault::Fail(usize::MAX, io::ErrorKind::Other));
    let storage = FileStorage::open(Arc::new(disk), options(root.path())).unwrap();
    let mut batch = [voted(&storage, 10, &[1]).unwrap()];
    let blobs = storage.blobs().unwrap();
    blobs.stopped.set("a failed sync".to_owned()).unwrap();
    assert!(matches!(
        storage.append(&mut batch),
        Err(StorageError::WritingStopped { .. })
    ));
    assert!(matches!(
        blobs.upload(),
        Err(StorageError::WritingStopped { .. })
    ));
    drop(batch);
    // Everything else goes on.
    let mut batch = [voted(&storage, 11, &[]).unwrap()];
    storage.append(&mut batch).unwrap();
    storage.publish(&batch);
    storage.close().unwrap();
    drop(storage);
    check(root.path(), &[(11, vec![])], "after a failed sync");
}
