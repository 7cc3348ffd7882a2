//! From a typed request to bytes, for a server that this process is a client of.

use super::{Request, TransactionKey};
use crate::types::{Oid, Tid};
use crate::wire::encoder::{EncodeError, Encoder};
use crate::wire::handshake::Format;
use crate::wire::pickle::{read_dict_lenient, read_value};
use crate::wire::reply::{REPLY_NAME, message};
use crate::wire::value::Value;

/// More than a frame needs around its largest part.
const OVERHEAD_BYTES: usize = 128;

type Written = Result<(), EncodeError>;

/// Appends the frame of a call. `id` names it in the reply, and is not
/// negative; a one-way call has none, so its id is 0.
pub fn encode_request(
    format: Format,
    out: &mut Vec<u8>,
    id: i64,
    one_way: bool,
    request: &Request<'_>,
) -> Written {
    out.reserve(OVERHEAD_BYTES + request.size_hint_bytes());
    message(format, out, |encoder| {
        encoder.int(id);
        encoder.bool(one_way);
        encoder.str(request.method())?;
        request.encode_arguments(encoder)
    })
}

/// Appends the frame that only shows that the client lives.
pub fn encode_heartbeat(format: Format, out: &mut Vec<u8>) {
    let written = message(format, out, |encoder| {
        encoder.int(-1);
        encoder.int(0);
        encoder.str(REPLY_NAME)?;
        encoder.none();
        Ok(())
    });
    debug_assert_eq!(written, Ok(()));
}

impl Request<'_> {
    fn size_hint_bytes(&self) -> usize {
        match self {
            Self::Store { data, .. }
            | Self::StoreBlobEnd { data, .. }
            | Self::StoreBlobShared { data, .. }
            | Self::StoreBlobChunk { chunk: data }
            | Self::Restore {
                data: Some(data), ..
            } => data.len(),
            Self::TpcBegin {
                user,
                description,
                extension,
                ..
            } => user.len() + description.len() + extension.len(),
            _ => 0,
        }
    }

    /// Writes the tuple of arguments as the stock client does, optional ones included.
    fn encode_arguments(&self, encoder: &mut Encoder<'_>) -> Written {
        match self {
            Self::GetInfo
            | Self::LastTransaction
            | Self::NewOid
            | Self::StoreBlobStart
            | Self::ServerStatus
            | Self::Ping => tuple(encoder, &[]),
            Self::Register { storage, read_only } => {
                tuple(encoder, &[Item::Str(storage), Item::Bool(*read_only)])
            }
            Self::GetInvalidations { tid } => tuple(encoder, &[Item::Tid(*tid)]),
            Self::NewOids { count } => tuple(encoder, &[Item::Count(*count)]),
            Self::Pack { time, wait } => tuple(encoder, &[Item::Float(*time), Item::Bool(*wait)]),
            Self::LoadBefore { oid, tid } => tuple(encoder, &[Item::Oid(*oid), Item::Tid(*tid)]),
            Self::LoadSerial { oid, serial } | Self::SendBlob { oid, serial } => {
                tuple(encoder, &[Item::Oid(*oid), Item::Tid(*serial)])
            }
            Self::GetTid { oid } => tuple(encoder, &[Item::Oid(*oid)]),
            Self::History { oid, size } => tuple(encoder, &[Item::Oid(*oid), Item::Count(*size)]),
            Self::RecordIternext { next } => tuple(encoder, &[Item::OidOrNone(*next)]),
            Self::Undo {
                undone,
                transaction,
            } => tuple(encoder, &[Item::Bytes(undone), Item::Key(transaction)]),
            Self::UndoLog { first, last } => tuple(encoder, &[Item::Int(*first), Item::Int(*last)]),
            Self::UndoInfo {
                first,
                last,
                specification,
            } => {
                let items = [
                    Item::Int(*first),
                    Item::Int(*last),
                    Item::Value(specification),
                ];
                tuple(encoder, &items)
            }
            Self::Vote { transaction }
            | Self::TpcFinish { transaction }
            | Self::TpcAbort { transaction } => tuple(encoder, &[Item::Key(transaction)]),
            Self::IteratorStart { start, stop } => {
                tuple(encoder, &[Item::TidOrNone(*start), Item::TidOrNone(*stop)])
            }
            Self::IteratorNext { iterator } | Self::IteratorRecordNext { iterator } => {
                tuple(encoder, &[Item::Count(*iterator)])
            }
            Self::IteratorRecordStart { iterator, tid } => {
                tuple(encoder, &[Item::Count(*iterator), Item::Tid(*tid)])
            }
            Self::IteratorGc { iterators } => tuple(encoder, &[Item::Counts(iterators)]),
            Self::SetClientLabel { label } => tuple(encoder, &[Item::Str(label)]),
            other => other.encode_changes(encoder),
        }
    }

    /// The arguments of what a transaction consists of.
    fn encode_changes(&self, encoder: &mut Encoder<'_>) -> Written {
        match self {
            Self::TpcBegin {
                transaction,
                user,
                description,
                extension,
                tid,
                status,
            } => {
                let status = char::from(*status).to_string();
                let items = [
                    Item::Key(transaction),
                    Item::Bytes(user),
                    Item::Bytes(description),
                    Item::Extension(extension),
                    Item::TidOrNone(*tid),
                    Item::Str(&status),
                ];
                tuple(encoder, &items)
            }
            Self::Restore {
                oid,
                serial,
                data,
                previous,
                transaction,
            } => {
                let items = [
                    Item::Oid(*oid),
                    Item::Tid(*serial),
                    data.as_deref().map_or(Item::None, Item::Bytes),
                    Item::TidOrNone(*previous),
                    Item::Key(transaction),
                ];
                tuple(encoder, &items)
            }
            Self::DeleteObject {
                oid,
                serial,
                transaction,
            }
            | Self::CheckCurrentSerial {
                oid,
                serial,
                transaction,
            } => {
                let (oid, serial) = (Item::Oid(*oid), Item::Tid(*serial));
                tuple(encoder, &[oid, serial, Item::Key(transaction)])
            }
            Self::StoreBlobChunk { chunk } => tuple(encoder, &[Item::Bytes(chunk)]),
            other => other.encode_stores(encoder),
        }
    }

    /// The arguments of what carries data.
    fn encode_stores(&self, encoder: &mut Encoder<'_>) -> Written {
        match self {
            Self::Store {
                oid,
                serial,
                data,
                transaction,
            }
            | Self::StoreBlobEnd {
                oid,
                serial,
                data,
                transaction,
            } => {
                let (oid, serial) = (Item::Oid(*oid), Item::Tid(*serial));
                tuple(
                    encoder,
                    &[oid, serial, Item::Bytes(data), Item::Key(transaction)],
                )
            }
            Self::StoreBlobShared {
                oid,
                serial,
                data,
                filename,
                transaction,
            } => {
                let (oid, serial) = (Item::Oid(*oid), Item::Tid(*serial));
                let (data, name) = (Item::Bytes(data), Item::Str(filename));
                tuple(encoder, &[oid, serial, data, name, Item::Key(transaction)])
            }
            // All others are written above.
            _ => tuple(encoder, &[]),
        }
    }
}

