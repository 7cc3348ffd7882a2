//! What a server sends, for a process that is its client: replies, errors, and
//! calls of the client.

use std::borrow::Cow;

use super::handshake::Format;
use super::msgpack::read::{Fault, Reader};
use super::pickle::read_servers_value;
use super::remote_exception::RemoteException;
use super::reply::{Conflict, MESSAGE_ITEMS, REPLY_NAME};
use super::value::Value;
use crate::types::{Oid, Tid};

/// A frame of a server.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage<'a> {
    /// Only shows that the server lives.
    Heartbeat,
    /// The result of a call, or why there is none.
    Reply {
        /// The call's.
        id: i64,
        /// What the server answers.
        result: Result<Value<'a>, RemoteException>,
    },
    /// What the server tells its client unasked.
    Notice(ServerNotice<'a>),
}

/// What a server tells a client unasked; see `ServerCall`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerNotice<'a> {
    /// A transaction has changed objects.
    Invalidation {
        /// The transaction.
        tid: Tid,
        /// The objects.
        oids: Vec<Oid>,
    },
    /// What has changed of that which `get_info` told.
    Info {
        /// Objects.
        length: Option<u64>,
        /// Bytes.
        size: Option<u64>,
    },
    /// A blob follows.
    BlobStart {
        /// The blob's object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
    /// A part of a blob.
    BlobChunk {
        /// The blob's object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
        /// The bytes.
        chunk: Cow<'a, [u8]>,
    },
    /// The blob is complete.
    BlobStop {
        /// The blob's object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
}

impl ServerNotice<'_> {
    /// The same, borrowing nothing.
    pub fn into_owned(self) -> ServerNotice<'static> {
        match self {
            Self::Invalidation { tid, oids } => ServerNotice::Invalidation { tid, oids },
            Self::Info { length, size } => ServerNotice::Info { length, size },
            Self::BlobStart { oid, serial } => ServerNotice::BlobStart { oid, serial },
            Self::BlobStop { oid, serial } => ServerNotice::BlobStop { oid, serial },
            Self::BlobChunk { oid, serial, chunk } => ServerNotice::BlobChunk {
                oid,
                serial,
                chunk: Cow::Owned(chunk.into_owned()),
            },
        }
    }
}

/// Why a server's frame gives no [`ServerMessage`]; the connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerFault {
    /// The payload is no message.
    #[error("malformed message of the server: {0}")]
    Malformed(String),
    /// A call that no client knows, or with arguments that do not fit it.
    #[error("the server calls \"{0}\" in a way that is not known")]
    UnknownCall(String),
}

/// A message may hold so many values whatever its length, and
const LEAST_VALUES: usize = 1 << 18;
/// one for so many of its bytes: an oid takes ten.
const BYTES_PER_VALUE: usize = 8;
/// But never more than these; a transaction of zeod's has 4,000,000 objects at most.
const MOST_VALUES: usize = 1 << 23;

/// So much of an unknown method's name is shown.
const SHOWN_CHARS: usize = 80;

/// Reads the payload of any frame of a server after the first.
pub fn decode_server(format: Format, payload: &[u8]) -> Result<ServerMessage<'_>, ServerFault> {
    let max_values = (payload.len() / BYTES_PER_VALUE).clamp(LEAST_VALUES, MOST_VALUES);
    let message = match format {
        Format::Pickle => read_servers_value(payload, max_values)
            .map_err(|error| ServerFault::Malformed(error.to_string()))?,
        Format::Msgpack => read_msgpack(payload, max_values)
            .map_err(|fault| ServerFault::Malformed(fault.to_string()))?,
    };
    let (Value::Tuple(items) | Value::List(items)) = message else {
        return Err(not_a_message());
    };
    let Ok([id, flag, method, content]) = <[Value<'_>; MESSAGE_ITEMS]>::try_from(items) else {
        return Err(not_a_message());
    };
    let Some(method) = method.as_str() else {
        return Err(not_a_message());
    };
    if method != REPLY_NAME {
        return notice(method, content).map(ServerMessage::Notice);
    }
    let id = id.as_int().ok_or_else(not_a_message)?;
    if id < 0 {
        return Ok(ServerMessage::Heartbeat);
    }
    let result = if flag.is_falsy() {
        Ok(content)
    } else {
        Err(exception(&content)?)
    };
    Ok(ServerMessage::Reply { id, result })
}

