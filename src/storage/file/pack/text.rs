//! Texts of pickles: is this one the 8 bytes of an oid?

use crate::types::Oid;

const OID_BYTES: usize = 8;

/// What a text is, seen as an oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// 8 bytes, or 8 ASCII characters: an oid.
    Oid(Oid),
    /// 8 characters that would be these bytes in Latin-1, not all ASCII: an
    /// oid once it is encoded, but not as it stands.
    Latin(Oid),
    /// Something else.
    Plain,
}

/// Bytes, or a Python 2 string.
pub fn bytes(bytes: &[u8]) -> Text {
    of_bytes(bytes)
}

/// A text in UTF-8. One of 8 characters has at most 16 bytes where all of them
/// are Latin-1.
pub fn utf8(bytes: &[u8]) -> Text {
    if !(OID_BYTES..=2 * OID_BYTES).contains(&bytes.len()) {
        return Text::Plain;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => of_characters(text.chars().map(u32::from)),
        Err(_) => Text::Plain,
    }
}

/// A line of protocol 0 that is a persistent id as it stands.
pub fn line(line: &[u8]) -> Text {
    if line.is_ascii() {
        of_bytes(line)
    } else {
        Text::Plain
    }
}

/// A line of protocol 0 in quotes, with the escapes of a bytes literal.
pub fn quoted(line: &[u8]) -> Text {
    let line = line.trim_ascii();
    let ([b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"']) = line else {
        return Text::Plain;
    };
    let mut found = Collected::default();
    let mut rest = inner;
    while let Some((byte, after)) = next_byte(rest) {
        found.push(byte);
        rest = after;
    }
    found.bytes().map_or(Text::Plain, |bytes| of_bytes(&bytes))
}

/// The byte that a literal begins with, and what follows. An escape that is
/// none stands for itself.
fn next_byte(literal: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = literal.split_first()?;
    if first != b'\\' {
        return Some((first, rest));
    }
    let Some((&kind, after)) = rest.split_first() else {
        return Some((first, rest));
    };
    let simple = match kind {
        b'\\' | b'\'' | b'"' => kind,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'v' => 11,
        b'f' => 12,
        b'x' => {
            return match number(after.get(..2), 16) {
                Some(byte) => Some((u8::try_from(byte).ok()?, after.get(2..)?)),
                None => Some((first, rest)),
            };
        }
        b'0'..=b'7' => {
            let is_octal = |byte: &&u8| matches!(byte, b'0'..=b'7');
            let length = rest.iter().take(3).take_while(is_octal).count();
            let byte = number(rest.get(..length), 8)? & 0xff;
            return Some((u8::try_from(byte).ok()?, rest.get(length..)?));
        }
        _ => return Some((first, rest)),
    };
    Some((simple, after))
}

/// A line of protocol 0 that is a text with `\u0000` and `\U00000000` escapes
/// and otherwise Latin-1.
pub fn escaped(line: &[u8]) -> Text {
    let mut rest = line;
    of_characters(std::iter::from_fn(|| {
        let (&first, after) = rest.split_first()?;
        let digits = match after.first() {
            Some(b'u') if first == b'\\' => 4,
            Some(b'U') if first == b'\\' => 8,
            _ => {
                rest = after;
                return Some(u32::from(first));
            }
        };
        let code = number(after.get(1..=digits), 16);
        rest = match code {
            Some(_) => after.get(digits + 1..).unwrap_or_default(),
            None => after,
        };
        Some(code.unwrap_or(u32::from(first)))
    }))
}

fn number(digits: Option<&[u8]>, radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits?).ok()?;
    u32::from_str_radix(digits, radix).ok()
}

/// An oid, where these are 8 characters of Latin-1.
fn of_characters(characters: impl Iterator<Item = u32>) -> Text {
    let mut found = Collected::default();
    for character in characters {
        match u8::try_from(character) {
            Ok(byte) => found.push(byte),
            Err(_) => return Text::Plain,
        }
        if found.length > OID_BYTES {
            return Text::Plain;
        }
    }
    found.bytes().map_or(Text::Plain, of_latin)
}

fn of_bytes(bytes: &[u8]) -> Text {
    Oid::from_slice(bytes).map_or(Text::Plain, Text::Oid)
}

fn of_latin(bytes: [u8; OID_BYTES]) -> Text {
    if bytes.is_ascii() {
        Text::Oid(Oid(bytes))
    } else {
        Text::Latin(Oid(bytes))
    }
}

/// The first bytes of something, and how many there were.
#[derive(Default)]
struct Collected {
    bytes: [u8; OID_BYTES],
    length: usize,
}

impl Collected {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    fn bytes(&self) -> Option<[u8; OID_BYTES]> {
        (self.length == OID_BYTES).then_some(self.bytes)
    }
}
