use std::borrow::Cow;

use crate::types::{Oid, Tid};

/// Any plain value of the wire, of either format. Bytes and text borrow from
/// the frame where they can.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    #[default]
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A wider integer: little-endian, two's complement, no redundant byte.
    BigInt(Vec<u8>),
    /// A float.
    Float(f64),
    /// `bytes`.
    Bytes(Cow<'a, [u8]>),
    /// `str`; what reads it decides whether it may stand for bytes.
    Str(Cow<'a, str>),
    /// A `str` that Python 2 pickled: bytes or text, nobody knows.
    ByteString(Cow<'a, [u8]>),
    /// A tuple, and any sequence of msgpack.
    Tuple(Vec<Value<'a>>),
    /// A list.
    List(Vec<Value<'a>>),
    /// A dict in the order written; of equal keys the last one counts.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A set or a frozenset.
    Set(Vec<Value<'a>>),
    /// A `ZopeUndo.Prefix.Prefix`: the elements of a path, split at `/`.
    Prefix {
        /// The elements; a leading slash makes the first one empty.
        path: Vec<Cow<'a, str>>,
    },
}

impl<'a> Value<'a> {
    /// The same value, borrowing nothing.
    pub fn into_owned(self) -> Value<'static> {
        fn all(values: Vec<Value<'_>>) -> Vec<Value<'static>> {
            values.into_iter().map(Value::into_owned).collect()
        }
        match self {
            Self::None => Value::None,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Int(number) => Value::Int(number),
            Self::BigInt(bytes) => Value::BigInt(bytes),
            Self::Float(number) => Value::Float(number),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Str(text) => Value::Str(Cow::Owned(text.into_owned())),
            Self::ByteString(bytes) => Value::ByteString(Cow::Owned(bytes.into_owned())),
            Self::Tuple(items) => Value::Tuple(all(items)),
            Self::List(items) => Value::List(all(items)),
            Self::Set(items) => Value::Set(all(items)),
            Self::Dict(entries) => Value::Dict(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.into_owned(), value.into_owned()))
                    .collect(),
            ),
            Self::Prefix { path } => Value::Prefix {
                path: path
                    .into_iter()
                    .map(|element| Cow::Owned(element.into_owned()))
                    .collect(),
            },
        }
    }

    /// An integer from its little-endian two's complement.
    pub(super) fn from_le_bytes(bytes: &[u8]) -> Self {
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let padding = if negative { 0xff } else { 0 };
        let mut length = bytes.len();
        while length > 0 {
            let is_padding = bytes.get(length - 1) == Some(&padding);
            let sign_below = length > 1 && bytes.get(length - 2).is_some_and(|b| b & 0x80 != 0);
            if !is_padding || sign_below != negative {
                break;
            }
            length -= 1;
        }
        let bytes = bytes.get(..length).unwrap_or(bytes);
        let mut number = [padding; 8];
        match number.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Self::Int(i64::from_le_bytes(number))
            }
            None => Self::BigInt(bytes.to_vec()),
        }
    }

    /// An integer of up to 128 bits.
    pub fn from_i128(number: i128) -> Self {
        match i64::try_from(number) {
            Ok(number) => Self::Int(number),
            Err(_) => Self::from_le_bytes(&number.to_le_bytes()),
        }
    }

    /// The integer, where it is one (a bool counts) and fits.
    pub fn as_i128(&self) -> Option<i128> {
        match self {
            Self::Bool(flag) => Some(i128::from(*flag)),
            Self::Int(number) => Some(i128::from(*number)),
            Self::BigInt(bytes) => {
                let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
                let mut number = [if negative { 0xff } else { 0 }; 16];
                number.get_mut(..bytes.len())?.copy_from_slice(bytes);
                Some(i128::from_le_bytes(number))
            }
            _ => None,
        }
    }

    /// The integer, where it is one (a bool counts) and fits.
    pub fn as_int(&self) -> Option<i64> {
        self.as_i128().and_then(|number| i64::try_from(number).ok())
    }

    /// The number, integer or not.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            // Times and sizes; what 53 bits cannot hold may be rounded.
            #[allow(clippy::cast_precision_loss)]
            _ => self.as_i128().map(|number| number as f64),
        }
    }

    /// The bytes of `bytes` or of a Python 2 `str`.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) | Self::ByteString(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of a `str` of either Python.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::ByteString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The text of a `str` of either Python.
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Str(text) => Some(text),
            Self::ByteString(Cow::Borrowed(bytes)) => {
                std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
            }
            Self::ByteString(Cow::Owned(bytes)) => String::from_utf8(bytes).ok().map(Cow::Owned),
            _ => None,
        }
    }

    /// The items of a tuple, a list or a set.
    pub fn as_items(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Tuple(items) | Self::List(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The value of a dict under the text `key`.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Self::Dict(entries) => entries
                .iter()
                .rev()
                .find_map(|(name, value)| (name.as_str() == Some(key)).then_some(value)),
            _ => None,
        }
    }

    /// Whether Python can build it: keys, and members of sets, must be hashable.
    pub(super) fn is_loadable(&self) -> bool {
        match self {
            Self::Tuple(items) | Self::List(items) => items.iter().all(Value::is_loadable),
            Self::Set(items) => items.iter().all(Value::is_hashable),
            Self::Dict(entries) => entries
                .iter()
                .all(|(key, value)| key.is_hashable() && value.is_loadable()),
            _ => true,
        }
    }

    fn is_hashable(&self) -> bool {
        match self {
            Self::Tuple(items) => items.iter().all(Value::is_hashable),
            Self::List(_) | Self::Dict(_) | Self::Set(_) | Self::Prefix { .. } => false,
            _ => true,
        }
    }

    /// Whether there is nothing in it, as Python's `not` sees it.
    pub fn is_falsy(&self) -> bool {
        match self {
            Self::None => true,
            Self::Bool(flag) => !flag,
            Self::Int(number) => *number == 0,
            Self::Float(number) => *number == 0.0,
            Self::Bytes(bytes) | Self::ByteString(bytes) => bytes.is_empty(),
            Self::Str(text) => text.is_empty(),
            Self::Tuple(items) | Self::List(items) | Self::Set(items) => items.is_empty(),
            Self::Dict(entries) => entries.is_empty(),
            Self::BigInt(_) | Self::Prefix { .. } => false,
        }
    }
}

