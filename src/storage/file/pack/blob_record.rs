//! Which records are those of blobs.

/// The class of blobs, as a GLOBAL opcode names it.
const GLOBAL: &[u8] = b"cZODB.blob\nBlob\n";
/// The same with protocol 4: two short texts, each perhaps memoised.
const MODULE: &[u8] = b"\x8c\x09ZODB.blob";
const NAME: &[u8] = b"\x8c\x04Blob";

/// A first pickle that names the class and does nothing else ends within so much.
pub const PROBE_BYTES: usize = 64;

/// Is this the beginning of a blob's record? As ZODB sees it: its first pickle
/// is the class `ZODB.blob.Blob` itself.
pub fn is_blob_record(beginning: &[u8]) -> bool {
    class(beginning).is_some()
}

fn class(bytes: &[u8]) -> Option<()> {
    let mut rest = bytes;
    if let [0x80, _, after @ ..] = rest {
        rest = after;
    }
    if let [0x95, after @ ..] = rest {
        rest = after.get(8..)?;
    }
    rest = if let Some(after) = rest.strip_prefix(GLOBAL) {
        after
    } else {
        let name = memoised(rest.strip_prefix(MODULE)?);
        memoised(name.strip_prefix(NAME)?).strip_prefix(b"\x93")?
    };
    memoised(rest).strip_prefix(b".").map(|_| ())
}

/// What follows an opcode that puts the value into the memo, if there is one.
fn memoised(bytes: &[u8]) -> &[u8] {
    let after = match bytes {
        [0x94, after @ ..] | [b'q', _, after @ ..] | [b'r', _, _, _, _, after @ ..] => Some(after),
        [b'p', digits @ ..] => {
            let length = digits.iter().position(|byte| !byte.is_ascii_digit());
            length
                .and_then(|length| digits.get(length..))
                .and_then(|after| after.strip_prefix(b"\n"))
        }
        _ => None,
    };
    after.unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_class_is_a_blob() {
        for record in [
            b"cZODB.blob\nBlob\nq\x01.N.".as_slice(),
            b"\x80\x03cZODB.blob\nBlob\nq\x01.\x80\x03N.",
            b"\x80\x02cZODB.blob\nBlob\n.N.",
            b"cZODB.blob\nBlob\np12\n.N.",
            b"\x80\x04\x95\x16\0\0\0\0\0\0\0\x8c\x09ZODB.blob\x94\x8c\x04Blob\x94\x93\x94.N.",
        ] {
            assert!(is_blob_record(record), "{record:?}");
        }
        for record in [
            b"".as_slice(),
            b"\x80",
            b"cZODB.blob\nBlobby\n.",
            b"cZODB.blob\nBlob\nq\x01N\x86.",
            b"(cZODB.blob\nBlob\nNt.",
            b"cmy\nBlob\nq\x01.",
            b"cZODB.blob\nBlob\n",
        ] {
            assert!(!is_blob_record(record), "{record:?}");
        }
    }
}
