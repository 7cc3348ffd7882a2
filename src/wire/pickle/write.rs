//! Pickle protocol 3 without a memo, as ZEO's own pickler is set up.

use crate::wire::encoder::EncodeError;
use crate::wire::encoder::Encoder;
use crate::wire::handshake::Format;
use crate::wire::value::Value;

/// The two bytes that start a pickle.
pub(in crate::wire) const PROTOCOL: &[u8] = b"\x80\x03";

/// Appends a whole pickle of `value`. Python reads back an equal value, except
/// that a Python 2 `str` becomes text where it is UTF-8, and bytes elsewhere.
pub fn write_value(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(PROTOCOL);
    let written = Encoder::new(Format::Pickle, out).value(value);
    match written {
        Ok(()) => out.push(b'.'),
        Err(_) => out.truncate(start),
    }
    written
}

pub(in crate::wire) fn put_int(out: &mut Vec<u8>, number: i64) {
    if let Ok(byte) = u8::try_from(number) {
        out.extend_from_slice(&[b'K', byte]);
    } else if let Ok(short) = u16::try_from(number) {
        out.push(b'M');
        out.extend_from_slice(&short.to_le_bytes());
    } else if let Ok(int) = i32::try_from(number) {
        out.push(b'J');
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        let bytes = number.to_le_bytes();
        let length = long_length(number);
        out.push(0x8a);
        out.push(u8::try_from(length).unwrap_or(8));
        out.extend_from_slice(bytes.get(..length).unwrap_or(&bytes));
    }
}

/// Bytes of the shortest two's complement.
pub(super) fn long_length(number: i64) -> usize {
    let magnitude_bits = 64 - (number ^ (number >> 63)).leading_zeros();
    usize::try_from(magnitude_bits / 8 + 1).unwrap_or(8)
}

pub(in crate::wire) fn put_big_int(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    put_sized(out, Some(0x8a), 0x8b, bytes)
}

pub(in crate::wire) fn put_float(out: &mut Vec<u8>, number: f64) {
    out.push(b'G');
    out.extend_from_slice(&number.to_be_bytes());
}

pub(in crate::wire) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    put_sized(out, Some(b'C'), b'B', bytes)
}

pub(in crate::wire) fn put_str(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    put_sized(out, None, b'X', text.as_bytes())
}

/// One opcode where one byte of length is enough, another for four bytes.
fn put_sized(
    out: &mut Vec<u8>,
    short: Option<u8>,
    long: u8,
    bytes: &[u8],
) -> Result<(), EncodeError> {
    if let (Some(opcode), Ok(length)) = (short, u8::try_from(bytes.len())) {
        out.extend_from_slice(&[opcode, length]);
    } else {
        let length = u32::try_from(bytes.len()).map_err(|_| EncodeError::TooLong)?;
        out.push(long);
        out.extend_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(bytes);
    Ok(())
}

pub(in crate::wire) fn begin_tuple(out: &mut Vec<u8>, length: usize) {
    if length > 3 {
        out.push(b'(');
    }
}

pub(in crate::wire) fn end_tuple(out: &mut Vec<u8>, length: usize) {
    out.push(match length {
        0 => b')',
        1 => 0x85,
        2 => 0x86,
        3 => 0x87,
        _ => b't',
    });
}

/// Starts a list (`]`) or a dict (`}`); its entries follow.
pub(in crate::wire) fn begin_filled(out: &mut Vec<u8>, empty: u8, length: usize) {
    out.push(empty);
    if length > 1 {
        out.push(b'(');
    }
}

/// Ends it: `single` adds the only entry, `many` all since the mark.
pub(in crate::wire) fn end_filled(out: &mut Vec<u8>, single: u8, many: u8, length: usize) {
    match length {
        0 => {}
        1 => out.push(single),
        _ => out.push(many),
    }
}
