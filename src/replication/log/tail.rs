use std::collections::VecDeque;
use std::ops::Range;

use openraft::{Entry, EntryPayload};

use crate::replication::types::{Command, Types};

/// What an entry takes beside its payload, roughly.
const ENTRY_SIZE: usize = size_of::<Entry<Types>>() + 64;

/// The last entries of a log, consecutive. So that what is new is replicated
/// and applied without being read again.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Entry<Types>>,
    first: u64,
    bytes: usize,
    /// From so many bytes on the oldest go, if they are durable.
    max_bytes: usize,
}

impl Tail {
    pub fn new(max_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// The indexes of what is here.
    pub fn span(&self) -> Range<u64> {
        self.first..self.first + self.entries.len() as u64
    }

    /// Takes the entry behind the last one; or any, if there is none.
    pub fn push(&mut self, entry: Entry<Types>) {
        if self.entries.is_empty() {
            self.first = entry.log_id.index;
        }
        debug_assert_eq!(self.span().end, entry.log_id.index, "consecutive");
        self.bytes += size(&entry);
        self.entries.push_back(entry);
    }

    /// Lets the oldest go that are too many, of those before `durable`.
    pub fn shrink(&mut self, durable: u64) {
        while self.bytes > self.max_bytes && self.first < durable {
            self.pop_front();
        }
    }

    /// Entries from `index` on go.
    pub fn cut_end(&mut self, index: u64) {
        while self.span().end > index {
            let Some(entry) = self.entries.pop_back() else {
                return;
            };
            self.bytes -= size(&entry);
        }
    }

    /// Entries before `index` go.
    pub fn cut_beginning(&mut self, index: u64) {
        while self.first < index && !self.entries.is_empty() {
            self.pop_front();
        }
    }

    /// Those of `range` that are here, until they have `max_bytes`; but one at least.
    pub fn get(&self, range: Range<u64>, max_bytes: usize) -> Vec<Entry<Types>> {
        let place = |index: u64| {
            let place = index.clamp(self.first, self.span().end) - self.first;
            usize::try_from(place).unwrap_or(usize::MAX)
        };
        let (from, to) = (place(range.start), place(range.end));
        let mut bytes = 0;
        let found = self.entries.range(from..to.max(from));
        found
            .enumerate()
            .take_while(|(place, entry)| {
                bytes += size(entry);
                *place == 0 || bytes <= max_bytes
            })
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= size(&entry);
            self.first += 1;
        }
    }
}

/// How much of a bound in bytes an entry takes.
pub(super) fn size(entry: &Entry<Types>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Command(payload)) => ENTRY_SIZE + payload.len(),
        _ => ENTRY_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::{CommittedLeaderId, LogId};

    use super::*;

    fn entry(index: u64) -> Entry<Types> {
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Command(Bytes::from(vec![0; 1000]))),
        }
    }

    fn indexes(tail: &Tail, range: Range<u64>, max_bytes: usize) -> Vec<u64> {
        let entries = tail.get(range, max_bytes);
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn the_oldest_go_once_they_are_durable() {
        let mut tail = Tail::new(3 * size(&entry(0)));
        (5..15).for_each(|index| tail.push(entry(index)));
        tail.shrink(8);
        assert_eq!(tail.span(), 8..15);
        tail.shrink(15);
        assert_eq!(tail.span(), 12..15);
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut tail = Tail::new(usize::MAX);
        (5..15).for_each(|index| tail.push(entry(index)));
        tail.cut_end(13);
        tail.cut_beginning(7);
        assert_eq!(indexes(&tail, 0..100, usize::MAX), [7, 8, 9, 10, 11, 12]);
        tail.cut_beginning(100);
        assert_eq!(tail.bytes, 0);
        tail.push(entry(100));
        tail.cut_end(0);
        assert_eq!(tail.bytes, 0);
        tail.push(entry(3));
        assert_eq!(tail.span(), 3..4);
    }

    #[test]
    fn so_much_is_given_as_fits_but_one_at_least() {
        let mut tail = Tail::new(usize::MAX);
        (5..15).for_each(|index| tail.push(entry(index)));
        let one = size(&entry(0));
        assert_eq!(indexes(&tail, 6..10, 2 * one), [6, 7]);
        assert_eq!(indexes(&tail, 6..10, 0), [6]);
        assert_eq!(indexes(&tail, 13..100, usize::MAX), [13, 14]);
        assert!(indexes(&tail, 0..5, usize::MAX).is_empty());
        assert!(indexes(&tail, 15..20, usize::MAX).is_empty());
    }
}
