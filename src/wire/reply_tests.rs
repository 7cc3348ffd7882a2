use super::*;
use crate::wire::frame::{FrameStep, next_frame};
use crate::wire::pickle::read_value;

#[path = "reply_vectors.rs"]
mod vectors;

use vectors::{CALLS, REPLIES};

const OID: Oid = Oid([1, 2, 3, 4, 5, 6, 7, 8]);
const OTHER: Oid = Oid([0, 0, 0, 0, 0, 0, 0, 42]);
const SERIAL: Tid = Tid([3, 0xff, 0, 1, 2, 3, 4, 5]);
const LATER: Tid = Tid([3, 0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]);

fn info() -> Value<'static> {
    let interfaces = Value::Tuple(vec![Value::Tuple(vec!["a".into(), "b".into()])]);
    let negative = [-1, -33, -129, -40_000, -(1 << 31) - 1_i64];
    Value::Dict(vec![
        ("length".into(), 70_000_i64.into()),
        ("size".into(), (1_i64 << 40).into()),
        ("name".into(), "Data.fs".into()),
        ("supportsUndo".into(), true.into()),
        ("supports_record_iternext".into(), false.into()),
        ("interfaces".into(), interfaces),
        ("time".into(), 1.5.into()),
        ("big".into(), u64::MAX.into()),
        (
            "neg".into(),
            Value::List(negative.map(Value::from).to_vec()),
        ),
    ])
}

/// The replies that `REPLIES` has the bytes of.
fn check_replies(mut check: impl FnMut(&Reply<'_>)) {
    let long = [b'x'; 300];
    let conflict = [Conflict {
        oid: OID,
        committed: LATER,
        read: SERIAL,
        data: b"data".into(),
    }];
    let replies = [
        Reply::Nothing,
        Reply::Loaded {
            data: b"data",
            serial: SERIAL,
            end: None,
        },
        Reply::Loaded {
            data: &long,
            serial: SERIAL,
            end: Some(LATER),
        },
        Reply::Tid(SERIAL),
        Reply::Oid(OID),
        Reply::Data(b"data"),
        Reply::Oids(&[]),
        Reply::Oids(&[OID]),
        Reply::Oids(&[OID, OTHER]),
        Reply::Invalidations {
            tid: SERIAL,
            oids: &[OID, OTHER],
        },
        Reply::Conflicts(&conflict),
        Reply::Value(info()),
    ];
    assert_eq!(replies.len(), REPLIES.len());
    replies.iter().for_each(&mut check);
}

/// The payload of the only frame in `buffer`.
fn payload(buffer: &[u8]) -> &[u8] {
    match next_frame(buffer, usize::MAX) {
        Ok(FrameStep::Complete { payload }) if payload.end == buffer.len() => &buffer[payload],
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_written_as_python_writes_them() {
    let mut expected = REPLIES.iter();
    check_replies(|reply| {
        let (pickle, msgpack) = expected.next().unwrap();
        let mut out = Vec::new();
        encode_reply(Format::Pickle, &mut out, &MessageId(b"K\x03".into()), reply);
        assert_eq!(payload(&out), *pickle, "{reply:?}");
        let mut out = Vec::new();
        encode_reply(Format::Msgpack, &mut out, &MessageId(b"\x03".into()), reply);
        assert_eq!(payload(&out), *msgpack, "{reply:?}");
    });
}

#[test]
fn server_calls_are_written_as_python_writes_them() {
    let (oid, serial) = (OID, SERIAL);
    let calls = [
        ServerCall::InvalidateTransaction {
            tid: SERIAL,
            oids: &[OID, OTHER],
        },
        ServerCall::InvalidateTransaction {
            tid: SERIAL,
            oids: &[],
        },
        ServerCall::Info {
            length: 5,
            size: 1 << 33,
        },
        ServerCall::ReceiveBlobStart { oid, serial },
        ServerCall::ReceiveBlobChunk {
            oid,
            serial,
            chunk: b"chunk",
        },
        ServerCall::ReceiveBlobStop { oid, serial },
    ];
    assert_eq!(calls.len(), CALLS.len());
    for (call, (pickle, msgpack)) in calls.iter().zip(CALLS) {
        let mut out = Vec::new();
        encode_call(Format::Pickle, &mut out, call).unwrap();
        assert_eq!(payload(&out), *pickle, "{call:?}");
        let mut out = Vec::new();
        encode_call(Format::Msgpack, &mut out, call).unwrap();
        assert_eq!(payload(&out), *msgpack, "{call:?}");
    }
}

#[test]
fn frames_are_appended_and_loads_grow_the_buffer_once() {
    let data = vec![7; 100_000];
    let reply = Reply::Loaded {
        data: &data,
        serial: SERIAL,
        end: Some(LATER),
    };
    for format in [Format::Pickle, Format::Msgpack] {
        let mut out = b"before".to_vec();
        encode_reply(format, &mut out, &MessageId(b"K\x03".into()), &reply);
        assert!(out.starts_with(b"before"));
        assert!(payload(&out[6..]).len() > data.len());
        let reserved = out.capacity();
        out.clear();
        encode_reply(format, &mut out, &MessageId(b"K\x03".into()), &reply);
        assert_eq!(out.capacity(), reserved);
    }
}

#[test]
fn what_cannot_be_sent_becomes_an_error() {
    let reply = Reply::Value(Value::from_i128(i128::MIN));
    let mut out = Vec::new();
    encode_reply(
        Format::Msgpack,
        &mut out,
        &MessageId(b"\x03".into()),
        &reply,
    );
    let text = payload(&out).escape_ascii().to_string();
    assert!(text.contains("builtins.ValueError"), "{text}");
    let mut out = Vec::new();
    encode_reply(
        Format::Pickle,
        &mut out,
        &MessageId(b"K\x03".into()),
        &reply,
    );
    let Ok(Value::Tuple(items)) = read_value(payload(&out)) else {
        panic!("no tuple");
    };
    assert_eq!(items[3].as_i128(), Some(i128::MIN));
}
