//! Buffers that the connections of a thread take turns with.
//!
//! A connection takes them for its turn, and keeps one while it waits only if
//! something is in it. So idle clients cost no buffers.

use std::cell::Cell;
use std::thread::LocalKey;

/// A buffer that was larger than this is not kept for the next one.
const KEPT_BYTES: usize = 256 << 10;

/// A buffer that belongs to whoever took it until it is given back.
pub type Slot = LocalKey<Cell<Vec<u8>>>;

thread_local! {
    /// For bytes of the client's; its length is what is read at once.
    pub static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// For answers.
    pub static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// For records that are loaded.
    pub static RECORD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer; an empty one where it has none.
pub fn take(slot: &'static Slot) -> Vec<u8> {
    slot.take()
}

/// Gives a buffer back; it keeps its contents.
pub fn give_back(slot: &'static Slot, buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BYTES && buffer.capacity() > 0 {
        slot.set(buffer);
    }
}
