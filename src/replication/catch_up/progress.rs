//! How far a transfer is, and how fast it may be.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// What a transfer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Neither file is read: the nodes agree, or what came is put in place.
    Idle,
    /// Both read their files and compare them; bytes of the sender's file.
    Comparing,
    /// The file is received; its bytes.
    Receiving,
    /// Blobs are received; their number.
    Blobs,
    /// It is complete.
    Complete,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::Comparing,
        Self::Receiving,
        Self::Blobs,
        Self::Complete,
    ];
}

/// How far a transfer is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUpProgress {
    /// What it is doing.
    pub phase: Phase,
    /// So much of that is done …
    pub done: u64,
    /// … of so much.
    pub total: u64,
    /// Bytes that went over the network, both ways, over all phases.
    pub moved_bytes: u64,
}

impl CatchUpProgress {
    /// What it is doing, in words.
    pub fn doing(&self) -> &'static str {
        match self.phase {
            Phase::Idle => "beginning or ending",
            Phase::Comparing => "comparing",
            Phase::Receiving => "receiving",
            Phase::Blobs => "receiving blobs",
            Phase::Complete => "received",
        }
    }
}

/// Written by the transfer, read by anyone.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    moved: AtomicU64,
}

impl Progress {
    /// Where the transfer is.
    pub fn get(&self) -> CatchUpProgress {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        CatchUpProgress {
            phase: Phase::ALL.get(phase).copied().unwrap_or(Phase::Idle),
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            moved_bytes: self.moved.load(Ordering::Relaxed),
        }
    }

    pub(super) fn begin(&self, phase: Phase, total: u64) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn at(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// How many bytes a second transfers may send, all together.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// 0: as many as go.
    bytes_per_second: u64,
    /// When what was sent so far is paid for.
    paid: Mutex<Option<Instant>>,
}

/// A sender that was idle may send so much at once.
const BURST: Duration = Duration::from_millis(100);

impl RateLimit {
    /// 0: no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            paid: Mutex::new(None),
        }
    }

    /// Waits until `bytes` may be sent.
    pub async fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let until = {
            let mut paid = self.paid.lock().await;
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let from = paid.map_or(earliest, |paid| paid.max(earliest));
            let until = from + cost;
            *paid = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_over_all_who_take() {
        let limit = RateLimit::new(1_000_000);
        let begun = Instant::now();
        for _ in 0..20 {
            limit.take(100_000).await;
            limit.take(150_000).await;
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(4_800), "{took:?}");
        assert!(took <= Duration::from_millis(5_100), "{took:?}");
        RateLimit::new(0).take(u64::MAX).await;
        assert_eq!(begun.elapsed(), took);
    }
}
