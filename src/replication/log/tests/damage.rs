//! Whatever happens to the files: a node knows when it may have lost what it acknowledged.

use super::*;

const FILE_HEADER_SIZE: usize = 69;

/// A log with 20 entries in one file: some written alone, some together.
async fn written(directory: &Path) -> Vec<Entry<Types>> {
    let (log, mut group) = open_main(directory);
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    for index in 0..10 {
        append(&mut group, 1, index..index + 1, 40).await.unwrap();
    }
    append(&mut group, 1, 10..19, 300).await.unwrap();
    append(&mut group, 1, 19..20, 100).await.unwrap();
    let entries = entries(&mut group).await;
    log.close();
    entries
}

/// What a node finds in `directory`. Nothing may be missing of a log that says that it is whole.
fn check(directory: &Path, expected: &[Entry<Types>], what: &str) -> bool {
    let applied = expected.last().map(|entry| entry.log_id);
    let (log, files) = open(directory, Options::default());
    let mut group = log.group("main", applied).unwrap();
    let condition = group.reader().condition();
    let (found, vote) =
        runtime().block_on(async { (entries(&mut group).await, group.read_vote().await.unwrap()) });
    let is_whole = condition == LogCondition::Whole;
    if is_whole {
        assert_eq!(files, LogCondition::Whole, "{what}");
        assert!(found == expected || found.is_empty(), "{what}");
        assert_eq!(vote, Some(Vote::new(1, 1)), "{what}");
    } else {
        assert_eq!(found, expected[..found.len()], "{what}");
    }
    is_whole
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let source = tempfile::tempdir().unwrap();
    let expected = runtime().block_on(written(source.path()));
    let good = fs::read(newest(source.path())).unwrap();
    for at in (0..good.len()).step_by(23) {
        let directory = killed(source.path());
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(newest(directory.path()), &bad).unwrap();
        let is_whole = check(directory.path(), &expected, &format!("byte {at}"));
        assert!(!is_whole, "byte {at} of {}", good.len());
        // Opening it again does not make it better.
        assert!(!check(
            directory.path(),
            &expected,
            &format!("byte {at} again")
        ));
    }
}

#[test]
fn a_file_that_was_cut_anywhere_is_noticed() {
    let source = tempfile::tempdir().unwrap();
    let expected = runtime().block_on(written(source.path()));
    let good = fs::read(newest(source.path())).unwrap();
    for length in (0..good.len()).step_by(29) {
        let directory = killed(source.path());
        fs::write(newest(directory.path()), &good[..length]).unwrap();
        let is_whole = check(directory.path(), &expected, &format!("cut to {length}"));
        assert!(!is_whole, "cut to {length} of {}", good.len());
    }
}

#[tokio::test]
async fn a_write_that_was_torn_is_no_damage() {
    let source = tempfile::tempdir().unwrap();
    let expected = written(source.path()).await;
    let end = fs::metadata(newest(source.path())).unwrap().len();
    let (log, mut group) = open_main(source.path());
    append(&mut group, 1, 20..21, 20_000).await.unwrap();
    let whole = killed(source.path());
    log.close();
    let file = fs::read(newest(whole.path())).unwrap();
    let end = usize::try_from(end).unwrap();
    for missing in (end.next_multiple_of(512)..end + 20_000).step_by(512 * 3) {
        let directory = killed(whole.path());
        let mut torn = file.clone();
        torn[missing..].fill(0);
        fs::write(newest(directory.path()), &torn).unwrap();
        let (_log, mut group) = open_main(directory.path());
        assert_eq!(entries(&mut group).await, expected, "from {missing}");
        append(&mut group, 1, 20..22, 1000).await.unwrap();
        assert_eq!(entries(&mut group).await.len(), 22);
    }
}

/// It may be one whose node voted, and acknowledged, with a log that is gone.
#[test]
fn a_new_log_lacks_something_until_it_is_declared_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), Options::default());
    log.group("main", None)
        .unwrap()
        .reader()
        .declare_new()
        .unwrap();
    log.close();
    let (log, condition) = open(directory.path(), Options::default());
    assert_eq!(condition, LogCondition::Whole);
    let reader = log.group("main", None).unwrap().reader();
    assert!(matches!(reader.condition(), LogCondition::Damaged(_)));
    reader.declare_whole().unwrap();
    assert_eq!(reader.condition(), LogCondition::Whole);
}

