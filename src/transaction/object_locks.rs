use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::inbox::{Delivery, Inbox};
use crate::stats::{Histogram, Observed};
use crate::types::Oid;

/// Names a transaction's request for locks, from the request to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A transaction's locks, held or waited for. To drop it gives them up, and grants
/// what waited for them: so none outlives its transaction, whatever becomes of that.
#[derive(Debug)]
pub struct Claim {
    locks: Arc<ObjectLocks>,
    ticket: Ticket,
}

impl Claim {
    /// Its name in [`Delivery::LocksGranted`].
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Does it hold all that `request` asks for?
    pub fn covers(&self, request: &LockRequest) -> bool {
        self.locks.covers(self.ticket, request)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.locks.release(self.ticket);
    }
}

/// What a transaction needs for itself from its vote to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockRequest {
    /// Some objects: those it changes, and those that must stay as they are.
    Objects {
        /// To change; nobody else may lock them.
        changed: Vec<Oid>,
        /// To stay; others may want the same of them.
        checked: Vec<Oid>,
    },
    /// The whole storage, for transactions that prescribe their own ids.
    Everything,
}

/// The locks of one storage.
///
/// A request takes all of its locks in one step, and waits as a whole. Requests
/// that want the same object are served in the order in which they came, so
/// nobody starves; since a request gets its place in all queues at once, there
/// is no circle of waiting.
///
/// Invariant: a request is granted exactly when each of its entries is granted;
/// an entry is granted when no entry before it in its queue conflicts with it.
#[derive(Debug)]
pub struct ObjectLocks {
    state: Mutex<State>,
    /// How long those waited that had to.
    waits: Histogram,
}

