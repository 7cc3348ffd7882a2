//! What a client has sent and nobody has handled yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::scratch;
use crate::server::limits::READ_BYTES;
use crate::server::memory::Share;
use crate::wire::FRAME_HEADER_BYTES;

/// So much of an unfinished message waits in memory of its own, instead of a
/// whole buffer that others could read into.
const PARKED_BYTES: usize = 4 << 10;

/// Bytes of the client's. Between messages it takes no memory.
#[derive(Debug)]
pub struct Input {
    /// Those in `start..filled` are still to be handled. Shorter than
    /// [`READ_BYTES`] only where nothing can be read into it.
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
    /// How many bytes the message at `start` needs in all, as far as is known.
    needed_bytes: usize,
}

impl Input {
    /// Nothing was sent.
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            filled: 0,
            needed_bytes: FRAME_HEADER_BYTES,
        }
    }

    /// What is to be handled.
    pub fn unhandled(&self) -> &[u8] {
        self.bytes.get(self.start..self.filled).unwrap_or_default()
    }

    /// The first `count` bytes of it are handled.
    pub fn note_handled(&mut self, count: usize) {
        self.start = self.filled.min(self.start + count);
        self.needed_bytes = FRAME_HEADER_BYTES;
    }

    /// It is an unfinished message that needs `needed_bytes` in all.
    pub fn note_needed(&mut self, needed_bytes: usize) {
        self.needed_bytes = needed_bytes;
    }

    /// How long the unfinished message will be.
    pub fn needed_bytes(&self) -> usize {
        self.needed_bytes
    }

    /// The memory that counts towards the budget: not what every client gets.
    pub fn counted_bytes(&self) -> usize {
        if self.bytes.len() > READ_BYTES {
            self.bytes.len()
        } else {
            0
        }
    }

    /// Can more be read?
    pub fn has_room(&self) -> bool {
        self.bytes.len() < READ_BYTES || self.filled < self.bytes.len()
    }

    /// Moves what is unhandled to the buffer's front, and grows the buffer for
    /// a long message, no faster than its bytes arrive. False: there is not the
    /// memory for that now.
    pub fn make_room(&mut self, share: &mut Share) -> bool {
        if self.start == self.filled {
            self.release();
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        if self.has_room() || self.needed_bytes <= self.filled {
            return true;
        }
        let length = self.needed_bytes.min(self.bytes.len() * 2);
        if length > READ_BYTES && !share.try_add(length - self.counted_bytes()) {
            return false;
        }
        self.bytes.reserve_exact(length - self.bytes.len());
        self.bytes.resize(length, 0);
        true
    }

    /// Reads what is there; the number of bytes, 0 at the end.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() < READ_BYTES {
            self.unpark();
        }
        let mut room = ReadBuf::new(self.bytes.get_mut(self.filled..).unwrap_or_default());
        let read = Pin::new(stream).poll_read(context, &mut room);
        let count = room.filled().len();
        self.filled += count;
        if count == 0 {
            self.park();
        }
        read.map_ok(|()| count)
    }

    /// Takes a buffer to read into, with what is there at its front.
    fn unpark(&mut self) {
        let parked = std::mem::replace(&mut self.bytes, scratch::take(&scratch::READ));
        self.bytes.resize(READ_BYTES, 0);
        for (place, byte) in self.bytes.iter_mut().zip(parked) {
            *place = byte;
        }
    }

    /// Nothing came: the buffer is for others, if not much is in it.
    fn park(&mut self) {
        let unhandled = self.unhandled();
        if unhandled.is_empty() {
            self.release();
        } else if unhandled.len() <= PARKED_BYTES && self.bytes.len() == READ_BYTES {
            let parked = unhandled.to_vec();
            self.release();
            self.filled = parked.len();
            self.bytes = parked;
        }
    }

    /// The buffer goes to the next who reads.
    fn release(&mut self) {
        self.start = 0;
        self.filled = 0;
        let buffer = std::mem::take(&mut self.bytes);
        if buffer.len() == READ_BYTES {
            scratch::give_back(&scratch::READ, buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::server::memory::MemoryBudget;

    fn read(input: &mut Input, mut source: &[u8]) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        match input.poll_read(&mut source, &mut context) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_long_message_takes_memory_as_it_arrives_and_only_while_there_is_some() {
        let budget = Arc::new(MemoryBudget::new(5 * READ_BYTES));
        let mut share = Share::new(Arc::clone(&budget));
        let mut input = Input::new();
        let source = vec![7; READ_BYTES];
        assert_eq!(read(&mut input, &source), READ_BYTES);
        input.note_needed(8 * READ_BYTES);
        for round in [2, 4] {
            assert!(input.make_room(&mut share));
            assert_eq!(budget.used_bytes(), round * READ_BYTES);
            while input.has_room() {
                read(&mut input, &source);
            }
        }
        assert!(!input.make_room(&mut share));
        assert_eq!(input.unhandled().len(), 4 * READ_BYTES);
        share.set(input.counted_bytes());
        assert_eq!(budget.used_bytes(), 4 * READ_BYTES);
    }

    #[test]
    fn nothing_is_held_when_all_is_handled() {
        let mut share = Share::new(Arc::new(MemoryBudget::new(0)));
        let mut input = Input::new();
        assert_eq!(read(&mut input, b"three"), 5);
        input.note_needed(10);
        input.note_handled(2);
        assert!(input.make_room(&mut share));
        assert_eq!(input.unhandled(), b"ree");
        input.note_handled(3);
        assert!(input.make_room(&mut share));
        assert_eq!(input.bytes.capacity(), 0);
    }

    #[test]
    fn the_beginning_of_a_message_waits_in_little_memory() {
        let mut share = Share::new(Arc::new(MemoryBudget::new(0)));
        let mut input = Input::new();
        for (number, piece) in [b"one", b"two", b"six"].into_iter().enumerate() {
            input.note_needed(10);
            assert!(input.make_room(&mut share));
            assert!(input.has_room());
            assert_eq!(read(&mut input, piece), 3);
            // As when nothing more is there.
            assert_eq!(read(&mut input, b""), 0);
            assert_eq!(input.unhandled().len(), 3 * number + 3);
            assert!(input.bytes.capacity() <= PARKED_BYTES);
        }
        assert_eq!(input.unhandled(), b"onetwosix");
        input.note_handled(3);
        assert!(input.make_room(&mut share));
        assert_eq!(read(&mut input, b"!"), 1);
        assert_eq!(input.unhandled(), b"twosix!");
    }
}
