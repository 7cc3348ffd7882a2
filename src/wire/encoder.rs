use super::handshake::Format;
use super::msgpack::write as msgpack;
use super::pickle::write as pickle;
use super::value::Value;

/// Why a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Bytes, text or the whole frame have 4 GiB or more.
    #[error("a message of 4 GiB or more cannot be sent")]
    TooLong,
    /// An integer of more than 64 bits, which msgpack has no form for.
    #[error("the integer is too large for msgpack")]
    IntegerTooLarge,
}

/// Appends values in the format of a connection, without building a tree.
///
/// Containers are written as `begin`, their items, `end`, both with the same
/// length.
pub(super) struct Encoder<'o> {
    format: Format,
    out: &'o mut Vec<u8>,
}

type Written = Result<(), EncodeError>;

impl<'o> Encoder<'o> {
    pub(super) fn new(format: Format, out: &'o mut Vec<u8>) -> Self {
        Self { format, out }
    }

    /// Starts a message, which is a tuple of `length` items.
    pub(super) fn begin_message(&mut self, length: usize) -> Written {
        if self.format == Format::Pickle {
            self.raw(pickle::PROTOCOL);
        }
        self.begin_tuple(length)
    }

    pub(super) fn end_message(&mut self, length: usize) {
        self.end_tuple(length);
        if self.format == Format::Pickle {
            self.out.push(b'.');
        }
    }

    /// Appends bytes that are in the format already.
    pub(super) fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    pub(super) fn none(&mut self) {
        self.out.push(self.choose(b'N', 0xc0));
    }

    pub(super) fn bool(&mut self, flag: bool) {
        self.out.push(if flag {
            self.choose(0x88, 0xc3)
        } else {
            self.choose(0x89, 0xc2)
        });
    }

    pub(super) fn int(&mut self, number: i64) {
        match self.format {
            Format::Pickle => pickle::put_int(self.out, number),
            Format::Msgpack => msgpack::put_int(self.out, number),
        }
    }