#[tokio::test]
async fn damage_is_remembered_until_the_node_has_caught_up() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let path = newest(directory.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[FILE_HEADER_SIZE + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (log, condition) = open(directory.path(), Options::default());
    assert!(matches!(condition, LogCondition::Damaged(_)));
    assert!(directory.path().join(recovery::ASIDE).is_dir());
    log.group("new", None).unwrap();
    log.close();
    let (log, condition) = open(directory.path(), Options::default());
    assert_eq!(condition, LogCondition::Whole, "of the files that are left");
    let group = log.group("main", None).unwrap();
    assert!(matches!(
        group.reader().condition(),
        LogCondition::Damaged(_)
    ));
    let new = log.group("new", None).unwrap();
    assert_eq!(new.reader().condition(), LogCondition::Whole);
    group.reader().declare_whole().unwrap();
    drop(group);
    log.close();
    open_main(directory.path());
}

/// Several files.
async fn written_long(directory: &Path) {
    let (log, _) = open(directory, small());
    let mut group = log.group("main", None).unwrap();
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    for index in 0..100 {
        append(&mut group, 1, index..index + 1, 2000).await.unwrap();
    }
    log.close();
    assert!(directory.join("0000000000000003.raftlog").exists());
}

#[tokio::test]
async fn an_older_file_that_is_damaged_is_noticed() {
    for is_gone in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        written_long(directory.path()).await;
        let path = directory.path().join("0000000000000002.raftlog");
        if is_gone {
            fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = fs::read(&path).unwrap();
            bytes[FILE_HEADER_SIZE + 2] ^= 1;
            fs::write(&path, &bytes).unwrap();
        }
        let (log, condition) = open(directory.path(), small());
        assert!(matches!(condition, LogCondition::Damaged(_)));
        let mut group = log.group("main", Some(log_id(1, 99))).unwrap();
        assert!(matches!(
            group.reader().condition(),
            LogCondition::Damaged(_)
        ));
        // As openraft does when what was applied is beyond the log.
        group.purge(log_id(1, 99)).await.unwrap();
        append(&mut group, 2, 100..101, 10).await.unwrap();
        log.close();
        let (log, _) = open(directory.path(), small());
        let mut group = log.group("main", Some(log_id(1, 99))).unwrap();
        assert_eq!(entries(&mut group).await, [entry(2, 100, 10)]);
    }
}

/// The byte in the middle of the payload of entry `index`, in any file.
fn spoil(directory: &Path, index: u64) {
    let payload: Vec<u8> = match entry(1, index, 2000).payload {
        EntryPayload::Normal(Command(payload)) => payload.to_vec(),
        _ => unreachable!(),
    };
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let found = bytes
            .windows(payload.len())
            .position(|bytes| bytes == payload);
        if let Some(at) = found {
            bytes[at + 1000] ^= 4;
            fs::write(&path, &bytes).unwrap();
            return;
        }
    }
    panic!("entry {index} is in no file");
}

#[tokio::test]
async fn an_unreadable_entry_that_was_applied_is_purged() {
    let directory = tempfile::tempdir().unwrap();
    written_long(directory.path()).await;
    spoil(directory.path(), 7);
    spoil(directory.path(), 12);
    let (log, condition) = open(directory.path(), small());
    assert_eq!(condition, LogCondition::Whole);
    let mut group = log.group("main", Some(log_id(1, 50))).unwrap();
    assert_eq!(group.reader().condition(), LogCondition::Whole);
    let state = group.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 13)));
    assert_eq!(entries(&mut group).await.len(), 86);
}

#[tokio::test]
async fn an_unreadable_entry_that_was_not_applied_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    written_long(directory.path()).await;
    spoil(directory.path(), 12);
    let (log, condition) = open(directory.path(), small());
    assert_eq!(condition, LogCondition::Whole, "of the files");
    let mut group = log.group("main", Some(log_id(1, 11))).unwrap();
    assert!(matches!(
        group.reader().condition(),
        LogCondition::Damaged(_)
    ));
    assert_eq!(entries(&mut group).await.len(), 12);
    append(&mut group, 2, 12..14, 10).await.unwrap();
    log.close();
    let (log, _) = open(directory.path(), small());
    let mut group = log.group("main", Some(log_id(1, 11))).unwrap();
    assert!(matches!(
        group.reader().condition(),
        LogCondition::Damaged(_)
    ));
    assert_eq!(entries(&mut group).await.len(), 14);
}

#[tokio::test]
async fn files_that_are_gone_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    fs::remove_file(newest(directory.path())).unwrap();
    let (log, condition) = open(directory.path(), Options::default());
    assert!(matches!(condition, LogCondition::Damaged(_)));
    let group = log.group("main", None).unwrap();
    assert!(matches!(
        group.reader().condition(),
        LogCondition::Damaged(_)
    ));
}
