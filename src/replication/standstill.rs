//! What keeps a node from going on with what its cluster has committed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::applier::Applier;
use super::staging::Trouble;
use crate::storage::Result;

/// What could not be applied is tried again after this time: the entry is
/// decided, there is no way around it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A pack that an entry has to wait for may take so long before clients are sent to
/// nodes that have done theirs.
pub(super) const PACK_PATIENCE: Duration = Duration::from_secs(2);

/// Why entries cannot be applied at the moment.
#[derive(Clone, Debug)]
pub struct Standstill {
    /// In words.
    pub why: Arc<str>,
    /// Nothing is wrong, or that is told elsewhere.
    pub is_harmless: bool,
    /// What it takes to go on is on no node any more: no patience helps, and no restart.
    pub is_lost: bool,
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

    /// Tells why a file that an entry names has not come; once, until it comes.
    pub(super) fn tell_missing(&self, trouble: Trouble) {
        let why = match trouble {
            Trouble::Late(why) => return self.tell_stuck(&why),
            Trouble::Nowhere(why) => why,
        };
        let is_told = |known: &Standstill| known.is_lost;
        if self.stuck.borrow().as_ref().is_some_and(is_told) {
            return;
        }
        let path = self.storage.paths().data;
        tracing::error!(
            critical = true,
            "{}: {why}. This node cannot go on with what its cluster has committed, and a restart \
             does not help: take it out of the cluster and let it join with a new node-id, as \
             \"A disk is lost\" in docs/redundancy.md tells",
            path.display()
        );
        self.stuck.send_replace(Some(Standstill {
            why: why.into(),
            is_harmless: false,
            is_lost: true,
        }));
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
        let path = self.storage.paths().data;
        let path = path.display();
        tracing::warn!("{path}: {why}; clients that write are sent to nodes that have");
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
            is_lost: false,
        }));
    }
}
