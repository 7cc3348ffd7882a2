//! What keeps a node from going on with what its cluster has committed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::applier::Applier;
use crate::storage::Result;

/// What could not be applied is tried again after this time: the entry is
/// decided, there is no way around it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A pack that an entry has to wait for may take so long before clients are sent to
/// nodes that have done theirs.
const PACK_PATIENCE: Duration = Duration::from_secs(2);

/// Why entries cannot be applied at the moment.
#[derive(Clone, Debug)]
pub struct Standstill {
    /// In words.
    pub why: Arc<str>,
    /// Nothing is wrong, or that is told elsewhere.
    pub is_harmless: bool,
}

impl Applier {
    /// Why entries cannot be applied here, if they cannot.
    pub fn stuck(&self) -> watch::Receiver<Option<Standstill>> {
        self.stuck.subscribe()
    }

    /// Tells why this node cannot go on, and waits before the next try.
    pub(super) async fn wait_stuck(&self, why: &str) {
        self.tell_stuck(why);
        tokio::time::sleep(RETRY_PAUSE).await;
    }

    /// Tells why this node cannot go on; once, until it can.
    pub(super) fn tell_stuck(&self, why: &str) {
        if self.stuck.borrow().is_none() {
            tracing::error!(
                critical = true,
                "{why}. This node cannot go on with what its cluster has committed; it is \
                 tried again each second. Free or repair the disk; if this line stays the last \
                 one, restart the server"
            );
            self.stand_still(why, false);
        }
    }

    pub(super) fn go_on(&self) {
        if self.stuck.send_replace(None).is_some() {
            tracing::info!("the storage goes on");
        }
    }

    /// Does what has to be done, again and again until it succeeds.
    pub(super) async fn insist(&self, mut work: impl FnMut() -> Result<()>) {
        while let Err(error) = work() {
            self.wait_stuck(&error.to_string()).await;
        }
        self.go_on();
    }

    /// Waits until the packs are done that the log has asked for.
    pub(super) async fn await_packs(&self) {
        let done = self.packs.idle();
        if tokio::time::timeout(PACK_PATIENCE, done).await.is_ok() {
            return;
        }
        let why = "an undo waits for a pack that this node has not done yet";
        tracing::warn!("{why}; clients that write are sent to nodes that have");
        self.stand_still(why, true);
        self.packs.idle().await;
        self.go_on();
    }

    /// Goes no further, for good.
    pub(super) async fn halt<T>(&self, why: &str) -> T {
        tracing::error!(critical = true, "{why}. This node applies nothing any more");
        self.stand_still(why, false);
        pending().await
    }

    fn stand_still(&self, why: &str, is_harmless: bool) {
        self.stuck.send_replace(Some(Standstill {
            why: why.into(),
            is_harmless,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::replication::files::{Files, open_area};
    use crate::replication::net::memory::MemoryNetwork;
    use crate::replication::note::{Note, PackJob};
    use crate::replication::staging::Staging;
    use crate::storage::file::{FileOptions, FileStorage};
    use crate::types::Tid;

    /// Of a node that has a pack to do, and nobody who does it.
    fn applier(directory: &std::path::Path) -> Arc<Applier> {
        let options = FileOptions::new(directory.join("Data.fs"));
        let storage = Arc::new(FileStorage::open(Arc::new(RealDisk), options).unwrap());
        let peers = MemoryNetwork::new(1).boot(1).peers();
        let staging = Staging::new("1", peers, open_area(&storage).unwrap(), None);
        let files = Files::new(staging, Arc::clone(&storage));
        let mut note = Note::default();
        note.packs.push(PackJob {
            log_index: 1,
            stop: Tid::MAX,
            gc: true,
            until: Tid::MAX,
        });
        let path = directory.join("Data.fs.raft");
        Arc::new(Applier::new(1, storage, files, note, path, Duration::ZERO))
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_waits_for_a_pack_stands_still_until_it_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let applier = applier(directory.path());
        let waiting = tokio::spawn({
            let applier = Arc::clone(&applier);
            async move { applier.await_packs().await }
        });
        let mut stuck = applier.stuck();
        tokio::time::sleep(PACK_PATIENCE / 2).await;
        assert!(stuck.borrow().is_none());
        let is_harmless =
            |stuck: &Option<Standstill>| stuck.as_ref().is_some_and(|s| s.is_harmless);
        stuck.wait_for(is_harmless).await.unwrap();
        assert!(!waiting.is_finished());
        applier.packs.replace(Vec::new());
        waiting.await.unwrap();
        assert!(applier.stuck().borrow().is_none());
        // There is nothing to wait for any more.
        applier.await_packs().await;
    }
}
