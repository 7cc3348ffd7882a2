//! Packs that the log asks for, one after the other, each node at its own pace.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::note::PackJob;
use crate::storage::{Result, StorageError};
use crate::transaction::{Database, PackDone};

/// A pack that failed for a reason of this node's own is tried again after this time.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// The packs of one storage that are to be done here.
///
/// Invariant: every pack that the log asks for is carried out here, in the log's
/// order, or fails for a reason that it fails for on every node.
#[derive(Debug)]
pub struct Packs {
    state: Mutex<State>,
    stopped: Condvar,
    /// Is nothing to be done?
    idle: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<PackJob>,
    is_running: bool,
    is_closed: bool,
    /// Who waits for the pack of which place in the log.
    waiting: Vec<(u64, PackDone)>,
    /// The last one that ended, and its error.
    ended: Option<(u64, Option<String>)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("jobs", &self.jobs)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Packs {
    /// With what an earlier run left.
    pub fn new(jobs: Vec<PackJob>) -> Arc<Self> {
        let idle = watch::Sender::new(jobs.is_empty());
        Arc::new(Self {
            state: Mutex::new(State {
                jobs: jobs.into(),
                ..State::default()
            }),
            stopped: Condvar::new(),
            idle,
        })
    }

    /// What is to be done, in order; the first one may be under way.
    pub fn jobs(&self) -> Vec<PackJob> {
        self.state.lock().jobs.iter().copied().collect()
    }

    /// Adds a job, unless it is there already.
    pub fn add(&self, job: PackJob) {
        let mut state = self.state.lock();
        let is_known = |known: &PackJob| known.log_index == job.log_index;
        if !state.jobs.iter().any(is_known) {
            state.jobs.push_back(job);
            self.idle.send_replace(false);
        }
    }

    /// Another node's state has come, with what is to be done there. No pack runs.
    pub fn replace(&self, jobs: Vec<PackJob>) {
        let mut state = self.state.lock();
        self.idle.send_replace(jobs.is_empty());
        state.jobs = jobs.into();
        self.stopped.notify_all();
    }

    /// Calls `done` when the pack at this place in the log has ended here.
    pub fn when_done(&self, log_index: u64, done: PackDone) {
        let mut state = self.state.lock();
        match &state.ended {
            Some((ended, error)) if *ended >= log_index => {
                let error = error.clone();
                drop(state);
                done(as_result(error));
            }
            _ if state.is_closed => {
                drop(state);
                done(Err(StorageError::PackInterrupted));
            }
            _ => state.waiting.push((log_index, done)),
        }
    }

    /// Carries out what is to be done, if nobody does.
    pub fn run(self: &Arc<Self>, database: &Weak<Database>) {
        let job = {
            let mut state = self.state.lock();
            match state.jobs.front() {
                Some(&job) if !state.is_running && !state.is_closed => {
                    state.is_running = true;
                    job
                }
                _ => return,
            }
        };
        let (packs, of) = (Arc::clone(self), Weak::clone(database));
        let done = Box::new(move |packed: Result<()>| packs.ended(job, packed, &of));
        let started = match database.upgrade() {
            Some(database) => database.pack_here(job.stop, Some(job.gc), Some(job.until), done),
            None => return,
        };
        if let Err(error) = started {
            tracing::error!("a pack cannot be started: {error}");
            self.state.lock().is_running = false;
        }
    }

    fn ended(self: &Arc<Self>, job: PackJob, packed: Result<()>, database: &Weak<Database>) {
        let error = packed.err();
        let is_own = error.as_ref().is_some_and(|error| !is_every_nodes(error));
        let is_damaged = error.as_ref().is_some_and(is_damage);
        if is_own {
            self.pause_before_retry();
        }
        let mut tell = Vec::new();
        let text = error.map(|error| error.to_string());
        {
            let mut state = self.state.lock();
            state.is_running = false;
            let is_first = state.jobs.front().map(|first| first.log_index) == Some(job.log_index);
            if !is_own {
                if is_first {
                    state.jobs.pop_front();
                }
                state.ended = Some((job.log_index, text.clone()));
                self.idle.send_replace(state.jobs.is_empty());
            }
            let is_told = !is_own || is_damaged;
            let ends = |at: u64| is_told && at <= job.log_index;
            let (told, rest) = state.waiting.drain(..).partition(|(at, _)| ends(*at));
            tell.extend::<Vec<_>>(told);
            state.waiting = rest;
        }
        for (_, done) in tell {
            done(as_result(text.clone()));
        }
        self.run(database);
    }

    fn pause_before_retry(&self) {
        let mut state = self.state.lock();
        if !state.is_closed {
            tracing::warn!(
                "the pack is tried again in {} s, for all nodes have to do it",
                RETRY_PAUSE.as_secs()
            );
            self.stopped.wait_for(&mut state, RETRY_PAUSE);
        }
    }

    /// Is nothing to be done?
    pub fn is_idle(&self) -> bool {
        *self.idle.borrow()
    }

    /// Waits until nothing is to be done.
    pub async fn idle(&self) {
        let mut idle = self.idle.subscribe();
        let _ = idle.wait_for(|idle| *idle).await;
    }

    /// Waits until no pack is to be done that the log asks for there or before.
    pub async fn done_upto(&self, log_index: u64) {
        let mut changes = self.idle.subscribe();
        let is_due = |job: &PackJob| job.log_index <= log_index;
        while self.jobs().iter().any(is_due) && changes.changed().await.is_ok() {}
    }

    /// Begins none any more; what is not done is done by the next run.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            self.stopped.notify_all();
            std::mem::take(&mut state.waiting)
        };
        for (_, done) in waiting {
            done(Err(StorageError::PackInterrupted));
        }
    }
}

fn as_result(error: Option<String>) -> Result<()> {
    match error {
        None => Ok(()),
        Some(why) => Err(StorageError::Elsewhere { why }),
    }
}

/// Does the pack fail on every node, for what the log holds? Everything else is of
/// this node alone, and a pack that it left out would leave it with another file.
fn is_every_nodes(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::InvalidPackTime
            | StorageError::PackedLater
            | StorageError::DanglingReference { .. }
            | StorageError::UnknownReferences { .. }
    )
}

/// Does it take somebody to repair the file before the pack can succeed?
fn is_damage(error: &StorageError) -> bool {
    matches!(error, StorageError::Corrupt { .. })
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::types::Tid;

    #[tokio::test]
    async fn the_end_of_a_pack_is_waited_for() {
        let job = PackJob {
            log_index: 5,
            stop: Tid::from_u64(1),
            gc: true,
            until: Tid::from_u64(1),
        };
        let packs = Packs::new(vec![job]);
        packs.done_upto(4).await;
        let mut waiting = std::pin::pin!(packs.done_upto(5));
        let a_moment = Duration::from_millis(1);
        assert!(timeout(a_moment, &mut waiting).await.is_err());
        packs.add(PackJob {
            log_index: 6,
            ..job
        });
        assert!(timeout(a_moment, &mut waiting).await.is_err());
        packs.replace(Vec::new());
        waiting.await;
    }

    #[test]
    fn a_pack_is_given_up_only_for_what_every_node_finds() {
        let note = StorageError::Elsewhere {
            why: "Data.fs.raft: no space left on device".to_owned(),
        };
        assert!(!is_every_nodes(&note));
        let damage = StorageError::Corrupt {
            file: "Data.fs".to_owned(),
            problem: "no transaction".to_owned(),
            position: 4,
        };
        assert!(!is_every_nodes(&damage) && is_damage(&damage));
        assert!(is_every_nodes(&StorageError::PackedLater));
    }
}
