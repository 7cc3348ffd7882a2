use super::*;
use crate::wire::frame::FRAME_HEADER_BYTES;
use crate::wire::reply::{ServerCall, encode_call, encode_reply};
use crate::wire::{MessageId, Reply};

const OID: Oid = Oid([1, 2, 3, 4, 5, 6, 7, 8]);
const TID: Tid = Tid([3, 0xff, 0, 1, 2, 3, 4, 5]);
const FORMATS: [Format; 2] = [Format::Pickle, Format::Msgpack];

fn called(format: Format, call: &ServerCall<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_call(format, &mut out, call).unwrap();
    out.split_off(FRAME_HEADER_BYTES)
}

fn replied(format: Format, reply: &Reply<'_>) -> Vec<u8> {
    let id = match format {
        Format::Pickle => MessageId(b"K\x07".into()),
        Format::Msgpack => MessageId(b"\x07".into()),
    };
    let mut out = Vec::new();
    encode_reply(format, &mut out, &id, reply);
    out.split_off(FRAME_HEADER_BYTES)
}

#[test]
fn calls_of_the_client_are_read_in_both_formats() {
    let (oid, serial) = (OID, TID);
    for format in FORMATS {
        let read = |call: ServerCall<'_>| {
            let payload = called(format, &call);
            match decode_server(format, &payload) {
                Ok(ServerMessage::Notice(notice)) => notice.into_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            read(ServerCall::InvalidateTransaction {
                tid: TID,
                oids: &[OID, Oid::ROOT]
            }),
            ServerNotice::Invalidation {
                tid: TID,
                oids: vec![OID, Oid::ROOT]
            }
        );
        assert_eq!(
            read(ServerCall::Info { length: 5, size: 6 }),
            ServerNotice::Info {
                length: Some(5),
                size: Some(6)
            }
        );
        assert_eq!(
            read(ServerCall::ReceiveBlobStart { oid, serial }),
            ServerNotice::BlobStart { oid, serial }
        );
        assert_eq!(
            read(ServerCall::ReceiveBlobStop { oid, serial }),
            ServerNotice::BlobStop { oid, serial }
        );
        let chunk = b"chunk";
        assert_eq!(
            read(ServerCall::ReceiveBlobChunk { oid, serial, chunk }),
            ServerNotice::BlobChunk {
                oid,
                serial,
                chunk: chunk[..].into()
            }
        );
    }
}

#[test]
fn more_oids_than_a_clients_message_may_hold_are_read() {
    let oids: Vec<_> = (0..300_000).map(Oid::from_u64).collect();
    for format in FORMATS {
        let call = ServerCall::InvalidateTransaction {
            tid: TID,
            oids: &oids,
        };
        let payload = called(format, &call);
        match decode_server(format, &payload) {
            Ok(ServerMessage::Notice(ServerNotice::Invalidation { oids: read, .. })) => {
                assert!(read == oids);
            }
            other => panic!("{:?}", other.map(drop)),
        }
    }
}

#[test]
fn a_server_cannot_make_much_of_few_bytes() {
    // Lists of None: each value takes one byte.
    let many = 1 << 20;
    let pickle = [
        &b"\x80\x03(K\x07K\x00X\x06\0\0\0.reply]("[..],
        &vec![b'N'; many],
        b"et.",
    ]
    .concat();
    let error = decode_server(Format::Pickle, &pickle).unwrap_err();
    assert!(error.to_string().contains("too many values"), "{error}");
    let msgpack = [
        &b"\x94\x07\x00\xa6.reply\xdd\x00\x10\x00\x00"[..],
        &vec![0xc0; many],
    ]
    .concat();
    let error = decode_server(Format::Msgpack, &msgpack).unwrap_err();
    assert!(error.to_string().contains("too many values"), "{error}");
    let deep = [
        &b"\x80\x03(K\x07K\x00X\x06\0\0\0.reply"[..],
        &[b']'; 200],
        &[b'a'; 199],
        b"t.",
    ]
    .concat();
    let error = decode_server(Format::Pickle, &deep).unwrap_err();
    assert!(error.to_string().contains("nest too deeply"), "{error}");
}

#[test]
fn what_is_no_plain_data_is_not_built_and_loses_nothing_else() {
    // (7, 2, '.reply', ('a.B', (OSError(2), 'why')))
    let pickle = b"\x80\x03(K\x07K\x02X\x06\0\0\0.replyX\x03\0\0\0a.B\
                   cbuiltins\nOSError\nK\x02\x85RX\x03\0\0\0why\x86\x86t.";
    let Ok(ServerMessage::Reply {
        id: 7,
        result: Err(exception),
    }) = decode_server(Format::Pickle, pickle)
    else {
        panic!("no error");
    };
    assert_eq!(exception.class(), "a.B");
    assert_eq!(exception.to_string(), "B: (a Python object), why");
}

#[test]
fn heartbeats_and_conflicts_are_told_from_results() {
    let beat = b"\x80\x03(J\xff\xff\xff\xffK\x00X\x06\0\0\0.replyNt.";
    assert_eq!(
        decode_server(Format::Pickle, beat),
        Ok(ServerMessage::Heartbeat)
    );
    let conflict = Conflict {
        oid: OID,
        committed: Tid::from_u64(9),
        read: TID,
        data: b"data"[..].into(),
    };
    for format in FORMATS {
        let conflicts = [conflict.clone()];
        let payload = replied(format, &Reply::Conflicts(&conflicts));
        let Ok(ServerMessage::Reply {
            id: 7,
            result: Ok(value),
        }) = decode_server(format, &payload)
        else {
            panic!("no result");
        };
        let items = value.as_items().unwrap();
        assert_eq!(items[0].as_conflict(), Some(conflict.clone()));
        assert_eq!(items[0].as_oid(), None);
    }
}

#[test]
fn garbage_is_refused_with_a_reason() {
    for (payload, reason) in [
        (&b""[..], "cut short"),
        (b"\x80\x03N.", "not a tuple"),
        (b"\x80\x03(K\x07K\x00Nt.", "not a tuple"),
        (b"\x80\x03(K\x07K\x00K\x01Nt.", "not a tuple"),
        (b"\x80\x03(NK\x00X\x06\0\0\0.replyNt.", "not a tuple"),
        (b"\x80\x03(K\x07K\x02X\x06\0\0\0.replyNt.", "names no class"),
        (
            b"\x80\x03(K\x00\x88X\x01\0\0\0x)t.",
            "the server calls \"x\"",
        ),
        (
            b"\x80\x03(K\x00\x88X\x15\0\0\0invalidateTransaction)t.",
            "the server calls \"invalidateTransaction\"",
        ),
        (
            b"\x80\x03(K\x07K\x00X\x06\0\0\0.replyNt.N",
            "after the pickle",
        ),
    ] {
        let error = decode_server(Format::Pickle, payload).unwrap_err();
        assert!(error.to_string().contains(reason), "{payload:?}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(payload: Vec<u8>) {
        for format in FORMATS {
            let _ = decode_server(format, &payload);
        }
    }
}
