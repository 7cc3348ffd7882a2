//! Sets of oids in little memory: a bit per object where oids lie close
//! together, 2 bytes where they do not.

use std::collections::BTreeMap;

use crate::types::Oid;

/// Low bits of an oid: the place within a page.
const SUFFIX_BITS: u32 = 16;
const PAGE_WORDS: usize = (1 << SUFFIX_BITS) / u64::BITS as usize;
/// A page with more members than this becomes a bitmap: both take 8 kB then.
const MAX_SPARSE_MEMBERS: usize = 4096;
/// Pages with a number below this are found without a search.
const DIRECT_PAGES: u64 = 1 << 16;

/// A set of oids.
#[derive(Debug, Default)]
pub struct OidSet {
    direct: Vec<Option<Page>>,
    /// The pages from `DIRECT_PAGES` on.
    others: BTreeMap<u64, Page>,
}

#[derive(Debug)]
enum Page {
    /// Sorted.
    Sparse(Vec<u16>),
    Dense(Box<[u64; PAGE_WORDS]>),
}

impl OidSet {
    /// Puts `oid` in; true where it was not in.
    pub fn insert(&mut self, oid: Oid) -> bool {
        let (number, suffix) = split(oid);
        self.page_mut(number).insert(suffix)
    }

    /// Is `oid` in?
    pub fn contains(&self, oid: Oid) -> bool {
        let (number, suffix) = split(oid);
        let page = match usize::try_from(number) {
            Ok(place) if number < DIRECT_PAGES => self.direct.get(place).and_then(Option::as_ref),
            _ => self.others.get(&number),
        };
        page.is_some_and(|page| page.contains(suffix))
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        let empty = || Page::Sparse(Vec::new());
        match usize::try_from(number) {
            Ok(place) if number < DIRECT_PAGES => {
                if place >= self.direct.len() {
                    self.direct.resize_with(place + 1, || None);
                }
                // The vector has just been made long enough; the map is never reached.
                match self.direct.get_mut(place) {
                    Some(slot) => slot.get_or_insert_with(empty),
                    None => self.others.entry(number).or_insert_with(empty),
                }
            }
            _ => self.others.entry(number).or_insert_with(empty),
        }
    }

    fn take_page(&mut self, number: u64) -> Option<Page> {
        match usize::try_from(number) {
            Ok(place) if number < DIRECT_PAGES => self.direct.get_mut(place).and_then(Option::take),
            _ => self.others.remove(&number),
        }
    }
}

impl Page {
    fn insert(&mut self, suffix: u16) -> bool {
        match self {
            Self::Dense(words) => {
                let (word, bit) = place(suffix);
                words.get_mut(word).is_some_and(|word| {
                    let is_new = *word & bit == 0;
                    *word |= bit;
                    is_new
                })
            }
            Self::Sparse(members) => {
                let Err(at) = members.binary_search(&suffix) else {
                    return false;
                };
                members.insert(at, suffix);
                if members.len() > MAX_SPARSE_MEMBERS {
                    *self = Self::dense(members);
                }
                true
            }
        }
    }

    fn dense(members: &[u16]) -> Self {
        let mut words = Box::new([0; PAGE_WORDS]);
        for &suffix in members {
            let (word, bit) = place(suffix);
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
        Self::Dense(words)
    }

    fn contains(&self, suffix: u16) -> bool {
        match self {
            Self::Dense(words) => {
                let (word, bit) = place(suffix);
                words.get(word).is_some_and(|word| word & bit != 0)
            }
            Self::Sparse(members) => members.binary_search(&suffix).is_ok(),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(u16)) {
        match self {
            Self::Sparse(members) => members.iter().copied().for_each(visit),
            Self::Dense(words) => {
                for (number, &word) in (0_u16..).zip(words.iter()) {
                    let mut left = word;
                    while left != 0 {
                        // Below 64, so it fits.
                        let bit = u16::try_from(left.trailing_zeros()).unwrap_or(0);
                        visit(number * 64 + bit);
                        left &= left - 1;
                    }
                }
            }
        }
    }
}

/// What is still to be done: oids that are put in one by one and taken out a
/// page at a time, in order within the page.
#[derive(Debug, Default)]
pub struct Pending {
    set: OidSet,
    /// The pages that have members.
    pages: Vec<u64>,
}

impl Pending {
    /// Puts `oid` in.
    pub fn insert(&mut self, oid: Oid) {
        let (number, suffix) = split(oid);
        let page = self.set.page_mut(number);
        if matches!(page, Page::Sparse(members) if members.is_empty()) {
            self.pages.push(number);
        }
        page.insert(suffix);
    }

    /// Takes out the oids of one page, 65536 at most. False: there are none.
    pub fn take(&mut self, mut visit: impl FnMut(Oid)) -> bool {
        let Some(number) = self.pages.pop() else {
            return false;
        };
        if let Some(page) = self.set.take_page(number) {
            page.for_each(|suffix| {
                visit(Oid::from_u64((number << SUFFIX_BITS) | u64::from(suffix)));
            });
        }
        true
    }
}

fn split(oid: Oid) -> (u64, u16) {
    let [.., high, low] = oid.0;
    (oid.to_u64() >> SUFFIX_BITS, u16::from_be_bytes([high, low]))
}

fn place(suffix: u16) -> (usize, u64) {
    (usize::from(suffix / 64), 1 << (suffix % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn behaves_as_a_set(
            oids in prop::collection::vec(
                prop_oneof![0..9000_u64, 0..u64::MAX, (1_u64 << 40)..(1 << 40) + 9000],
                0..14000,
            ),
        ) {
            let mut set = OidSet::default();
            let mut pending = Pending::default();
            let mut model = BTreeSet::new();
            for &oid in &oids {
                prop_assert_eq!(set.insert(Oid::from_u64(oid)), model.insert(oid));
                pending.insert(Oid::from_u64(oid));
            }
            for oid in 0..10_000 {
                prop_assert_eq!(set.contains(Oid::from_u64(oid)), model.contains(&oid));
            }
            let mut taken = BTreeSet::new();
            while pending.take(|oid| assert!(taken.insert(oid.to_u64()))) {}
            prop_assert_eq!(taken, model);
        }
    }
}
