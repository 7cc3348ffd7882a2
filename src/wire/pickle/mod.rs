//! Pickles of plain data, read without executing anything.

mod build;
pub(super) mod fast;
mod fault;
mod machine;
mod read;
mod text;
pub(super) mod write;

pub(super) use read::read_servers_value;

pub use fault::{PickleError, PickleFault};
pub use read::{read_dict_lenient, read_prefix, read_value};
pub use write::write_value;
