//! What a node does for each storage from time to time.

use std::time::Duration;

use tokio::time::Instant;

use super::consensus::{Keep, Lead, Leadership, spread};
use super::node::Served;
use super::retention::{Limits, Retention};
use super::types::NodeId;
use crate::storage::Storage;

/// Looked at so often …
const INTERVAL: Duration = Duration::from_secs(2);
/// … the state is saved when it has changed and was saved so long ago …
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// … or so much was written since: that is what a crash has to write again.
const SAVE_BYTES: u64 = 64 << 20;
/// A member that was silent for longer is told not to be reached.
pub const REACHED_WITHIN: Duration = Duration::from_secs(3);
/// How even the leaders are is looked at so often: a hand-over costs clients some
/// tens of milliseconds, an uneven load costs nobody anything for a while.
const SPREAD_INTERVAL: Duration = Duration::from_mins(1);
/// A new node that is behind needs time for what is committed; the mark that it has to reach is
/// set anew after this time only, for it moves while commits go on.
const WHOLE_PATIENCE: Duration = Duration::from_hours(1);
/// Has the log of a new cluster lost its beginning?
const BEGIN_INTERVAL: Duration = Duration::from_millis(50);
/// Is there a quorum?
const QUORUM_INTERVAL: Duration = Duration::from_millis(250);

/// Saves the state of the storage, and drops the log that nobody needs; for ever.
pub async fn save_regularly(served: Served, log_size_bytes: u64) {
    let mut retention = Retention::new(Limits::of(log_size_bytes));
    let mut saved_at = Instant::now();
    let mut saved = (None, 0);
    loop {
        tokio::time::sleep(INTERVAL).await;
        retention.look_through(&served).await;
        let applier = &served.replica.applier;
        let now = (applier.applied().0, applier.storage.size_bytes());
        let grown = now.1.saturating_sub(saved.1);
        if now.0 == saved.0 || (saved_at.elapsed() < SAVE_INTERVAL && grown < SAVE_BYTES) {
            continue;
        }
        served.group.snapshot().await;
        (saved, saved_at) = (now, Instant::now());
        retention.drop_needless(&served).await;
    }
}

/// The log of a new cluster does not tell what its file held before, nor what the file of a node that
/// joins holds: nobody may begin with its first entry.
pub async fn begin_log(served: &Served) {
    loop {
        served.group.snapshot().await;
        if let Some(durable) = served.replica.applier.noted() {
            let keep = Keep {
                durable,
                entries: 0,
                affordable_from: u64::MAX,
                files_from: None,
                absent_after: Duration::ZERO,
            };
            served.group.purge_log(&keep).await;
        }
        // Each of the two is an order to the group, which is carried out when it can be.
        if served.group.status().purged.is_some() {
            return;
        }
        tokio::time::sleep(BEGIN_INTERVAL).await;
    }
}

/// A node that abstains from votes takes part again once nothing is missing that
/// a leader had committed after this node's start.
pub async fn vote_when_whole(served: Served) {
    while served.group.barrier(WHOLE_PATIENCE).await.is_err() {
        tokio::time::sleep(QUORUM_INTERVAL).await;
    }
    if let Err(error) = served.log.declare_whole() {
        tracing::error!("storage {}: {error}", served.replica.name());
    }
    served.group.vote_from_now_on();
}

/// Hands leaderships over until each node leads about as many storages, for ever.
pub async fn spread_leaders(node: NodeId, storages: Vec<Served>) {
    loop {
        tokio::time::sleep(SPREAD_INTERVAL).await;
        let leads = storages.iter().filter_map(|served| {
            let status = served.group.status();
            let leader = match status.leadership {
                Leadership::Leader { .. } => node,
                Leadership::Follower { leader, .. } => leader,
                Leadership::Unknown => return None,
            };
            Some(Lead {
                group: status.name.clone(),
                leader,
                able: status.able_to_lead(),
            })
        });
        let leads: Vec<_> = leads.collect();
        // While one has no leader there is something else to do.
        let Some(next) = spread(node, &leads).filter(|_| leads.len() == storages.len()) else {
            continue;
        };
        let own = storages
            .iter()
            .find(|served| served.replica.name() == next.group);
        if let Some(served) = own {
            tracing::info!(
                "storage {}: node {} is to lead, so that all lead as many",
                next.group,
                next.to
            );
            if let Err(error) = served.hand_over(Some(next.to)).await {
                tracing::info!("storage {}: {error}", next.group);
            }
        }
    }
}

/// Counts changes of the leader, for ever.
pub async fn count_leaders(served: Served) {
    let mut leadership = served.group.leadership();
    let mut known = None;
    while leadership.changed().await.is_ok() {
        let leader = match &*leadership.borrow_and_update() {
            Leadership::Leader { .. } => Some(served.group.node()),
            Leadership::Follower { leader, .. } => Some(*leader),
            Leadership::Unknown => None,
        };
        if leader.is_some() && leader != known {
            served.replica.counters().leader_changes.increment();
            known = leader;
        }
    }
}

/// A node that is late on purpose gets files when it gets the entries that name them, so that
/// nobody has to keep them until it applies those; for ever.
pub async fn fetch_ahead(served: Served) {
    let applier = &served.replica.applier;
    if applier.delay == Duration::ZERO {
        return;
    }
    loop {
        tokio::time::sleep(INTERVAL).await;
        let others = || applier.others();
        applier
            .files
            .fetch_ahead(applier.applied_next(), others)
            .await;
    }
}

/// Sends clients that write away while there is no quorum, for ever: another
/// node may have one.
pub async fn turn_away(served: Served, quorum_wait: Duration) {
    let mut was_told = false;
    loop {
        tokio::time::sleep(QUORUM_INTERVAL).await;
        let lost = served.group.quorum_lost_since();
        let is_long = lost.is_some_and(|since| since.elapsed() >= quorum_wait);
        if is_long && !was_told {
            tracing::error!(
                "storage {}: no leader and no quorum for {:.1} s; clients that write are sent away",
                served.replica.name(),
                quorum_wait.as_secs_f64()
            );
            served
                .database
                .close_writers("this server has lost its cluster");
        }
        if was_told && lost.is_none() {
            tracing::info!("storage {}: there is a quorum again", served.replica.name());
        }
        was_told = is_long;
        served.replica.readiness.set_cut_off(is_long);
    }
}
