//! The words that every other module speaks: object ids, transaction ids and
//! the parts of a transaction record.
//!
//! Nothing here does I/O or knows a format.

mod oid;
mod record;
mod tid;

pub use oid::Oid;
pub use record::{MAX_METADATA_BYTES, TransactionMeta};
pub use tid::{Tid, TidClock};