/// Whether a `ZopeUndo.Prefix` equals `user`: a path, and optionally a space
/// and a login name, of which the prefix must be the first elements.
pub fn prefix_matches(path: &[Cow<'_, str>], user: &str) -> bool {
    // Only a space in the last element starts a login name.
    let user_path = match user.rfind(' ') {
        Some(space) if user.rfind('/').is_none_or(|slash| slash < space) => user.get(..space),
        _ => None,
    };
    let mut elements = user_path.unwrap_or(user).split('/');
    path.iter().all(|element| elements.next() == Some(element))
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::from_i128(i128::from(number))
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl From<Oid> for Value<'_> {
    fn from(oid: Oid) -> Self {
        Self::Bytes(Cow::Owned(oid.0.to_vec()))
    }
}

impl From<Tid> for Value<'_> {
    fn from(tid: Tid) -> Self {
        Self::Bytes(Cow::Owned(tid.0.to_vec()))
    }
}

/// `None` or the value.
impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical() {
        assert_eq!(Value::from_le_bytes(&[]), Value::Int(0));
        assert_eq!(Value::from_le_bytes(&[5, 0, 0]), Value::Int(5));
        assert_eq!(Value::from_le_bytes(&[0xff; 20]), Value::Int(-1));
        assert_eq!(Value::from_le_bytes(&[0x80, 0xff]), Value::Int(-128));
        assert_eq!(Value::from_le_bytes(&[0x80, 0]), Value::Int(128));
        let wide = Value::from(u64::MAX);
        assert_eq!(wide, Value::BigInt([&[0xff; 8][..], &[0]].concat()));
        for number in [0, 1, -1, 255, i128::MIN, i128::MAX, 1 << 64, -(1 << 63) - 1] {
            assert_eq!(Value::from_i128(number).as_i128(), Some(number));
        }
    }

    #[test]
    fn prefixes_match_as_zopeundo_does() {
        let path = |text: &'static str| text.split('/').map(Cow::from).collect::<Vec<_>>();
        assert!(prefix_matches(&path("/a/b"), "/a/b"));
        assert!(prefix_matches(&path("/a/b"), "/a/b/c"));
        assert!(prefix_matches(&path("/a/b"), "/a/b user"));
        assert!(prefix_matches(&path("/a"), "/a/b c user"));
        assert!(!prefix_matches(&path("/a/b"), "/a"));
        assert!(!prefix_matches(&path("/a/b"), "/a/bc"));
        assert!(!prefix_matches(&path("/a/b"), "/a b/c"));
        assert!(prefix_matches(&path("/a/b c"), "/a/b c/d user"));
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let dict = Value::Dict(vec![("a".into(), 1_i64.into()), ("a".into(), 2_i64.into())]);
        assert_eq!(dict.get("a"), Some(&Value::Int(2)));
        assert_eq!(dict.get("b"), None);
    }
}
