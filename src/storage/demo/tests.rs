use std::fs;
use std::path::Path;

use super::*;
use crate::disk::RealDisk;
use crate::storage::file::{FileOptions, FileStorage};
use crate::storage::{RECORD_GAP_BYTES, StagedBody, StagedRecord};
use crate::types::TransactionMeta;

fn file(path: &Path) -> Arc<dyn Storage> {
    Arc::new(FileStorage::open(Arc::new(RealDisk), FileOptions::new(path)).unwrap())
}

fn mapping() -> Arc<dyn Storage> {
    Arc::new(MappingStorage::new("mapping"))
}

fn over(base: &Arc<dyn Storage>, changes: Option<&Arc<dyn Storage>>) -> DemoStorage {
    let base = Some(Arc::clone(base));
    DemoStorage::new(Arc::new(RealDisk), None, base, changes.map(Arc::clone))
}

fn staged(records: &[(u64, StagedRecordKind, &[u8])]) -> Staged {
    let mut body = Vec::new();
    let mut staged = Vec::new();
    for &(oid, kind, data) in records {
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        body.extend_from_slice(data);
        staged.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data: start..body.len() as u64,
            kind,
        });
    }
    Staged {
        meta: TransactionMeta {
            status: b' ',
            ..TransactionMeta::default()
        },
        records: staged,
        body: StagedBody::Memory(body),
        ..Staged::default()
    }
}

fn commit_staged(storage: &dyn Storage, tid: u64, staged: Staged) {
    let _reservation = storage.prepare(&staged).unwrap();
    let mut batch = [Committing {
        tid: Tid::from_u64(tid),
        staged,
    }];
    storage.append(&mut batch).unwrap();
    storage.publish(&batch);
}

fn commit(storage: &dyn Storage, tid: u64, changes: &[(u64, &[u8])]) {
    let store = |&(oid, data)| (oid, StagedRecordKind::Store, data);
    let records: Vec<_> = changes.iter().map(store).collect();
    commit_staged(storage, tid, staged(&records));
}

/// Serial, end.
fn load(storage: &dyn Storage, oid: u64, before: u64) -> Result<Option<(u64, Option<u64>)>> {
    let mut buffer = Vec::new();
    let (oid, before) = (Oid::from_u64(oid), Tid::from_u64(before));
    let found = storage.load_before(oid, before, Access::Wait, &mut buffer)?;
    Ok(found.map(|r| {
        assert_eq!(
            storage.load_serial(oid, r.serial, Access::Wait).unwrap(),
            buffer[r.data]
        );
        (r.serial.to_u64(), r.end.map(Tid::to_u64))
    }))
}

fn current(storage: &dyn Storage, oid: u64) -> Option<(u64, bool)> {
    let current = storage.current_serial(Oid::from_u64(oid), Access::Wait);
    current.unwrap().map(|c| (c.serial.to_u64(), c.exists))
}

fn history(storage: &dyn Storage, oid: u64, size: u64) -> Vec<u64> {
    let entries = storage.history(Oid::from_u64(oid), size).unwrap();
    entries.iter().map(|entry| entry.tid.to_u64()).collect()
}

fn transactions(storage: &dyn Storage, start: Option<u64>, stop: Option<u64>) -> Vec<(u64, u64)> {
    let (start, stop) = (start.map(Tid::from_u64), stop.map(Tid::from_u64));
    let mut transactions = storage.iterate(start, stop).unwrap();
    let mut found = Vec::new();
    while let Some(meta) = transactions.next_transaction().unwrap() {
        let mut records = transactions.records().unwrap();
        while let Some(record) = records.next_record().unwrap() {
            found.push((meta.tid.unwrap().to_u64(), record.oid.to_u64()));
        }
    }
    found
}

fn is_absent<T>(result: &Result<T>) -> bool {
    matches!(result, Err(StorageError::NoSuchObject { .. }))
}

