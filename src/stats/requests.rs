use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Counter, Histogram, Observed};

/// Counters stand in so many places in memory, so that clients that are served
/// at the same time seldom write to the same one.
const SHARDS: usize = 16;

/// What is counted of requests, by method. Methods are numbers here.
#[derive(Debug)]
pub struct RequestStats {
    shards: Box<[Shard]>,
    /// Made when a method is timed for the first time.
    times: Box<[OnceLock<Histogram>]>,
    next_shard: AtomicUsize,
}

#[derive(Debug)]
struct Shard(Box<[MethodStats]>);

#[derive(Debug, Default)]
struct MethodStats {
    handled: Counter,
    failed: Counter,
}

impl RequestStats {
    /// For so many methods.
    pub fn new(methods: usize) -> Self {
        let shard = |_| Shard((0..methods).map(|_| MethodStats::default()).collect());
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            times: (0..methods).map(|_| OnceLock::new()).collect(),
            next_shard: AtomicUsize::new(0),
        }
    }

    /// Where a new client's requests are counted.
    pub fn choose_shard(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    /// One more request was handled.
    pub fn note_handled(&self, shard: usize, method: usize) {
        if let Some(stats) = self.stats(shard, method) {
            stats.handled.increment();
        }
    }

    /// One that was noted as handled came to an error.
    pub fn note_failed(&self, shard: usize, method: usize) {
        if let Some(stats) = self.stats(shard, method) {
            stats.failed.increment();
        }
    }

    /// It took so long from being handled to its answer.
    pub fn note_time(&self, method: usize, time: Duration) {
        if let Some(times) = self.times.get(method) {
            times.get_or_init(Histogram::of_times).observe_time(time);
        }
    }

    /// Requests so far.
    pub fn handled(&self, method: usize) -> u64 {
        self.sum(method, |stats| &stats.handled)
    }

    /// Those of them that came to an error.
    pub fn failed(&self, method: usize) -> u64 {
        self.sum(method, |stats| &stats.failed)
    }

    /// How long they took; None where none was timed.
    pub fn times(&self, method: usize) -> Option<Observed> {
        self.times.get(method)?.get().map(Histogram::observed)
    }

    fn stats(&self, shard: usize, method: usize) -> Option<&MethodStats> {
        self.shards.get(shard)?.0.get(method)
    }

    fn sum(&self, method: usize, counter: impl Fn(&MethodStats) -> &Counter) -> u64 {
        let shards = 0..self.shards.len();
        shards
            .filter_map(|shard| self.stats(shard, method))
            .map(|stats| counter(stats).get())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_do_in_different_shards_is_one_sum() {
        let requests = RequestStats::new(3);
        for _ in 0..2 * SHARDS {
            requests.note_handled(requests.choose_shard(), 1);
        }
        requests.note_failed(requests.choose_shard(), 1);
        assert_eq!(requests.handled(1), 2 * SHARDS as u64);
        assert_eq!(requests.failed(1), 1);
        assert_eq!(requests.handled(0) + requests.handled(2), 0);
    }

    #[test]
    fn a_method_is_timed_for_itself() {
        let requests = RequestStats::new(3);
        requests.note_time(2, Duration::from_millis(1));
        assert_eq!(requests.times(2).unwrap().count, 1);
        assert_eq!(requests.times(1), None);
    }
}