impl Default for ObjectLocks {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            waits: Histogram::of_times(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    next_ticket: u64,
    queues: HashMap<Key, VecDeque<Entry>>,
    requests: HashMap<Ticket, Request>,
    waiting: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Shared by all requests for objects, exclusive for [`LockRequest::Everything`].
    Storage,
    Object(Oid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    mode: Mode,
    granted: bool,
}

#[derive(Debug)]
struct Request {
    keys: Vec<Key>,
    /// Entries that are not granted yet.
    missing: usize,
    asked_at: Instant,
    /// Since when it has all of its locks.
    granted_at: Option<Instant>,
    inbox: Arc<Inbox>,
}

impl ObjectLocks {
    /// Asks for locks. True: they are granted. False: the inbox is told when
    /// they are, by [`Delivery::LocksGranted`].
    pub fn request(self: &Arc<Self>, request: &LockRequest, inbox: &Arc<Inbox>) -> (Claim, bool) {
        let mut state = self.state.lock();
        let ticket = Ticket(state.next_ticket);
        state.next_ticket += 1;
        let mut keys = Vec::new();
        let mut missing = 0;
        for (key, mode) in wanted(request) {
            let queue = state.queues.entry(key).or_default();
            // The same object twice in one request.
            if queue.back().is_some_and(|entry| entry.ticket == ticket) {
                continue;
            }
            let granted = match mode {
                Mode::Exclusive => queue.is_empty(),
                Mode::Shared => queue.iter().all(|entry| entry.mode == Mode::Shared),
            };
            queue.push_back(Entry {
                ticket,
                mode,
                granted,
            });
            missing += usize::from(!granted);
            keys.push(key);
        }
        let granted = missing == 0;
        state.waiting += usize::from(!granted);
        let asked_at = Instant::now();
        let request = Request {
            keys,
            missing,
            asked_at,
            granted_at: granted.then_some(asked_at),
            inbox: Arc::clone(inbox),
        };
        state.requests.insert(ticket, request);
        drop(state);
        let claim = Claim {
            locks: Arc::clone(self),
            ticket,
        };
        (claim, granted)
    }

    /// Gives up a request, whether it was granted or waits, and grants what
    /// waited for it.
    fn release(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        let Some(request) = state.requests.remove(&ticket) else {
            return;
        };
        if request.granted_at.is_none() {
            state.waiting -= 1;
            self.waits.observe_time(request.asked_at.elapsed());
        }
        let mut granted = Vec::new();
        for key in request.keys {
            let Some(queue) = state.queues.get_mut(&key) else {
                continue;
            };
            queue.retain(|entry| entry.ticket != ticket);
            if queue.is_empty() {
                state.queues.remove(&key);
            } else {
                settle(queue, &mut granted);
            }
        }
        for ticket in granted {
            let Some(request) = state.requests.get_mut(&ticket) else {
                continue;
            };
            request.missing -= 1;
            if request.missing == 0 {
                let now = Instant::now();
                request.granted_at = Some(now);
                self.waits.observe_time(now - request.asked_at);
                request.inbox.push(Delivery::LocksGranted(ticket));
                state.waiting -= 1;
            }
        }
    }

    fn covers(&self, ticket: Ticket, request: &LockRequest) -> bool {
        let state = self.state.lock();
        let holds = |entry: &Entry, mode| {
            entry.ticket == ticket && entry.granted && (entry.mode == mode || mode == Mode::Shared)
        };
        wanted(request).all(|(key, mode)| {
            state
                .queues
                .get(&key)
                .is_some_and(|queue| queue.iter().any(|entry| holds(entry, mode)))
        })
    }

    /// Number of transactions that wait for locks.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// How long requests waited that were not granted at once, up to their
    /// grant or until they were given up.
    pub fn waits(&self) -> Observed {
        self.waits.observed()
    }

    /// Since when the oldest holder of locks has them.
    pub fn held_since(&self) -> Option<Instant> {
        self.state
            .lock()
            .requests
            .values()
            .filter_map(|request| request.granted_at)
            .min()
    }
}

/// The locks of a request. Changed objects come before checked ones, so that an
/// object that is both is locked for a change.
fn wanted(request: &LockRequest) -> impl Iterator<Item = (Key, Mode)> {
    let (storage, changed, checked): (_, &[Oid], &[Oid]) = match request {
        LockRequest::Objects { changed, checked } => (Mode::Shared, changed, checked),
        LockRequest::Everything => (Mode::Exclusive, &[], &[]),
    };
    let changed = changed
        .iter()
        .map(|&oid| (Key::Object(oid), Mode::Exclusive));
    let checked = checked.iter().map(|&oid| (Key::Object(oid), Mode::Shared));
    std::iter::once((Key::Storage, storage))
        .chain(changed)
        .chain(checked)
}

/// Grants the entries at the front of a queue that nobody before stands
/// against, and adds their tickets to `granted`.
fn settle(queue: &mut VecDeque<Entry>, granted: &mut Vec<Ticket>) {
    for (place, entry) in queue.iter_mut().enumerate() {
        if entry.mode == Mode::Exclusive && place > 0 {
            break;
        }
        if !entry.granted {
            entry.granted = true;
            granted.push(entry.ticket);
        }
        if entry.mode == Mode::Exclusive {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(oids: &[u64]) -> LockRequest {
        let changed = oids.iter().map(|&oid| Oid::from_u64(oid)).collect();
        LockRequest::Objects {
            changed,
            checked: vec![],
        }
    }

    fn check(oids: &[u64]) -> LockRequest {
        let checked = oids.iter().map(|&oid| Oid::from_u64(oid)).collect();
        LockRequest::Objects {
            changed: vec![],
            checked,
        }
    }

    struct Bench {
        locks: Arc<ObjectLocks>,
        inbox: Arc<Inbox>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                locks: Arc::default(),
                inbox: Arc::new(Inbox::default()),
            }
        }

        fn request(&self, request: &LockRequest) -> (Claim, bool) {
            self.locks.request(request, &self.inbox)
        }

        fn granted(&self) -> Vec<Ticket> {
            let mut granted = Vec::new();
            self.inbox.drain(|delivery| {
                if let Delivery::LocksGranted(ticket) = delivery {
                    granted.push(ticket);
                }
            });
            granted
        }
    }

    #[test]
    fn transactions_on_different_objects_do_not_wait() {
        let bench = Bench::new();
        assert!(bench.request(&change(&[1, 2, 1])).1);
        assert!(bench.request(&change(&[3])).1);
        assert_eq!(bench.locks.waiting(), 0);
    }

    #[test]
    fn waiters_are_served_in_the_order_of_their_coming() {
        let bench = Bench::new();
        let (first, _) = bench.request(&change(&[1, 2]));
        let (second, granted) = bench.request(&change(&[2, 3]));
        assert!(!granted);
        // It could have object 3 now, but the one before it came first.
        let (third, granted) = bench.request(&change(&[3]));
        assert!(!granted);
        assert_eq!(bench.locks.waiting(), 2);
        drop(first);
        assert_eq!(bench.granted(), [second.ticket()]);
        drop(second);
        assert_eq!(bench.granted(), [third.ticket()]);
        drop(third);
        assert_eq!(bench.locks.waits().count, 2);
        assert!(bench.locks.state.lock().queues.is_empty());
        assert!(bench.locks.held_since().is_none());
    }

    #[test]
    fn checks_of_one_object_go_together_and_keep_changes_out() {
        let bench = Bench::new();
        let (first, granted) = bench.request(&check(&[1]));
        assert!(granted);
        let (second, granted) = bench.request(&check(&[1]));
        assert!(granted);
        let (writer, granted) = bench.request(&change(&[1]));
        assert!(!granted);
        let (late, granted) = bench.request(&check(&[1]));
        assert!(!granted, "a check does not overtake a waiting change");
        drop(first);
        assert!(bench.granted().is_empty());
        drop(second);
        assert_eq!(bench.granted(), [writer.ticket()]);
        drop(writer);
        assert_eq!(bench.granted(), [late.ticket()]);
    }

    #[test]
    fn a_request_for_everything_waits_for_all_and_stops_all() {
        let bench = Bench::new();
        let (one, _) = bench.request(&change(&[1]));
        let (two, _) = bench.request(&change(&[2]));
        let (all, granted) = bench.request(&LockRequest::Everything);
        assert!(!granted);
        let (three, granted) = bench.request(&change(&[3]));
        assert!(!granted);
        drop(two);
        drop(one);
        assert_eq!(bench.granted(), [all.ticket()]);
        drop(all);
        assert_eq!(bench.granted(), [three.ticket()]);
    }

    #[test]
    fn one_that_gives_up_waiting_lets_the_next_ones_in() {
        let bench = Bench::new();
        let (first, _) = bench.request(&check(&[1]));
        let (writer, _) = bench.request(&change(&[1]));
        let (late, _) = bench.request(&check(&[1]));
        drop(writer);
        assert_eq!(bench.granted(), [late.ticket()]);
        assert_eq!(bench.locks.waits().count, 2, "giving up ends a wait, too");
        assert!(first.covers(&check(&[1])));
        assert!(!first.covers(&change(&[1])));
        assert!(!first.covers(&check(&[2])));
    }
}