/// Object 1 in both, 2 in the base alone, 3 in the changes alone.
fn check_reads(base: &Arc<dyn Storage>, changes: &Arc<dyn Storage>) {
    commit(&**base, 10, &[(1, b"one"), (2, b"two")]);
    commit(&**base, 20, &[(1, b"one again")]);
    let demo = over(base, Some(changes));
    assert_eq!(demo.last_tid(), Tid::from_u64(20));
    commit(&demo, 30, &[(1, b"changed"), (3, b"new")]);
    commit(&demo, 40, &[(1, b"changed again")]);

    assert_eq!(load(&demo, 1, 10).unwrap(), None);
    assert_eq!(load(&demo, 1, 20).unwrap(), Some((10, Some(20))));
    assert_eq!(load(&demo, 1, 21).unwrap(), Some((20, Some(30))));
    assert_eq!(load(&demo, 1, 30).unwrap(), Some((20, Some(30))));
    assert_eq!(load(&demo, 1, 31).unwrap(), Some((30, Some(40))));
    assert_eq!(load(&demo, 1, u64::MAX).unwrap(), Some((40, None)));
    assert_eq!(load(&demo, 2, 35).unwrap(), Some((10, None)));
    assert_eq!(load(&demo, 3, 30).unwrap(), None);
    assert_eq!(load(&demo, 3, 31).unwrap(), Some((30, None)));
    assert!(is_absent(&load(&demo, 4, 35)));

    let (one, nine) = (Oid::from_u64(1), Tid::from_u64(9));
    assert!(is_absent(&demo.load_serial(one, nine, Access::Wait)));
    assert_eq!(current(&demo, 1), Some((40, true)));
    assert_eq!(current(&demo, 2), Some((10, true)));
    assert_eq!(current(&demo, 4), None);
    assert_eq!(history(&demo, 1, 3), [40, 30, 20]);
    assert_eq!(history(&demo, 1, 100), [40, 30, 20, 10]);
    assert_eq!(history(&demo, 2, 1), [10]);
    assert!(is_absent(&demo.history(Oid::from_u64(4), 1)));
    let oldest = |oid| {
        demo.oldest_serial(Oid::from_u64(oid), Access::Wait)
            .unwrap()
    };
    assert_eq!(oldest(1), Some(Tid::from_u64(10)));
    assert_eq!(oldest(3), Some(Tid::from_u64(30)));
    assert_eq!(oldest(4), None);

    let all = [(10, 1), (10, 2), (20, 1), (30, 1), (30, 3), (40, 1)];
    assert_eq!(transactions(&demo, None, None), all);
    assert_eq!(transactions(&demo, Some(20), Some(30)), all[2..5]);
    assert_eq!(demo.last_tid(), Tid::from_u64(40));
    assert_eq!(demo.object_count(), 2);
    assert_eq!(base.last_tid(), Tid::from_u64(20));
    let last = |count| -> Vec<u64> {
        let last = demo.last_invalidations(count).unwrap();
        last.iter().map(|(tid, _)| tid.to_u64()).collect()
    };
    assert_eq!(last(1), [40]);
    assert_eq!(last(3), [20, 30, 40]);
    assert_eq!(last(100), [10, 20, 30, 40]);
    demo.close().unwrap();
}

#[test]
fn reads_find_the_changes_and_then_the_base() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    check_reads(&mapping(), &mapping());
    check_reads(&file(&path("b1")), &mapping());
    check_reads(&mapping(), &file(&path("c2")));
    check_reads(&file(&path("b3")), &file(&path("c3")));
    let nested_base: Arc<dyn Storage> = Arc::new(over(&mapping(), None));
    let empty_below: Arc<dyn Storage> = Arc::new(over(&mapping(), Some(&file(&path("c4")))));
    check_reads(&nested_base, &empty_below);
}

