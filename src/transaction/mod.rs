//! Two-phase commit of one named storage: what a transaction collects, the
//! locks that its vote takes, the committer that makes it durable, and the
//! invalidations that tell everybody.
//!
//! ```text
//! tpc_begin, storea …   buffer
//! vote                  object_locks -> vote (serials, conflicts, space)
//! tpc_finish            committer -> commit_log -> publish -> invalidation -> inbox
//! ```

mod authority;
mod buffer;
mod commit_log;
mod committer;
mod database;
mod inbox;
mod invalidation;
mod object_locks;
mod told;
mod vote;

pub use authority::{Authority, Deputy, MAX_INLINE_BYTES, PackDone, Remote, Term, VotedElsewhere};
pub use buffer::{BufferError, Operation, TransactionBuffer};
pub use commit_log::{CommitLog, LocalLog};
pub use committer::{Blocking, CommitRequest, Inline, Origin};
pub use database::{Database, DatabaseOptions};
pub use inbox::{Delivery, Finished, Inbox, InboxState, MAX_INBOX_BYTES};
pub use invalidation::{Invalidation, InvalidationQueue, Invalidations};
pub use object_locks::{Claim, LockRequest, ObjectLocks, Ticket};
pub use vote::{Attached, Conflict, VoteError, VoteOutcome, Voted, vote};
