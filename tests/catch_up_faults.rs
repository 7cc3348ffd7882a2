//! A state of another node is received and put in place on a disk that fails or loses its
//! power at every single step: afterwards there is the old state or the new one, the new one
//! once that was promised, and the next transfer succeeds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says by panicking what is wrong"
)]

#[path = "support/faulty_disk.rs"]
mod faulty_disk;
#[path = "support/small_database.rs"]
mod small_database;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use faulty_disk::{Fault, FaultyDisk, Names};
use small_database::{BLOB, Model, commit, copy_tree};
use tokio::io::duplex;
use zeod::disk::{Access, Disk, RealDisk};
use zeod::replication::catch_up::{Incoming, Origin, Progress, RateLimit, Way, receive, send};
use zeod::replication::types::StateMark;
use zeod::storage::file::pack::PackOptions;
use zeod::storage::file::transfer::{Intent, pending};
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::staging::StagingArea;
use zeod::storage::{StagedBody, Storage};
use zeod::types::Tid;

const LABEL: &[u8] = b"log id";

fn open(disk: Arc<dyn Disk>, directory: &Path) -> zeod::storage::Result<FileStorage> {
    FileStorage::open(
        disk,
        FileOptions {
            pack_keep_old: false,
            ..FileOptions::new(directory.join("Data.fs"))
        },
    )
}

/// Two databases, one of which has fallen behind.
struct Setting {
    sender: tempfile::TempDir,
    behind: tempfile::TempDir,
    way: Way,
}

impl Setting {
    fn new(way: Way) -> Self {
        let sender = tempfile::tempdir().unwrap();
        let behind = tempfile::tempdir().unwrap();
        let storage = open(Arc::new(RealDisk), sender.path()).unwrap();
        let mut model = Model::default();
        let changes: [(u64, &[u8]); 3] = [(0, &[1, 2, 9]), (1, &[]), (BLOB, &[])];
        for _ in 0..6 {
            commit(&storage, &mut model, &changes).unwrap();
        }
        storage.checkpoint().unwrap();
        copy_tree(sender.path(), behind.path());
        for _ in 0..5 {
            commit(&storage, &mut model, &changes).unwrap();
        }
        if way == Way::Difference {
            let options = PackOptions {
                gc: Some(false),
                ..PackOptions::default()
            };
            storage.pack_with(Tid::from_u64(80), options).unwrap();
        }
        storage.close().unwrap();
        Self {
            sender,
            behind,
            way,
        }
    }

    fn wanted(&self) -> Vec<u8> {
        fs::read(self.sender.path().join("Data.fs")).unwrap()
    }

    fn former(&self) -> Vec<u8> {
        fs::read(self.behind.path().join("Data.fs")).unwrap()
    }

