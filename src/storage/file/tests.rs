use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::disk::{Access, RealDisk};
use crate::storage::{
    RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind, Storage,
};
use crate::types::TransactionMeta;

fn open(path: &Path) -> FileStorage {
    FileStorage::open(Arc::new(RealDisk), FileOptions::new(path)).unwrap()
}

/// A transaction that stores `changes`; None deletes.
fn staged(changes: &[(u64, Option<&[u8]>)]) -> Staged {
    let mut body = Vec::new();
    let mut records = Vec::new();
    for &(oid, data) in changes {
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        body.extend_from_slice(data.unwrap_or_default());
        let kind = match data {
            Some(_) => StagedRecordKind::Store,
            None => StagedRecordKind::Delete,
        };
        let data = start..body.len() as u64;
        records.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data,
            kind,
        });
    }
    let meta = TransactionMeta {
        status: b' ',
        user: b"user".to_vec(),
        description: b"why".to_vec(),
        ..TransactionMeta::default()
    };
    Staged {
        meta,
        records,
        body: StagedBody::Memory(body),
        ..Staged::default()
    }
}

fn commit(storage: &FileStorage, tid: u64, changes: &[(u64, Option<&[u8]>)]) {
    let staged = staged(changes);
    let _reservation = storage.prepare(&staged).unwrap();
    let mut batch = [Committing {
        tid: Tid::from_u64(tid),
        staged,
    }];
    storage.append(&mut batch).unwrap();
    storage.publish(&batch);
}

/// Data, serial, end.
type Loaded = (Vec<u8>, u64, Option<u64>);

fn load(storage: &FileStorage, oid: u64, before: u64) -> Result<Option<Loaded>> {
    let mut buffer = Vec::new();
    let (oid, before) = (Oid::from_u64(oid), Tid::from_u64(before));
    let revision = storage.load_before(oid, before, Access::Wait, &mut buffer)?;
    Ok(revision.map(|r| {
        (
            buffer[r.data].to_vec(),
            r.serial.to_u64(),
            r.end.map(Tid::to_u64),
        )
    }))
}

fn check_history(storage: &FileStorage) {
    assert_eq!(load(storage, 1, 10).unwrap(), None);
    assert_eq!(
        load(storage, 1, 11).unwrap(),
        Some((b"one".to_vec(), 10, Some(20)))
    );
    assert_eq!(
        load(storage, 1, u64::MAX).unwrap(),
        Some((vec![7; 5000], 20, None))
    );
    assert_eq!(
        load(storage, 2, 30).unwrap(),
        Some((b"two".to_vec(), 10, Some(30)))
    );
    assert!(matches!(
        load(storage, 2, 31),
        Err(StorageError::NoSuchObject { .. })
    ));
    assert!(matches!(
        load(storage, 3, 31),
        Err(StorageError::NoSuchObject { .. })
    ));
    assert_eq!(storage.last_tid(), Tid::from_u64(40));
    assert_eq!(storage.object_count(), 2);
}

fn write_history(storage: &FileStorage) {
    commit(storage, 10, &[(1, Some(b"one")), (2, Some(b"two"))]);
    commit(storage, 20, &[(1, Some(&[7; 5000]))]);
    commit(storage, 30, &[(2, None)]);
    commit(storage, 40, &[]);
}

#[test]
fn what_was_committed_is_there_after_each_kind_of_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let index = directory.path().join("Data.fs.index");
    let storage = open(&path);
    write_history(&storage);
    check_history(&storage);
    drop(storage);
    assert!(!index.exists(), "a crash saves no index");
    let storage = open(&path);
    check_history(&storage);
    storage.close().unwrap();
    drop(storage);
    let saved = fs::read(&index).unwrap();
    let storage = open(&path);
    check_history(&storage);
    commit(&storage, 50, &[(1, Some(b"new"))]);
    storage.close().unwrap();
    drop(storage);
    fs::write(&index, saved).unwrap();
    let storage = open(&path);
    assert_eq!(
        load(&storage, 1, u64::MAX).unwrap(),
        Some((b"new".to_vec(), 50, None))
    );
    drop(storage);
    fs::write(&index, b"garbage").unwrap();
    assert_eq!(load(&open(&path), 1, u64::MAX).unwrap().unwrap().1, 50);
}

#[test]
fn a_torn_tail_is_cut_and_kept_at_every_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    commit(&storage, 10, &[(1, Some(b"one"))]);
    let good = storage.size_bytes();
    commit(&storage, 20, &[(1, Some(b"two"))]);
    let end = storage.size_bytes();
    drop(storage);
    let whole = fs::read(&path).unwrap();
    for length in good + 1..end {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let cut = &whole[..usize::try_from(length).unwrap()];
        fs::write(&path, cut).unwrap();
        let storage = open(&path);
        assert_eq!(storage.last_tid(), Tid::from_u64(10), "cut at {length}");
        assert_eq!(fs::metadata(&path).unwrap().len(), good);
        let kept = fs::read(directory.path().join("Data.fs.tr0")).unwrap();
        assert_eq!(kept, cut[usize::try_from(good).unwrap()..]);
        commit(&storage, 30, &[(1, Some(b"three"))]);
        assert_eq!(load(&storage, 1, 31).unwrap().unwrap().1, 30);
    }
}

