//! Orders as bytes and back.

use super::*;

fn committing() -> Committing {
    let kinds = [
        StagedRecordKind::Store,
        StagedRecordKind::Delete,
        StagedRecordKind::Undo { to: None },
        StagedRecordKind::Undo {
            to: Some(Tid::from_u64(7)),
        },
        StagedRecordKind::Restore {
            serial: Tid::from_u64(8),
            has_data: true,
            previous: Some(Tid::from_u64(3)),
        },
        StagedRecordKind::Restore {
            serial: Tid::from_u64(9),
            has_data: false,
            previous: None,
        },
    ];
    let mut body = Vec::new();
    let mut records = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        body.extend_from_slice(&[0xee; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        if matches!(
            kind,
            StagedRecordKind::Store | StagedRecordKind::Restore { has_data: true, .. }
        ) {
            body.extend_from_slice(&vec![7_u8; 100 + number]);
        }
        records.push(StagedRecord {
            oid: Oid::from_u64(number as u64),
            data: start..body.len() as u64,
            kind,
        });
    }
    Committing {
        tid: Tid::from_u64(1000),
        staged: Staged {
            meta: TransactionMeta {
                tid: None,
                status: b' ',
                user: b"user".to_vec(),
                description: b"words".to_vec(),
                extension: b"}.".to_vec(),
            },
            records,
            body: StagedBody::Memory(body),
            blobs: crate::storage::blob::StagedBlobs::default(),
        },
    }
}

fn order() -> Order {
    let remote = Remote {
        node: 2,
        session: 77,
    };
    let mut first = Commit::inline(&committing(), Some(remote)).unwrap();
    let digest = FileDigest {
        sha256: [9; 32],
        length: 1 << 40,
    };
    first.blobs = vec![(Oid::from_u64(4), digest)];
    let second = Commit::staged(&committing(), None, digest);
    Order::Commit(Commits {
        term: 3,
        proposer: 1,
        batch: 99,
        transactions: vec![first, second],
    })
}

#[test]
fn orders_come_back_as_they_were() {
    let pack = Order::Pack {
        stop: Tid::from_u64(5),
        gc: true,
    };
    let oids = Order::ReserveOids {
        term: 4,
        upto: Oid::from_u64(1 << 20),
    };
    for order in [order(), pack, oids] {
        assert_eq!(Order::decode(order.encode()).unwrap(), order);
    }
}

#[test]
fn orders_that_are_cut_or_longer_are_refused() {
    let Command(bytes) = order().encode();
    for length in 0..bytes.len() {
        assert!(
            Order::decode(Command(bytes.slice(..length))).is_err(),
            "{length}"
        );
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(Order::decode(Command(longer.into())).is_err());
}

#[test]
fn a_transaction_keeps_its_data_on_the_way_through_the_log() {
    let before = committing();
    let commit = Commit::inline(&before, None).unwrap();
    assert!(commit.looks_back());
    let after = commit.into_committing(None).unwrap();
    assert_eq!(after.tid, before.tid);
    assert_eq!(after.staged.meta, before.staged.meta);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for (old, new) in before.staged.records.iter().zip(&after.staged.records) {
        assert_eq!((old.oid, old.kind), (new.oid, new.kind));
        before.staged.body.read(&old.data, &mut one).unwrap();
        after.staged.body.read(&new.data, &mut other).unwrap();
        assert_eq!(one, other);
    }
}
