use super::*;
use crate::storage::{RECORD_GAP_BYTES, StagedBody, StagedRecord};

/// A record that refers to the objects `references`.
fn record(references: &[u8]) -> Vec<u8> {
    let mut record = b"cm\nK\n.(".to_vec();
    for &oid in references {
        record.extend_from_slice(&[b'C', 8, 0, 0, 0, 0, 0, 0, 0, oid, b'Q']);
    }
    record.extend_from_slice(b"l.");
    record
}

fn commit(storage: &MappingStorage, tid: u64, changes: &[(u64, &[u8])]) {
    let mut body = Vec::new();
    let mut records = Vec::new();
    for &(oid, references) in changes {
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        body.extend_from_slice(&record(references));
        records.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data: start..body.len() as u64,
            kind: StagedRecordKind::Store,
        });
    }
    let staged = Staged {
        records,
        body: StagedBody::Memory(body),
        ..Staged::default()
    };
    let mut batch = [Committing {
        tid: Tid::from_u64(tid),
        staged,
    }];
    storage.append(&mut batch).unwrap();
    storage.publish(&batch);
}

#[test]
fn a_pack_drops_old_revisions_and_garbage_and_goes_only_forwards() {
    let storage = MappingStorage::new("test");
    let pack = |stop| storage.pack(Tid::from_u64(stop), None, None);
    assert_eq!(pack(5).unwrap(), PackOutcome::Nothing);
    commit(&storage, 10, &[(0, &[1, 2]), (1, &[]), (2, &[])]);
    commit(&storage, 20, &[(0, &[1])]);
    commit(&storage, 30, &[(0, &[1]), (3, &[])]);
    pack(25).unwrap();
    // The root of 20 is kept, that of 10 with the only way to object 2 is not.
    assert_eq!(storage.object_count(), 2);
    let history = storage.history(Oid::ROOT, 9).unwrap();
    let tids: Vec<_> = history.iter().map(|entry| entry.tid.to_u64()).collect();
    assert_eq!(tids, [30, 20]);
    assert_eq!(pack(25).unwrap(), PackOutcome::Nothing);
    assert!(matches!(pack(24), Err(StorageError::PackedLater)));
    commit(&storage, 40, &[(0, &[9])]);
    let size = storage.size_bytes();
    assert!(matches!(
        pack(41),
        Err(StorageError::DanglingReference { oid, .. }) if oid == Oid::from_u64(9)
    ));
    assert_eq!(storage.size_bytes(), size);
    storage.pack(Tid::from_u64(41), Some(false), None).unwrap();
    assert_eq!(storage.history(Oid::ROOT, 9).unwrap().len(), 1);
}