#[test]
fn a_voted_transaction_of_pythons_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    commit(&storage, 10, &[(1, Some(b"one"))]);
    let good = usize::try_from(storage.size_bytes()).unwrap();
    commit(&storage, 20, &[(1, Some(b"two"))]);
    drop(storage);
    let mut bytes = fs::read(&path).unwrap();
    bytes[good + 16] = format::STATUS_VOTED;
    fs::write(&path, bytes).unwrap();
    let storage = open(&path);
    assert_eq!(storage.last_tid(), Tid::from_u64(10));
    assert_eq!(load(&storage, 1, u64::MAX).unwrap().unwrap().1, 10);
}

#[test]
fn damage_before_good_transactions_is_refused_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    write_history(&storage);
    drop(storage);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4 + 8 + 3] = 1; // the first transaction's length
    fs::write(&path, &bytes).unwrap();
    let error = FileStorage::open(Arc::new(RealDisk), FileOptions::new(&path)).unwrap_err();
    assert!(
        error.to_string().contains("good transactions follow"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_second_opener_is_told_who_is_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    let error = FileStorage::open(Arc::new(RealDisk), FileOptions::new(&path)).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    let read_only = FileOptions {
        read_only: true,
        ..FileOptions::new(&path)
    };
    let reader = FileStorage::open(Arc::new(RealDisk), read_only).unwrap();
    assert!(matches!(reader.new_oids(1), Err(StorageError::ReadOnly)));
    drop(storage);
}

#[test]
fn iteration_gives_the_range_and_all_records() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&directory.path().join("Data.fs"));
    write_history(&storage);
    for (start, stop, expected) in [
        (None, None, vec![10, 20, 30, 40]),
        (Some(10), None, vec![10, 20, 30, 40]),
        (Some(11), Some(30), vec![20, 30]),
        (Some(31), None, vec![40]),
        (Some(41), None, vec![]),
        (None, Some(9), vec![]),
    ] {
        let mut iterator = storage
            .iterate(start.map(Tid::from_u64), stop.map(Tid::from_u64))
            .unwrap();
        let mut tids = Vec::new();
        while let Some(meta) = iterator.next_transaction().unwrap() {
            assert_eq!(meta.user, b"user");
            tids.push(meta.tid.unwrap().to_u64());
        }
        assert_eq!(tids, expected, "{start:?} {stop:?}");
    }
    let mut iterator = storage.iterate(Some(Tid::from_u64(30)), None).unwrap();
    iterator.next_transaction().unwrap();
    let record = iterator.records().unwrap().next_record().unwrap().unwrap();
    assert_eq!((record.oid, record.data), (Oid::from_u64(2), None));
    let tids: Vec<_> = storage.last_invalidations(3).unwrap();
    assert_eq!(
        tids.iter().map(|(tid, _)| tid.to_u64()).collect::<Vec<_>>(),
        [20, 30, 40]
    );
}

#[test]
fn restored_data_that_is_there_already_becomes_a_pointer() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&directory.path().join("Data.fs"));
    write_history(&storage);
    let mut restored = staged(&[(1, Some(b"one")), (2, Some(b"other"))]);
    for record in &mut restored.records {
        let previous = Some(Tid::from_u64(10));
        record.kind = StagedRecordKind::Restore {
            serial: Tid::from_u64(60),
            has_data: true,
            previous,
        };
    }
    let before = storage.size_bytes();
    let mut batch = [Committing {
        tid: Tid::from_u64(60),
        staged: restored,
    }];
    storage.append(&mut batch).unwrap();
    storage.publish(&batch);
    assert_eq!(
        load(&storage, 1, 61).unwrap(),
        Some((b"one".to_vec(), 60, None))
    );
    assert_eq!(
        load(&storage, 2, 61).unwrap(),
        Some((b"other".to_vec(), 60, None))
    );
    let mut iterator = storage.iterate(Some(Tid::from_u64(60)), None).unwrap();
    iterator.next_transaction().unwrap();
    let mut records = iterator.records().unwrap();
    assert_eq!(
        records.next_record().unwrap().unwrap().data_txn,
        Some(Tid::from_u64(10))
    );
    assert_eq!(records.next_record().unwrap().unwrap().data_txn, None);
    assert!(storage.size_bytes() > before);
}

