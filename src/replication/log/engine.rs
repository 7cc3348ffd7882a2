//! What the log needs of an engine: batches that are durable as one, cut at
//! both ends, small values beside the entries. A few methods, so that another
//! engine can take raft-engine's place, and so that tests can make one fail.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;

use super::super::entry_codec::EntryPieces;

/// Which log of those that share the engine; never given to another group.
pub type GroupId = u64;

/// One step of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose log changes.
    pub group: GroupId,
    /// How.
    pub step: Step,
}

/// What happens to a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Entries with consecutive indexes follow. The first follows the last that
    /// is there, if any is; any index is right after all were cut off.
    Append(Vec<(u64, EntryPieces)>),
    /// Entries from this one to the last go. It exists.
    CutEnd(u64),
    /// Entries before this one go. Later ones need not exist.
    CutBeginning(u64),
    /// A value that is kept beside the entries, and is not cut off with them.
    Put(Key, Vec<u8>),
}

/// The values beside the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// For whom this node has voted last.
    RaftVote,
    /// Up to where entries are known to be committed.
    Committed,
    /// Up to where entries were cut off at the beginning.
    Purged,
}

impl Key {
    /// As it stands on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RaftVote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
        }
    }
}

/// Why the engine did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// No room on the disk. Nothing of the batch was written, and it may be tried again.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The entries are not, or no longer, there.
    #[error("no such entries")]
    Missing,
    /// What was written cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The engine cannot do that, and has done nothing.
    #[error("{0}")]
    Refused(String),
    /// The engine failed in a way after which nothing is certain; it does nothing any more.
    #[error("{0}")]
    Dead(String),
}

/// Keeps the logs of all groups. Its methods block; only one thread writes.
pub trait LogEngine: fmt::Debug + Send + Sync + 'static {
    /// Makes all of `changes` durable, or nothing of them. Returns how many bytes that took.
    fn write(&self, changes: &[Change]) -> Result<usize, EngineError>;

    /// Entries of `range`, all of which exist: so many from its beginning as have `max_bytes`
    /// together, but at least one.
    fn read(
        &self,
        group: GroupId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, EngineError>;

    /// From the first entry of `group` to behind the last; empty if there is none.
    fn span(&self, group: GroupId) -> Result<Range<u64>, EngineError>;

    /// A value beside the entries.
    fn value(&self, group: GroupId, key: Key) -> Result<Option<Vec<u8>>, EngineError>;

    /// Gives room back that all groups have cut off. May run beside all others.
    fn reclaim(&self) -> Result<(), EngineError>;
}
