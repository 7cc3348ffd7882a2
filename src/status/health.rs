use super::{Snapshot, replication};

/// An answer to a question with two outcomes, with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Is all as it should be?
    pub is_good: bool,
    /// Why, as lines.
    pub words: String,
}

/// Is the server at work? A storage that stopped writing needs the
/// administrator, and a restart. A quorum that is lost does not: this node has
/// done nothing wrong, and a restart would bring nobody back.
pub fn health(snapshot: &Snapshot) -> Verdict {
    let stopped = stopped(snapshot) + &replication::failed(snapshot);
    if stopped.is_empty() {
        return good("ok\n");
    }
    bad(stopped)
}

/// Is it to be sent clients? A storage that stopped writing still answers
/// those that read, and the next server has the same disk, so that is no reason
/// to send clients away. A node without a quorum turns away those that write,
/// and other nodes may have one.
pub fn readiness(snapshot: &Snapshot) -> Verdict {
    let to_read = readiness_to_read(snapshot);
    let without_quorum = replication::without_quorum(snapshot);
    if to_read.is_good && !without_quorum.is_empty() {
        return bad(without_quorum);
    }
    to_read
}

/// Is it to be sent clients that only read?
pub fn readiness_to_read(snapshot: &Snapshot) -> Verdict {
    match (snapshot.state, &snapshot.doing) {
        ("ready", _) => match replication::not_of_use(snapshot) {
            none if none.is_empty() => good("ready\n"),
            problems => bad(problems),
        },
        (state, Some(doing)) => bad(format!("{state}: {doing}\n")),
        (state, None) => bad(format!("{state}\n")),
    }
}

fn stopped(snapshot: &Snapshot) -> String {
    let storages = snapshot.storages.iter();
    let lines = storages.filter_map(|storage| {
        let why = storage.stopped.as_ref()?;
        let name = &storage.name;
        Some(format!(
            "storage {name} takes no changes since an error: {why}. \
             Free or repair the disk, then restart the server\n"
        ))
    });
    lines.collect()
}

fn good(words: &str) -> Verdict {
    Verdict {
        is_good: true,
        words: words.to_owned(),
    }
}

fn bad(words: String) -> Verdict {
    Verdict {
        is_good: false,
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::StorageStatus;
    use super::*;

    fn with_storages(stopped: &[Option<&str>]) -> Snapshot {
        let storage = |number: usize| StorageStatus {
            name: number.to_string(),
            stopped: stopped[number].map(str::to_owned),
            ..StorageStatus::default()
        };
        Snapshot {
            state: "ready",
            storages: (0..stopped.len()).map(storage).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_storage_that_stopped_writing_is_unhealthy_and_takes_clients() {
        assert!(health(&with_storages(&[None, None])).is_good);
        let snapshot = with_storages(&[None, Some("syncing Data.fs: no such device")]);
        let verdict = health(&snapshot);
        assert!(!verdict.is_good);
        let words = "storage 1 takes no changes since an error: syncing Data.fs: no such device.";
        assert!(verdict.words.starts_with(words), "{verdict:?}");
        assert!(readiness(&snapshot).is_good);
    }

    #[test]
    fn who_starts_or_stops_is_healthy_and_not_ready() {
        let starting = Snapshot {
            state: "starting",
            doing: Some("opening storage 1".to_owned()),
            ..Snapshot::default()
        };
        assert!(health(&starting).is_good);
        assert_eq!(
            readiness(&starting),
            bad("starting: opening storage 1\n".to_owned())
        );
        let stopping = Snapshot {
            state: "stopping",
            ..Snapshot::default()
        };
        assert_eq!(readiness(&stopping), bad("stopping\n".to_owned()));
    }
}