    pub(super) fn unsigned(&mut self, number: u64) -> Written {
        match i64::try_from(number) {
            Ok(number) => {
                self.int(number);
                Ok(())
            }
            Err(_) => self.value(&Value::from(number)),
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Written {
        match self.format {
            Format::Pickle => pickle::put_bytes(self.out, bytes),
            Format::Msgpack => msgpack::put_bytes(self.out, bytes),
        }
    }

    pub(super) fn bytes_or_none(&mut self, bytes: Option<&[u8]>) -> Written {
        if let Some(bytes) = bytes {
            return self.bytes(bytes);
        }
        self.none();
        Ok(())
    }

    pub(super) fn str(&mut self, text: &str) -> Written {
        match self.format {
            Format::Pickle => pickle::put_str(self.out, text),
            Format::Msgpack => msgpack::put_str(self.out, text),
        }
    }

    pub(super) fn begin_tuple(&mut self, length: usize) -> Written {
        match self.format {
            Format::Pickle => pickle::begin_tuple(self.out, length),
            Format::Msgpack => msgpack::begin_array(self.out, length)?,
        }
        Ok(())
    }

    pub(super) fn end_tuple(&mut self, length: usize) {
        if self.format == Format::Pickle {
            pickle::end_tuple(self.out, length);
        }
    }

    pub(super) fn begin_list(&mut self, length: usize) -> Written {
        match self.format {
            Format::Pickle => pickle::begin_filled(self.out, b']', length),
            Format::Msgpack => msgpack::begin_array(self.out, length)?,
        }
        Ok(())
    }

    pub(super) fn end_list(&mut self, length: usize) {
        if self.format == Format::Pickle {
            pickle::end_filled(self.out, b'a', b'e', length);
        }
    }

    /// The keys and values of `length` entries follow, alternating.
    pub(super) fn begin_dict(&mut self, length: usize) -> Written {
        match self.format {
            Format::Pickle => pickle::begin_filled(self.out, b'}', length),
            Format::Msgpack => msgpack::begin_map(self.out, length)?,
        }
        Ok(())
    }

    pub(super) fn end_dict(&mut self, length: usize) {
        if self.format == Format::Pickle {
            pickle::end_filled(self.out, b's', b'u', length);
        }
    }

    /// Any value; its depth is what the reader or the server has made of it.
    pub(super) fn value(&mut self, value: &Value<'_>) -> Written {
        match value {
            Value::None => self.none(),
            Value::Bool(flag) => self.bool(*flag),
            Value::Int(number) => self.int(*number),
            Value::BigInt(bytes) => return self.big_int(value, bytes),
            Value::Float(number) => match self.format {
                Format::Pickle => pickle::put_float(self.out, *number),
                Format::Msgpack => msgpack::put_float(self.out, *number),
            },
            Value::Bytes(bytes) => return self.bytes(bytes),
            Value::Str(text) => return self.str(text),
            Value::ByteString(bytes) => {
                return match std::str::from_utf8(bytes) {
                    Ok(text) => self.str(text),
                    Err(_) => self.bytes(bytes),
                };
            }
            Value::Tuple(items) => {
                self.begin_tuple(items.len())?;
                self.values(items)?;
                self.end_tuple(items.len());
            }
            Value::List(items) => return self.list(items),
            Value::Set(items) => return self.set(items),
            Value::Dict(entries) => {
                self.begin_dict(entries.len())?;
                for (key, value) in entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                self.end_dict(entries.len());
            }
            Value::Prefix { path } => {
                let path: Vec<_> = path.iter().map(|element| Value::from(&**element)).collect();
                return self.prefix(&path);
            }
        }
        Ok(())
    }

    fn values(&mut self, items: &[Value<'_>]) -> Written {
        items.iter().try_for_each(|item| self.value(item))
    }

    fn list(&mut self, items: &[Value<'_>]) -> Written {
        self.begin_list(items.len())?;
        self.values(items)?;
        self.end_list(items.len());
        Ok(())
    }

    fn big_int(&mut self, value: &Value<'_>, bytes: &[u8]) -> Written {
        match self.format {
            Format::Pickle => pickle::put_big_int(self.out, bytes),
            Format::Msgpack => {
                let number = value
                    .as_i128()
                    .and_then(|number| u64::try_from(number).ok());
                msgpack::put_unsigned(self.out, number.ok_or(EncodeError::IntegerTooLarge)?);
                Ok(())
            }
        }
    }

    /// A set; msgpack has only arrays.
    fn set(&mut self, items: &[Value<'_>]) -> Written {
        if self.format == Format::Msgpack {
            return self.list(items);
        }
        self.raw(b"cbuiltins\nset\n");
        self.list(items)?;
        self.raw(b"\x85R");
        Ok(())
    }

    /// An instance of `ZopeUndo.Prefix.Prefix`; its path alone in msgpack.
    fn prefix(&mut self, path: &[Value<'_>]) -> Written {
        if self.format == Format::Msgpack {
            return self.list(path);
        }
        self.raw(b"cZopeUndo.Prefix\nPrefix\n)\x81}(");
        self.str("length")?;
        self.unsigned(path.len() as u64)?;
        self.str("path")?;
        self.list(path)?;
        self.raw(b"ub");
        Ok(())
    }

    const fn choose(&self, pickle: u8, msgpack: u8) -> u8 {
        match self.format {
            Format::Pickle => pickle,
            Format::Msgpack => msgpack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers at the ends of each form, in pickle and in msgpack, by Python.
    const INTEGERS: [(i64, &[u8], &[u8]); 27] = [
        (0, b"K\x00", b"\x00"),
        (127, b"K\x7f", b"\x7f"),
        (128, b"K\x80", b"\xcc\x80"),
        (255, b"K\xff", b"\xcc\xff"),
        (256, b"M\x00\x01", b"\xcd\x01\x00"),
        (65_535, b"M\xff\xff", b"\xcd\xff\xff"),
        (65_536, b"J\x00\x00\x01\x00", b"\xce\x00\x01\x00\x00"),
        (2_147_483_647, b"J\xff\xff\xff\x7f", b"\xce\x7f\xff\xff\xff"),
        (
            2_147_483_648,
            b"\x8a\x05\x00\x00\x00\x80\x00",
            b"\xce\x80\x00\x00\x00",
        ),
        (
            4_294_967_295,
            b"\x8a\x05\xff\xff\xff\xff\x00",
            b"\xce\xff\xff\xff\xff",
        ),
        (
            4_294_967_296,
            b"\x8a\x05\x00\x00\x00\x00\x01",
            b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
        ),
        (
            549_755_813_887,
            b"\x8a\x05\xff\xff\xff\xff\x7f",
            b"\xcf\x00\x00\x00\x7f\xff\xff\xff\xff",
        ),
        (
            549_755_813_888,
            b"\x8a\x06\x00\x00\x00\x00\x80\x00",
            b"\xcf\x00\x00\x00\x80\x00\x00\x00\x00",
        ),
        (
            9_223_372_036_854_775_807,
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff",
        ),
        (-1, b"J\xff\xff\xff\xff", b"\xff"),
        (-32, b"J\xe0\xff\xff\xff", b"\xe0"),
        (-33, b"J\xdf\xff\xff\xff", b"\xd0\xdf"),
        (-128, b"J\x80\xff\xff\xff", b"\xd0\x80"),
        (-129, b"J\x7f\xff\xff\xff", b"\xd1\xff\x7f"),
        (-32_768, b"J\x00\x80\xff\xff", b"\xd1\x80\x00"),
        (-32_769, b"J\xff\x7f\xff\xff", b"\xd2\xff\xff\x7f\xff"),
        (
            -2_147_483_648,
            b"J\x00\x00\x00\x80",
            b"\xd2\x80\x00\x00\x00",
        ),
        (
            -2_147_483_649,
            b"\x8a\x05\xff\xff\xff\x7f\xff",
            b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff",
        ),
        (
            -4_294_967_296,
            b"\x8a\x05\x00\x00\x00\x00\xff",
            b"\xd3\xff\xff\xff\xff\x00\x00\x00\x00",
        ),
        (
            -549_755_813_888,
            b"\x8a\x05\x00\x00\x00\x00\x80",
            b"\xd3\xff\xff\xff\x80\x00\x00\x00\x00",
        ),
        (
            -549_755_813_889,
            b"\x8a\x06\xff\xff\xff\xff\x7f\xff",
            b"\xd3\xff\xff\xff\x7f\xff\xff\xff\xff",
        ),
        (
            i64::MIN,
            b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80",
            b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
        ),
    ];

    #[test]
    fn integers_are_written_as_python_writes_them() {
        for (number, pickle, msgpack) in INTEGERS {
            for (format, expected) in [(Format::Pickle, pickle), (Format::Msgpack, msgpack)] {
                let mut out = Vec::new();
                Encoder::new(format, &mut out).int(number);
                assert_eq!(out, expected, "{number} as {format:?}");
            }
        }
    }

    #[test]
    fn lengths_are_written_as_python_writes_them() {
        // (length, head of bytes, head of str) in pickle, and in msgpack
        let heads: [(usize, [&[u8]; 4]); 7] = [
            (0, [b"C\x00", b"X\x00\x00\x00\x00", b"\xc4\x00", b"\xa0"]),
            (31, [b"C\x1f", b"X\x1f\x00\x00\x00", b"\xc4\x1f", b"\xbf"]),
            (32, [b"C ", b"X \x00\x00\x00", b"\xc4 ", b"\xd9 "]),
            (
                255,
                [b"C\xff", b"X\xff\x00\x00\x00", b"\xc4\xff", b"\xd9\xff"],
            ),
            (
                256,
                [
                    b"B\x00\x01\x00\x00",
                    b"X\x00\x01\x00\x00",
                    b"\xc5\x01\x00",
                    b"\xda\x01\x00",
                ],
            ),
            (
                65_535,
                [
                    b"B\xff\xff\x00\x00",
                    b"X\xff\xff\x00\x00",
                    b"\xc5\xff\xff",
                    b"\xda\xff\xff",
                ],
            ),
            (
                65_536,
                [
                    b"B\x00\x00\x01\x00",
                    b"X\x00\x00\x01\x00",
                    b"\xc6\x00\x01\x00\x00",
                    b"\xdb\x00\x01\x00\x00",
                ],
            ),
        ];
        for (length, heads) in heads {
            let text = "x".repeat(length);
            for (format, [bytes, str]) in [Format::Pickle, Format::Msgpack]
                .into_iter()
                .zip(heads.as_chunks::<2>().0)
            {
                let mut out = Vec::new();
                let mut encoder = Encoder::new(format, &mut out);
                encoder.bytes(text.as_bytes()).unwrap();
                encoder.str(&text).unwrap();
                let expected = [*bytes, text.as_bytes(), *str, text.as_bytes()].concat();
                assert_eq!(out, expected, "{length} as {format:?}");
            }
        }
    }
}
