use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::client::LoadedRevision;
use crate::storage::Revision;
use crate::types::{Oid, Tid};

/// What an entry takes beside its data.
const ENTRY_BYTES: usize = 100;
/// A revision that would take more than this part of the cache is not kept.
const LARGEST_PART: usize = 4;
/// The queue is gone through once it is longer than twice the entries and so much.
const QUEUE_SLACK: usize = 100;

/// Current revisions of objects, in memory. What the other server tells of
/// transactions keeps them right, so an entry is as good as a load that is
/// answered at the moment when it is looked up.
///
/// When it is full, those go first that were not asked for since they were
/// last looked at (second chance).
#[derive(Debug)]
pub(super) struct Cache {
    max_bytes: usize,
    bytes: usize,
    entries: HashMap<Oid, Entry>,
    /// In the order of their coming; some are gone or came anew since.
    queue: VecDeque<(Oid, Tid)>,
    /// The main connection that keeps it right.
    epoch: u64,
}

#[derive(Debug)]
struct Entry {
    data: Box<[u8]>,
    serial: Tid,
    was_asked_for: bool,
}

impl Cache {
    /// An empty one of at most `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            entries: HashMap::new(),
            queue: VecDeque::new(),
            epoch: 0,
        }
    }

    /// Another main connection keeps it right from now on.
    pub(super) fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// The revision before `before`, if that is the current one and here; its
    /// data takes the place of what `buffer` held.
    pub(super) fn get(&mut self, oid: Oid, before: Tid, buffer: &mut Vec<u8>) -> Option<Revision> {
        let entry = self.entries.get_mut(&oid)?;
        if entry.serial >= before {
            return None;
        }
        entry.was_asked_for = true;
        buffer.clear();
        buffer.extend_from_slice(&entry.data);
        let data: Range<usize> = 0..buffer.len();
        Some(Revision {
            data,
            serial: entry.serial,
            end: None,
        })
    }

    /// Keeps a revision that was just loaded over connection `epoch`. To be
    /// called in the order of what that connection tells.
    pub(super) fn insert(&mut self, epoch: u64, oid: Oid, revision: &LoadedRevision) {
        let bytes = revision.data.len() + ENTRY_BYTES;
        if epoch != self.epoch || revision.end.is_some() || bytes > self.max_bytes / LARGEST_PART {
            return;
        }
        self.remove(oid);
        self.bytes += bytes;
        let serial = revision.serial;
        let entry = Entry {
            data: revision.data.as_slice().into(),
            serial,
            was_asked_for: false,
        };
        self.entries.insert(oid, entry);
        self.queue.push_back((oid, serial));
        self.make_room();
    }

    /// These were changed.
    pub(super) fn invalidate(&mut self, oids: &[Oid]) {
        for &oid in oids {
            self.remove(oid);
        }
    }

    /// Nothing is known to be right any more.
    pub(super) fn clear(&mut self) {
        *self = Self {
            epoch: self.epoch,
            ..Self::new(self.max_bytes)
        };
    }

    fn remove(&mut self, oid: Oid) {
        if let Some(entry) = self.entries.remove(&oid) {
            self.bytes -= entry.data.len() + ENTRY_BYTES;
        }
    }

    fn make_room(&mut self) {
        // What was invalidated still stands in the queue; not for ever.
        if self.queue.len() > 2 * self.entries.len() + QUEUE_SLACK {
            let entries = &self.entries;
            self.queue
                .retain(|(oid, serial)| entries.get(oid).is_some_and(|e| e.serial == *serial));
        }
        while self.bytes > self.max_bytes {
            let Some((oid, serial)) = self.queue.pop_front() else {
                return;
            };
            match self.entries.get_mut(&oid) {
                Some(entry) if entry.serial == serial => {
                    if std::mem::take(&mut entry.was_asked_for) {
                        self.queue.push_back((oid, serial));
                    } else {
                        self.remove(oid);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(number: u64) -> Oid {
        Oid::from_u64(number)
    }

    fn revision(serial: u64, length: usize) -> LoadedRevision {
        LoadedRevision {
            data: vec![7; length],
            serial: Tid::from_u64(serial),
            end: None,
        }
    }

    fn has(cache: &mut Cache, number: u64) -> bool {
        cache.get(oid(number), Tid::MAX, &mut Vec::new()).is_some()
    }

    #[test]
    fn only_what_is_current_and_old_enough_is_found() {
        let mut cache = Cache::new(100_000);
        cache.insert(0, oid(1), &revision(5, 3));
        let ended = LoadedRevision {
            end: Some(Tid::from_u64(9)),
            ..revision(5, 3)
        };
        cache.insert(0, oid(2), &ended);
        let mut buffer = b"before".to_vec();
        assert_eq!(cache.get(oid(1), Tid::from_u64(5), &mut buffer), None);
        let found = cache.get(oid(1), Tid::from_u64(6), &mut buffer).unwrap();
        assert_eq!((found.serial, found.end), (Tid::from_u64(5), None));
        assert_eq!(buffer, [7; 3]);
        assert!(!has(&mut cache, 2));
        cache.invalidate(&[oid(1), oid(3)]);
        assert!(!has(&mut cache, 1));
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn what_an_earlier_connection_loaded_is_not_taken() {
        let mut cache = Cache::new(100_000);
        cache.begin(2);
        cache.insert(1, oid(1), &revision(5, 3));
        assert!(!has(&mut cache, 1));
        cache.insert(2, oid(1), &revision(5, 3));
        cache.clear();
        assert!(!has(&mut cache, 1));
        cache.insert(2, oid(1), &revision(5, 3));
        assert!(has(&mut cache, 1));
    }

    #[test]
    fn what_is_asked_for_stays_and_the_bound_holds() {
        let mut cache = Cache::new(10_000);
        cache.insert(0, oid(0), &revision(1, 900));
        for number in 1..1000 {
            assert!(has(&mut cache, 0), "{number}");
            cache.insert(0, oid(number), &revision(1, 900));
            cache.invalidate(&[oid(number / 2)].map(|oid| {
                if oid == Oid::ROOT {
                    Oid::from_u64(5000)
                } else {
                    oid
                }
            }));
            assert!(cache.bytes <= 10_000);
            assert!(cache.queue.len() < 300);
        }
        cache.insert(0, oid(5000), &revision(1, 9000));
        assert!(!has(&mut cache, 5000));
    }
}
