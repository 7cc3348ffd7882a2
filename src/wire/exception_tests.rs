use super::*;
use crate::wire::handshake::Format;
use crate::wire::reply::encode_error;
use crate::wire::request::MessageId;

#[path = "exception_vectors.rs"]
mod vectors;

use vectors::{other_errors, storage_errors};

fn encoded(format: Format, id: &'static [u8], exception: &Exception) -> Vec<u8> {
    let mut out = Vec::new();
    encode_error(format, &mut out, &MessageId(id.into()), exception);
    out.split_off(crate::wire::FRAME_HEADER_BYTES)
}

#[test]
fn exceptions_are_written_as_python_reduces_them() {
    for (exception, pickle, msgpack) in storage_errors().into_iter().chain(other_errors()) {
        assert_eq!(
            encoded(Format::Pickle, b"K\x03", &exception),
            pickle,
            "{exception}"
        );
        assert_eq!(
            encoded(Format::Msgpack, b"\x03", &exception),
            msgpack,
            "{exception}"
        );
    }
}

#[test]
fn no_errors_at_all_are_still_one() {
    let exception = Exception::MultipleUndoErrors(Vec::new());
    assert_eq!(exception.class(), "ZODB.POSException.UndoError");
    let message = encoded(Format::Pickle, b"K\x03", &exception);
    assert!(read_value(&message).is_ok());
}

#[test]
fn a_key_that_msgpack_cannot_write_does_not_lose_the_reply() {
    let exception = Exception::NotTheCurrentTransaction {
        current: None,
        given: TransactionKey::Int(i128::MAX),
    };
    let message = encoded(Format::Msgpack, b"\x03", &exception);
    let text = message.escape_ascii().to_string();
    assert!(text.contains("builtins.ValueError"), "{text}");
}

#[test]
fn the_log_names_the_object_and_the_reason() {
    let exception = Exception::ConflictError {
        oid: Some(Oid::from_u64(1)),
        committed: Tid::from_u64(2),
        read: Tid::from_u64(3),
        class_name: Some("a.C".to_owned()),
    };
    assert_eq!(
        exception.to_string(),
        "ConflictError: database conflict error: oid 0x01, class a.C, \
         read 0x0000000000000003, committed 0x0000000000000002"
    );
    let exception = Exception::ValueError("unknown storage: 2".to_owned());
    assert_eq!(exception.to_string(), "ValueError: unknown storage: 2");
}

#[test]
fn what_another_server_raised_is_passed_on_as_it_came() {
    use crate::wire::server_message::{ServerMessage, decode_server};
    for (exception, pickle, msgpack) in storage_errors().into_iter().chain(other_errors()) {
        for (format, payload, id) in [
            (Format::Pickle, pickle, &b"K\x03"[..]),
            (Format::Msgpack, msgpack, b"\x03"),
        ] {
            let Ok(ServerMessage::Reply {
                id: 3,
                result: Err(remote),
            }) = decode_server(format, payload)
            else {
                panic!("{exception} is not read");
            };
            assert_eq!(remote.class(), exception.class());
            let passed_on = Exception::Remote(remote);
            assert_eq!(encoded(format, id, &passed_on), payload, "{exception}");
        }
    }
}
