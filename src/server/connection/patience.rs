//! How long a connection waits for its client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::server::limits::{LIVELY_BYTES, MEMORY_RETRY};

/// Whether a client that is waited for moves at all.
#[derive(Debug, Default)]
pub struct Stall {
    since: Option<Instant>,
    moved_bytes: usize,
}

impl Stall {
    /// It is waited for, from now on if not already.
    pub fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// It took, or sent, so many bytes.
    pub fn note_moved(&mut self, count: usize) {
        if self.since.is_some() {
            self.moved_bytes += count;
            if self.moved_bytes >= LIVELY_BYTES {
                self.end();
            }
        }
    }

    /// It is not waited for any more.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// When it has stood still for `patience`.
    pub fn deadline(&self, patience: Duration) -> Option<Instant> {
        self.since.map(|since| since + patience)
    }
}

/// A message that waits for memory.
#[derive(Clone, Copy, Debug)]
pub struct Starved {
    /// Until when it does.
    end: Instant,
    /// When to look again. Nobody is given up without having looked: those given
    /// up just before may have left enough.
    pub retry: Instant,
}

impl Starved {
    /// There was no memory, once more; `patience` counts from the first time.
    pub fn again(before: Option<Self>, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            end: before.map_or(now + patience, |before| before.end),
            retry: now + MEMORY_RETRY,
        }
    }

    /// Has it waited for long enough?
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// One timer for all deadlines of a connection. It is not set anew with each
/// transaction: deadlines mostly move away, so it is enough to look again when
/// it goes off.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready when it is time to look at the deadlines again.
    pub fn poll_until(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        let polled = sleep.as_mut().poll(context);
        if polled.is_ready() {
            self.sleep = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_no_life() {
        let patience = Duration::from_secs(5);
        let mut stall = Stall::default();
        stall.note_moved(LIVELY_BYTES);
        assert_eq!(stall.deadline(patience), None);
        stall.begin();
        let deadline = stall.deadline(patience);
        assert!(deadline.is_some());
        stall.note_moved(LIVELY_BYTES - 1);
        stall.begin();
        assert_eq!(stall.deadline(patience), deadline);
        stall.note_moved(1);
        assert_eq!(stall.deadline(patience), None);
    }
}
