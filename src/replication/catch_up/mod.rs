//! Brings the storage of a node that is behind to the state of another one.
//!
//! The node that has the state answers ([`send`]), the one that wants it asks
//! ([`receive`]). Three ways, the first that can be gone:
//!
//! - **Tail**: the receiver's `Data.fs` is the beginning of the sender's: the
//!   rest comes as it is.
//! - **Difference**: transactions of both are compared by digests that do not
//!   depend on positions (`storage::file::transfer::content`): runs of up to 16
//!   first, then those of runs that differ, then their records. What differs
//!   comes; the receiver lays the file out anew, from its own and what came.
//! - **Whole**: the file comes as it is: to an empty storage, or where a file
//!   cannot be told apart from its positions.
//!
//! Then blobs that the receiver lacks. What is received is complete, checked
//! and synced before [`Incoming::make_intent`]; how it gets in place is told in
//! `storage::file::transfer::install`.
//!
//! Commits and packs at the sender go on: it reads the file that it held when
//! the transfer began. A transfer that breaks is begun again; what came is used.
//!
//! ```text
//! message    what the two say; fields: from its bytes
//! link       their conversation, between a stream and the thread that works
//! sender     answers
//! receiver   asks: which way, and its end
//! compare    the sender's runs and our own
//! assemble   the new file, run by run
//! blobs      the blobs
//! progress   how far it is; the limit of bytes per second
//! ```

mod assemble;
mod blobs;
mod compare;
mod fields;
pub(super) mod link;
pub(super) mod message;
mod progress;
mod receiver;
mod sender;

use std::io;

use thiserror::Error;

pub use progress::{CatchUpProgress, Phase, Progress, RateLimit};
pub use receiver::{Incoming, Way, receive};
pub use sender::{Origin, send};

use crate::storage::StorageError;

/// Why a transfer did not come to its end.
#[derive(Debug, Error)]
pub enum CatchUpError {
    /// The connection broke. What came is kept and used by the next attempt.
    #[error("the connection to the other node broke during catch-up: {0}")]
    Broken(#[source] io::Error),
    /// The other node gave up.
    #[error("catch-up: the other node: {0}")]
    Peer(String),
    /// The other node says what it may not.
    #[error("catch-up: {0}; do both nodes run the same version?")]
    Protocol(String),
    /// A pack has exchanged the file here while its end came.
    #[error("catch-up: the file was packed while what it lacks came; it is tried again")]
    Overtaken,
    /// The storage or the disk here.
    #[error("catch-up: {0}")]
    Storage(#[from] StorageError),
}

/// The result of a step of a transfer.
pub type Result<T> = std::result::Result<T, CatchUpError>;

#[cfg(test)]
mod tests;
