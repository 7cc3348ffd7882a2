//! What this node has proposed, and whose finishes it waits for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::storage::{Committing, Reservation};
use crate::transaction::{Inbox, Origin};

/// A batch that was proposed and is not decided.
#[derive(Debug)]
pub struct Proposed {
    /// The transactions, with their data as it was voted.
    pub committing: Vec<Committing>,
    /// Who asked for each.
    pub origins: Vec<Origin>,
    /// The space for them; given back when they are published.
    pub reservations: Vec<Box<dyn Reservation>>,
}

/// The batches of this node that are under way: those that the proposer bounds, and those of
/// earlier leaderships until it is known what became of them.
#[derive(Debug, Default)]
pub struct Pending {
    batches: Mutex<HashMap<u64, Proposed>>,
    next: AtomicU64,
}

impl Pending {
    /// Keeps a batch; its number. An entry that this node proposed before it was
    /// restarted must not be taken for one of now.
    pub fn add(&self, batch: Proposed) -> u64 {
        let number = next_number(&self.next);
        self.batches.lock().insert(number, batch);
        number
    }

    /// Takes a batch out, if it is there.
    pub fn take(&self, number: u64) -> Option<Proposed> {
        self.batches.lock().remove(&number)
    }
}

/// The sessions of this node whose transactions another node decides, while
/// they wait for a finish.
///
/// Who takes a session out tells it how the finish ended; so it is told once. A session
/// waits for one finish at a time.
#[derive(Debug, Default)]
pub struct Finishing {
    sessions: Mutex<HashMap<u64, Arc<Inbox>>>,
    next: AtomicU64,
}

impl Finishing {
    /// A number for a session.
    pub fn number(&self) -> u64 {
        next_number(&self.next)
    }

    /// `inbox` waits for the end of the transaction of session `number`.
    pub fn wait(&self, number: u64, inbox: &Arc<Inbox>) {
        self.sessions.lock().insert(number, Arc::clone(inbox));
    }

    /// Is it still waited for?
    pub fn waits(&self, number: u64) -> bool {
        self.sessions.lock().contains_key(&number)
    }

    /// Takes all out: what became of them will never be known here.
    pub fn take_all(&self) -> Vec<Arc<Inbox>> {
        self.sessions
            .lock()
            .drain()
            .map(|(_, inbox)| inbox)
            .collect()
    }

    /// Takes it out; None: it is not waited for any more.
    pub fn take(&self, number: u64) -> Option<Arc<Inbox>> {
        self.sessions.lock().remove(&number)
    }
}

/// A number that no other has, also not over restarts: they begin at the time of
/// the first one.
fn next_number(next: &AtomicU64) -> u64 {
    if next.load(Ordering::Relaxed) == 0 {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let begin = u64::try_from(now.as_nanos()).unwrap_or(1).max(1);
        let _ = next.compare_exchange(0, begin, Ordering::Relaxed, Ordering::Relaxed);
    }
    next.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_no_number_of_an_earlier_run() {
        let batch = || Proposed {
            committing: Vec::new(),
            origins: Vec::new(),
            reservations: Vec::new(),
        };
        let earlier = Pending::default().add(batch());
        let now = Pending::default();
        assert_ne!(now.add(batch()), earlier);
        assert!(now.take(earlier).is_none());
    }

    #[test]
    fn a_finish_is_told_once_and_numbers_differ() {
        let finishing = Finishing::default();
        let inbox = Arc::new(Inbox::default());
        let (one, other) = (finishing.number(), finishing.number());
        assert_ne!(one, other);
        finishing.wait(one, &inbox);
        assert!(finishing.take(other).is_none());
        assert!(finishing.take(one).is_some());
        assert!(finishing.take(one).is_none());
    }
}
