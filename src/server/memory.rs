//! What the messages and transactions of all clients take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that all connections share.
///
/// What a client needs for small requests is not counted: it always gets
/// through. See [`UNCOUNTED_BYTES`](super::limits::UNCOUNTED_BYTES).
#[derive(Debug)]
pub struct MemoryBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl MemoryBudget {
    /// Nothing of `limit_bytes` is used.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
        }
    }

    /// So much is in use; can be more than there is, by what could not wait.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Is nothing left?
    pub fn is_used_up(&self) -> bool {
        self.used_bytes() >= self.limit_bytes
    }
}

/// What one connection uses of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Share {
    /// Nothing yet.
    pub fn new(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Counts what the connection has in use now, whether there is so much or not.
    pub fn set(&mut self, bytes: usize) {
        let used = &self.budget.used_bytes;
        if bytes > self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Takes `more_bytes` if there are so many.
    pub fn try_add(&mut self, more_bytes: usize) -> bool {
        let limit = self.budget.limit_bytes;
        let add = |used: usize| used.checked_add(more_bytes).filter(|sum| *sum <= limit);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let added = self.budget.used_bytes.fetch_update(set, fetch, add).is_ok();
        if added {
            self.bytes += more_bytes;
        }
        added
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_by_many_at_once_never_exceeds_the_budget_and_is_given_back() {
        let budget = Arc::new(MemoryBudget::new(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut share = Share::new(Arc::clone(&budget));
                        share.try_add(400);
                        share.try_add(300);
                        assert!(budget.used_bytes() <= 1000);
                    }
                });
            }
        });
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_cannot_wait_counts_though_there_is_none_left() {
        let budget = Arc::new(MemoryBudget::new(1000));
        let mut share = Share::new(Arc::clone(&budget));
        share.set(1500);
        assert!(budget.is_used_up());
        assert!(!Share::new(Arc::clone(&budget)).try_add(1));
        share.set(400);
        assert!(!budget.is_used_up());
        assert!(share.try_add(600));
        assert!(budget.is_used_up());
    }
}