#[test]
fn after_undoing_the_first_change_the_base_is_seen_again() {
    let directory = tempfile::tempdir().unwrap();
    let (base, changes) = (mapping(), file(&directory.path().join("changes")));
    commit(&*base, 10, &[(1, b"one")]);
    let demo = over(&base, Some(&changes));
    commit(&demo, 20, &[(1, b"changed"), (2, b"new")]);
    let undone = demo.undo(Tid::from_u64(20), &HashMap::new()).unwrap();
    let records: Vec<_> = undone
        .iter()
        .map(|r| {
            (
                r.oid.to_u64(),
                StagedRecordKind::Undo { to: r.to },
                &b""[..],
            )
        })
        .collect();
    commit_staged(&demo, 30, staged(&records));

    assert_eq!(load(&demo, 1, 20).unwrap(), Some((10, Some(20))));
    assert_eq!(load(&demo, 1, 25).unwrap(), Some((20, Some(30))));
    assert_eq!(load(&demo, 1, 31).unwrap(), Some((10, None)));
    assert_eq!(current(&demo, 1), Some((10, true)));
    assert!(is_absent(&load(&demo, 2, 31)));
    assert_eq!(current(&demo, 2), Some((30, false)));
    commit(&demo, 40, &[(1, b"changed again")]);
    assert_eq!(load(&demo, 1, u64::MAX).unwrap(), Some((40, None)));
    assert_eq!(load(&demo, 1, 15).unwrap(), Some((10, Some(20))));
}

#[test]
fn deletions_and_restored_transactions_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let demo = over(&mapping(), Some(&file(&directory.path().join("changes"))));
    let restore = StagedRecordKind::Restore {
        serial: Tid::from_u64(5),
        has_data: true,
        previous: None,
    };
    for (kind, operation) in [
        (StagedRecordKind::Delete, "deleteObject"),
        (restore, "restore"),
    ] {
        let refused = demo.prepare(&staged(&[(1, kind, b"data")])).unwrap_err();
        assert!(
            refused
                .to_string()
                .ends_with(&format!("does not support {operation}"))
        );
    }
    assert!(demo.next_record(None).is_err());
}

#[test]
fn oids_are_new_and_in_use_nowhere() {
    let base = mapping();
    let demo = over(&base, None);
    let first = demo.new_oids(1).unwrap()[0].to_u64();
    commit(&*base, 10, &[(first + 2, b"in the base")]);
    commit(&demo, 20, &[(first + 3, b"in the changes")]);
    let oids: Vec<u64> = demo
        .new_oids(3)
        .unwrap()
        .into_iter()
        .map(Oid::to_u64)
        .collect();
    assert_eq!(oids, [first + 1, first + 4, first + 5]);
    // A restart begins elsewhere.
    assert_ne!(over(&base, None).new_oids(1).unwrap()[0].to_u64(), first);
}

fn put_blob(storage: &dyn Storage, tid: u64, oid: u64, content: &[u8]) {
    let mut staged = staged(&[(oid, StagedRecordKind::Store, b"blob")]);
    let mut upload = storage.blobs().unwrap().upload().unwrap();
    upload.write(content).unwrap();
    staged.blobs.insert(Oid::from_u64(oid), upload.finish());
    staged.blobs.prepare(storage.last_tid()).unwrap();
    commit_staged(storage, tid, staged);
}

fn blob(storage: &dyn Storage, oid: u64, serial: u64) -> Result<Vec<u8>> {
    let file = storage.open_blob(Oid::from_u64(oid), Tid::from_u64(serial))?;
    let mut content = Vec::new();
    file.read_piece(0, 100, Access::Wait, &mut content)?;
    Ok(content)
}

fn with_directory(path: &Path) -> Arc<dyn Storage> {
    let blobs = BlobDirectory::open(Arc::new(RealDisk), path, false).unwrap();
    Arc::new(MappingStorage::with_blobs("mapping", blobs))
}

#[test]
fn blobs_go_to_the_changes_and_are_read_from_both() {
    let directory = tempfile::tempdir().unwrap();
    let base = with_directory(&directory.path().join("base"));
    put_blob(&*base, 10, 1, b"old");
    let changes = with_directory(&directory.path().join("changes"));
    let demo = over(&base, Some(&changes));
    assert!(demo.has_blobs());
    put_blob(&demo, 20, 1, b"changed");
    assert_eq!(blob(&demo, 1, 10).unwrap(), b"old");
    assert_eq!(blob(&demo, 1, 20).unwrap(), b"changed");
    assert!(blob(&*base, 1, 20).is_err());
    assert!(matches!(
        blob(&demo, 1, 15),
        Err(StorageError::NoSuchBlob { .. })
    ));

    let read_only = over(&base, Some(&mapping()));
    assert!(!read_only.has_blobs() && read_only.blobs().is_none());
    assert_eq!(blob(&read_only, 1, 10).unwrap(), b"old");
    let without = over(&mapping(), Some(&mapping()));
    assert!(matches!(
        blob(&without, 1, 10),
        Err(StorageError::BlobsNotSupported)
    ));

    let around = directory.path().join("around");
    let around = BlobDirectory::open(Arc::new(RealDisk), &around, false).unwrap();
    let around = read_only.with_blobs(around);
    put_blob(&around, 20, 2, b"around");
    assert_eq!(blob(&around, 2, 20).unwrap(), b"around");
    assert_eq!(around.description().interfaces[0], BLOB_STORAGE);
}

