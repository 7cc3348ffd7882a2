//! Reads values one by one; scalars are read without an allocation.

use crate::wire::cursor::Cursor;
use crate::wire::value::Value;

/// Containers may nest this deeply.
const MAX_DEPTH: usize = 64;

/// So many values may be in one message. It bounds what a hostile frame can
/// make of few bytes; no legal message comes near.
const MAX_VALUES: usize = 1 << 18;

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::wire) enum Fault {
    #[error("the message is cut short")]
    Truncated,
    #[error("there is data after the message")]
    TrailingData,
    #[error("type 0x{0:02x} is not allowed")]
    Type(u8),
    #[error("a str is not UTF-8")]
    Text,
    #[error("values nest too deeply")]
    TooDeep,
    #[error("the message holds too many values")]
    TooMany,
}

/// Reads one message.
pub(in crate::wire) struct Reader<'a> {
    cursor: Cursor<'a>,
    values_left: usize,
}

/// The first byte of a value, and its length where it has one.
enum Head<'a> {
    Scalar(Value<'a>),
    Array(usize),
    Map(usize),
}

impl<'a> Reader<'a> {
    pub(in crate::wire) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
            values_left: MAX_VALUES,
        }
    }

    /// As [`Self::new`], with another bound than [`MAX_VALUES`].
    pub(in crate::wire) const fn with_max_values(bytes: &'a [u8], max_values: usize) -> Self {
        Self {
            cursor: Cursor::new(bytes),
            values_left: max_values,
        }
    }

    pub(in crate::wire) const fn offset(&self) -> usize {
        self.cursor.offset()
    }

    pub(in crate::wire) const fn is_at_end(&self) -> bool {
        self.cursor.is_empty()
    }

    /// The length of the array that comes next; `None`, and the value is
    /// passed over, where it is no array.
    pub(in crate::wire) fn array(&mut self) -> Result<Option<usize>, Fault> {
        let start = self.cursor;
        if let Head::Array(length) = self.head()? {
            return Ok(Some(length));
        }
        self.cursor = start;
        self.value().map(|_| None)
    }

    /// The next value, and the bytes that it was written in.
    pub(in crate::wire) fn value_and_bytes(&mut self) -> Result<(Value<'a>, &'a [u8]), Fault> {
        let start = self.cursor;
        let value = self.value()?;
        let length = self.cursor.offset() - start.offset();
        let bytes = start.rest().get(..length);
        Ok((value, bytes.ok_or(Fault::Truncated)?))
    }

    pub(in crate::wire) fn value(&mut self) -> Result<Value<'a>, Fault> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        match self.head()? {
            Head::Scalar(value) => Ok(value),
            Head::Array(length) => {
                // Nothing is reserved: the length may be a lie.
                let mut items = Vec::new();
                for _ in 0..length {
                    items.push(self.value_at(depth + 1)?);
                }
                Ok(Value::Tuple(items))
            }
            Head::Map(length) => {
                let mut entries = Vec::new();
                for _ in 0..length {
                    let key = self.value_at(depth + 1)?;
                    entries.push((key, self.value_at(depth + 1)?));
                }
                Ok(Value::Dict(entries))
            }
        }
    }

    fn head(&mut self) -> Result<Head<'a>, Fault> {
        self.values_left = self.values_left.checked_sub(1).ok_or(Fault::TooMany)?;
        let kind = self.cursor.u8().ok_or(Fault::Truncated)?;
        let value = match kind {
            0..=0x7f => Value::Int(i64::from(kind)),
            0xe0.. => Value::Int(i64::from(kind.cast_signed())),
            0x80..=0x8f => return Ok(Head::Map(usize::from(kind & 0x0f))),
            0x90..=0x9f => return Ok(Head::Array(usize::from(kind & 0x0f))),
            0xa0..=0xbf => self.text(usize::from(kind & 0x1f))?,
            0xc0 => Value::None,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(kind - 0xc4)?;
                Value::Bytes(self.take(length)?.into())
            }
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.array_of()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.array_of()?)),
            0xcc..=0xcf => Value::from(self.unsigned(kind - 0xcc)?),
            0xd0 => Value::Int(i64::from(i8::from_be_bytes(self.array_of()?))),
            0xd1 => Value::Int(i64::from(i16::from_be_bytes(self.array_of()?))),
            0xd2 => Value::Int(i64::from(i32::from_be_bytes(self.array_of()?))),
            0xd3 => Value::Int(i64::from_be_bytes(self.array_of()?)),
            0xd9..=0xdb => {
                let length = self.length(kind - 0xd9)?;
                self.text(length)?
            }
            0xdc | 0xdd => return Ok(Head::Array(self.length(kind - 0xdc + 1)?)),
            0xde | 0xdf => return Ok(Head::Map(self.length(kind - 0xde + 1)?)),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(Fault::Type(kind)),
        };
        Ok(Head::Scalar(value))
    }

    fn text(&mut self, length: usize) -> Result<Value<'a>, Fault> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Fault::Text)?;
        Ok(Value::Str(text.into()))
    }

    /// A number of 1, 2, 4 or 8 bytes, for 0 to 3 in `log2_bytes`.
    fn unsigned(&mut self, log2_bytes: u8) -> Result<u64, Fault> {
        Ok(match log2_bytes {
            0 => u64::from(u8::from_be_bytes(self.array_of()?)),
            1 => u64::from(u16::from_be_bytes(self.array_of()?)),
            2 => u64::from(u32::from_be_bytes(self.array_of()?)),
            _ => u64::from_be_bytes(self.array_of()?),
        })
    }

    fn length(&mut self, log2_bytes: u8) -> Result<usize, Fault> {
        usize::try_from(self.unsigned(log2_bytes)?).map_err(|_| Fault::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        self.cursor.take(length).ok_or(Fault::Truncated)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.cursor.array().ok_or(Fault::Truncated)
    }
}
