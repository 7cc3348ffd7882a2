//! From a frame's payload to a message, in three ways: the straight line and
//! the machine for pickles, and the msgpack reader.

use std::borrow::Cow;

use super::arguments::Arguments;
use super::build::{BuildError, build, find};
use super::{DecodeError, Message, MessageId};
use crate::wire::encoder::Encoder;
use crate::wire::handshake::Format;
use crate::wire::msgpack::read::{Fault, Reader};
use crate::wire::pickle::fast::{self, Call};
use crate::wire::pickle::read_value;
use crate::wire::value::Value;

/// An id longer than this is refused: it is echoed in the reply, and kept as
/// long as the call lasts.
const MAX_MESSAGE_ID_BYTES: usize = 4096;

/// So much of an unknown method's name is shown.
const SHOWN_CHARS: usize = 80;

/// The id of heartbeats.
const HEARTBEAT: Value<'static> = Value::Int(-1);

/// A message is (id, flag, method, arguments).
const MESSAGE_ITEMS: usize = 4;

/// Reads the payload of any frame after the first.
pub fn decode(format: Format, payload: &[u8]) -> Result<Message<'_>, DecodeError> {
    match format {
        Format::Pickle => match fast::read_call(payload) {
            Some(call) => from_fast(call),
            None => from_pickle(payload),
        },
        Format::Msgpack => from_msgpack(payload),
    }
}

fn from_fast(mut call: Call<'_>) -> Result<Message<'_>, DecodeError> {
    if call.is_heartbeat {
        return Ok(Message::Heartbeat);
    }
    let id = MessageId(Cow::Borrowed(call.id));
    finish(id, call.one_way, call.method, &mut call.arguments)
}

/// The machine's way, which can read all that the straight line can.
pub(super) fn from_pickle(payload: &[u8]) -> Result<Message<'_>, DecodeError> {
    let malformed = |offset, detail: String| DecodeError::Malformed { offset, detail };
    let message = read_value(payload).map_err(|e| malformed(e.offset, e.fault.to_string()))?;
    let (Value::Tuple(items) | Value::List(items)) = message else {
        return Err(malformed(payload.len(), NOT_A_MESSAGE.to_owned()));
    };
    let Ok([id, flag, method, arguments]) = <[Value<'_>; MESSAGE_ITEMS]>::try_from(items) else {
        return Err(malformed(payload.len(), NOT_A_MESSAGE.to_owned()));
    };
    if id == HEARTBEAT {
        return Ok(Message::Heartbeat);
    }
    let mut id_bytes = Vec::new();
    Encoder::new(Format::Pickle, &mut id_bytes)
        .value(&id)
        .map_err(|error| malformed(payload.len(), error.to_string()))?;
    let id = MessageId(Cow::Owned(id_bytes));
    let (method, one_way) = (method_name(&method)?, !flag.is_falsy());
    match arguments {
        Value::Tuple(items) | Value::List(items) => {
            finish(id, one_way, method, &mut items.into_iter().collect())
        }
        _ => Err(no_arguments(id, one_way, method)),
    }
}

fn from_msgpack(payload: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(payload);
    let malformed = |reader: &Reader<'_>, detail: String| DecodeError::Malformed {
        offset: reader.offset(),
        detail,
    };
    let parts =
        msgpack_parts(&mut reader).map_err(|fault| malformed(&reader, fault.to_string()))?;
    let Some(parts) = parts.filter(|_| reader.is_at_end()) else {
        return Err(malformed(&reader, NOT_A_MESSAGE.to_owned()));
    };
    let (id, id_bytes) = parts.id;
    if id == HEARTBEAT {
        return Ok(Message::Heartbeat);
    }
    let id = MessageId(Cow::Borrowed(id_bytes));
    let (method, one_way) = (method_name(&parts.method)?, !parts.flag.is_falsy());
    match parts.arguments {
        Some(mut arguments) => finish(id, one_way, method, &mut arguments),
        None => Err(no_arguments(id, one_way, method)),
    }
}

const NOT_A_MESSAGE: &str = "not a tuple of an id, a flag, a method and its arguments";

struct Parts<'a> {
    id: (Value<'a>, &'a [u8]),
    flag: Value<'a>,
    method: Value<'a>,
    arguments: Option<Arguments<'a>>,
}

fn msgpack_parts<'a>(reader: &mut Reader<'a>) -> Result<Option<Parts<'a>>, Fault> {
    if reader.array()? != Some(MESSAGE_ITEMS) {
        return Ok(None);
    }
    let id = reader.value_and_bytes()?;
    let flag = reader.value()?;
    let method = reader.value()?;
    let arguments = match reader.array()? {
        None => None,
        Some(length) => {
            let mut arguments = Arguments::from_iter([]);
            for _ in 0..length {
                arguments.push(reader.value()?);
            }
            Some(arguments)
        }
    };
    Ok(Some(Parts {
        id,
        flag,
        method,
        arguments,
    }))
}

/// What the formats have in common: the id's length, the method, its arguments.
fn finish<'a>(
    id: MessageId<'a>,
    one_way: bool,
    method: &str,
    arguments: &mut Arguments<'a>,
) -> Result<Message<'a>, DecodeError> {
    if id.0.len() > MAX_MESSAGE_ID_BYTES {
        return Err(DecodeError::Malformed {
            offset: 0,
            detail: format!("a message id of {} bytes", id.0.len()),
        });
    }
    match build(method, arguments) {
        Ok(request) => Ok(Message::Call {
            id,
            one_way,
            request,
        }),
        Err(BuildError::UnknownMethod) => Err(unknown(method)),
        Err(BuildError::BadArguments { method, mismatch }) => Err(DecodeError::BadArguments {
            id: id.into_owned(),
            one_way,
            method,
            names_no_object: mismatch.names_no_object,
            detail: mismatch.detail,
        }),
    }
}

fn method_name<'v>(method: &'v Value<'_>) -> Result<&'v str, DecodeError> {
    method
        .as_str()
        .ok_or_else(|| unknown("a value that is no text"))
}

fn unknown(name: &str) -> DecodeError {
    let name = name.chars().take(SHOWN_CHARS).flat_map(char::escape_debug);
    DecodeError::UnknownMethod {
        name: name.collect(),
    }
}

fn no_arguments(id: MessageId<'_>, one_way: bool, method: &str) -> DecodeError {
    match find(method) {
        None => unknown(method),
        Some(_) if id.0.len() > MAX_MESSAGE_ID_BYTES => unknown(method),
        Some((method, _)) => DecodeError::BadArguments {
            id: id.into_owned(),
            one_way,
            method,
            names_no_object: false,
            detail: "the arguments are not a tuple".to_owned(),
        },
    }
}
