use super::cursor::Cursor;

/// The class stands within so many opcodes, if the record is of a usual shape.
const MAX_OPCODES: usize = 24;
/// Longer names than this are not shown.
const MAX_NAME_BYTES: usize = 512;

/// `module.Class` of a database record, from the pickle of the class that it
/// starts with; `None` where that has no usual shape. Nothing is loaded.
///
/// The shapes: a global, or a pair of texts (module, class), either of them
/// alone or first in a tuple with the arguments of `__new__`.
/// Source: ZODB serialize.py.
pub fn class_name(record: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(record);
    let mut module: Option<&str> = None;
    for _ in 0..MAX_OPCODES {
        let text = match cursor.u8()? {
            b'c' => {
                let module = name(cursor.line()?)?;
                return Some(format!("{module}.{}", name(cursor.line()?)?));
            }
            // What does not matter here: protocol, frame, marks, memo entries.
            b'(' | 0x94 => continue,
            0x80 | b'q' => {
                cursor.take(1)?;
                continue;
            }
            b'r' => {
                cursor.take(4)?;
                continue;
            }
            0x95 => {
                cursor.take(8)?;
                continue;
            }
            b'p' => {
                cursor.line()?;
                continue;
            }
            b'U' | b'C' | 0x8c => cursor.sized_u8()?,
            b'T' | b'B' | b'X' => cursor.sized_u32_le()?,
            0x8d => cursor.sized_u64_le()?,
            b'V' => cursor.line()?,
            b'S' => unquoted(cursor.line()?)?,
            _ => return None,
        };
        let text = name(text)?;
        match module {
            None => module = Some(text),
            Some(module) => return Some(format!("{module}.{text}")),
        }
    }
    None
}

fn name(bytes: &[u8]) -> Option<&str> {
    let plausible = !bytes.is_empty() && bytes.len() <= MAX_NAME_BYTES;
    let name = std::str::from_utf8(bytes).ok().filter(|_| plausible)?;
    (!name.chars().any(char::is_control)).then_some(name)
}

fn unquoted(line: &[u8]) -> Option<&[u8]> {
    [b"'", b"\""]
        .into_iter()
        .find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_the_class_in_every_usual_shape() {
        let records: [&[u8]; 14] = [
            // pickle.dumps(Class, n) for n in 0..=5
            b"ca.b\nC\np0\n.}.",
            b"ca.b\nC\nq\x00.}q.",
            b"\x80\x02ca.b\nC\nq\x00.",
            b"\x80\x03ca.b\nC\nq\x00.",
            b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x03a.b\x94\x8c\x01C\x94\x93\x94.",
            b"\x80\x05\x95\x0b\0\0\0\0\0\0\0\x8c\x03a.b\x94\x8c\x01C\x94\x93\x94.",
            // ZODB's writer: the class and None or the arguments of __new__
            b"(ca.b\nC\nq\x01Ntq\x02.",
            b"\x80\x02(ca.b\nC\nq\x01Ntq\x02.",
            b"\x80\x03ca.b\nC\nq\x01)\x86q\x02.",
            // ((module, class), arguments), and (module, class)
            b"((U\x03a.bq\x01U\x01Cq\x02tq\x03Nt.",
            b"\x80\x03X\x03\0\0\0a.bq\x01X\x01\0\0\0Cq\x02\x86q\x03N\x86.",
            b"(U\x03a.bU\x01Ct.",
            b"((Va.b\np0\nVC\np1\ntp2\nNt.",
            b"((S'a.b'\np0\nS'C'\np1\ntp2\nNt.",
        ];
        for record in records {
            assert_eq!(class_name(record).as_deref(), Some("a.b.C"), "{record:?}");
        }
    }

    #[test]
    fn knows_nothing_of_garbage() {
        for record in [
            &b""[..],
            b"\x80",
            b"c",
            b"ca\n",
            b"c\n\n",
            b"}.",
            b"\x80\x03N.",
            b"((((",
        ] {
            assert_eq!(class_name(record), None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(record: Vec<u8>) {
            let _ = class_name(&record);
        }
    }
}
