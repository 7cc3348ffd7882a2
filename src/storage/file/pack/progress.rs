//! How far a pack is, for whoever asks, and the wish that it stop.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::storage::{Result, StorageError};

/// What a pack is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PackPhase {
    /// No pack runs.
    Idle,
    /// Reads which revisions were current at the pack time; counted in bytes.
    Reading,
    /// Follows references from the root; counted in objects.
    Following,
    /// Copies what is kept up to the pack time; counted in bytes.
    Copying,
    /// Copies the transactions behind the pack time; counted in bytes.
    CatchingUp,
    /// Puts the new file in place; commits wait.
    Switching,
    /// Saves the new file's index.
    Saving,
}

impl PackPhase {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::Reading,
        Self::Following,
        Self::Copying,
        Self::CatchingUp,
        Self::Switching,
        Self::Saving,
    ];
}

/// How far a pack is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackProgress {
    /// What it is doing.
    pub phase: PackPhase,
    /// So much of that is done …
    pub done: u64,
    /// … of so much; bytes, or objects with [`PackPhase::Following`].
    pub total: u64,
}

impl PackProgress {
    /// Is there a pack at all?
    pub fn is_running(&self) -> bool {
        self.phase != PackPhase::Idle
    }
}

impl fmt::Display for PackProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.done.saturating_mul(100).checked_div(self.total);
        let doing = match self.phase {
            PackPhase::Idle => "idle",
            PackPhase::Reading => "reading",
            PackPhase::Following => "following references",
            PackPhase::Copying => "copying",
            PackPhase::CatchingUp => "copying what was committed meanwhile",
            PackPhase::Switching => "putting the new file in place",
            PackPhase::Saving => "saving the index",
        };
        match percent {
            Some(percent) => write!(f, "{doing}, {} %", percent.min(100)),
            None => f.write_str(doing),
        }
    }
}

/// Written by the pack, read by anyone.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Where the pack is now.
    pub fn get(&self) -> PackProgress {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        PackProgress {
            phase: PackPhase::ALL
                .get(phase)
                .copied()
                .unwrap_or(PackPhase::Idle),
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }

    /// A phase begins.
    pub fn begin(&self, phase: PackPhase, total: u64) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much of the phase is done.
    pub fn at(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// The pack is to stop soon, and to leave everything as it was.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Begins anew.
    pub fn reset(&self) {
        self.begin(PackPhase::Idle, 0);
        self.cancelled.store(false, Ordering::Release);
    }

    /// Fails once the pack is to stop.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Acquire) {
            Err(StorageError::PackInterrupted)
        } else {
            Ok(())
        }
    }
}
