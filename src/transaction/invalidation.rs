use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

use crate::types::{Oid, Tid};
use crate::wire::{self, Format, ServerCall};

/// What one transaction changed, as every other client is told. It is encoded
/// once for each wire format, however many clients there are.
#[derive(Debug)]
pub struct Invalidation {
    /// The transaction.
    pub tid: Tid,
    /// The objects that it created, changed or deleted; each once.
    pub oids: Box<[Oid]>,
    pickle: OnceLock<Box<[u8]>>,
    msgpack: OnceLock<Box<[u8]>>,
}

impl Invalidation {
    /// For transaction `tid`; an oid may occur several times in `oids`.
    pub fn new(tid: Tid, mut oids: Vec<Oid>) -> Self {
        if oids.len() > 1 {
            let mut seen = HashSet::with_capacity(oids.len());
            oids.retain(|&oid| seen.insert(oid));
        }
        Self {
            tid,
            oids: oids.into(),
            pickle: OnceLock::new(),
            msgpack: OnceLock::new(),
        }
    }

    /// The frame with the `invalidateTransaction` call.
    pub fn frame(&self, format: Format) -> &[u8] {
        let encoded = match format {
            Format::Pickle => &self.pickle,
            Format::Msgpack => &self.msgpack,
        };
        encoded.get_or_init(|| {
            let call = ServerCall::InvalidateTransaction {
                tid: self.tid,
                oids: &self.oids,
            };
            let mut frame = Vec::new();
            if let Err(error) = wire::encode_call(format, &mut frame, &call) {
                // Cannot happen: it takes over 400 million oids to fill a frame.
                tracing::error!("invalidation of {}: {error}", self.tid);
                frame.clear();
            }
            frame.into()
        })
    }
}

/// The answer to `getInvalidations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidations {
    /// The transaction up to which they go.
    pub tid: Tid,
    /// What changed after the transaction that was asked for; each once.
    pub oids: Vec<Oid>,
}

/// The last transactions of a storage, kept so that clients that come back can
/// bring their caches up to date.
///
/// Invariant: the entries are in tid order without gaps; everything after
/// `known_from` is there.
#[derive(Debug)]
pub struct InvalidationQueue {
    bound: usize,
    /// The queue knows all transactions after this one.
    known_from: Tid,
    entries: VecDeque<Arc<Invalidation>>,
}

impl InvalidationQueue {
    /// A queue of at most `bound` transactions that begins with the storage's
    /// `last` ones (oldest first); `last_tid` is the storage's last transaction.
    pub fn new(bound: usize, last: Vec<(Tid, Vec<Oid>)>, last_tid: Tid) -> Self {
        let bound = bound.max(1);
        let mut entries: VecDeque<_> = last
            .into_iter()
            .map(|(tid, oids)| Arc::new(Invalidation::new(tid, oids)))
            .collect();
        let surplus = entries.len().saturating_sub(bound);
        entries.drain(..surplus);
        // The oldest entry serves only to say that all after it is known.
        let known_from = entries.front().map_or(last_tid, |oldest| oldest.tid);
        Self {
            bound,
            known_from,
            entries,
        }
    }

    /// Adds the newest transaction.
    pub fn push(&mut self, invalidation: Arc<Invalidation>) {
        debug_assert!(
            self.entries
                .back()
                .is_none_or(|last| last.tid < invalidation.tid),
            "tids strictly increase"
        );
        self.entries.push_back(invalidation);
        if self.entries.len() > self.bound
            && let Some(oldest) = self.entries.pop_front()
        {
            self.known_from = oldest.tid;
        }
    }

    /// What changed after `tid`, up to `until`. None: the queue does not reach
    /// back that far.
    pub fn since(&self, tid: Tid, until: Tid) -> Option<Invalidations> {
        if tid < self.known_from {
            return None;
        }
        let mut seen = HashSet::new();
        let newer = self
            .entries
            .iter()
            .rev()
            .take_while(|entry| entry.tid > tid);
        let oids = newer
            .filter(|entry| entry.tid <= until)
            .flat_map(|entry| entry.oids.iter().copied())
            .filter(|&oid| seen.insert(oid))
            .collect();
        Some(Invalidations { tid: until, oids })
    }

    /// All transactions after this one are known.
    pub fn known_from(&self) -> Tid {
        self.known_from
    }

    /// Number of transactions in the queue.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is nothing in the queue?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tid(number: u64) -> Tid {
        Tid::from_u64(number)
    }

    fn oids(numbers: &[u64]) -> Vec<Oid> {
        numbers
            .iter()
            .map(|&number| Oid::from_u64(number))
            .collect()
    }

    fn since(queue: &InvalidationQueue, from: u64, until: u64) -> Option<Vec<u64>> {
        let answer = queue.since(tid(from), tid(until))?;
        assert_eq!(answer.tid, tid(until));
        let mut oids: Vec<_> = answer.oids.into_iter().map(Oid::to_u64).collect();
        oids.sort_unstable();
        Some(oids)
    }

    #[test]
    fn a_fresh_start_serves_clients_that_were_up_to_date() {
        let mut queue = InvalidationQueue::new(10, vec![], tid(5));
        assert_eq!(since(&queue, 5, 5), Some(vec![]));
        assert_eq!(since(&queue, 4, 5), None);
        queue.push(Arc::new(Invalidation::new(tid(6), oids(&[1, 1, 2]))));
        assert_eq!(since(&queue, 5, 6), Some(vec![1, 2]));
    }

    #[test]
    fn the_answer_ends_where_the_client_was_told() {
        let mut queue = InvalidationQueue::new(10, vec![(tid(1), oids(&[9]))], tid(1));
        queue.push(Arc::new(Invalidation::new(tid(2), oids(&[1]))));
        queue.push(Arc::new(Invalidation::new(tid(3), oids(&[2]))));
        assert_eq!(since(&queue, 1, 3), Some(vec![1, 2]));
        assert_eq!(since(&queue, 1, 2), Some(vec![1]));
        assert_eq!(since(&queue, 3, 3), Some(vec![]));
    }

    #[test]
    fn what_fell_out_is_not_pretended_to_be_known() {
        let mut queue = InvalidationQueue::new(2, vec![], tid(0));
        for number in 1..=3 {
            queue.push(Arc::new(Invalidation::new(tid(number), oids(&[number]))));
        }
        assert_eq!(queue.len(), 2);
        assert_eq!(since(&queue, 0, 3), None);
        assert_eq!(since(&queue, 1, 3), Some(vec![2, 3]));
    }
}
