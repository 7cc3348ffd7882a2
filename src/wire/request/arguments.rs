//! The arguments of a call, in their order, and what each may be written as.

use std::borrow::Cow;

use super::TransactionKey;
use crate::types::{Oid, Tid};
use crate::wire::pickle::write_value;
use crate::wire::value::Value;

/// More than any method takes.
pub(in crate::wire) const MAX_ARGUMENTS: usize = 8;

/// A client's name for a transaction longer than this is refused: it is kept
/// as long as the transaction lasts, and shown in errors.
const MAX_TRANSACTION_KEY_BYTES: usize = 4096;

/// Arguments that are taken one after the other. They live in an array so that
/// a call without containers is read without an allocation.
pub(in crate::wire) struct Arguments<'a> {
    values: [Value<'a>; MAX_ARGUMENTS],
    given: usize,
    taken: usize,
}

/// Why arguments do not fit a method; becomes the message of a `TypeError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// In words.
    pub(super) detail: String,
    /// An oid was wanted and what is there is none, so it names no object.
    pub(super) names_no_object: bool,
}

impl From<String> for Mismatch {
    fn from(detail: String) -> Self {
        Self {
            detail,
            names_no_object: false,
        }
    }
}

impl<'a> FromIterator<Value<'a>> for Arguments<'a> {
    /// Arguments past [`MAX_ARGUMENTS`] are counted, not kept.
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(values: I) -> Self {
        let mut arguments = Self {
            values: Default::default(),
            given: 0,
            taken: 0,
        };
        for value in values {
            arguments.push(value);
        }
        arguments
    }
}

impl<'a> Arguments<'a> {
    pub(in crate::wire) fn push(&mut self, value: Value<'a>) {
        if let Some(slot) = self.values.get_mut(self.given) {
            *slot = value;
        }
        self.given += 1;
    }

    /// Ends the taking; an argument that is left over is one too many.
    pub(super) fn finish(&self) -> Result<(), Mismatch> {
        if self.given > self.taken {
            return Err(format!("takes {} arguments, {} given", self.taken, self.given).into());
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Value<'a>> {
        if self.taken >= self.given {
            return None;
        }
        let slot = self.values.get_mut(self.taken)?;
        self.taken += 1;
        Some(std::mem::take(slot))
    }

    fn required(&mut self, name: &str) -> Result<Value<'a>, Mismatch> {
        self.next()
            .ok_or_else(|| format!("argument {name} is missing").into())
    }

