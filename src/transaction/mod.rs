//! Two-phase commit of one named storage: what a transaction collects, the
//! locks that its vote takes, the committer that makes it durable, and the
//! invalidations that tell everybody.
//!
//! ```text
//! tpc_begin, storea …   buffer
//! vote                  object_locks -> vote (serials, conflicts, space)
//! tpc_finish            committer -> commit_log -> publish -> invalidation -> inbox
//! ```

mod buffer;
mod commit_log;
mod committer;
mod database;
mod inbox;
mod invalidation;
mod object_locks;
mod vote;

pub use buffer::{BufferError, TransactionBuffer};
pub use commit_log::{CommitLog, LocalLog};
pub use committer::{Blocking, CommitRequest, Inline};
pub use database::{Database, DatabaseOptions};
pub use inbox::{Delivery, Finished, Inbox, InboxState, MAX_INBOX_BYTES};
pub use invalidation::{Invalidation, InvalidationQueue, Invalidations};
pub use object_locks::{LockRequest, ObjectLocks, Ticket};
pub use vote::{Conflict, VoteError, VoteOutcome, Voted, vote};
