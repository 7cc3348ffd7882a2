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
        }
    }
}
