//! A pack whose disk fails, fills up or loses its power at every single step: what was
//! acknowledged is there afterwards, whatever the pack was doing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says by panicking what is wrong"
)]

#[path = "support/faulty_disk.rs"]
mod faulty_disk;
#[path = "support/small_database.rs"]
mod small_database;

use std::path::Path;
use std::sync::Arc;

use faulty_disk::{Fault, FaultyDisk, Names};
use small_database::{BLOB, Model, commit};
use zeod::disk::{Access, Disk, RealDisk};
use zeod::storage::file::pack::{PackOptions, RemovedBlob};
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::{PackOutcome, Storage};
use zeod::types::{Oid, Tid};

/// Up to here the database is packed.
const STOP: u64 = 50;

fn options(path: &Path, keep_old: bool) -> FileOptions {
    FileOptions {
        pack_keep_old: keep_old,
        ..FileOptions::new(path)
    }
}

fn check(storage: &FileStorage, model: &Model, what: &str) {
    let mut model = model.clone();
    model.settle(storage.last_tid().to_u64());
    let mut buffer = Vec::new();
    for (&oid, (data, tid)) in &model.objects {
        let found = storage
            .load_before(Oid::from_u64(oid), Tid::MAX, Access::Wait, &mut buffer)
            .unwrap_or_else(|error| panic!("{what}: {oid}: {error}"))
            .unwrap();
        assert_eq!(&buffer[found.data], data, "{what}: {oid}");
        assert_eq!(found.serial.to_u64(), *tid, "{what}: {oid}");
    }
    // One that was not acknowledged may be there or not.
    let last = storage.last_tid().to_u64();
    assert!(
        last == model.last || last == model.last + 10,
        "{what}: {last}"
    );
    let mut transactions = storage
        .iterate(Some(Tid::from_u64(STOP + 1)), None)
        .unwrap();
    let mut tids = Vec::new();
    while let Some(meta) = transactions.next_transaction().unwrap() {
        tids.push(meta.tid.unwrap().to_u64());
    }
    let expected: Vec<_> = (STOP + 10..=last).step_by(10).collect();
    assert_eq!(tids, expected, "{what}");
}

/// Makes a database, and packs it on a disk that fails at step `at`. False: it never came to that.
fn pack_with_fault(fault: Fault, names: Names, keep_old: bool, at: u64) -> bool {
    let what = format!("{fault:?} at {at}, {names:?}, .old {keep_old}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let disk = Arc::new(FaultyDisk::new(fault, names));
    let shared: Arc<dyn Disk> = disk.clone();
    let storage = FileStorage::open(shared, options(&path, keep_old)).unwrap();
    let mut model = Model::default();
    commit(
        &storage,
        &mut model,
        &[(0, &[1, 2, 9]), (1, &[]), (2, &[3]), (3, &[]), (BLOB, &[])],
    )
    .unwrap();
    for _ in 0..7 {
        let changes: [(u64, &[u8]); 3] = [(0, &[1, 2, 9]), (1, &[]), (BLOB, &[])];
        commit(&storage, &mut model, &changes).unwrap();
    }
    storage.checkpoint().unwrap();

    disk.arm(at);
    // Commits come while the pack runs.
    let mut commit_failed = false;
    let mut during = model.clone();
    let mut on_removed = |_: RemovedBlob| {
        let changes: [(u64, &[u8]); 2] = [(0, &[1, 2, 9]), (2, &[3])];
        commit_failed |= commit(&storage, &mut during, &changes).is_err();
        Ok(())
    };
    let outcome = storage.pack_with(
        Tid::from_u64(STOP),
        PackOptions {
            gc: Some(true),
            until: None,
            on_removed_blob: Some(&mut on_removed),
        },
    );
    let mut model = during;
    let has_failed = disk.has_failed();
    if !has_failed {
        assert!(matches!(outcome, Ok(PackOutcome::Packed { .. })), "{what}");
        let old = directory.path().join("Data.fs.old");
        assert_eq!(old.exists(), keep_old, "{what}");
    }
    check(&storage, &model, &format!("{what}, at once"));
    if fault == Fault::Once && outcome.is_err() && !commit_failed {
        commit_and_pack_again(&storage, &mut model, &what);
    }
    if !disk.is_dead() {
        // A full disk keeps the index and the lock from being written; the data is there.
        let _ = storage.close();
    }
    drop(storage);
    if disk.is_dead() {
        disk.lose_unsynced();
    }
    let storage = FileStorage::open(Arc::new(RealDisk), options(&path, keep_old)).unwrap();
    assert!(!directory.path().join("Data.fs.pack").exists(), "{what}");
    check(&storage, &model, &format!("{what}, after reopening"));
    model.settle(storage.last_tid().to_u64());
    commit(&storage, &mut model, &[(1, &[])]).unwrap();
    storage.pack(Tid::from_u64(STOP), None, None).unwrap();
    check(&storage, &model, &format!("{what}, packed again"));
    has_failed
}

/// A pack that failed for once leaves a storage that works, unless it says otherwise.
fn commit_and_pack_again(storage: &FileStorage, model: &mut Model, what: &str) {
    let Err(error) = commit(storage, model, &[(1, &[])]) else {
        storage.pack(Tid::from_u64(STOP), None, None).unwrap();
        check(storage, model, &format!("{what}, again"));
        return;
    };
    assert!(
        error.to_string().contains("writing stopped"),
        "{what}: {error}"
    );
}

#[test]
fn a_pack_survives_a_fault_at_every_step() {
    for fault in Fault::ALL {
        for (names, keep_old) in [
            (Names::Links, true),
            (Names::Links, false),
            (Names::Renames, true),
            (Names::Copies, true),
        ] {
            let mut steps = 0;
            while pack_with_fault(fault, names, keep_old, steps) {
                steps += 1;
            }
            assert!(steps > 20, "{fault:?}: {steps} steps");
            println!("{fault:?}, {names:?}, .old {keep_old}: {steps} steps");
        }
    }
}
