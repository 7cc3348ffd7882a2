use openraft::{Entry, LogId, Vote};

use super::sizes::Sizes;
use super::tail::{Tail, size};
use crate::replication::types::{NodeId, Types};

/// What is known of a storage's log without reading it. Changes of the log show here
/// at once, and are durable later.
///
/// Entries from `first` up to, not including, `next` exist. `last` is the log id of the
/// last one, or `purged` if there is none.
#[derive(Debug)]
pub(super) struct State {
    pub first: u64,
    pub next: u64,
    pub last: Option<LogId<NodeId>>,
    pub purged: Option<LogId<NodeId>>,
    pub vote: Option<Vote<NodeId>>,
    pub committed: Option<LogId<NodeId>>,
    /// Entries before this one are in the files.
    pub durable: u64,
    /// How often the end was cut off.
    pub cuts: u64,
    pub tail: Tail,
    pub sizes: Sizes,
}

impl State {
    /// Of an empty log.
    pub fn new(tail_bytes: usize) -> Self {
        Self {
            first: 0,
            next: 0,
            last: None,
            purged: None,
            vote: None,
            committed: None,
            durable: 0,
            cuts: 0,
            tail: Tail::new(tail_bytes),
            sizes: Sizes::default(),
        }
    }

    /// Takes entries that follow the last one.
    pub fn append(&mut self, entries: Vec<Entry<Types>>) -> Result<(), Hole> {
        let is_new = self.first == self.next && self.purged.is_none();
        let first = entries
            .first()
            .map_or(self.next, |entry| entry.log_id.index);
        let start = if is_new { first } else { self.next };
        for (expected, entry) in (start..).zip(&entries) {
            let found = entry.log_id.index;
            if found != expected {
                return Err(Hole { expected, found });
            }
        }
        if is_new {
            self.first = start;
            self.next = start;
        }
        for entry in entries {
            self.next += 1;
            self.last = Some(entry.log_id);
            self.sizes.push(entry.log_id.index, size(&entry) as u64);
            self.tail.push(entry);
        }
        let durable = self.durable;
        self.tail.shrink(durable);
        Ok(())
    }

    /// Entries from `since` on go; `last` is the one before.
    pub fn cut_end(&mut self, since: u64, last: Option<LogId<NodeId>>) {
        self.next = since;
        self.last = last;
        self.durable = self.durable.min(since);
        self.cuts += 1;
        self.tail.cut_end(since);
        self.sizes.cut_end(since);
    }

    /// Entries up to `upto` go. Whether that is beyond the end; None: they are gone already.
    pub fn purge(&mut self, upto: LogId<NodeId>) -> Option<bool> {
        if self.purged >= Some(upto) {
            return None;
        }
        let first = upto.index + 1;
        let is_beyond_end = first > self.next;
        self.purged = Some(upto);
        self.first = first;
        if first >= self.next {
            self.next = first;
            self.last = Some(upto);
            self.durable = self.durable.max(first);
        }
        self.tail.cut_beginning(first);
        self.sizes.cut_beginning(first);
        Some(is_beyond_end)
    }
}

/// An entry that does not follow the last one.
#[derive(Debug, thiserror::Error)]
#[error("log entry {found} was to be appended where entry {expected} belongs")]
pub(super) struct Hole {
    expected: u64,
    found: u64,
}
