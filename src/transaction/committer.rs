use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::authority::{Remote, Term};
use super::commit_log::CommitLog;
use super::inbox::Inbox;
use super::object_locks::Claim;
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
    /// Who asks.
    pub origin: Origin,
    /// The leadership that voted; 0 where there is only one.
    pub term: Term,
    /// The session of another server that it is for.
    pub remote: Option<Remote>,
}

/// Who asked for a commit.
#[derive(Debug, Default)]
pub struct Origin {
    /// Its locks, where they are held here.
    pub locks: Option<Claim>,
    /// Where the reply goes, among the invalidations. None: nobody here waits for it.
    pub inbox: Option<Arc<Inbox>>,
    /// Where it goes, too, and nothing else does: another server's session waits for it.
    pub apart: Option<Arc<Inbox>>,
}

impl Origin {
    /// Who is to be told, once more.
    fn without_locks(&self) -> Self {
        Self {
            locks: None,
            inbox: self.inbox.clone(),
            apart: self.apart.clone(),
        }
    }
}

impl fmt::Debug for CommitRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitRequest")
            .field("origin", &self.origin)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}

/// What became of a batch; given to the owner of the committer, which publishes
/// and answers. In tid order, which is the order of the requests.
pub struct Batch {
    /// The transactions with their ids.
    pub committing: Vec<Committing>,
    /// Whom to answer, and which locks to release, for each.
    pub origins: Vec<Origin>,
    /// Why the batch is not durable, if it is not.
    pub failure: Option<Arc<str>>,
    /// How long making it durable took, if that was tried.
    pub took: Option<Duration>,
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
    at_work: AtWork,
    /// No more is taken; what was is still carried out.
    closed: bool,
    /// Nothing is carried out any more.
    broken: bool,
}

/// Who works on what is waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AtWork {
    #[default]
    Nobody,
    /// The thread of a client.
    Leader,
    /// The work was left to the committer's own thread.
    Worker,
}

const CLOSED: &str = "the storage is closed, for the server is stopping";
const BROKEN: &str = "a commit broke off in the middle; restart the server and report this";

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
            if state.closed {
                drop(state);
                return complete(refused(vec![request.origin], CLOSED));
            }
            state.waiting.push(request);
            if state.at_work != AtWork::Nobody {
                return;
            }
            state.at_work = AtWork::Leader;
            std::mem::take(&mut state.waiting)
        };
        let mut batch = Some(batch);
        blocking.run(&mut || {
            if let Some(batch) = batch.take() {
                self.carry_out(batch, complete);
            }
        });
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            state.at_work = AtWork::Nobody;
        } else if !state.closed {
            state.at_work = AtWork::Worker;
            self.handed_over.notify_one();
        } else {
            // The committer's own thread may be gone.
            let rest = std::mem::take(&mut state.waiting);
            state.at_work = AtWork::Nobody;
            drop(state);
            self.carry_out(rest, complete);
        }
    }

    /// The committer's own thread: works while there is work left to it, until
    /// [`Self::close`].
    pub fn work(&self, complete: &dyn Fn(Batch)) {
        let mut state = self.state.lock();
        loop {
            if state.at_work != AtWork::Worker {
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
                self.carry_out(batch, complete);
            }
            state = self.state.lock();
            if state.waiting.is_empty() {
                state.at_work = AtWork::Nobody;
            }
        }
    }

    /// Requests that nobody works on yet.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Takes no more, and lets [`Self::work`] return once nothing is left to it.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.handed_over.notify_all();
    }

    /// Commits a batch and completes it.
    ///
    /// A panic on the way leaves unknown how far it came, so nothing is
    /// committed any more; but everybody is answered, and no lock stays.
    fn carry_out(&self, requests: Vec<CommitRequest>, complete: &dyn Fn(Batch)) {
        let origins: Vec<_> = requests
            .iter()
            .map(|request| request.origin.without_locks())
            .collect();
        let is_done = !self.state.lock().broken
            && catch_unwind(AssertUnwindSafe(|| complete(self.commit(requests)))).is_ok();
        if !is_done {
            self.state.lock().broken = true;
            tracing::error!(critical = true, "{BROKEN}");
            complete(refused(origins, BROKEN));
        }
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
                origin,
                ..
            } in requests
            {
                let tid = clock.assign(staged.meta.tid, SystemTime::now());
                committing.push(Committing { tid, staged });
                origins.push(origin);
                reservations.push(reservation);
            }
        }
        let begun = Instant::now();
        let failure = self
            .log
            .append(&mut committing)
            .err()
            .map(|error| error.to_string().into());
        Batch {
            committing,
            origins,
            failure,
            took: Some(begun.elapsed()),
            _reservations: reservations,
        }
    }
}

/// A batch of which nothing is committed.
fn refused(origins: Vec<Origin>, why: &str) -> Batch {
    Batch {
        committing: Vec::new(),
        origins,
        failure: Some(why.into()),
        took: None,
        _reservations: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
