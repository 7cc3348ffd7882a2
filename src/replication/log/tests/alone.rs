use std::collections::BTreeMap;

use openraft::Membership;

use super::*;
use crate::replication::types::Member;

fn own() -> Member {
    Member {
        address: "db1:8101".to_owned(),
    }
}

/// Is `entry` the one by which node 1 is alone?
fn is_end(entry: &Entry<Types>) -> bool {
    let nodes = BTreeMap::from([(1, own())]);
    let alone = Membership::new(vec![BTreeSet::from([1])], nodes);
    entry.payload == EntryPayload::Membership(alone)
}

async fn state(group: &mut GroupLog) -> (Option<Vote<NodeId>>, Option<LogId<NodeId>>) {
    let vote = group.read_vote().await.unwrap();
    (vote, group.get_log_state().await.unwrap().last_log_id)
}

#[tokio::test]
async fn a_log_is_ended_durably_and_as_often_as_it_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    // Another node leads, in a term that has no entries here yet.
    group.save_vote(&Vote::new_committed(4, 2)).await.unwrap();
    append(&mut group, 3, 0..5, 10).await.unwrap();
    let end = group.end_alone(own(), Some(log_id(3, 2))).await.unwrap();
    assert_eq!(end, Some(log_id(5, 5)));
    assert_eq!(*group.reader().durable().borrow(), 6);
    let copy = killed(directory.path());
    let (_copied, mut found) = open_main(copy.path());
    for group in [&mut group, &mut found] {
        assert_eq!(state(group).await, (Some(Vote::new(5, 1)), end));
        let entries = entries(group).await;
        assert_eq!(entries.len(), 6);
        assert!(is_end(&entries[5]), "{:?}", entries[5]);
    }
    let again = found.end_alone(own(), None).await.unwrap();
    assert_eq!(again, Some(log_id(6, 6)));
    assert_eq!(state(&mut found).await, (Some(Vote::new(6, 1)), again));
    drop(log);
}

#[tokio::test]
async fn what_was_never_begun_has_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let (_log, mut group) = open_main(directory.path());
    assert_eq!(group.end_alone(own(), None).await.unwrap(), None);
    assert_eq!(state(&mut group).await, (None, None));
}

/// A state was taken over whole, and a crash came before the log knew of it.
#[tokio::test]
async fn the_end_follows_on_what_was_applied() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut group) = open_main(directory.path());
    group.save_vote(&Vote::new(3, 1)).await.unwrap();
    append(&mut group, 2, 0..5, 10).await.unwrap();
    let end = group.end_alone(own(), Some(log_id(3, 90))).await.unwrap();
    assert_eq!(end, Some(log_id(4, 91)));
    // What this log had behind it is of a leader that lost.
    append(&mut group, 4, 92..95, 10).await.unwrap();
    let end = group.end_alone(own(), Some(log_id(5, 92))).await.unwrap();
    assert_eq!(end, Some(log_id(6, 93)));
    log.close();
    let (_log, mut group) = open_main(directory.path());
    assert_eq!(state(&mut group).await, (Some(Vote::new(6, 1)), end));
    let entries = entries(&mut group).await;
    assert_eq!(entries.len(), 1);
    assert!(is_end(&entries[0]), "{entries:?}");
}