fn read_msgpack(payload: &[u8], max_values: usize) -> Result<Value<'_>, Fault> {
    let mut reader = Reader::with_max_values(payload, max_values);
    let value = reader.value()?;
    if reader.is_at_end() {
        Ok(value)
    } else {
        Err(Fault::TrailingData)
    }
}

/// (class path, attributes or arguments)
fn exception(content: &Value<'_>) -> Result<RemoteException, ServerFault> {
    let not_one = || ServerFault::Malformed("an error that names no class".to_owned());
    let items = content.as_items().ok_or_else(not_one)?;
    let [class, state] = items else {
        return Err(not_one());
    };
    let class = class.as_str().ok_or_else(not_one)?;
    Ok(RemoteException::new(class, state))
}

fn notice<'a>(method: &str, arguments: Value<'a>) -> Result<ServerNotice<'a>, ServerFault> {
    let unknown = || {
        let name = method
            .chars()
            .take(SHOWN_CHARS)
            .flat_map(char::escape_debug);
        ServerFault::UnknownCall(name.collect())
    };
    let (Value::Tuple(arguments) | Value::List(arguments)) = arguments else {
        return Err(unknown());
    };
    read_notice(method, arguments).ok_or_else(unknown)
}

fn read_notice<'a>(method: &str, arguments: Vec<Value<'a>>) -> Option<ServerNotice<'a>> {
    let mut arguments = arguments.into_iter();
    match method {
        "invalidateTransaction" => Some(ServerNotice::Invalidation {
            tid: arguments.next()?.as_tid()?,
            oids: arguments.next()?.as_oids()?,
        }),
        "info" => {
            let info = arguments.next()?;
            let number = |key| info.get(key).and_then(Value::as_count);
            Some(ServerNotice::Info {
                length: number("length"),
                size: number("size"),
            })
        }
        "receiveBlobStart" | "receiveBlobChunk" | "receiveBlobStop" => {
            let oid = arguments.next()?.as_oid()?;
            let serial = arguments.next()?.as_tid()?;
            match (method, arguments.next()) {
                ("receiveBlobStart", None) => Some(ServerNotice::BlobStart { oid, serial }),
                ("receiveBlobStop", None) => Some(ServerNotice::BlobStop { oid, serial }),
                ("receiveBlobChunk", Some(Value::Bytes(chunk) | Value::ByteString(chunk))) => {
                    Some(ServerNotice::BlobChunk { oid, serial, chunk })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

impl Value<'_> {
    /// The oid that the bytes are.
    pub fn as_oid(&self) -> Option<Oid> {
        Oid::from_slice(self.as_bytes()?)
    }

    /// The tid that the bytes are.
    pub fn as_tid(&self) -> Option<Tid> {
        Tid::from_slice(self.as_bytes()?)
    }

    /// The oids of a sequence of them.
    pub fn as_oids(&self) -> Option<Vec<Oid>> {
        self.as_items()?.iter().map(Value::as_oid).collect()
    }

    /// The number of things, where it is one.
    pub fn as_count(&self) -> Option<u64> {
        u64::try_from(self.as_i128()?).ok()
    }

    /// The conflict that a server hands back to be resolved.
    pub fn as_conflict(&self) -> Option<Conflict<'static>> {
        let serials = self.get("serials")?.as_items()?;
        let [committed, read] = serials else {
            return None;
        };
        Some(Conflict {
            oid: self.get("oid")?.as_oid()?,
            committed: committed.as_tid()?,
            read: read.as_tid()?,
            data: Cow::Owned(self.get("data")?.as_bytes()?.to_vec()),
        })
    }
}

fn not_a_message() -> ServerFault {
    ServerFault::Malformed("not a tuple of an id, a flag, a name and a result".to_owned())
}

#[cfg(test)]
#[path = "server_message_tests.rs"]
mod tests;
