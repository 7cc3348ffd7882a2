//! MessagePack of plain data: no extension types.

pub(super) mod read;
pub(super) mod write;