/// One argument.
enum Item<'i> {
    None,
    Bool(bool),
    Int(i64),
    Count(u64),
    Counts(&'i [u64]),
    Float(f64),
    Oid(Oid),
    OidOrNone(Option<Oid>),
    Tid(Tid),
    TidOrNone(Option<Tid>),
    Bytes(&'i [u8]),
    Str(&'i str),
    Key(&'i TransactionKey),
    /// The pickle of a dict, or nothing.
    Extension(&'i [u8]),
    Value(&'i Value<'i>),
}

fn tuple(encoder: &mut Encoder<'_>, items: &[Item<'_>]) -> Written {
    encoder.begin_tuple(items.len())?;
    for item in items {
        item.encode(encoder)?;
    }
    encoder.end_tuple(items.len());
    Ok(())
}

impl Item<'_> {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Written {
        match self {
            Self::None => encoder.none(),
            Self::Bool(flag) => encoder.bool(*flag),
            Self::Int(number) => encoder.int(*number),
            Self::Count(number) => return encoder.unsigned(*number),
            Self::Counts(numbers) => {
                encoder.begin_list(numbers.len())?;
                for number in *numbers {
                    encoder.unsigned(*number)?;
                }
                encoder.end_list(numbers.len());
            }
            Self::Float(number) => return encoder.value(&Value::Float(*number)),
            Self::Oid(oid) => return encoder.bytes(&oid.0),
            Self::OidOrNone(oid) => {
                return encoder.bytes_or_none(oid.as_ref().map(|oid| &oid.0[..]));
            }
            Self::Tid(tid) => return encoder.bytes(&tid.0),
            Self::TidOrNone(tid) => {
                return encoder.bytes_or_none(tid.as_ref().map(|tid| &tid.0[..]));
            }
            Self::Bytes(bytes) => return encoder.bytes(bytes),
            Self::Str(text) => return encoder.str(text),
            Self::Key(TransactionKey::Int(number)) => {
                return encoder.value(&Value::from_i128(*number));
            }
            // It was written by us; what is not readable was not.
            Self::Key(TransactionKey::Bytes(pickle)) => {
                return encoder.value(&read_value(pickle).unwrap_or(Value::None));
            }
            Self::Extension(pickle) => return encode_extension(encoder, pickle),
            Self::Value(value) => return encoder.value(value),
        }
        Ok(())
    }
}

/// Extension metadata as a dict, as it came.
fn encode_extension(encoder: &mut Encoder<'_>, pickle: &[u8]) -> Written {
    if pickle.is_empty() {
        return encoder.value(&Value::Dict(Vec::new()));
    }
    match read_value(pickle) {
        Ok(dict @ Value::Dict(_)) => encoder.value(&dict),
        // A storage's own pickle, with instances of classes in it.
        _ => encoder.value(&read_dict_lenient(pickle)),
    }
}
