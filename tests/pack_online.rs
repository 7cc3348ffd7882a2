//! Packs while others read and commit, and what a pack refuses and leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says by panicking what is wrong"
)]

#[path = "support/small_database.rs"]
mod small_database;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use small_database::{BLOB, Model, commit, record};
use zeod::disk::{Access, RealDisk};
use zeod::storage::file::pack::{PackOptions, PackPhase, RemovedBlob};
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::{PackOutcome, Storage, StorageError};
use zeod::types::{Oid, Tid};

/// The root leads to all of these.
const REFERENCES: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];

fn open(path: &Path) -> FileStorage {
    FileStorage::open(Arc::new(RealDisk), FileOptions::new(path)).unwrap()
}

fn filled(storage: &FileStorage, transactions: u64) -> Model {
    let mut model = Model::default();
    let mut all: Vec<(u64, &[u8])> = vec![(0, REFERENCES)];
    all.extend((1..=8).map(|oid| (oid, [].as_slice())));
    commit(storage, &mut model, &all).unwrap();
    for number in 0..transactions {
        commit(storage, &mut model, &[(number % 8 + 1, &[])]).unwrap();
    }
    model
}

/// Every revision says which transaction wrote it.
fn check_reads(storage: &FileStorage, last: u64) {
    let mut buffer = Vec::new();
    for oid in 0..=8 {
        let revision = storage
            .load_before(Oid::from_u64(oid), Tid::MAX, Access::Wait, &mut buffer)
            .unwrap()
            .unwrap();
        let serial = revision.serial.to_u64();
        let references = if oid == 0 { REFERENCES } else { &[] };
        assert_eq!(&buffer[revision.data], record(oid, references, serial));
    }
    for (tid, oids) in storage.last_invalidations(3).unwrap() {
        assert!(tid.to_u64() > 0 && !oids.is_empty());
    }
    let mut transactions = storage.iterate(Some(Tid::from_u64(last)), None).unwrap();
    let first = transactions.next_transaction().unwrap().unwrap();
    assert_eq!(first.tid, Some(Tid::from_u64(last)));
    let records = transactions.records().unwrap().next_record().unwrap();
    assert_eq!(records.unwrap().tid, Tid::from_u64(last));
}

