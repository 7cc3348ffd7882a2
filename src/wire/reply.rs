use std::borrow::Cow;

use super::encoder::{EncodeError, Encoder};
use super::exception::Exception;
use super::frame::{begin_frame, end_frame};
use super::handshake::Format;
use super::request::MessageId;
use super::value::Value;
use crate::types::{Oid, Tid};

/// Between the nodes of a cluster `get_info` tells the leadership for which a connection's
/// transactions are taken, by this key. A node that does not know it tells nothing.
pub const LEADERSHIP: &str = "zeod.leadership";

/// The result of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// `None`.
    Nothing,
    /// A revision of an object, and the tid of the next one where there is one.
    Loaded {
        /// The record.
        data: &'a [u8],
        /// Its tid.
        serial: Tid,
        /// The tid that ended its validity.
        end: Option<Tid>,
    },
    /// A tid.
    Tid(Tid),
    /// An oid.
    Oid(Oid),
    /// A record alone.
    Data(&'a [u8]),
    /// A list of oids.
    Oids(&'a [Oid]),
    /// What has changed, up to a tid.
    Invalidations {
        /// The last tid that is accounted for.
        tid: Tid,
        /// The objects that have changed.
        oids: &'a [Oid],
    },
    /// Conflicts that the client is asked to resolve.
    Conflicts(&'a [Conflict<'a>]),
    /// Anything else.
    Value(Value<'a>),
}

/// A conflict that the client is asked to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The object.
    pub oid: Oid,
    /// Its committed serial.
    pub committed: Tid,
    /// The serial that the client had read.
    pub read: Tid,
    /// The record that the client wants to write.
    pub data: Cow<'a, [u8]>,
}

/// What the server tells a client unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCall<'a> {
    /// A transaction has changed objects.
    InvalidateTransaction {
        /// The transaction.
        tid: Tid,
        /// The objects, new ones too.
        oids: &'a [Oid],
    },
    /// The storage's size.
    Info {
        /// Objects.
        length: u64,
        /// Bytes.
        size: u64,
    },
    /// A blob follows.
    ReceiveBlobStart {
        /// The blob's object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
    /// A part of a blob.
    ReceiveBlobChunk {
        /// The blob's object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
        /// The bytes.
        chunk: &'a [u8],
    },
    /// The blob is complete.
    ReceiveBlobStop {
        /// The blob's object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
}

/// More than a frame needs around its largest part: header, flag, names, tids.
const OVERHEAD_BYTES: usize = 96;
/// An oid in either format, at most.
const ENCODED_OID_BYTES: usize = 10;
/// A reply is (id, flag, name, result).
pub(super) const MESSAGE_ITEMS: usize = 4;
pub(super) const REPLY_NAME: &str = ".reply";
const FLAG_RESULT: i64 = 0;
const FLAG_ERROR: i64 = 2;

/// Appends the frame of a result. One that cannot be sent (4 GiB, or an
/// integer that msgpack has no form for) becomes a `ValueError`, as it does in
/// Python's server.
pub fn encode_reply(format: Format, out: &mut Vec<u8>, id: &MessageId<'_>, reply: &Reply<'_>) {
    out.reserve(OVERHEAD_BYTES + id.as_bytes().len() + reply.size_hint_bytes());
    let written = message(format, out, |encoder| {
        encoder.raw(id.as_bytes());
        encoder.int(FLAG_RESULT);
        encoder.str(REPLY_NAME)?;
        reply.encode(encoder)
    });
    if let Err(error) = written {
        let exception = Exception::ValueError(format!("the response cannot be sent: {error}"));
        encode_error(format, out, id, &exception);
    }
}

/// Appends the frame of an error.
pub fn encode_error(format: Format, out: &mut Vec<u8>, id: &MessageId<'_>, exception: &Exception) {
    let written = message(format, out, |encoder| {
        error_items(encoder, id)?;
        exception.encode(encoder)
    });
    if written.is_err() {
        // Only a text of 4 GiB, or an integer of more than 64 bits in it, gets
        // here, and neither is in this one.
        let plain = Exception::ValueError("the error cannot be sent".to_owned());
        let written = message(format, out, |encoder| {
            error_items(encoder, id)?;
            plain.encode(encoder)
        });
        debug_assert_eq!(written, Ok(()));
    }
}

/// Appends the frame of a server's call.
pub fn encode_call(
    format: Format,
    out: &mut Vec<u8>,
    call: &ServerCall<'_>,
) -> Result<(), EncodeError> {
    out.reserve(OVERHEAD_BYTES + call.size_hint_bytes());
    message(format, out, |encoder| {
        encoder.int(0);
        encoder.bool(true);
        encoder.str(call.method())?;
        call.encode_arguments(encoder)
    })
}

fn error_items(encoder: &mut Encoder<'_>, id: &MessageId<'_>) -> Result<(), EncodeError> {
    encoder.raw(id.as_bytes());
    encoder.int(FLAG_ERROR);
    encoder.str(REPLY_NAME)
}

/// Writes a frame with a tuple of four items; nothing is left of it on failure.
pub(super) fn message(
    format: Format,
    out: &mut Vec<u8>,
    items: impl FnOnce(&mut Encoder<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = begin_frame(out);
    let mut encoder = Encoder::new(format, out);
    let written = encoder
        .begin_message(MESSAGE_ITEMS)
        .and_then(|()| items(&mut encoder));
    encoder.end_message(MESSAGE_ITEMS);
    if written.is_err() {
        out.truncate(start);
        return written;
    }
    end_frame(out, start).map_err(|_| EncodeError::TooLong)
}

impl Reply<'_> {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Nothing => encoder.none(),
            Self::Loaded { data, serial, end } => {
                encoder.begin_tuple(3)?;
                encoder.bytes(data)?;
                encoder.bytes(&serial.0)?;
                encoder.bytes_or_none(end.as_ref().map(|end| &end.0[..]))?;
                encoder.end_tuple(3);
            }
            Self::Tid(tid) => return encoder.bytes(&tid.0),
            Self::Oid(oid) => return encoder.bytes(&oid.0),
            Self::Data(data) => return encoder.bytes(data),
            Self::Oids(oids) => return encode_oids(encoder, oids),
            Self::Invalidations { tid, oids } => return encode_changes(encoder, *tid, oids),
            Self::Conflicts(conflicts) => {
                encoder.begin_list(conflicts.len())?;
                for conflict in *conflicts {
                    conflict.encode(encoder)?;
                }
                encoder.end_list(conflicts.len());
            }
            Self::Value(value) => return encoder.value(value),
        }
        Ok(())
    }

    fn size_hint_bytes(&self) -> usize {
        match self {
            Self::Loaded { data, .. } | Self::Data(data) => data.len(),
            Self::Oids(oids) | Self::Invalidations { oids, .. } => {
                oids.len().saturating_mul(ENCODED_OID_BYTES)
            }
            _ => 0,
        }
    }
}

