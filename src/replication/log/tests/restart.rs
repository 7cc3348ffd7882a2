use super::*;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    let vote = Vote::new_committed(3, 2);
    group.save_vote(&vote).await.unwrap();
    append(&mut group, 3, 0..50, 100).await.unwrap();
    append(&mut group, 4, 50..53, 30_000).await.unwrap();
    let before = entries(&mut group).await;
    let copy = killed(directory.path());
    for directory in [copy.path(), directory.path()] {
        let reopened = (directory == copy.path()).then(|| open_main(directory));
        if let Some((_log, mut group)) = reopened {
            assert_eq!(group.read_vote().await.unwrap(), Some(vote));
            assert_eq!(entries(&mut group).await, before);
        }
    }
    log.close();
    let (_log, mut group) = open_main(directory.path());
    assert_eq!(entries(&mut group).await, before);
    let state = group.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(4, 52)));
    assert_eq!(state.last_purged_log_id, None);
}

#[tokio::test]
async fn what_need_not_be_durable_at_once_is_soon() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    append(&mut group, 1, 0..20, 10).await.unwrap();
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    let written = log.stats().writes.get();
    group.save_committed(Some(log_id(1, 12))).await.unwrap();
    group.purge(log_id(1, 4)).await.unwrap();
    group.save_committed(Some(log_id(1, 13))).await.unwrap();
    assert_eq!(group.reader().committed(), Some(13));
    while log.stats().writes.get() == written {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(log.stats().writes.get(), written + 1);
    let copy = killed(directory.path());
    let (_log, mut group) = open_main(copy.path());
    // What a leader has committed it tells anew.
    assert_eq!(group.read_committed().await.unwrap(), None);
    let state = group.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 4)));
    assert_eq!(entries(&mut group).await.len(), 15);
}

#[tokio::test]
async fn cuts_of_the_end_last() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut group, 1, 0..20, 10).await.unwrap();
    group.truncate(log_id(1, 15)).await.unwrap();
    log.close();
    let (log, mut group) = open_main(directory.path());
    let state = group.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(1, 14)));
    append(&mut group, 2, 15..17, 10).await.unwrap();
    group.purge(log_id(1, 9)).await.unwrap();
    // All that there is.
    group.truncate(log_id(1, 10)).await.unwrap();
    log.close();
    let (log, mut group) = open_main(directory.path());
    let state = group.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(1, 9)));
    assert!(entries(&mut group).await.is_empty());
    append(&mut group, 3, 10..12, 10).await.unwrap();
    log.close();
    let (_log, mut group) = open_main(directory.path());
    assert_eq!(
        entries(&mut group).await,
        [entry(3, 10, 10), entry(3, 11, 10)]
    );
}

#[tokio::test]
async fn a_state_that_is_taken_over_replaces_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut group, 1, 0..20, 10).await.unwrap();
    group.purge(log_id(1, 5)).await.unwrap();
    group.purge(log_id(2, 1000)).await.unwrap();
    let copy = killed(directory.path());
    let (_copied, condition) = open(copy.path(), Options::default());
    assert_eq!(condition, LogCondition::Whole);
    append(&mut group, 2, 1001..1003, 10).await.unwrap();
    log.close();
    let (_log, mut group) = open_main(directory.path());
    let state = group.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(2, 1000)));
    assert_eq!(state.last_log_id, Some(log_id(2, 1002)));
    assert_eq!(entries(&mut group).await.len(), 2);
}

#[test]
fn a_directory_belongs_to_one_node_and_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/log");
    let (log, _) = Log::open(&path, 7, Options::default()).unwrap();
    let error = Log::open(&path, 7, Options::default()).unwrap_err();
    assert!(matches!(error, LogError::InUse(_)), "{error}");
    log.close();
    let error = Log::open(&path, 8, Options::default()).unwrap_err();
    assert!(matches!(
        error,
        LogError::OtherNode {
            found: 7,
            node: 8,
            ..
        }
    ));
    Log::open(&path, 7, Options::default()).unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Log::open(&file, 7, Options::default()).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn files_without_an_identity_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open_main(directory.path());
    log.close();
    fs::remove_file(directory.path().join(identity::IDENTITY_FILE)).unwrap();
    let error = Log::open(directory.path(), 1, Options::default()).unwrap_err();
    assert!(matches!(error, LogError::Identity { .. }), "{error}");
}

