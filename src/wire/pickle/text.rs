//! The parts of protocol 0, and of UTF-8, that are text.

use std::borrow::Cow;

use super::fault::PickleFault;
use crate::wire::value::Value;

/// The longest decimal that 128 bits can need, with a sign.
const MAX_DECIMAL_DIGITS: usize = 40;

/// Text of a `str`. Python writes lone surrogates too; those are refused, or
/// replaced where `lossy`.
pub(super) fn utf8(bytes: &[u8], lossy: bool) -> Result<Cow<'_, str>, PickleFault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) if lossy => Ok(String::from_utf8_lossy(bytes)),
        Err(_) => Err(PickleFault::Text("a str is not UTF-8")),
    }
}

/// A decimal integer, with the `L` of Python 2's long or without.
pub(super) fn decimal(line: &[u8]) -> Result<Value<'static>, PickleFault> {
    let fault = PickleFault::Text("an integer is not one, or is too long");
    let digits = line.strip_suffix(b"L").unwrap_or(line);
    if digits.len() > MAX_DECIMAL_DIGITS {
        return Err(fault);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .map(Value::from_i128)
        .ok_or(fault)
}

/// Protocol 0's `INT`, which also writes the bools.
pub(super) fn decimal_or_bool(line: &[u8]) -> Result<Value<'static>, PickleFault> {
    match line {
        b"00" => Ok(Value::Bool(false)),
        b"01" => Ok(Value::Bool(true)),
        _ => decimal(line),
    }
}

pub(super) fn float(line: &[u8]) -> Result<Value<'static>, PickleFault> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .map(Value::Float)
        .ok_or(PickleFault::Text("a float is not one"))
}

/// The bytes of a quoted Python 2 `str`.
pub(super) fn quoted(line: &[u8]) -> Result<Cow<'_, [u8]>, PickleFault> {
    let fault = PickleFault::Text("a quoted string is not one");
    let line = line.trim_ascii_end();
    let inner = [b"'", b"\""]
        .into_iter()
        .find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote));
    let inner = inner.ok_or_else(|| fault.clone())?;
    if !inner.contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().ok_or_else(|| fault.clone())? {
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'v' => bytes.push(11),
            b'f' => bytes.push(12),
            b'x' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(hex));
                let [Some(high), Some(low)] = digits else {
                    return Err(fault);
                };
                bytes.push(high * 16 + low);
            }
            plain @ (b'\\' | b'\'' | b'"') => bytes.push(plain),
            digit @ b'0'..=b'7' => bytes.push(octal(digit, &mut rest)),
            unknown => bytes.extend_from_slice(&[b'\\', unknown]),
        }
    }
    Ok(Cow::Owned(bytes))
}

/// Up to three octal digits, of which `first` is known to be one.
fn octal(first: u8, rest: &mut (impl Iterator<Item = u8> + Clone)) -> u8 {
    let mut number = first - b'0';
    for _ in 0..2 {
        match rest.clone().next() {
            Some(digit @ b'0'..=b'7') => {
                number = number.wrapping_mul(8).wrapping_add(digit - b'0');
                rest.next();
            }
            _ => break,
        }
    }
    number
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Protocol 0's text: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn raw_unicode(line: &[u8]) -> Result<Cow<'_, str>, PickleFault> {
    let fault = PickleFault::Text("a str holds no valid escape");
    if line.is_ascii() && !line.contains(&b'\\') {
        return utf8(line, false);
    }
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                continue;
            }
        };
        let code = after.get(1..=digits).ok_or_else(|| fault.clone())?;
        let code = std::str::from_utf8(code)
            .ok()
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32);
        text.push(code.ok_or_else(|| fault.clone())?);
        rest = after.get(digits + 1..).unwrap_or_default();
    }
    Ok(Cow::Owned(text))
}

/// What `_codecs.encode(text, 'latin1')` gives: Python 3 writes bytes so in
/// protocols 0 to 2.
pub(super) fn latin1<'a>(text: &Cow<'a, str>) -> Option<Cow<'a, [u8]>> {
    match text {
        Cow::Borrowed(text) if text.is_ascii() => Some(Cow::Borrowed(text.as_bytes())),
        _ => {
            let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
            bytes.map(Cow::Owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_python_2_quotes() {
        // repr() of Python 2 strings
        let cases: [(&[u8], &[u8]); 5] = [
            (b"'abc'", b"abc"),
            (b"\"it's\"", b"it's"),
            (b"'a\\x00\\xff\\n\\\\\\''", b"a\0\xff\n\\'"),
            (b"'\\07\\1234'", b"\x07S4"),
            (b"''", b""),
        ];
        for (quoted_bytes, expected) in cases {
            assert_eq!(quoted(quoted_bytes).unwrap().as_ref(), expected);
        }
        for bad in [&b""[..], b"'", b"'a", b"'a\"", b"'\\x0'", b"'\\'"] {
            assert!(quoted(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_raw_unicode() {
        assert_eq!(raw_unicode(b"a\\b\xe9").unwrap(), "a\\b\u{e9}");
        assert_eq!(
            raw_unicode(b"\\u20ac\\U0001f600").unwrap(),
            "\u{20ac}\u{1f600}"
        );
        assert!(raw_unicode(b"\\u20a").is_err());
        assert!(raw_unicode(b"\\ud800").is_err());
    }

    #[test]
    fn refuses_endless_decimals() {
        assert_eq!(decimal(b"-12L"), Ok(Value::Int(-12)));
        assert!(decimal(&[b'9'; 5000]).is_err());
        assert!(decimal(b"1x").is_err());
    }
}
