//! The client half of ZEO: what a forwarded commit, a storage in front of
//! another server, and the tools speak.
//!
//! ```text
//! connect      an address -> a stream (TCP, a unix socket; TLS by a connector)
//! connection   handshake; calls go out one behind the other, several at once
//! driver       the task that owns the stream: writes what waits, reads, hands out
//! calls, commit, blob, iterate   the methods, typed
//! transaction  all that a transaction consists of
//! upstream     another server as a storage of this one
//! ```
//!
//! A reply is handed to its call, and what the server tells unasked to the
//! connection's [`Listener`], by one task and in the order in which they came.
//! Who needs that order gives a function that this task runs
//! ([`Connection::send_with`]) instead of waiting for a future.

mod blob;
mod calls;
mod commit;
mod connect;
mod connection;
mod driver;
mod error;
mod iterate;
mod outgoing;
mod transaction;
pub mod upstream;

pub use blob::BLOB_PIECE_BYTES;
pub use calls::{Changes, Info, LoadedRevision};
pub use commit::VoteItem;
pub use connect::{BoxedStream, Connector, Plain, Stream, connect};
pub use connection::{Connection, Listener, Options, PendingReply};
pub use error::{CallError, OpenError};
pub use outgoing::OnReply;

#[cfg(test)]
mod tests;
