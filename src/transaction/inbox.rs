use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::authority::VotedElsewhere;
use super::invalidation::Invalidation;
use super::object_locks::Ticket;
use crate::types::Tid;
use crate::wire::{Exception, MessageId};

/// What may wait for one connection. A client that falls further behind is cut
/// off: it does not read, and when it comes back it verifies its cache.
pub const MAX_INBOX_BYTES: usize = 16 << 20;

/// How a commit ended for its own client.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The transaction's id.
    pub tid: Tid,
    /// Objects in the storage after it.
    pub object_count: u64,
    /// Size of the storage after it.
    pub size_bytes: u64,
}

/// What others have for a connection.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Another client's transaction was committed.
    Invalidation(Arc<Invalidation>),
    /// The connection's own transaction was committed, or could not be.
    Finished(Result<Finished, Arc<str>>),
    /// The connection's vote has its locks now.
    LocksGranted(Ticket),
    /// Something that took its time is done.
    Done {
        /// The request that asked for it.
        request: MessageId<'static>,
        /// Why it failed, if it did.
        failure: Option<Exception>,
    },
    /// The storage's size changed other than by a commit.
    Info {
        /// Objects in the storage.
        object_count: u64,
        /// Its size.
        size_bytes: u64,
    },
    /// The connection's vote was decided elsewhere.
    VotedElsewhere(VotedElsewhere),
    /// Enough others have the files of the connection's transaction, or will not
    /// have them, for this reason.
    Attached(Result<(), Arc<str>>),
    /// What [`Authority::catch_up`](super::Authority::catch_up) was asked for is
    /// so, or cannot be had, for this reason.
    UpToDate(Result<(), Arc<str>>),
    /// The server wants this connection closed.
    Close(&'static str),
    /// The same, if its client writes.
    CloseWriters(&'static str),
    /// The server stops: the connection is to end as soon as no voted
    /// transaction of its client is left.
    Drain,
}

impl Delivery {
    /// What it counts towards [`MAX_INBOX_BYTES`].
    fn cost_bytes(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Self::Invalidation(invalidation) => FIXED + invalidation.oids.len() * 8,
            _ => FIXED,
        }
    }
}

/// What [`Inbox::drain`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxState {
    /// All was delivered.
    Open,
    /// More came than may wait; the connection is to be closed.
    Overflowed,
}

/// Where the committer and the locks leave messages for a connection's task,
/// in the order in which they are to reach the client.
#[derive(Debug, Default)]
pub struct Inbox {
    filled: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    overflowed: bool,
    waker: Option<Waker>,
}

impl Inbox {
    /// Leaves a message and wakes the connection's task.
    pub fn push(&self, delivery: Delivery) {
        self.push_all(std::iter::once(delivery));
    }

    /// Leaves messages that are to stand one behind the other.
    pub fn push_all(&self, deliveries: impl Iterator<Item = Delivery>) {
        let mut queue = self.queue.lock();
        for delivery in deliveries {
            if queue.overflowed {
                break;
            }
            queue.bytes += delivery.cost_bytes();
            if queue.bytes > MAX_INBOX_BYTES {
                queue.overflowed = true;
                queue.deliveries = VecDeque::new();
            } else {
                queue.deliveries.push_back(delivery);
            }
        }
        self.filled.store(true, Ordering::Release);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Is there anything?
    pub fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Did more come than may wait?
    pub fn has_overflowed(&self) -> bool {
        self.queue.lock().overflowed
    }

    /// Takes all messages in order.
    pub fn drain(&self, mut deliver: impl FnMut(Delivery)) -> InboxState {
        if !self.is_filled() {
            return InboxState::Open;
        }
        let (deliveries, overflowed) = {
            let mut queue = self.queue.lock();
            self.filled.store(false, Ordering::Release);
            queue.bytes = 0;
            (std::mem::take(&mut queue.deliveries), queue.overflowed)
        };
        deliveries.into_iter().for_each(&mut deliver);
        if overflowed {
            InboxState::Overflowed
        } else {
            InboxState::Open
        }
    }

    /// Ready once there is something; otherwise `waker` is woken when there is.
    pub fn poll_filled(&self, waker: &Waker) -> Poll<()> {
        if self.is_filled() {
            return Poll::Ready(());
        }
        let mut queue = self.queue.lock();
        if self.is_filled() {
            return Poll::Ready(());
        }
        if !queue
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            queue.waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_may_wait_overflows_and_frees_the_memory() {
        let inbox = Inbox::default();
        let oids: Vec<_> = (0..1 << 20).map(crate::types::Oid::from_u64).collect();
        for tid in 1..=3 {
            let invalidation = Invalidation::new(Tid::from_u64(tid), oids.clone());
            inbox.push(Delivery::Invalidation(Arc::new(invalidation)));
        }
        let mut count = 0;
        assert_eq!(inbox.drain(|_| count += 1), InboxState::Overflowed);
        assert_eq!(count, 0);
    }
}