/// So many packs are to fall into the commits, however slow the machine is.
const PACKS: u64 = 4;
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn reads_and_commits_go_on_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    let mut model = filled(&storage, 200);
    let is_over = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(model.last);
    let packs = AtomicU64::new(0);
    thread::scope(|scope| {
        let reader = || {
            while !is_over.load(Ordering::Relaxed) {
                check_reads(&storage, acknowledged.load(Ordering::SeqCst));
            }
        };
        scope.spawn(reader);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                storage.checkpoint().unwrap();
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let stop = acknowledged.load(Ordering::SeqCst) - 50;
                if let PackOutcome::Packed { .. } =
                    storage.pack(Tid::from_u64(stop), None, None).unwrap()
                {
                    packs.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let begun = Instant::now();
        for number in 0.. {
            commit(
                &storage,
                &mut model,
                &[(number % 8 + 1, &[]), (0, REFERENCES)],
            )
            .unwrap();
            acknowledged.store(model.last, Ordering::SeqCst);
            let enough = packs.load(Ordering::Relaxed) >= PACKS;
            if enough && begun.elapsed() > Duration::from_secs(2) || begun.elapsed() > PATIENCE {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(packs.load(Ordering::Relaxed) >= PACKS);
    storage.close().unwrap();
    drop(storage);
    for with_index in [true, false] {
        if !with_index {
            fs::remove_file(directory.path().join("Data.fs.index")).unwrap();
        }
        let storage = open(&path);
        assert_eq!(storage.last_tid().to_u64(), model.last);
        check_reads(&storage, model.last);
        for (&oid, (data, tid)) in &model.objects {
            let found = storage.load_serial(Oid::from_u64(oid), Tid::from_u64(*tid), Access::Wait);
            assert_eq!(&found.unwrap(), data);
        }
        storage.close().unwrap();
    }
}

#[test]
fn a_closing_storage_interrupts_a_pack_and_a_second_pack_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    let mut model = filled(&storage, 20);
    for _ in 0..3 {
        commit(&storage, &mut model, &[(BLOB, &[]), (0, &[1, 9])]).unwrap();
    }
    let before = fs::read(&path).unwrap();
    let mut told = Vec::new();
    thread::scope(|scope| {
        let mut on_removed = |blob| {
            told.push(blob);
            if told.len() > 1 {
                return Ok(());
            }
            assert!(storage.is_packing());
            let phase = storage.pack_progress().unwrap().phase;
            assert_eq!(phase, PackPhase::Copying);
            let second = storage.pack(Tid::MAX, None, None).unwrap_err();
            assert_eq!(second.to_string(), "Already packing");
            scope.spawn(|| storage.close().unwrap());
            thread::sleep(Duration::from_millis(50));
            Ok(())
        };
        let options = PackOptions {
            gc: None,
            until: None,
            on_removed_blob: Some(&mut on_removed),
        };
        let outcome = storage.pack_with(Tid::MAX, options);
        assert!(
            matches!(outcome, Err(StorageError::PackInterrupted)),
            "{outcome:?}"
        );
    });
    let oid = Oid::from_u64(BLOB);
    assert_eq!(
        told[0],
        RemovedBlob::Revision(oid, Tid::from_u64(model.last - 20))
    );
    assert!(!storage.is_packing());
    assert!(!directory.path().join("Data.fs.pack").exists());
    assert!(!directory.path().join("Data.fs.old").exists());
    let after = fs::read(&path).unwrap();
    assert!(before.starts_with(&after) && after.len() > 100);
}

#[test]
fn what_a_pack_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    // Python looks at the time before it looks whether there is anything.
    let invalid = storage.pack(Tid::ZERO, None, None).unwrap_err();
    assert_eq!(invalid.to_string(), "Invalid pack time");
    assert_eq!(
        storage.pack(Tid::MAX, None, None).unwrap(),
        PackOutcome::Nothing
    );
    filled(&storage, 10);
    let options = FileOptions {
        read_only: true,
        ..FileOptions::new(&path)
    };
    let reader = FileStorage::open(Arc::new(RealDisk), options).unwrap();
    let refused = reader.pack(Tid::MAX, None, None);
    assert!(matches!(refused, Err(StorageError::ReadOnly)));
    // Before everything, and to an earlier time than before: nothing is lost.
    assert_eq!(
        storage.pack(Tid::from_u64(5), None, None).unwrap(),
        PackOutcome::Nothing
    );
    assert!(matches!(
        storage.pack(Tid::from_u64(60), None, None).unwrap(),
        PackOutcome::Packed { .. }
    ));
    let bytes = fs::read(&path).unwrap();
    for stop in [20, 60] {
        let again = storage.pack(Tid::from_u64(stop), None, None).unwrap();
        assert_eq!(again, PackOutcome::Nothing);
    }
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_missing_object_is_named_and_a_pack_without_collection_goes() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&directory.path().join("Data.fs"));
    let mut model = filled(&storage, 3);
    commit(&storage, &mut model, &[(0, &[1, 77])]).unwrap();
    let error = storage.pack(Tid::MAX, None, None).unwrap_err();
    assert!(
        error.to_string().contains("refers to object 0x4d"),
        "{error}"
    );
    let outcome = storage.pack(Tid::MAX, Some(false), None).unwrap();
    assert!(matches!(
        outcome,
        PackOutcome::Packed {
            objects: (9, 9),
            ..
        }
    ));
}

#[test]
fn a_crash_between_the_renames_of_pythons_pack_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let beside = |suffix: &str| directory.path().join(format!("Data.fs{suffix}"));
    let storage = open(&path);
    let model = filled(&storage, 10);
    storage.close().unwrap();
    drop(storage);
    fs::rename(&path, beside(".old")).unwrap();
    fs::write(beside(".pack"), b"FS30 and so on").unwrap();
    let storage = open(&path);
    assert_eq!(storage.last_tid().to_u64(), model.last);
    assert!(!beside(".pack").exists());
    storage.close().unwrap();
    drop(storage);
    // Nothing but the pack file: that may be all there is, so it stays.
    fs::rename(&path, beside(".pack")).unwrap();
    let refused = FileStorage::open(Arc::new(RealDisk), FileOptions::new(&path));
    assert!(refused.is_err());
    assert!(beside(".pack").exists() && !path.exists());
}

#[test]
fn the_old_file_is_kept_or_not() {
    for keep_old in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let old = directory.path().join("Data.fs.old");
        let options = FileOptions {
            pack_keep_old: keep_old,
            ..FileOptions::new(&path)
        };
        let storage = FileStorage::open(Arc::new(RealDisk), options).unwrap();
        filled(&storage, 10);
        let end = usize::try_from(storage.size_bytes()).unwrap();
        let before = fs::read(&path).unwrap()[..end].to_vec();
        fs::write(&old, b"of the pack before").unwrap();
        storage.pack(Tid::MAX, None, None).unwrap();
        assert_eq!(fs::read(&old).ok(), keep_old.then_some(before));
        assert!(directory.path().join("Data.fs.index").exists());
    }
}
