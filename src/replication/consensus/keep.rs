//! How much of the log is kept.

use std::time::Duration;

use super::group::Group;

/// What of the log has to stay.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// The state up to this entry is durable without the log.
    pub durable: u64,
    /// So many of the last entries stay. Never few: each new stream of replication
    /// that finds nothing of the log sends the whole state.
    pub entries: u64,
    /// What is within this bound, by bytes, may stay for nodes that are behind: the first such entry.
    pub affordable_from: u64,
    /// A member may need the files that entries from this one on name.
    pub files_from: Option<u64>,
    /// A follower that was silent for longer is not waited for.
    pub absent_after: Duration,
}

/// The last entry that can go; None: all stay. `last` is the log's end, `needed` the first
/// entries that others may need.
pub fn purge_upto(keep: &Keep, last: u64, needed: impl Iterator<Item = u64>) -> Option<u64> {
    let first_kept = (last + 1).saturating_sub(keep.entries);
    let first_needed = needed.min().unwrap_or(u64::MAX);
    // What a follower needs stays only as far as there is room.
    let for_followers = first_needed.max(keep.affordable_from);
    let durable = keep.durable.saturating_add(1);
    first_kept.min(for_followers).min(durable).checked_sub(1)
}

impl Group {
    /// Notes the present state of the storage as one that a follower can be sent
    /// (`RaftSnapshotBuilder`); the log is never purged beyond it.
    pub async fn snapshot(&self) {
        // It fails only where Raft has stopped.
        let _ = self.core.raft.trigger().snapshot().await;
    }

    /// Drops what of the log need not stay, in the background.
    pub async fn purge_log(&self, keep: &Keep) {
        let upto = {
            let metrics = self.core.raft.metrics().borrow().clone();
            let Some(last) = metrics.last_log_index else {
                return;
            };
            let contacts = &self.core.network.contacts;
            let replication = metrics.replication.unwrap_or_default();
            let others = replication
                .iter()
                .filter(|&(&node, _)| node != self.core.node);
            let living = others.filter(|&(&node, _)| {
                let followed = contacts.of(node).and_then(|contact| contact.followed);
                followed.is_some_and(|at| at.elapsed() < keep.absent_after)
            });
            let needed = living.map(|(_, matched)| matched.map_or(0, |log_id| log_id.index + 1));
            purge_upto(keep, last, needed.chain(keep.files_from))
        };
        if let Some(upto) = upto {
            let _ = self.core.raft.trigger().purge_log(upto).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(durable: u64, entries: u64, affordable_from: u64) -> Keep {
        Keep {
            durable,
            entries,
            affordable_from,
            files_from: None,
            absent_after: Duration::from_secs(10),
        }
    }

    fn upto(keep: &Keep, last: u64, needed: &[u64]) -> Option<u64> {
        purge_upto(keep, last, needed.iter().copied())
    }

    #[test]
    fn what_is_not_durable_stays() {
        assert_eq!(upto(&keep(500, 100, 0), 10_000, &[]), Some(500));
        assert_eq!(upto(&keep(9_990, 100, 0), 10_000, &[]), Some(9_900));
    }

    #[test]
    fn the_last_entries_stay_and_a_short_log_stays_whole() {
        assert_eq!(upto(&keep(50, 100, 0), 50, &[]), None);
        assert_eq!(upto(&keep(100, 100, 0), 100, &[]), Some(0));
    }

    #[test]
    fn what_a_follower_needs_stays_as_far_as_there_is_room() {
        assert_eq!(
            upto(&keep(9_990, 100, 0), 10_000, &[7_000, 8_000]),
            Some(6_999)
        );
        assert_eq!(
            upto(&keep(9_990, 100, 7_500), 10_000, &[7_000]),
            Some(7_499)
        );
    }
}
