use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::types::Oid;

/// Low bits of an oid: the place within a page.
const SUFFIX_BITS: u32 = 16;
const PAGE_SLOTS: usize = 1 << SUFFIX_BITS;
/// Pages with a number below this are found by two plain loads; it covers 268
/// million objects numbered without gaps, and costs 64 kB.
const DIRECT_PAGES: usize = 4096;
/// A page with more entries than this becomes an array.
const MAX_SPARSE_ENTRIES: usize = 512;

/// Where the newest record of each object is: oid to position in the file.
///
/// One thread writes (the committer), any number read, and no reader waits for
/// it: a position is one atomic number. On a database whose oids were given out
/// in order it takes 8 bytes per object.
///
/// Invariant: a position that was set stays until a greater one replaces it,
/// from when others read the index; no position is 0.
#[derive(Debug)]
pub struct Index {
    direct: Box<[OnceLock<Box<Page>>]>,
    /// The pages from `DIRECT_PAGES` on.
    others: RwLock<BTreeMap<u64, Box<Page>>>,
    count: AtomicU64,
    /// Greatest oid, where `count` is not 0.
    max_oid: AtomicU64,
}

/// The positions of the oids that share all but their low bits: a sorted list
/// while they are few, then an array.
#[derive(Debug, Default)]
struct Page {
    dense: OnceLock<Box<[AtomicU64]>>,
    sparse: RwLock<Vec<(u16, u64)>>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            direct: (0..DIRECT_PAGES).map(|_| OnceLock::new()).collect(),
            others: RwLock::default(),
            count: AtomicU64::new(0),
            max_oid: AtomicU64::new(0),
        }
    }
}

impl Index {
    /// The position of the newest record of `oid`.
    pub fn get(&self, oid: Oid) -> Option<u64> {
        let (number, suffix) = split(oid);
        self.with_page(number, |page| page.get(suffix)).flatten()
    }