    /// The argument, or `None` where it was left out.
    pub(super) fn value_or_none(&mut self) -> Value<'a> {
        self.next().unwrap_or_default()
    }

    pub(super) fn oid(&mut self, name: &str) -> Result<Oid, Mismatch> {
        let value = self.required(name)?;
        eight_bytes(&value).map(Oid).ok_or_else(|| Mismatch {
            names_no_object: true,
            ..wrong(name, "an oid")
        })
    }

    pub(super) fn tid(&mut self, name: &str) -> Result<Tid, Mismatch> {
        let value = self.required(name)?;
        eight_bytes(&value)
            .map(Tid)
            .ok_or_else(|| wrong(name, "a tid"))
    }

    /// A serial; new objects have none, and it may be left as None.
    pub(super) fn serial(&mut self, name: &str) -> Result<Tid, Mismatch> {
        Ok(self.tid_or_none(name)?.unwrap_or(Tid::ZERO))
    }

    pub(super) fn tid_or_none(&mut self, name: &str) -> Result<Option<Tid>, Mismatch> {
        match self.required(name)? {
            Value::None => Ok(None),
            value => eight_bytes(&value)
                .map(|tid| Some(Tid(tid)))
                .ok_or_else(|| wrong(name, "a tid or None")),
        }
    }

    /// A tid that may be None or left out.
    pub(super) fn optional_tid(&mut self, name: &str) -> Result<Option<Tid>, Mismatch> {
        if self.taken >= self.given {
            return Ok(None);
        }
        self.tid_or_none(name)
    }

    /// An oid that may be None or left out.
    pub(super) fn optional_oid(&mut self, name: &str) -> Result<Option<Oid>, Mismatch> {
        match self.value_or_none() {
            Value::None => Ok(None),
            value => eight_bytes(&value)
                .map(|oid| Some(Oid(oid)))
                .ok_or_else(|| wrong(name, "an oid or None")),
        }
    }

    pub(super) fn bytes(&mut self, name: &str) -> Result<Cow<'a, [u8]>, Mismatch> {
        match self.required(name)? {
            Value::Bytes(bytes) | Value::ByteString(bytes) => Ok(bytes),
            _ => Err(wrong(name, "bytes")),
        }
    }

    pub(super) fn bytes_or_none(&mut self, name: &str) -> Result<Option<Cow<'a, [u8]>>, Mismatch> {
        match self.required(name)? {
            Value::None => Ok(None),
            Value::Bytes(bytes) | Value::ByteString(bytes) => Ok(Some(bytes)),
            _ => Err(wrong(name, "bytes or None")),
        }
    }

    /// Text that is kept as bytes.
    pub(super) fn text_bytes(&mut self, name: &str) -> Result<Cow<'a, [u8]>, Mismatch> {
        match self.required(name)? {
            Value::Bytes(bytes) | Value::ByteString(bytes) => Ok(bytes),
            Value::Str(Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
            Value::Str(Cow::Owned(text)) => Ok(Cow::Owned(text.into_bytes())),
            _ => Err(wrong(name, "bytes or a str")),
        }
    }

    /// A name.
    pub(super) fn text(&mut self, name: &str) -> Result<Cow<'a, str>, Mismatch> {
        match self.text_bytes(name)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        }
        .ok_or_else(|| wrong(name, "a str"))
    }

    pub(super) fn bool(&mut self, name: &str) -> Result<bool, Mismatch> {
        Ok(!self.required(name)?.is_falsy())
    }

    pub(super) fn bool_or(&mut self, default: bool) -> bool {
        self.next().map_or(default, |value| !value.is_falsy())
    }

    pub(super) fn float(&mut self, name: &str) -> Result<f64, Mismatch> {
        let value = self.required(name)?;
        value.as_float().ok_or_else(|| wrong(name, "a number"))
    }

    pub(super) fn int(&mut self, name: &str) -> Result<i64, Mismatch> {
        let value = self.required(name)?;
        value.as_int().ok_or_else(|| wrong(name, "an int"))
    }

    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64, Mismatch> {
        match self.next() {
            None => Ok(default),
            Some(value) => value.as_int().ok_or_else(|| wrong(name, "an int")),
        }
    }

    /// A number of things; a negative one means none.
    pub(super) fn count_or(&mut self, name: &str, default: u64) -> Result<u64, Mismatch> {
        match self.next() {
            None => Ok(default),
            Some(value) => {
                let count = value.as_int().ok_or_else(|| wrong(name, "an int"))?;
                Ok(u64::try_from(count).unwrap_or(0))
            }
        }
    }

    /// The number of an iterator.
    pub(super) fn iterator(&mut self, name: &str) -> Result<u64, Mismatch> {
        let value = self.required(name)?;
        let number = value
            .as_i128()
            .and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| wrong(name, "the number of an iterator"))
    }

    /// Numbers of iterators; what cannot be one is passed over, as unknown
    /// iterators are.
    pub(super) fn iterators(&mut self, name: &str) -> Result<Vec<u64>, Mismatch> {
        let value = self.required(name)?;
        let items = value.as_items().ok_or_else(|| wrong(name, "a sequence"))?;
        let numbers = items.iter().filter_map(Value::as_i128);
        Ok(numbers
            .filter_map(|number| u64::try_from(number).ok())
            .collect())
    }

    pub(super) fn transaction(&mut self) -> Result<TransactionKey, Mismatch> {
        let value = self.required("id")?;
        if let Some(number) = value.as_i128() {
            return Ok(TransactionKey::Int(number));
        }
        let mut pickle = Vec::new();
        write_value(&mut pickle, &value).map_err(|error| error.to_string())?;
        if pickle.len() > MAX_TRANSACTION_KEY_BYTES {
            return Err(wrong("id", "a short name of a transaction"));
        }
        Ok(TransactionKey::Bytes(pickle.into()))
    }

    /// Extension metadata, as the pickle that a storage keeps.
    pub(super) fn extension(&mut self, name: &str) -> Result<Vec<u8>, Mismatch> {
        match self.required(name)? {
            Value::None => Ok(Vec::new()),
            Value::Dict(entries) if entries.is_empty() => Ok(Vec::new()),
            Value::Bytes(pickle) | Value::ByteString(pickle) => Ok(pickle.into_owned()),
            dict @ Value::Dict(_) if dict.is_loadable() => {
                let mut pickle = Vec::new();
                write_value(&mut pickle, &dict).map_err(|error| error.to_string())?;
                Ok(pickle)
            }
            _ => Err(wrong(name, "a dict with hashable keys")),
        }
    }

    /// One character; a blank where it is left out.
    pub(super) fn status(&mut self, name: &str) -> Result<u8, Mismatch> {
        let Some(value) = self.next() else {
            return Ok(b' ');
        };
        let bytes = value
            .as_bytes()
            .or_else(|| value.as_str().map(str::as_bytes));
        match bytes {
            Some([status]) => Ok(*status),
            _ => Err(wrong(name, "one character")),
        }
    }
}

fn wrong(name: &str, expected: &str) -> Mismatch {
    format!("argument {name} must be {expected}").into()
}

/// An oid or a tid. Python 2 code carried over sends `'\0' * 8`, which is text
/// in Python 3; what is below U+0100 in it is taken as bytes.
fn eight_bytes(value: &Value<'_>) -> Option<[u8; 8]> {
    let Value::Str(text) = value else {
        return value.as_bytes()?.try_into().ok();
    };
    let mut bytes = [0; 8];
    let mut chars = text.chars();
    for byte in &mut bytes {
        *byte = u8::try_from(u32::from(chars.next()?)).ok()?;
    }
    chars.next().is_none().then_some(bytes)
}