#[tokio::test]
async fn after_it_was_closed_a_log_fails_and_its_directory_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut group, 1, 0..3, 10).await.unwrap();
    log.close();
    let error = append(&mut group, 1, 3..4, 10).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    group.save_vote(&Vote::new(1, 1)).await.unwrap_err();
    open_main(directory.path());
}

#[tokio::test]
async fn a_request_has_its_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (_log, mut group) = open_main(directory.path());
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut group, 1, 0..30, 900_000).await.unwrap();
    append(&mut group, 1, 30..31, 6_000_000).await.unwrap();
    for start in [0, 12, 29] {
        let found = group.limited_get_log_entries(start, 31).await.unwrap();
        let bytes: usize = found.iter().map(tail::size).sum();
        assert_eq!(found[0].log_id.index, start);
        assert!(bytes <= MAX_REQUEST_BYTES, "{bytes}");
        assert!(start == 29 || found.len() >= 4, "{}", found.len());
    }
    assert_eq!(
        group.limited_get_log_entries(30, 31).await.unwrap().len(),
        1
    );
    assert_eq!(entries(&mut group).await.len(), 31);
    group.purge(log_id(1, 3)).await.unwrap();
    assert!(
        group
            .limited_get_log_entries(2, 31)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(group.reader().size_bytes() > 20_000_000);
    assert_eq!(group.reader().index_keeping(6_500_000), Some(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_needs_go() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), small());
    let mut busy = log.group("busy", None).unwrap();
    let mut idle = log.group("idle", None).unwrap();
    idle.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut idle, 1, 0..5, 10).await.unwrap();
    append(&mut busy, 1, 0..500, 2000).await.unwrap();
    let mut next = 500;
    assert!(log.size_bytes() > 1_000_000);
    let started = Instant::now();
    // The old entries of the idle one move to another file, those of the busy one are purged.
    while log.size_bytes() > 400_000 && started.elapsed() < Duration::from_mins(1) {
        append(&mut busy, 1, next..next + 1, 2000).await.unwrap();
        next += 1;
        busy.purge(log_id(1, next - 10)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(log.size_bytes() < 400_000, "{} bytes", log.size_bytes());
    busy.save_vote(&Vote::new(1, 1)).await.unwrap();
    log.close();
    let (log, condition) = open(directory.path(), small());
    assert_eq!(condition, LogCondition::Whole);
    let mut idle = log.group("idle", None).unwrap();
    assert_eq!(idle.reader().condition(), LogCondition::Whole);
    assert_eq!(idle.read_vote().await.unwrap(), Some(Vote::new(1, 1)));
    assert_eq!(entries(&mut idle).await.len(), 5);
    let mut busy = log.group("busy", None).unwrap();
    assert_eq!(entries(&mut busy).await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_kept_stay_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), small());
    let mut group = log.group("main", None).unwrap();
    group.save_vote(&Vote::new(1, 1)).await.unwrap();
    append(&mut group, 1, 0..300, 2000).await.unwrap();
    let started = Instant::now();
    for next in (300..6000).step_by(50) {
        append(&mut group, 1, next..next + 50, 2000).await.unwrap();
        group.purge(log_id(1, next - 250)).await.unwrap();
        let live = log.live_bytes();
        assert!((600_000..1_000_000).contains(&live), "{live}");
        while log.size_bytes() > live + live / 3 + 5 * small().file_size {
            assert!(started.elapsed() < Duration::from_mins(1), "nothing goes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let files = fs::read_dir(directory.path()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let again = paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "rewrite"));
    let bytes: u64 = again.map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < 100_000, "{bytes} written again");
}

/// raft-engine would give one what was read of the other.
#[tokio::test]
async fn logs_of_the_same_shape_are_not_mixed_up() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let options = Options {
        tail_bytes: 0,
        ..Options::default()
    };
    for round in 0..2 {
        let mut open_ones = Vec::new();
        for (term, directory) in (1..).zip(&directories) {
            let (log, _) = open(directory.path(), options.clone());
            let mut group = log.group("main", None).unwrap();
            if round == 0 {
                group.save_vote(&Vote::new(term, 1)).await.unwrap();
                append(&mut group, term, 0..5, 100).await.unwrap();
            }
            open_ones.push((term, log, group));
        }
        for (term, _, group) in &mut open_ones {
            let expected: Vec<_> = (0..5).map(|index| entry(*term, index, 100)).collect();
            assert_eq!(entries(group).await, expected);
        }
    }
}
