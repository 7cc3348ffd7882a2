//! Oids that this node may give out: ranges that the log has reserved for it.

use std::ops::RangeInclusive;

use parking_lot::Mutex;

use crate::types::Oid;

/// So many are asked for at once. What is left when a node stops is given out
/// by nobody.
pub const RANGE: u64 = 16_384;

/// The oids of one node.
///
/// Invariant: each oid of a range is taken once.
#[derive(Debug, Default)]
pub struct OidStock(Mutex<Stock>);

#[derive(Debug, Default)]
struct Stock {
    /// Those to be given out; the end is not.
    current: (u64, u64),
    next: (u64, u64),
    is_asking: bool,
}

/// What there is to do after oids were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    None,
    /// Ask for a range in good time; nobody else does.
    Soon,
}

impl OidStock {
    /// Takes `count` oids that `is_used` says no to. None: there are not so
    /// many; ask for a range and add it first.
    pub fn take(&self, count: usize, is_used: impl Fn(Oid) -> bool) -> (Option<Vec<Oid>>, Need) {
        let mut stock = self.0.lock();
        let before = (stock.current, stock.next);
        let mut oids = Vec::with_capacity(count);
        while oids.len() < count {
            if stock.current.0 == stock.current.1 {
                if stock.next.0 == stock.next.1 {
                    (stock.current, stock.next) = before;
                    return (None, Need::None);
                }
                stock.current = std::mem::take(&mut stock.next);
                continue;
            }
            let oid = Oid::from_u64(stock.current.0);
            stock.current.0 += 1;
            if !is_used(oid) {
                oids.push(oid);
            }
        }
        let left = stock.current.1 - stock.current.0 + (stock.next.1 - stock.next.0);
        let need = if left < RANGE / 2 && !stock.is_asking {
            stock.is_asking = true;
            Need::Soon
        } else {
            Need::None
        };
        (Some(oids), need)
    }

    /// Adds a range. One that has no room any more is dropped: it was asked for
    /// twice.
    pub fn add(&self, range: &RangeInclusive<u64>) {
        let mut stock = self.0.lock();
        stock.is_asking = false;
        let range = (*range.start(), range.end().saturating_add(1));
        if stock.current.0 == stock.current.1 {
            stock.current = range;
        } else if stock.next.0 == stock.next.1 {
            stock.next = range;
        }
    }

    /// Asking came to nothing; the next one who takes asks again.
    pub fn asked_in_vain(&self) {
        self.0.lock().is_asking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_more_are_asked_for_in_time() {
        let stock = OidStock::default();
        assert_eq!(stock.take(1, |_| false), (None, Need::None));
        stock.add(&(1..=RANGE));
        let (oids, need) = stock.take(10, |oid| oid.to_u64() == 3);
        let numbers: Vec<_> = oids.unwrap().into_iter().map(Oid::to_u64).collect();
        assert_eq!(numbers, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(need, Need::None);
        let half = usize::try_from(RANGE / 2).unwrap();
        assert_eq!(stock.take(half, |_| false).1, Need::Soon);
        assert_eq!(
            stock.take(1, |_| false).1,
            Need::None,
            "it is asked for already"
        );
        stock.add(&(RANGE + 1..=2 * RANGE));
        let (oids, _) = stock.take(half, |_| false);
        assert_eq!(oids.unwrap().len(), half);
        let (oids, need) = stock.take(2 * half, |_| false);
        assert!(oids.is_none(), "taking too many takes nothing");
        assert_eq!(need, Need::None);
    }
}
