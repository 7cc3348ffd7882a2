use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets for times, in nanoseconds: from a load out of
/// memory to a disk that hangs.
const TIMES_NS: &[u64] = &[
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of the buckets for transactions per sync.
const BATCHES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// How often something was how large, in fixed buckets. Nobody waits for it.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what lies above all.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Histogram`] has seen, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Upper bounds, and how many of the values were no larger.
    pub up_to: Vec<(u64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// What they come to together.
    pub sum: u64,
}

impl Histogram {
    /// For times; its unit is the nanosecond.
    pub fn of_times() -> Self {
        Self::new(TIMES_NS)
    }

    /// For the number of transactions in a batch.
    pub fn of_batches() -> Self {
        Self::new(BATCHES)
    }

    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// One more value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// One more time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What it has seen so far. The count is that of the buckets, so the two
    /// agree whatever is observed meanwhile.
    pub fn observed(&self) -> Observed {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(self.bounds.len());
        for (place, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(&bound) = self.bounds.get(place) {
                up_to.push((bound, count));
            }
        }
        Observed {
            up_to,
            count,
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_for_its_bucket_and_all_above() {
        let histogram = Histogram::of_batches();
        for value in [1, 2, 3, 256, 257] {
            histogram.observe(value);
        }
        let observed = histogram.observed();
        let expected = [1, 2, 3, 3, 3, 3, 3, 3, 4];
        let counts: Vec<_> = observed.up_to.iter().map(|&(_, count)| count).collect();
        assert_eq!(counts, expected);
        assert_eq!((observed.count, observed.sum), (5, 519));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [TIMES_NS, BATCHES] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn times_are_nanoseconds() {
        let histogram = Histogram::of_times();
        histogram.observe_time(Duration::from_micros(3));
        histogram.observe_time(Duration::from_hours(1));
        let observed = histogram.observed();
        assert_eq!(observed.up_to[1..3], [(2_500, 0), (5_000, 1)]);
        assert_eq!(observed.up_to.last(), Some(&(10_000_000_000, 1)));
        assert_eq!(observed.count, 2);
        assert_eq!(observed.sum, 3_600_000_003_000);
    }
}
