//! A node that cannot do what a leader has to do leads nobody: one that cannot
//! apply what is committed, one whose log does not get to its disk, and one
//! whose disk is too full for what clients store.

use std::time::Duration;

use tokio::time::Instant;

use super::node::Served;

/// Looked at so often.
const INTERVAL: Duration = Duration::from_millis(250);
/// A write to the log that takes longer holds up all that this node leads.
const SLOW_WRITE: Duration = Duration::from_secs(3);
/// A disk that was full for a client is taken to be full for so long.
const FULL_FOR: Duration = Duration::from_secs(30);
/// A full disk is better than no leader: after this time without one the node
/// stands all the same.
const RELUCTANCE: Duration = Duration::from_secs(5);
/// After this time it is tried again to hand over.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Sees to it that another node leads while this one is not fit to; for ever.
pub async fn watch(served: Served) {
    let mut stuck = served.replica.applier.stuck();
    let mut was_stuck = false;
    let mut disk = FullDisk::default();
    loop {
        let is_slow = served.log.writing_for() > SLOW_WRITE;
        let is_stuck = stuck.borrow_and_update().is_some() || is_slow;
        let is_full = disk.is_full(served.database.stats.full_disk_refusals.get());
        let unled = served.group.quorum_lost_since();
        let is_needed = unled.is_some_and(|since| since.elapsed() > RELUCTANCE);
        served.group.set_unfit(is_stuck || (is_full && !is_needed));
        if is_stuck && !was_stuck {
            served
                .database
                .close_writers("this server cannot go on with its cluster");
        }
        was_stuck = is_stuck;
        let pause = if is_stuck || is_full {
            hand_over(&served, is_stuck).await
        } else {
            INTERVAL
        };
        tokio::select! {
            changed = stuck.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Has another node lead, if this one does; how long to wait before the next look.
async fn hand_over(served: &Served, is_stuck: bool) -> Duration {
    let (group, name) = (&served.group, served.replica.name());
    if is_stuck {
        // It was elected, and cannot come as far as the entry with which it begins.
        group.end_unbegun_term().await;
    }
    if group.term().is_none() || group.is_alone() {
        return INTERVAL;
    }
    let why = if is_stuck {
        "this node cannot go on"
    } else {
        "its disk is full"
    };
    tracing::warn!("storage {name}: this node is to lead no longer: {why}");
    let handed_over = if is_stuck {
        // What is voted cannot be finished here.
        group.transfer_leader(None).await
    } else {
        served.hand_over(None).await
    };
    match handed_over {
        Ok(leader) => {
            tracing::info!("storage {name}: node {leader} leads in its place");
            INTERVAL
        }
        Err(error) => {
            tracing::warn!("storage {name}: {error}");
            RETRY_PAUSE
        }
    }
}

/// Was the disk full for a client lately?
#[derive(Debug, Default)]
struct FullDisk {
    refusals: u64,
    until: Option<Instant>,
}

impl FullDisk {
    /// With so many refusals since the start.
    fn is_full(&mut self, refusals: u64) -> bool {
        let now = Instant::now();
        if refusals > self.refusals {
            self.refusals = refusals;
            self.until = Some(now + FULL_FOR);
        }
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_full_for_a_while_after_each_refusal() {
        let mut disk = FullDisk::default();
        assert!(!disk.is_full(0));
        assert!(disk.is_full(1));
        tokio::time::advance(FULL_FOR / 2).await;
        assert!(disk.is_full(2));
        tokio::time::advance(FULL_FOR / 2).await;
        assert!(disk.is_full(2));
        tokio::time::advance(FULL_FOR / 2).await;
        assert!(!disk.is_full(2));
    }
}
