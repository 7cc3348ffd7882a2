use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Condvar, Mutex};

use super::commit_log::CommitLog;
use super::inbox::Inbox;
use super::object_locks::Ticket;
use super::vote::Voted;
use crate::storage::{Committing, Reservation};
use crate::types::TidClock;

/// So many transactions are written and synced at once at most.
const MAX_BATCH: usize = 256;

/// How a thread that belongs to a runtime waits for the disk. The server's way
/// is to hand its other tasks to another thread first.
pub trait Blocking {
    /// Runs `work`, which may wait.
    fn run(&self, work: &mut dyn FnMut());
}

/// Just waits. For threads that belong to no runtime.
#[derive(Clone, Copy, Debug)]
pub struct Inline;

impl Blocking for Inline {
    fn run(&self, work: &mut dyn FnMut()) {
        work();
    }
}

/// A voted transaction that asks to be finished.
pub struct CommitRequest {
    /// What its vote prepared.
    pub voted: Voted,
    /// Its locks.
    pub ticket: Ticket,
    /// Where its client's reply goes.
    pub origin: Arc<Inbox>,
}

impl fmt::Debug for CommitRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitRequest")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

/// What became of a batch; given to the owner of the committer, which publishes
/// and answers. In tid order, which is the order of the requests.
pub struct Batch {
    /// The transactions with their ids.
    pub committing: Vec<Committing>,
    /// Whom to answer, and which locks to release, for each.
    pub origins: Vec<(Ticket, Arc<Inbox>)>,
    /// Why the batch is not durable, if it is not.
    pub failure: Option<Arc<str>>,
    /// Kept until the batch is published, when the file's end has moved.
    _reservations: Vec<Box<dyn Reservation>>,
}

/// Brings voted transactions to the disk in one order, several with one sync.
///
/// Leader and followers: who finds nobody at work does it, on its own thread,
/// so that a lone commit wakes no other thread. What comes meanwhile waits, and
/// a thread of the committer's own goes on with it as one batch, so that the
/// first leader can answer its client.
///
/// Invariant: at most one thread is between taking a batch and having completed it.
#[derive(Debug)]
pub struct Committer {
    log: Box<dyn CommitLog>,
    clock: Mutex<TidClock>,
    state: Mutex<State>,
    /// Tells the committer's own thread that there is work for it, or that it is to end.
    handed_over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<CommitRequest>,
    /// Somebody works on a batch.
    busy: bool,
    /// The work was left to the committer's own thread.
    handed_over: bool,
    closed: bool,
}

impl Committer {
    /// Commits to `log`, with ids from `clock`.
    pub fn new(log: Box<dyn CommitLog>, clock: TidClock) -> Self {
        Self {
            log,
            clock: Mutex::new(clock),
            state: Mutex::default(),
            handed_over: Condvar::new(),
        }
    }

    /// Queues a request. Where nobody is at work this thread commits what is
    /// queued, once, and calls `complete`.
    pub fn submit(
        &self,
        request: CommitRequest,
        blocking: &dyn Blocking,
        complete: &dyn Fn(Batch),
    ) {
        let batch = {
            let mut state = self.state.lock();
            state.waiting.push(request);
            if state.busy {
                return;
            }
            state.busy = true;
            std::mem::take(&mut state.waiting)
        };
        let mut batch = Some(batch);
        blocking.run(&mut || {
            if let Some(batch) = batch.take() {
                complete(self.commit(batch));
            }
        });
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            state.busy = false;
        } else {
            state.handed_over = true;
            self.handed_over.notify_one();
        }
    }

    /// The committer's own thread: works while there is work left to it, until
    /// [`Self::close`].
    pub fn work(&self, complete: &dyn Fn(Batch)) {
        let mut state = self.state.lock();
        loop {
            if !state.handed_over {
                if state.closed {
                    return;
                }
                self.handed_over.wait(&mut state);
                continue;
            }
            let count = state.waiting.len().min(MAX_BATCH);
            let batch: Vec<_> = state.waiting.drain(..count).collect();
            drop(state);
            if !batch.is_empty() {
                complete(self.commit(batch));
            }
            state = self.state.lock();
            if state.waiting.is_empty() {
                state.busy = false;
                state.handed_over = false;
            }
        }
    }

    /// Lets [`Self::work`] return once nothing is left to it.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.handed_over.notify_all();
    }

    fn commit(&self, requests: Vec<CommitRequest>) -> Batch {
        let mut committing = Vec::with_capacity(requests.len());
        let mut origins = Vec::with_capacity(requests.len());
        let mut reservations = Vec::with_capacity(requests.len());
        {
            let mut clock = self.clock.lock();
            for CommitRequest {
                voted:
                    Voted {
                        staged,
                        reservation,
                        ..
                    },
                ticket,
                origin,
            } in requests
            {
                let tid = match staged.meta.tid {
                    Some(tid) => {
                        // Checked at vote, under the lock on everything.
                        let later = clock.accept(tid);
                        debug_assert!(later, "a prescribed tid comes after the last");
                        tid
                    }
                    None => clock.next(SystemTime::now()),
                };
                committing.push(Committing { tid, staged });
                origins.push((ticket, origin));
                reservations.push(reservation);
            }
        }
        let failure = self
            .log
            .append(&mut committing)
            .err()
            .map(|error| error.to_string().into());
        Batch {
            committing,
            origins,
            failure,
            _reservations: reservations,
        }
    }
}

#[cfg(test)]
mod tests;