    fn transfer(&self, storage: &FileStorage) -> Result<Incoming, String> {
        let source = open(Arc::new(RealDisk), self.sender.path()).unwrap();
        let held = source.hold().unwrap();
        let origin = Origin {
            mark: StateMark {
                last_tid: source.last_tid(),
                length: held.end(),
                packs: u64::from(self.way == Way::Difference),
                reserved_oid: 4711,
            },
            held,
            blobs: None,
        };
        let target = storage.target().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut here, mut there) = duplex(1 << 20);
            let (rate, idle) = (RateLimit::default(), Arc::default());
            let progress = Arc::new(Progress::default());
            let (_, received) = tokio::join!(
                async {
                    let sent = send(&mut there, origin, &rate, &idle).await;
                    drop(there);
                    sent
                },
                async {
                    let received = receive(&mut here, target, Some(0), &progress).await;
                    drop(here);
                    received
                }
            );
            received.map_err(|error| error.to_string())
        })
    }

    /// All of it; how far it came: nothing, promised, in place.
    fn bring(&self, storage: &FileStorage, disk: &dyn Disk, path: &Path) -> (usize, String) {
        let incoming = match self.transfer(storage) {
            Ok(incoming) => incoming,
            Err(error) => return (0, error),
        };
        assert_eq!(incoming.way, self.way);
        let intent = match incoming.make_intent(LABEL.to_vec()) {
            Ok(intent) => intent,
            Err(error) => return (0, error.to_string()),
        };
        match incoming.install(storage, &intent) {
            Err(error) => (1, error.to_string()),
            Ok(()) => match Intent::forget(disk, path) {
                Err(error) => (2, error.to_string()),
                Ok(()) => (3, String::new()),
            },
        }
    }

    /// False: it never came to the fault.
    fn with_fault(&self, fault: Fault, lose_names: bool, at: u64) -> bool {
        let what = format!(
            "{:?}, {fault:?} at {at}, names lost: {lose_names}",
            self.way
        );
        let directory = tempfile::tempdir().unwrap();
        copy_tree(self.behind.path(), directory.path());
        let path: PathBuf = directory.path().join("Data.fs");
        // No step gives a file a second name, so it is all the same what the disk can do.
        let names = if lose_names {
            Names::Renames
        } else {
            Names::Links
        };
        let disk = Arc::new(FaultyDisk::new(fault, names));
        let storage = open(disk.clone(), directory.path()).unwrap();
        disk.arm(at);
        let (stage, error) = self.bring(&storage, &*disk, &path);
        let has_failed = disk.has_failed();
        if !has_failed {
            assert_eq!(stage, 3, "{what}: {error}");
        }
        if stage == 3 {
            assert_eq!(storage.size_bytes(), self.wanted().len() as u64, "{what}");
        }
        drop(storage);
        if disk.is_dead() {
            disk.lose_unsynced();
            if lose_names {
                disk.lose_names();
            }
        }
        let storage = open(Arc::new(RealDisk), directory.path())
            .unwrap_or_else(|e| panic!("{what}, {error}: {e}"));
        let intent = pending(&RealDisk, &path).unwrap();
        let found = fs::read(&path).unwrap();
        match &intent {
            Some(intent) => {
                assert_eq!(intent.label, LABEL, "{what}");
                assert!(found == self.wanted(), "{what}: {error}");
                let first = storage.new_oids(1).unwrap()[0];
                assert!(first.to_u64() > 4711, "{what}");
                Intent::forget(&RealDisk, &path).unwrap();
            }
            // Once it was promised there is an intent, until that was forgotten.
            None if stage >= 2 => assert!(found == self.wanted(), "{what}: {error}"),
            None => {
                assert_eq!(stage, 0, "{what}: {error}");
                assert!(found == self.former(), "{what}: {error}");
                let next = self.bring(&storage, &RealDisk, &path);
                assert_eq!(next, (3, String::new()), "{what}: {error}");
                assert!(fs::read(&path).unwrap() == self.wanted(), "{what}");
            }
        }
        drop(storage);
        let storage = open(Arc::new(RealDisk), directory.path()).unwrap();
        assert_eq!(storage.size_bytes(), self.wanted().len() as u64, "{what}");
        has_failed
    }
}

fn every_step(way: Way) {
    let setting = Setting::new(way);
    for fault in Fault::ALL {
        for lose_names in [false, true] {
            let steps = (0..).take_while(|at| setting.with_fault(fault, lose_names, *at));
            let count = steps.count();
            assert!(count > 10, "{fault:?}: only {count} steps");
        }
    }
}

#[test]
fn a_tail_survives_a_fault_at_every_step() {
    every_step(Way::Tail);
}

#[test]
fn a_new_file_survives_a_fault_at_every_step() {
    every_step(Way::Difference);
}

/// False: it never came to the fault.
fn stage_with_fault(fault: Fault, at: u64) -> bool {
    let what = format!("{fault:?} at {at}");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("Data.fs");
    let disk = Arc::new(FaultyDisk::new(fault, Names::Links));
    let open = |disk: Arc<dyn Disk>| StagingArea::open(disk, &data, None, Arc::default());
    let area = open(disk.clone()).unwrap();
    disk.arm(at);
    let content = vec![7; 300_000];
    let acknowledged = area.take_body(&StagedBody::Memory(content.clone()));
    drop(area);
    if disk.is_dead() {
        disk.lose_unsynced();
        disk.lose_names();
    }
    let area = open(Arc::new(RealDisk)).unwrap();
    let files = fs::read_dir(directory.path().join("Data.fs.staged"))
        .unwrap()
        .count();
    if let Ok(digest) = &acknowledged {
        assert!(area.has(digest), "{what}");
    }
    assert_eq!(
        files > 0,
        area.bytes() > 0,
        "{what}: something half is there"
    );
    if area.bytes() > 0 {
        let digest = area
            .take_body(&StagedBody::Memory(content.clone()))
            .unwrap();
        let file = area.open_file(&digest).unwrap().unwrap();
        let mut found = Vec::new();
        file.read_piece(0, content.len(), Access::Wait, &mut found)
            .unwrap();
        assert!(found == content, "{what}");
        assert_eq!(area.bytes(), digest.length, "{what}");
    }
    disk.has_failed()
}

#[test]
fn what_is_acknowledged_as_staged_is_there_after_a_fault_at_every_step() {
    for fault in Fault::ALL {
        let steps = (0..10_000)
            .take_while(|at| stage_with_fault(fault, *at))
            .count();
        assert!(steps > 2, "{fault:?}: only {steps} steps");
    }
}
