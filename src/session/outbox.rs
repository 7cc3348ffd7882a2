use crate::transaction::Invalidation;
use crate::wire::{self, Exception, Format, MessageId, Reply, ServerCall};

/// What is to be sent to a client, encoded, in order.
#[derive(Debug)]
pub struct Outbox {
    format: Format,
    bytes: Vec<u8>,
    /// So much of it is sent already.
    sent: usize,
}

/// A buffer that once had to be larger than this is not kept.
const KEPT_BYTES: usize = 1 << 20;

impl Outbox {
    /// Empty.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            bytes: Vec::new(),
            sent: 0,
        }
    }

    /// The encoding of everything put here.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Puts an answer.
    pub fn reply(&mut self, id: &MessageId<'_>, reply: &Reply<'_>) {
        wire::encode_reply(self.format, &mut self.bytes, id, reply);
    }

    /// Puts an error as answer.
    pub fn error(&mut self, id: &MessageId<'_>, exception: &Exception) {
        wire::encode_error(self.format, &mut self.bytes, id, exception);
    }

    /// Puts a call of the client.
    pub fn call(&mut self, call: &ServerCall<'_>) {
        if let Err(error) = wire::encode_call(self.format, &mut self.bytes, call) {
            tracing::error!("a call of a client cannot be encoded: {error}");
        }
    }

    /// Puts an invalidation.
    pub fn invalidation(&mut self, invalidation: &Invalidation) {
        self.bytes
            .extend_from_slice(invalidation.frame(self.format));
    }

    /// Gives it a buffer to write into, where it has none.
    pub fn lend_buffer(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffer();
            self.bytes.clear();
        }
    }

    /// Takes its buffer away, once all is sent. It works without, too: it then
    /// makes one.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        if self.unsent().is_empty() {
            self.sent = 0;
            std::mem::take(&mut self.bytes)
        } else {
            Vec::new()
        }
    }

    /// The memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// What is still to be sent.
    pub fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Notes that `count` more bytes were sent.
    pub fn note_sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.sent > KEPT_BYTES && self.sent >= self.bytes.len() / 2 {
            // A client that is always a little behind never empties it. No more
            // is moved than was sent, so that costs little.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_always_behind_does_not_make_it_grow() {
        let mut outbox = Outbox::new(Format::Pickle);
        let call = ServerCall::ReceiveBlobChunk {
            oid: crate::types::Oid::ROOT,
            serial: crate::types::Tid::ZERO,
            chunk: &[7; 10_000],
        };
        outbox.call(&call);
        let frame = outbox.unsent().to_vec();
        for _ in 0..1000 {
            outbox.call(&call);
            assert_eq!(outbox.unsent()[..frame.len()], frame);
            outbox.note_sent(frame.len());
        }
        assert_eq!(outbox.unsent(), frame);
        assert!(outbox.bytes.capacity() < 4 * KEPT_BYTES);
    }
}