#[test]
fn a_pack_drops_old_changes_and_no_object() {
    let base = mapping();
    commit(&*base, 10, &[(0, b"root"), (1, b"one")]);
    let demo = over(&base, None);
    // Nothing leads to any of these but perhaps the base.
    put_blob(&demo, 20, 1, b"old");
    put_blob(&demo, 30, 1, b"current");
    let stop = Tid::from_u64(40);
    assert!(demo.pack(stop, Some(true), None).is_err());
    demo.pack(stop, None, None).unwrap();
    assert_eq!(history(&demo, 1, 10), [30, 10]);
    assert!(blob(&demo, 1, 20).is_err());
    assert_eq!(blob(&demo, 1, 30).unwrap(), b"current");

    let alone = over(&mapping(), None);
    let pickle = b"\x80\x03N.\x80\x03N.";
    commit(&alone, 10, &[(0, pickle), (1, pickle)]);
    alone.pack(stop, None, None).unwrap();
    assert_eq!(alone.object_count(), 1);
}

#[test]
fn temporary_blobs_go_with_the_storage() {
    let demo = over(&mapping(), None);
    assert!(is_absent(&blob(&demo, 1, 10)));
    put_blob(&demo, 10, 1, b"temporary");
    assert_eq!(blob(&demo, 1, 10).unwrap(), b"temporary");
    assert!(is_absent(&blob(&demo, 2, 10)));
    let path = demo.blobs().unwrap().path().to_owned();
    assert!(path.to_str().unwrap().ends_with(".demoblobs"));
    assert!(fs::read_dir(&path).unwrap().count() > 1);
    demo.close().unwrap();
    assert!(!path.exists());
}

#[test]
fn clients_are_told_what_the_reference_tells_them() {
    let directory = tempfile::tempdir().unwrap();
    let interfaces = |storage: &DemoStorage| -> Vec<&'static str> {
        let told = &storage.description().interfaces;
        told.iter().map(|(_, name)| *name).collect()
    };
    let plain = DemoStorage::new(Arc::new(RealDisk), None, None, None);
    assert_eq!(
        plain.description().name,
        "DemoStorage('MappingStorage', 'MappingStorage')"
    );
    assert_eq!(
        interfaces(&plain),
        ["IBlobStorage", "IStorage", "IStorageIteration", "Interface"]
    );
    assert!(!plain.description().supports_undo);

    let plain: Arc<dyn Storage> = Arc::new(plain);
    let undoing = over(&plain, Some(&file(&directory.path().join("changes"))));
    assert!(
        undoing
            .description()
            .name
            .starts_with("DemoStorage(\"DemoStorage('MappingStorage', 'MappingStorage')\", '")
    );
    assert_eq!(
        interfaces(&undoing),
        [
            "IStorageUndoable",
            "IStorage",
            "IStorageIteration",
            "Interface"
        ]
    );
    assert!(undoing.description().supports_undo);
    let named = DemoStorage::new(Arc::new(RealDisk), Some("trial".to_owned()), None, None);
    assert_eq!(named.description().name, "trial");
}

#[test]
fn its_condition_is_that_of_the_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("changes.fs");
    let (base, changes) = (mapping(), file(&path));
    let demo = over(&base, Some(&changes));
    commit(&demo, 10, &[(1, b"data")]);
    let condition = demo.condition();
    assert_eq!(condition.kind, "demostorage");
    assert_eq!(condition.path.as_deref(), Some(path.as_path()));
    assert_eq!(condition.stopped, None);
    assert_eq!(condition.sync_times.unwrap().count, 1);
    assert!(condition.index_bytes > 0);
}
