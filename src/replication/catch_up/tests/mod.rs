//! Databases evolve apart, and are brought together again.

mod database;

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::duplex;

use super::*;
use crate::replication::types::StateMark;
use crate::storage::Storage;
use crate::storage::file::transfer::{Intent, pending};
use crate::types::Tid;
use database::{Database, Op, ops};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn origin(sender: &Database) -> Origin {
    let held = sender.storage.hold().unwrap();
    Origin {
        mark: StateMark {
            last_tid: sender.storage.last_tid(),
            length: held.end(),
            packs: sender.packs,
            reserved_oid: 1000,
        },
        held,
        blobs: sender.storage.blobs().cloned(),
    }
}

/// What came, and the bytes that went over the network.
async fn transfer(
    origin: Origin,
    behind: &Database,
    packs: Option<u64>,
) -> (super::Result<Incoming>, u64) {
    let (mut here, mut there) = duplex(64 << 10);
    let progress = Arc::new(Progress::default());
    let rate = RateLimit::default();
    let idle = Arc::new(Progress::default());
    let target = behind.storage.target().unwrap();
    let (sent, received) = tokio::join!(
        send(&mut there, origin, &rate, &idle),
        receive(&mut here, target, packs, &progress),
    );
    if received.is_ok() {
        sent.unwrap();
    }
    (received, progress.get().moved_bytes)
}

/// Transfers and installs; the way and the bytes that were moved.
fn bring(sender: &Database, behind: &Database, packs: Option<u64>) -> (Way, bool, u64) {
    runtime().block_on(async {
        let (incoming, moved) = transfer(origin(sender), behind, packs).await;
        let incoming = incoming.unwrap();
        let (way, continues) = (incoming.way, incoming.continues);
        let disk = crate::disk::RealDisk;
        let intent = incoming.make_intent(b"label".to_vec()).unwrap();
        incoming.install(&behind.storage, &intent).unwrap();
        let found = pending(&disk, &behind.path()).unwrap().unwrap();
        assert_eq!(found.label, b"label");
        Intent::forget(&disk, &behind.path()).unwrap();
        (way, continues, moved)
    })
}

fn check(sender: &Database, behind: &Database) {
    assert!(sender.bytes() == behind.bytes(), "the files are equal");
    assert_eq!(sender.state(), behind.state());
    assert_eq!(sender.storage.last_tid(), behind.storage.last_tid());
    assert_eq!(sender.storage.object_count(), behind.storage.object_count());
    let names: Vec<_> = std::fs::read_dir(behind.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("incoming") || name.contains("install"))
        .collect();
    assert_eq!(names, Vec::<String>::new());
}

/// What happens before the databases part, and to each of them afterwards.
#[derive(Clone, Debug)]
struct Story {
    common: Vec<Op>,
    sender: Vec<Op>,
    receiver: Vec<Op>,
    /// Of what the receiver does alone: one tid more or less is another transaction.
    step: u64,
}

fn packed(ops: &[Op]) -> bool {
    ops.iter().any(|op| matches!(op, Op::Pack(_)))
}