#[test]
fn a_batch_with_a_spilled_transaction_is_written_whole() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    // The gap before the third record lies where the file is copied in pieces.
    let near_border = vec![8; (1 << 20) - 7 - 3 * RECORD_GAP_BYTES + 20];
    let mut spilled = staged(&[
        (1, Some(b"spilled")),
        (5, Some(&near_border)),
        (2, Some(&vec![9; 3 << 20])),
    ]);
    let file = tempfile::tempfile().unwrap();
    if let StagedBody::Memory(bytes) = &spilled.body {
        file.write_all_at(bytes, 0).unwrap();
        spilled.body = StagedBody::File(file.try_clone().unwrap());
    }
    let mut batch = [
        Committing {
            tid: Tid::from_u64(10),
            staged: staged(&[(3, Some(b"before"))]),
        },
        Committing {
            tid: Tid::from_u64(20),
            staged: spilled,
        },
        Committing {
            tid: Tid::from_u64(30),
            staged: staged(&[(4, Some(b"behind"))]),
        },
    ];
    storage.append(&mut batch).unwrap();
    assert_eq!(
        storage.last_tid(),
        Tid::ZERO,
        "nothing is seen before it is published"
    );
    storage.publish(&batch);
    drop(storage);
    let mut gap = [1; RECORD_GAP_BYTES];
    file.read_exact_at(&mut gap, 0).unwrap();
    assert_eq!(gap, [0; RECORD_GAP_BYTES], "the file is only read");
    let storage = open(&path);
    assert_eq!(
        load(&storage, 2, u64::MAX).unwrap().unwrap().0,
        vec![9; 3 << 20]
    );
    assert_eq!(load(&storage, 5, u64::MAX).unwrap().unwrap().0, near_border);
    assert_eq!(load(&storage, 4, u64::MAX).unwrap().unwrap().0, b"behind");
}

#[test]
fn an_index_saved_during_commits_is_that_of_its_position() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = open(&path);
    commit(&storage, 10, &[(1, Some(b"one"))]);
    let end = storage.size_bytes();
    commit(&storage, 20, &[(1, Some(b"two")), (2, Some(b"new"))]);
    let generation = storage.generation.load_full();
    index_file::save(&RealDisk, &path, &generation.data, &generation.index, end).unwrap();
    let saved = index_file::load(&RealDisk, &path, &generation.data)
        .unwrap()
        .unwrap();
    assert_eq!((saved.end, saved.last_tid), (end, Tid::from_u64(10)));
    assert_eq!(saved.index.len(), 1);
    assert!(saved.index.get(Oid::from_u64(1)).unwrap() < end);
}

#[test]
fn a_file_that_others_changed_is_written_no_more() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("another file was put in its place", |path| {
            fs::copy(path, path.with_extension("copy")).unwrap();
            fs::rename(path.with_extension("copy"), path).unwrap();
        }),
        ("no longer at its place", |path| {
            fs::remove_file(path).unwrap();
        }),
        ("bytes", |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(50).unwrap();
        }),
        ("bytes", |path| {
            use std::io::Write;
            fs::OpenOptions::new()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(b"more")
                .unwrap();
        }),
    ];
    for (what, change) in changes {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let storage = open(&path);
        commit(&storage, 10, &[(1, Some(b"one"))]);
        change(&path);
        let staged = staged(&[(1, Some(b"two"))]);
        let refused = storage.prepare(&staged).map(|_| ()).and_then(|()| {
            storage.append(&mut [Committing {
                tid: Tid::from_u64(20),
                staged,
            }])
        });
        let problem = refused.unwrap_err().to_string();
        assert!(
            problem.contains("another program") && problem.contains(what),
            "{problem}"
        );
    }
}

/// What the log has asked for and nobody has begun yet.
#[derive(Debug, Default)]
struct Due(AtomicBool);

impl Ledger for Due {
    fn before_switch(&self, _: SyncedState, _: u64) -> Result<()> {
        Ok(())
    }

    fn after_switch(&self, _: Option<SyncedState>) {}

    fn is_pack_due(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// They would wait for each other, the undo in the log and the pack for the undo's vote.
#[test]
fn no_undo_is_voted_between_the_order_of_a_pack_and_its_begin() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&directory.path().join("Data.fs"));
    commit(&storage, 10, &[(1, Some(b"first"))]);
    commit(&storage, 20, &[(1, Some(b"second"))]);
    let ledger = Arc::new(Due::default());
    storage.keep_ledger(Arc::clone(&ledger) as Arc<dyn Ledger>);
    let mut undo = staged(&[(1, Some(b""))]);
    let to = Some(Tid::from_u64(10));
    undo.records[0].kind = StagedRecordKind::Undo { to };
    drop(storage.prepare(&undo).unwrap());
    ledger.0.store(true, Ordering::Relaxed);
    assert!(matches!(
        storage.prepare(&undo),
        Err(StorageError::NotUndoable { .. })
    ));
    assert!(storage.prepare(&staged(&[(2, Some(b"else"))])).is_ok());
}
