//! How much of the log stays, and of the files beside it.

use std::time::Duration;

use super::consensus::Keep;
use super::needs::Needs;
use super::node::Served;

/// So many entries always stay in the log.
const KEPT_ENTRIES: u64 = 1000;
/// A node that was not heard of for so long gets what it lacks from `Data.fs`.
const ABSENT_AFTER: Duration = Duration::from_hours(24);
/// A file that no entry names goes after this time: its transaction was given up.
const ORPHAN_PATIENCE: Duration = Duration::from_hours(1);

/// What stays.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many of the last entries.
    pub entries: u64,
    /// What nodes that are behind need, as far as it has no more bytes: so many of log, and as many
    /// of files.
    pub bytes: u64,
    /// Files that no entry names, for so long.
    pub orphans_for: Duration,
}

impl Limits {
    /// With `bytes` of log.
    pub fn of(bytes: u64) -> Self {
        Self {
            entries: KEPT_ENTRIES,
            bytes,
            orphans_for: ORPHAN_PATIENCE,
        }
    }
}

/// Drops what nobody needs of one storage's log, and of the files beside it.
#[derive(Debug)]
pub struct Retention {
    limits: Limits,
    needs: Needs,
}

impl Retention {
    /// Keeps what `limits` say.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            needs: Needs::default(),
        }
    }

    /// Finds which files the entries name that came since the last time, or before this start.
    pub async fn look_through(&self, served: &Served) {
        let applier = &served.replica.applier;
        let mut log = served.log.clone();
        applier
            .files
            .look_through(&mut log, applier.applied_next())
            .await;
    }

    /// Drops what nobody needs. The state was saved before.
    pub async fn drop_needless(&mut self, served: &Served) {
        let applier = &served.replica.applier;
        let Some(durable) = applier.noted() else {
            return;
        };
        let files = &applier.files;
        // Most storages have none, and then nobody has to be asked.
        if files.named_from(0).is_some() {
            self.needs.ask(served).await;
        }
        let needed = self.needs.from(ABSENT_AFTER);
        let limits = &self.limits;
        let affordable = [
            served.log.index_keeping(limits.bytes),
            files.index_keeping(limits.bytes),
        ];
        let keep = Keep {
            durable,
            entries: limits.entries,
            affordable_from: affordable.into_iter().flatten().max().unwrap_or(0),
            files_from: needed.and_then(|index| files.named_from(index)),
            absent_after: ABSENT_AFTER,
        };
        served.group.purge_log(&keep).await;
        if let Some(purged) = served.group.status().purged {
            files.purged(purged, limits.orphans_for);
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