fn story() -> impl Strategy<Value = Story> {
    let receiver = prop_oneof![
        3 => Just(Vec::new()),
        1 => ops(1..10),
        1 => (0..20_usize).prop_map(|stop| vec![Op::Pack(stop)]),
    ];
    (ops(0..60), ops(0..30), receiver, 9..11_u64).prop_map(|(common, sender, receiver, step)| {
        Story {
            common,
            sender,
            receiver,
            step,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_the_files_are_equal_afterwards(story in story()) {
        let mut sender = Database::new(false);
        sender.apply(&story.common, 10);
        let mut receiver = sender.copy();
        sender.apply(&story.sender, 10);
        receiver.apply(&story.receiver, story.step);
        let packs = story.receiver.is_empty().then_some(receiver.packs);
        let was_empty = receiver.storage.last_tid() == Tid::ZERO;
        let (way, continues, _) = bring(&sender, &receiver, packs);
        check(&sender, &receiver);
        prop_assert_eq!(way == Way::Whole, was_empty, "{:?}", way);
        prop_assert!(continues || !story.receiver.is_empty() || packed(&story.sender));
        // And it works: what comes next is laid out in the same way.
        let more = [Op::Store(vec![(1, 50, 3), (2, 9, 4)]), Op::Delete(1)];
        receiver.tids = sender.tids.clone();
        sender.apply(&more, 10);
        receiver.apply(&more, 10);
        check(&sender, &receiver);
        let receiver = receiver.reopened(|_| ());
        check(&sender, &receiver);
    }
}

/// A history without accidents.
fn history(count: u64) -> Vec<Op> {
    let store = |n: u64| Op::Store(vec![(n % 19, 200, (n % 200) as u8), (n % 7, 50, 1)]);
    (0..count).map(store).collect()
}

#[test]
fn of_a_file_that_is_the_beginning_only_the_rest_comes() {
    let mut sender = Database::new(false);
    sender.apply(&history(400), 10);
    let receiver = sender.copy();
    let before = sender.storage.size_bytes();
    sender.apply(&history(50), 10);
    let missing = sender.storage.size_bytes() - before;
    let (way, continues, moved) = bring(&sender, &receiver, Some(0));
    assert_eq!((way, continues), (Way::Tail, true));
    assert!(moved < missing + 500, "{moved} bytes for {missing}");
    check(&sender, &receiver);
    let changes = receiver.storage.changes_since(Tid::from_u64(4000), 50);
    assert_eq!(changes.unwrap().unwrap().len(), 50);
    let too_many = receiver.storage.changes_since(Tid::from_u64(4000), 49);
    assert_eq!(too_many.unwrap(), None);
}

#[test]
fn nothing_comes_where_nothing_is_missing() {
    let mut sender = Database::new(false);
    sender.apply(&history(40), 10);
    let receiver = sender.copy();
    let (way, continues, moved) = bring(&sender, &receiver, Some(0));
    assert_eq!((way, continues), (Way::Tail, true));
    assert!(moved < 500, "{moved}");
    check(&sender, &receiver);
}

#[test]
fn a_torn_end_is_cut_and_comes_again() {
    let mut sender = Database::new(false);
    sender.apply(&history(100), 10);
    let receiver = sender.copy().reopened(|path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 30).unwrap();
    });
    sender.apply(&history(10), 10);
    let (way, _, _) = bring(&sender, &receiver, Some(0));
    assert_eq!(way, Way::Tail);
    assert!(sender.bytes() == receiver.bytes());
}

#[test]
fn a_copy_of_unknown_origin_and_one_that_missed_a_pack_move_little() {
    let mut sender = Database::new(false);
    sender.apply(&history(3000), 10);
    let copy = sender.copy();
    let size = sender.storage.size_bytes();
    let (way, continues, moved) = bring(&sender, &copy, None);
    assert_eq!((way, continues), (Way::Difference, true));
    assert!(moved * 100 < size, "{moved} of {size}");
    check(&sender, &copy);

    // The pack drops nearly everything, so what is left has no neighbour any more.
    let behind = sender.copy();
    sender.apply(&history(5), 10);
    sender.one(&Op::Pack(1500), 10);
    sender.packs += 1;
    let size = sender.storage.size_bytes();
    let (way, continues, moved) = bring(&sender, &behind, Some(0));
    assert_eq!((way, continues), (Way::Difference, true));
    assert!(moved * 50 < size, "{moved} of {size}");
    check(&sender, &behind);
}

#[test]
fn what_is_damaged_here_is_replaced() {
    let mut sender = Database::new(false);
    sender.apply(&history(300), 10);
    sender.apply(
        &[Op::Undo(4), Op::Undo(3), Op::Delete(3), Op::Pack(200)],
        10,
    );
    let whole = sender.bytes();
    for at in (0..40).map(|n| 4 + n * (whole.len() - 8) / 40 + n % 13) {
        let receiver = sender.copy();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x11;
        std::fs::write(receiver.path(), &bytes).unwrap();
        let (way, _, moved) = bring(&sender, &receiver, None);
        assert_eq!(way, Way::Difference, "byte {at}");
        assert!(sender.bytes() == receiver.bytes(), "byte {at}");
        assert!(moved < whole.len() as u64 / 4, "byte {at}: {moved} bytes");
        assert_eq!(sender.state(), receiver.state());
    }
}

#[test]
fn commits_and_packs_of_the_sender_do_not_disturb() {
    let mut sender = Database::new(false);
    sender.apply(&history(200), 10);
    let mut receiver = sender.copy();
    receiver.apply(&[Op::Pack(100)], 10);
    sender.apply(&history(30), 10);
    let held = sender.bytes();
    let origin = origin(&sender);
    sender.apply(&[Op::Pack(20), Op::Store(vec![(1, 9, 9)])], 10);
    assert_ne!(sender.bytes(), held);
    runtime().block_on(async {
        let (incoming, _) = transfer(origin, &receiver, None).await;
        let incoming = incoming.unwrap();
        let intent = incoming.make_intent(Vec::new()).unwrap();
        incoming.install(&receiver.storage, &intent).unwrap();
    });
    assert!(receiver.bytes() == held);
}

#[test]
fn what_was_committed_here_meanwhile_stays_if_it_is_the_same() {
    let mut sender = Database::new(false);
    sender.apply(&history(50), 10);
    let mut receiver = sender.copy();
    sender.apply(&history(20), 10);
    for (count, is_same) in [(7, true), (20, true), (25, true), (3, false)] {
        let (incoming, _) =
            runtime().block_on(async { transfer(origin(&sender), &receiver, Some(0)).await });
        let incoming = incoming.unwrap();
        assert_eq!(incoming.way, Way::Tail);
        let intent = incoming.make_intent(Vec::new()).unwrap();
        let mut meanwhile = history(count);
        if !is_same {
            meanwhile[1] = Op::Store(vec![(5, 7, 9)]);
        }
        let packs = receiver.packs;
        receiver.apply(&meanwhile, 10);
        let installed = incoming.install(&receiver.storage, &intent);
        assert_eq!(installed.is_ok(), is_same, "{installed:?}");
        Intent::forget(&crate::disk::RealDisk, &receiver.path()).unwrap();
        if count <= 20 && is_same {
            check(&sender, &receiver);
        } else if is_same {
            assert!(receiver.bytes().starts_with(&sender.bytes()));
        }
        receiver = Database::new(false);
        receiver.apply(&history(50), 10);
        receiver.packs = packs;
    }
}

#[test]
fn blobs_come_with_their_records_and_go_with_them() {
    let mut sender = Database::new(true);
    let blobs = |n: u8| Op::Store(vec![(20, 100, n), (21, 9000, n), (1, 5, n)]);
    sender.apply(&[blobs(1), blobs(2), Op::Store(vec![(20, 5, 3)])], 10);
    let mut receiver = sender.copy();
    sender.apply(&[blobs(4), blobs(5), Op::Undo(0)], 10);
    let (way, _, _) = bring(&sender, &receiver, Some(0));
    assert_eq!(way, Way::Tail);
    assert_eq!(named(&receiver), named(&sender));
    // One is missing here, one is cut off, one belongs to nothing any more.
    sender.apply(&[blobs(6), Op::Pack(0)], 10);
    let mut files = blob_files(&receiver).into_keys();
    std::fs::remove_file(files.next_back().unwrap()).unwrap();
    receiver.tids.clone_from(&sender.tids);
    let (way, _, _) = bring(&sender, &receiver, Some(0));
    assert_eq!(way, Way::Difference);
    let here = receiver.storage.blobs().unwrap();
    receiver.storage.remove_unneeded_blobs(here).unwrap();
    sender
        .storage
        .remove_unneeded_blobs(sender.storage.blobs().unwrap())
        .unwrap();
    assert_eq!(named(&receiver), named(&sender));
    let empty = Database::new(true);
    bring(&sender, &empty, None);
    assert_eq!(named(&empty), named(&sender));
    check(&sender, &empty);
}

type Files = std::collections::BTreeMap<std::path::PathBuf, (usize, u32)>;

fn blob_files(database: &Database) -> Files {
    let mut found = Files::new();
    let blobs = database.storage.blobs().unwrap();
    blobs
        .for_each_object(&mut |oid| {
            for serial in blobs.revisions(oid).unwrap() {
                let path = blobs.revision_path(oid, serial);
                let content = std::fs::read(&path).unwrap();
                found.insert(path, (content.len(), crc32fast::hash(&content)));
            }
            Ok(())
        })
        .unwrap();
    found
}

/// The same with paths below the directory.
fn named(database: &Database) -> Files {
    let root = database.storage.blobs().unwrap().path().to_owned();
    let files = blob_files(database).into_iter();
    files
        .map(|(path, content)| (path.strip_prefix(&root).unwrap().to_owned(), content))
        .collect()
}

/// The stream is cut after so many bytes from the sender.
async fn cut_transfer(
    origin: Origin,
    behind: &Database,
    packs: Option<u64>,
    after: u64,
) -> (super::Result<Incoming>, u64) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut here, middle) = duplex(16 << 10);
    let (relay, mut there) = duplex(16 << 10);
    let (mut up, mut down) = tokio::io::split(middle);
    let (relay_up, mut relay_down) = tokio::io::split(relay);
    let cut = tokio::spawn(async move {
        let mut limited = relay_up.take(after);
        let copied = tokio::io::copy(&mut limited, &mut down).await;
        down.shutdown().await.unwrap();
        copied
    });
    let back = tokio::spawn(async move { tokio::io::copy(&mut up, &mut relay_down).await });
    let progress = Arc::new(Progress::default());
    let rate = RateLimit::default();
    let idle = Arc::new(Progress::default());
    let target = behind.storage.target().unwrap();
    let (_, received) = tokio::join!(
        async {
            let sent = send(&mut there, origin, &rate, &idle).await;
            drop(there);
            sent
        },
        async {
            let received = receive(&mut here, target, packs, &progress).await;
            drop(here);
            received
        }
    );
    cut.abort();
    back.abort();
    (received, progress.get().moved_bytes)
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_was() {
    for (packs, way) in [(Some(0), Way::Tail), (None, Way::Difference)] {
        let mut sender = Database::new(false);
        sender.apply(&history(100), 10);
        let receiver = match way {
            Way::Tail => sender.copy(),
            _ => Database::new(false),
        };
        let before = sender.storage.size_bytes();
        sender.apply(&history(4000), 10);
        let missing = sender.storage.size_bytes() - before;
        let piece = missing / 3;
        let (mut moved_in_all, mut attempts) = (0, 0);
        let incoming = loop {
            let cut = cut_transfer(origin(&sender), &receiver, packs, piece);
            let (outcome, moved) = runtime().block_on(cut);
            moved_in_all += moved;
            attempts += 1;
            match outcome {
                Ok(incoming) => break incoming,
                Err(error) => assert!(matches!(error, CatchUpError::Broken(_)), "{error:?}"),
            }
            assert!(attempts < 8, "{way:?} never ends");
        };
        assert!(attempts > 2, "it was never cut");
        assert_eq!(incoming.way, way);
        assert!(
            moved_in_all < missing * 3 / 2,
            "{moved_in_all} for {missing}, {attempts} attempts"
        );
        let intent = incoming.make_intent(Vec::new()).unwrap();
        incoming.install(&receiver.storage, &intent).unwrap();
        Intent::forget(&crate::disk::RealDisk, &receiver.path()).unwrap();
        check(&sender, &receiver);
    }
}