impl Conflict<'_> {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.begin_dict(3)?;
        encoder.str("oid")?;
        encoder.bytes(&self.oid.0)?;
        encoder.str("serials")?;
        encoder.begin_tuple(2)?;
        encoder.bytes(&self.committed.0)?;
        encoder.bytes(&self.read.0)?;
        encoder.end_tuple(2);
        encoder.str("data")?;
        encoder.bytes(&self.data)?;
        encoder.end_dict(3);
        Ok(())
    }
}

impl ServerCall<'_> {
    /// The method's name on the wire.
    pub fn method(&self) -> &'static str {
        match self {
            Self::InvalidateTransaction { .. } => "invalidateTransaction",
            Self::Info { .. } => "info",
            Self::ReceiveBlobStart { .. } => "receiveBlobStart",
            Self::ReceiveBlobChunk { .. } => "receiveBlobChunk",
            Self::ReceiveBlobStop { .. } => "receiveBlobStop",
        }
    }

    fn encode_arguments(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::InvalidateTransaction { tid, oids } => encode_changes(encoder, *tid, oids),
            Self::Info { length, size } => {
                encoder.begin_tuple(1)?;
                encoder.begin_dict(2)?;
                encoder.str("length")?;
                encoder.unsigned(*length)?;
                encoder.str("size")?;
                encoder.unsigned(*size)?;
                encoder.end_dict(2);
                encoder.end_tuple(1);
                Ok(())
            }
            Self::ReceiveBlobStart { oid, serial } | Self::ReceiveBlobStop { oid, serial } => {
                encoder.begin_tuple(2)?;
                encoder.bytes(&oid.0)?;
                encoder.bytes(&serial.0)?;
                encoder.end_tuple(2);
                Ok(())
            }
            Self::ReceiveBlobChunk { oid, serial, chunk } => {
                encoder.begin_tuple(3)?;
                encoder.bytes(&oid.0)?;
                encoder.bytes(&serial.0)?;
                encoder.bytes(chunk)?;
                encoder.end_tuple(3);
                Ok(())
            }
        }
    }

    fn size_hint_bytes(&self) -> usize {
        match self {
            Self::InvalidateTransaction { oids, .. } => {
                oids.len().saturating_mul(ENCODED_OID_BYTES)
            }
            Self::ReceiveBlobChunk { chunk, .. } => chunk.len(),
            _ => 0,
        }
    }
}

/// (tid, [oid, …])
fn encode_changes(encoder: &mut Encoder<'_>, tid: Tid, oids: &[Oid]) -> Result<(), EncodeError> {
    encoder.begin_tuple(2)?;
    encoder.bytes(&tid.0)?;
    encode_oids(encoder, oids)?;
    encoder.end_tuple(2);
    Ok(())
}

fn encode_oids(encoder: &mut Encoder<'_>, oids: &[Oid]) -> Result<(), EncodeError> {
    encoder.begin_list(oids.len())?;
    for oid in oids {
        encoder.bytes(&oid.0)?;
    }
    encoder.end_list(oids.len());
    Ok(())
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