    /// Sets the position of the newest record of `oid`.
    pub fn set(&self, oid: Oid, position: u64) {
        debug_assert!(position > 0, "a record never stands at the file's start");
        let (number, suffix) = split(oid);
        let direct = usize::try_from(number)
            .ok()
            .and_then(|number| self.direct.get(number));
        let is_new = if let Some(cell) = direct {
            cell.get_or_init(Box::default).set(suffix, position)
        } else if let Some(page) = self.others.read().get(&number) {
            page.set(suffix, position)
        } else {
            self.others
                .write()
                .entry(number)
                .or_default()
                .set(suffix, position)
        };
        if is_new {
            self.max_oid.fetch_max(oid.to_u64(), Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    /// The memory that it takes, up to what allocating adds.
    pub fn memory_bytes(&self) -> u64 {
        let direct = self.direct.iter().filter_map(OnceLock::get);
        let of_direct: usize = direct.map(|page| page.memory_bytes()).sum();
        let others = self.others.read();
        let of_others: usize = others.values().map(|page| page.memory_bytes()).sum();
        (size_of_val(&*self.direct) + of_direct + of_others) as u64
    }

    /// Forgets `oid`. Only for an index that nobody reads yet; the greatest oid
    /// is not known afterwards until [`Self::retain`].
    pub fn remove(&mut self, oid: Oid) {
        let (number, suffix) = split(oid);
        let direct = usize::try_from(number)
            .ok()
            .and_then(|number| self.direct.get_mut(number));
        let page = match direct {
            Some(cell) => cell.get_mut(),
            None => self.others.get_mut().get_mut(&number),
        };
        if page.is_some_and(|page| page.remove(suffix)) {
            *self.count.get_mut() -= 1;
        }
    }

    /// Forgets all oids but those that `keep` names. Only for an index that
    /// nobody reads yet.
    pub fn retain(&mut self, mut keep: impl FnMut(Oid) -> bool) {
        let (mut count, mut max_oid) = (0, 0);
        let mut retain = |number: u64, page: &mut Page| {
            let left = page.retain(|suffix| {
                let oid = join(number, suffix);
                let is_kept = keep(oid);
                if is_kept {
                    count += 1;
                    max_oid = max_oid.max(oid.to_u64());
                }
                is_kept
            });
            left > 0
        };
        for (number, cell) in (0..).zip(self.direct.iter_mut()) {
            if cell.get_mut().is_some_and(|page| !retain(number, page)) {
                cell.take();
            }
        }
        self.others
            .get_mut()
            .retain(|&number, page| retain(number, page));
        *self.count.get_mut() = count;
        *self.max_oid.get_mut() = max_oid;
    }

    /// Number of objects.
    pub fn len(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The greatest oid.
    pub fn max_oid(&self) -> Option<Oid> {
        (self.len() > 0).then(|| Oid::from_u64(self.max_oid.load(Ordering::Relaxed)))
    }

    /// The least oid at or after `from`, with its position.
    pub fn first_from(&self, from: Oid) -> Option<(Oid, u64)> {
        let (mut number, mut suffix) = split(from);
        loop {
            let found = self
                .with_page(number, |page| page.first_from(suffix))
                .flatten();
            if let Some((suffix, position)) = found {
                return Some((join(number, suffix), position));
            }
            number = self.next_page(number)?;
            suffix = 0;
        }
    }

    /// Calls `visit` with each page that has entries, in order: the 6 bytes
    /// that its oids begin with, and (last 2 bytes, position) sorted.
    pub fn for_each_page<E>(
        &self,
        mut visit: impl FnMut([u8; 6], &[(u16, u64)]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = Some(0);
        while let Some(number) = next {
            let entries = self.with_page(number, Page::entries).unwrap_or_default();
            if !entries.is_empty() {
                let [_, _, prefix @ ..] = number.to_be_bytes();
                visit(prefix, &entries)?;
            }
            next = self.next_page(number);
        }
        Ok(())
    }

    fn with_page<R>(&self, number: u64, look: impl FnOnce(&Page) -> R) -> Option<R> {
        match usize::try_from(number)
            .ok()
            .and_then(|number| self.direct.get(number))
        {
            Some(cell) => cell.get().map(|page| look(page)),
            None => self.others.read().get(&number).map(|page| look(page)),
        }
    }

    /// The number of the first page after page `number`.
    fn next_page(&self, number: u64) -> Option<u64> {
        let after = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let direct = self
            .direct
            .iter()
            .enumerate()
            .skip(after)
            .find(|(_, cell)| cell.get().is_some());
        if let Some((found, _)) = direct {
            return Some(found as u64);
        }
        let others = self.others.read();
        let after = (Bound::Excluded(number), Bound::Unbounded);
        others.range(after).next().map(|(&number, _)| number)
    }
}

impl Page {
    fn memory_bytes(&self) -> usize {
        let dense = self.dense.get().map_or(0, |slots| size_of_val(&**slots));
        size_of::<Self>() + dense + self.sparse.read().capacity() * size_of::<(u16, u64)>()
    }

    fn get(&self, suffix: u16) -> Option<u64> {
        if self.dense.get().is_none() {
            let sparse = self.sparse.read();
            // The page can have become an array while this waited for the lock.
            if self.dense.get().is_none() {
                let place = sparse.binary_search_by_key(&suffix, |entry| entry.0).ok()?;
                return sparse.get(place).map(|entry| entry.1);
            }
        }
        let slot = self.dense.get()?.get(usize::from(suffix))?;
        Some(slot.load(Ordering::Acquire)).filter(|&position| position != 0)
    }

    /// True where the suffix is new.
    fn set(&self, suffix: u16, position: u64) -> bool {
        if let Some(slot) = self
            .dense
            .get()
            .and_then(|dense| dense.get(usize::from(suffix)))
        {
            return slot.swap(position, Ordering::AcqRel) == 0;
        }
        let mut sparse = self.sparse.write();
        let is_new = match sparse.binary_search_by_key(&suffix, |entry| entry.0) {
            Ok(place) => {
                if let Some(entry) = sparse.get_mut(place) {
                    entry.1 = position;
                }
                false
            }
            Err(place) => {
                sparse.insert(place, (suffix, position));
                true
            }
        };
        if sparse.len() > MAX_SPARSE_ENTRIES {
            let dense: Box<[AtomicU64]> = (0..PAGE_SLOTS).map(|_| AtomicU64::new(0)).collect();
            for &(suffix, position) in sparse.iter() {
                if let Some(slot) = dense.get(usize::from(suffix)) {
                    slot.store(position, Ordering::Relaxed);
                }
            }
            // Only the committer gets here, so nobody else can have set it.
            let _ = self.dense.set(dense);
            *sparse = Vec::new();
        }
        is_new
    }

    /// True where the suffix had a position.
    fn remove(&mut self, suffix: u16) -> bool {
        if let Some(dense) = self.dense.get_mut() {
            return dense
                .get_mut(usize::from(suffix))
                .is_some_and(|slot| std::mem::take(slot.get_mut()) != 0);
        }
        let sparse = self.sparse.get_mut();
        match sparse.binary_search_by_key(&suffix, |entry| entry.0) {
            Ok(place) => {
                sparse.remove(place);
                true
            }
            Err(_) => false,
        }
    }

    /// The number of entries left.
    fn retain(&mut self, mut keep: impl FnMut(u16) -> bool) -> usize {
        let Some(dense) = self.dense.get_mut() else {
            let sparse = self.sparse.get_mut();
            sparse.retain(|entry| keep(entry.0));
            return sparse.len();
        };
        let mut left = 0;
        for (suffix, slot) in (0..=u16::MAX).zip(dense.iter_mut()) {
            let position = slot.get_mut();
            if *position != 0 && keep(suffix) {
                left += 1;
            } else {
                *position = 0;
            }
        }
        left
    }

    fn first_from(&self, suffix: u16) -> Option<(u16, u64)> {
        if self.dense.get().is_none() {
            let sparse = self.sparse.read();
            if self.dense.get().is_none() {
                let place = sparse.partition_point(|entry| entry.0 < suffix);
                return sparse.get(place).copied();
            }
        }
        let slots = self.dense.get()?.get(usize::from(suffix)..)?;
        slots
            .iter()
            .zip(suffix..=u16::MAX)
            .find_map(|(slot, suffix)| {
                let position = slot.load(Ordering::Acquire);
                (position != 0).then_some((suffix, position))
            })
    }

    fn entries(&self) -> Vec<(u16, u64)> {
        let mut entries = Vec::new();
        let mut next = self.first_from(0);
        while let Some((suffix, position)) = next {
            entries.push((suffix, position));
            next = suffix
                .checked_add(1)
                .and_then(|suffix| self.first_from(suffix));
        }
        entries
    }
}

fn split(oid: Oid) -> (u64, u16) {
    let [.., high, low] = oid.0;
    (oid.to_u64() >> SUFFIX_BITS, u16::from_be_bytes([high, low]))
}

fn join(number: u64, suffix: u16) -> Oid {
    Oid::from_u64((number << SUFFIX_BITS) | u64::from(suffix))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(
            entries in prop::collection::vec(
                (prop_oneof![0..3000_u64, 0..u64::MAX, (1_u64 << 28)..(1 << 28) + 900], 1..1_u64 << 48),
                0..1500,
            ),
            probes in prop::collection::vec(0..u64::MAX, 20),
        ) {
            let index = Index::default();
            let mut model = BTreeMap::new();
            for (oid, position) in entries {
                index.set(Oid::from_u64(oid), position);
                model.insert(oid, position);
            }
            prop_assert_eq!(index.len(), model.len() as u64);
            prop_assert_eq!(
                index.max_oid().map(Oid::to_u64),
                model.last_key_value().map(|(&oid, _)| oid)
            );
            for oid in probes.into_iter().chain(model.keys().copied().collect::<Vec<_>>()) {
                prop_assert_eq!(index.get(Oid::from_u64(oid)), model.get(&oid).copied());
                let expected = model.range(oid..).next().map(|(&o, &p)| (Oid::from_u64(o), p));
                prop_assert_eq!(index.first_from(Oid::from_u64(oid)), expected);
            }
            let mut listed = Vec::new();
            index.for_each_page(|prefix, entries| {
                let [a, b, c, d, e, f] = prefix;
                for &(suffix, position) in entries {
                    let [g, h] = suffix.to_be_bytes();
                    listed.push((u64::from_be_bytes([a, b, c, d, e, f, g, h]), position));
                }
                Ok::<_, ()>(())
            }).unwrap();
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_database_without_gaps_takes_8_bytes_per_object() {
        let index = Index::default();
        let before = index.memory_bytes();
        let objects = 4 * PAGE_SLOTS as u64;
        for oid in 0..objects {
            index.set(Oid::from_u64(oid), 4);
        }
        let per_object = (index.memory_bytes() - before) / objects;
        assert_eq!(per_object, 8);
    }

    #[test]
    fn readers_always_find_what_was_set_while_the_page_grows() {
        let index = Index::default();
        index.set(Oid::from_u64(5), 77);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while index.get(Oid::from_u64(2000)).is_none() {
                    assert_eq!(index.get(Oid::from_u64(5)), Some(77));
                }
            });
            for oid in 6..=2000 {
                index.set(Oid::from_u64(oid), oid * 10);
            }
            reader.join().unwrap();
        });
    }
}
