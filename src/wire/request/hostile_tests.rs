//! What hostile, damaged or merely strange clients may send.

use proptest::prelude::*;

use super::decode::from_pickle;
use super::vectors::vectors;
use super::*;
use crate::wire::handshake::Format;

fn refused(payload: &[u8]) -> String {
    match decode(Format::Pickle, payload) {
        Err(DecodeError::Malformed { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

fn bomb(parts: &[&[u8]]) -> String {
    refused(&parts.concat())
}

#[test]
fn a_cut_message_is_malformed_wherever_it_is_cut() {
    for vector in vectors() {
        for length in 0..vector.pickle.len() {
            let cut = decode(Format::Pickle, &vector.pickle[..length]);
            assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{cut:?}");
        }
        for length in 0..vector.msgpack.len() {
            let cut = decode(Format::Msgpack, &vector.msgpack[..length]);
            assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{cut:?}");
        }
    }
}

#[test]
fn data_after_a_message_is_malformed() {
    for vector in vectors() {
        for (format, bytes) in [
            (Format::Pickle, vector.pickle),
            (Format::Msgpack, vector.msgpack),
        ] {
            let longer = [bytes, b"\0"].concat();
            let read = decode(format, &longer);
            assert!(
                matches!(read, Err(DecodeError::Malformed { .. })),
                "{read:?}"
            );
        }
    }
}

#[test]
fn lengths_beyond_the_frame_reserve_nothing() {
    for opcode in [&b"B"[..], b"T", b"X", b"\x8b", b"\x8d", b"\x8e", b"\x96"] {
        let payload = [b"\x80\x05(", opcode, &[0xff; 8], b"abc"].concat();
        assert!(refused(&payload).contains("cut short"));
    }
    for head in [&b"\xc6"[..], b"\xdb", b"\xdd", b"\xdf"] {
        let payload = [b"\x94", head, &[0xff; 4], b"abc"].concat();
        let read = decode(Format::Msgpack, &payload);
        assert!(matches!(read, Err(DecodeError::Malformed { .. })));
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = bomb(&[&b"]".repeat(100_000), &b"a".repeat(99_999), b"."]);
    assert!(deep.contains("deeply"), "{deep}");
    let deep = bomb(&[b"N", &b"\x85".repeat(100_000), b"."]);
    assert!(deep.contains("deeply"), "{deep}");
    let payload = [b"\x94", &b"\x91".repeat(100_000)[..]].concat();
    let read = decode(Format::Msgpack, &payload);
    assert!(
        matches!(read, Err(DecodeError::Malformed { detail, .. }) if detail.contains("deeply"))
    );
}

#[test]
fn a_list_that_contains_itself_is_refused() {
    let cycle = refused(b"]q\0h\0a.");
    assert!(cycle.contains("deeply"), "{cycle}");
}

#[test]
fn copies_by_memo_do_not_explode() {
    // Each level holds the one below ten times.
    let mut payload = b"]q\x00".to_vec();
    for level in 0..30_u8 {
        payload.extend_from_slice(b"(");
        for _ in 0..10 {
            payload.extend_from_slice(&[b'h', level]);
        }
        payload.extend_from_slice(&[b't', b'q', level + 1]);
    }
    payload.push(b'.');
    let detail = bomb(&[b"0", &payload]);
    assert!(detail.contains("stack"), "{detail}");
    // The levels below the last are left on the stack: take them off.
    let mut payload = b"]q\x000".to_vec();
    for level in 0..30_u8 {
        payload.extend_from_slice(b"(");
        for _ in 0..10 {
            payload.extend_from_slice(&[b'h', level]);
        }
        payload.extend_from_slice(&[b't', b'q', level + 1, b'0']);
    }
    payload.extend_from_slice(b"h\x1e.");
    let detail = refused(&payload);
    assert!(detail.contains("too many"), "{detail}");
}

#[test]
fn copied_bytes_are_counted() {
    // A text with an escape is owned, and named a thousand times.
    let text = [b"S'\\x41", &[b'x'; 10_000][..], b"'\np0\n0("].concat();
    let detail = bomb(&[&text, &b"g0\n".repeat(1000), b"t."]);
    assert!(detail.contains("too many"), "{detail}");
    // Bytes made by a call, a thousand times.
    let text = [
        b"V\xe9",
        &[b'x'; 10_000][..],
        b"\np0\n0c_codecs\nencode\np1\n0Vlatin1\np2\n0(",
    ]
    .concat();
    let detail = bomb(&[&text, &b"g1\ng0\ng2\n\x86R".repeat(1000), b"t."]);
    assert!(detail.contains("too many"), "{detail}");
}

#[test]
fn endless_small_values_are_refused() {
    for filler in [&b"N"[..], b"(", b"]", b")", b"}", b"(t0", b"Nq\x000", b"N2"] {
        let detail = bomb(&[b"(", &filler.repeat(3_000_000), b"t."]);
        assert!(detail.contains("too many"), "{filler:?}: {detail}");
    }
    let payload = [b"\x94\xdd\xff\xff\xff\xff", &b"\xc0".repeat(3_000_000)[..]].concat();
    let read = decode(Format::Msgpack, &payload);
    assert!(
        matches!(read, Err(DecodeError::Malformed { detail, .. }) if detail.contains("too many"))
    );
}

#[test]
fn globals_and_calls_are_not_allowed() {
    let detail = refused(b"\x80\x03cos\nsystem\nX\x02\0\0\0ls\x85R.");
    assert_eq!(detail, "global os.system is not allowed");
    let detail = refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x031+1\x85R.");
    assert_eq!(detail, "global builtins.eval is not allowed");
    for payload in [
        &b"Pabc\n."[..],
        b"K\x01Q.",
        b"\x82\x01.",
        b"cbuiltins\nset\n.",
        b"cbuiltins\nset\nK\x01\x85R.",
        b"cbuiltins\nobject\n)R.",
        b"}}b.",
        b"cZopeUndo.Prefix\nPrefix\n)\x81.",
        b"cZopeUndo.Prefix\nPrefix\n)\x81}b.",
        b"cZopeUndo.Prefix\nPrefix\n)\x81q\x00}U\x04path]h\x00asb.",
        b"(ios\nPrefix\n.",
    ] {
        refused(payload);
    }
}

#[test]
fn a_message_of_another_shape_is_malformed() {
    for payload in [
        &b"N."[..],
        b"K\x01K\x02\x86.",
        b"(NNNNNt.",
        b".",
        b"0.",
        b"t.",
        b"(.",
        b"NN.",
    ] {
        refused(payload);
    }
    for payload in [
        &b"\xc0"[..],
        b"\x93\x01\xc2\xa4ping",
        b"\xc1",
        b"\xd4\x01\x01",
        b"",
    ] {
        let read = decode(Format::Msgpack, payload);
        assert!(matches!(read, Err(DecodeError::Malformed { .. })));
    }
}

/// One of the vectors, with some bytes replaced, inserted or removed.
fn mutated() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 0..4);
    (any::<prop::sample::Index>(), edits).prop_map(|(index, edits)| {
        let vectors = vectors();
        let vector = index.get(&vectors);
        let mutate = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, kind, byte) in &edits {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = *byte,
                    1 => bytes.insert(at, *byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        };
        (mutate(vector.pickle), mutate(vector.msgpack))
    })
}

/// The same outcome; a NaN need not equal itself, and an error's wording may differ.
fn same(left: &Result<Message<'_>, DecodeError>, right: &Result<Message<'_>, DecodeError>) -> bool {
    format!("{left:?}") == format!("{right:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_straight_line_and_the_machine_agree_on_damaged_messages(bytes in mutated()) {
        let (pickle, msgpack) = bytes;
        let both = (decode(Format::Pickle, &pickle), from_pickle(&pickle));
        prop_assert!(same(&both.0, &both.1), "{:?}", both);
        let _ = decode(Format::Msgpack, &msgpack);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let _ = decode(Format::Pickle, &bytes);
        let _ = decode(Format::Pickle, &[b"\x80\x03(K\x01\x89", &bytes[..]].concat());
        let _ = decode(Format::Msgpack, &bytes);
        let _ = decode(Format::Msgpack, &[b"\x94\x01\xc2", &bytes[..]].concat());
    }

    #[test]
    fn random_opcodes_never_panic(
        bytes in prop::collection::vec(prop::sample::select(&b"()]}tsuelad0N12K\x01q\x00h\x00\x81\x85\x86\x87\x8f\x90\x91\x93\x94\x88\x8c\x01acbioRVS'\n."[..]), 0..60)
    ) {
        let _ = decode(Format::Pickle, &bytes);
        let _ = crate::wire::read_dict_lenient(&bytes);
    }
}
