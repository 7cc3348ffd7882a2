//! Whether a node is ready for a client: one that only reads needs a true state,
//! one that writes needs the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::consensus::Leadership;
use super::replica::{Replica, STARTING};

/// A node that was not up to date in time tries it again after such a pause.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// What keeps a node from taking changes that its other parts do not know.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// There was no quorum for too long.
    cut_off: watch::Sender<bool>,
    /// A client was sent away as this node was not up to date in time. It has not
    /// been since.
    late: AtomicBool,
}

impl Readiness {
    /// Notes whether there was no quorum for too long.
    pub(super) fn set_cut_off(&self, so: bool) {
        self.cut_off
            .send_if_modified(|was| std::mem::replace(was, so) != so);
    }

    /// Was there none?
    pub(super) fn is_cut_off(&self) -> bool {
        *self.cut_off.borrow()
    }
}

impl Replica {
    /// Waits until this node has all that was acknowledged to anybody before this call. For a
    /// client that writes, the error says why it has to try another node.
    pub(super) async fn be_up_to_date(self: &Arc<Self>, read_only: bool) -> Result<(), Arc<str>> {
        let group = self.group().ok_or(STARTING)?;
        if read_only {
            if self.applier.stuck().borrow().is_none() {
                // Without a leader it sees an older state, but a true one.
                let _ = group.barrier(self.patience.read).await;
            }
            return Ok(());
        }
        let why = tokio::select! {
            biased;
            why = self.unable() => why,
            waited = group.barrier(self.patience.register) => match waited {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.note_late();
                    error.to_string()
                }
            },
        };
        let advice = "another server of the cluster may";
        Err(format!("this server cannot take changes: {why}; {advice}").into())
    }

    /// Takes no clients that write before it was up to date once.
    fn note_late(self: &Arc<Self>) {
        if self.readiness.late.swap(true, Ordering::Relaxed) {
            return;
        }
        let replica = Arc::clone(self);
        self.runtime().spawn(async move {
            while let Some(group) = replica.group()
                && group.barrier(replica.patience.register).await.is_err()
            {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            replica.readiness.late.store(false, Ordering::Relaxed);
        });
    }

    /// Ends when this node is known to take no part in changes, with the reason.
    async fn unable(&self) -> String {
        let mut stuck = self.applier.stuck();
        let mut cut_off = self.readiness.cut_off.subscribe();
        let why = async {
            let standstill = stuck.wait_for(Option::is_some).await.ok()?;
            Some(standstill.as_ref()?.why.to_string())
        };
        let is_cut_off = async { cut_off.wait_for(|so| *so).await.map(drop) };
        tokio::select! {
            biased;
            Some(why) = why => why,
            Ok(()) = is_cut_off => "it has lost its cluster".to_owned(),
            else => std::future::pending().await,
        }
    }

    /// Nothing is known that would keep a client from writing here.
    pub(super) fn takes_changes(&self) -> bool {
        let applier = &self.applier;
        let is_led = self
            .group()
            .is_some_and(|group| *group.leadership().borrow() != Leadership::Unknown);
        is_led
            && !self.readiness.is_cut_off()
            && !self.readiness.late.load(Ordering::Relaxed)
            && applier.delay.is_zero()
            && applier.stuck().borrow().is_none()
            && applier.receiving.progress().is_none()
    }
}
