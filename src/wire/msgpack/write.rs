//! Each value in its shortest form, as Python's `packb` chooses.

use crate::wire::encoder::EncodeError;

pub(in crate::wire) fn put_int(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = u64::try_from(number) {
        put_unsigned(out, number);
    } else if let Ok(byte) = i8::try_from(number) {
        if byte < -32 {
            out.push(0xd0);
        }
        out.extend_from_slice(&byte.to_be_bytes());
    } else if let Ok(short) = i16::try_from(number) {
        out.push(0xd1);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(int) = i32::try_from(number) {
        out.push(0xd2);
        out.extend_from_slice(&int.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

pub(in crate::wire) fn put_unsigned(out: &mut Vec<u8>, number: u64) {
    if let Ok(byte) = u8::try_from(number) {
        if byte > 0x7f {
            out.push(0xcc);
        }
        out.push(byte);
    } else if let Ok(short) = u16::try_from(number) {
        out.push(0xcd);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(int) = u32::try_from(number) {
        out.push(0xce);
        out.extend_from_slice(&int.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

pub(in crate::wire) fn put_float(out: &mut Vec<u8>, number: f64) {
    out.push(0xcb);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(in crate::wire) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    put_length(out, None, [Some(0xc4), Some(0xc5), Some(0xc6)], bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

pub(in crate::wire) fn put_str(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    let opcodes = [Some(0xd9), Some(0xda), Some(0xdb)];
    put_length(out, Some((0xa0, 31)), opcodes, text.len())?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

pub(in crate::wire) fn begin_array(out: &mut Vec<u8>, length: usize) -> Result<(), EncodeError> {
    put_length(
        out,
        Some((0x90, 15)),
        [None, Some(0xdc), Some(0xdd)],
        length,
    )
}

pub(in crate::wire) fn begin_map(out: &mut Vec<u8>, length: usize) -> Result<(), EncodeError> {
    put_length(
        out,
        Some((0x80, 15)),
        [None, Some(0xde), Some(0xdf)],
        length,
    )
}

/// The shortest of: within the first byte (`fixed`: its base and the greatest
/// length), or after an opcode for 8, 16 or 32 bits of length.
fn put_length(
    out: &mut Vec<u8>,
    fixed: Option<(u8, u8)>,
    opcodes: [Option<u8>; 3],
    length: usize,
) -> Result<(), EncodeError> {
    let [opcode_8, opcode_16, opcode_32] = opcodes;
    let length = u32::try_from(length).map_err(|_| EncodeError::TooLong)?;
    let byte = u8::try_from(length).ok();
    let short = u16::try_from(length).ok();
    match (fixed, byte, opcode_8, short, opcode_16) {
        (Some((base, max)), Some(length), ..) if length <= max => out.push(base | length),
        (_, Some(length), Some(opcode), ..) => out.extend_from_slice(&[opcode, length]),
        (.., Some(length), Some(opcode)) => {
            out.push(opcode);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.extend(opcode_32);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}
