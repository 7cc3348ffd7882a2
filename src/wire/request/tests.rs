use super::build::METHODS;
use super::decode::from_pickle;
use super::picklers::pickles;
use super::vectors::{Vector, vectors};
use super::*;
use crate::wire::handshake::Format;
use crate::wire::pickle::fast;
use crate::wire::value::Value;

/// The id as it stands in a pickle of the client, or in a msgpack message.
fn call(message: Message<'_>) -> (Vec<u8>, bool, Request<'_>) {
    match message {
        Message::Call {
            id,
            one_way,
            request,
        } => (id.as_bytes().to_vec(), one_way, request),
        Message::Heartbeat => panic!("a heartbeat"),
    }
}

fn pickle_call(bytes: &[u8]) -> (Vec<u8>, bool, Request<'_>) {
    call(decode(Format::Pickle, bytes).unwrap())
}

#[test]
fn reads_every_request_in_both_formats() {
    for Vector {
        pickle,
        msgpack,
        one_way,
        request,
    } in vectors()
    {
        let (id, flag, read) = pickle_call(pickle);
        assert_eq!((flag, &read), (one_way, &request));
        assert!(pickle[3..].starts_with(&id), "{id:?}");
        if !msgpack.is_empty() {
            let (id, flag, read) = call(decode(Format::Msgpack, msgpack).unwrap());
            assert_eq!((flag, &read), (one_way, &request));
            assert!(msgpack[1..].starts_with(&id), "{id:?}");
        }
    }
}

#[test]
fn every_method_has_a_vector_and_its_own_name() {
    for (name, _) in METHODS {
        assert!(
            vectors()
                .iter()
                .any(|vector| vector.request.method() == name),
            "{name}"
        );
    }
    for vector in vectors() {
        let name = vector.request.method().as_bytes();
        assert!(vector.pickle.windows(name.len()).any(|part| part == name));
    }
}

#[test]
fn the_straight_line_takes_what_stock_clients_send() {
    for Vector {
        pickle, request, ..
    } in vectors()
    {
        // What holds containers is rare, and left to the machine.
        let has_containers = match &request {
            Request::IteratorGc { .. } => true,
            Request::UndoInfo { specification, .. } => !specification.is_falsy(),
            Request::TpcBegin { extension, .. } => extension.contains(&b'b'),
            _ => false,
        };
        if !has_containers {
            assert!(fast::read_call(pickle).is_some(), "{request:?}");
        }
    }
}

#[test]
fn ids_and_data_borrow_from_the_frame() {
    for vector in vectors() {
        for (format, bytes) in [
            (Format::Pickle, vector.pickle),
            (Format::Msgpack, vector.msgpack),
        ] {
            let Request::Store { .. } = vector.request else {
                continue;
            };
            let Ok(Message::Call { id, request, .. }) = decode(format, bytes) else {
                panic!("{bytes:?}");
            };
            assert!(matches!(id.0, Cow::Borrowed(_)));
            assert!(matches!(
                request,
                Request::Store {
                    data: Cow::Borrowed(_),
                    ..
                }
            ));
        }
    }
}

#[test]
fn the_machine_reads_what_the_straight_line_reads() {
    for vector in vectors() {
        assert_eq!(
            decode(Format::Pickle, vector.pickle),
            from_pickle(vector.pickle)
        );
    }
}

#[test]
fn reads_what_any_pickler_writes() {
    let vectors = vectors();
    for (pickle, index) in pickles() {
        let vector = &vectors[index];
        let (id, one_way, request) = pickle_call(pickle);
        let (expected_id, ..) = pickle_call(vector.pickle);
        assert_eq!((one_way, &request), (vector.one_way, &vector.request));
        assert_eq!(id, expected_id, "{pickle:?}");
    }
}

#[test]
fn python_2_strings_are_bytes_or_text() {
    let message = b"\x80\x02((U\x02idt\x89U\x0aloadBefore(U\x08\0\0\0\0\0\0\0\x01T\x08\0\0\0\xff\xff\xff\xff\0\0\0\0tt.";
    let (id, _, request) = pickle_call(message);
    let tid = Tid::from_u64(0xffff_ffff_0000_0000);
    let oid = Oid::from_u64(1);
    assert_eq!(request, Request::LoadBefore { oid, tid });
    assert_eq!(id, b"X\x02\0\0\0id\x85");
    let message =
        b"\x80\x02(K\x05\x88U\x09tpc_begin(K\x07U\x01uX\x02\0\0\0\xc3\xa9}q\x01U\x01kU\x01vstt.";
    let (.., request) = pickle_call(message);
    let Request::TpcBegin {
        description,
        extension,
        ..
    } = request
    else {
        panic!("{request:?}");
    };
    assert_eq!(description.as_ref(), "\u{e9}".as_bytes());
    assert_eq!(extension, b"\x80\x03}X\x01\0\0\0kX\x01\0\0\0vs.");
}

#[test]
fn heartbeats_need_no_method() {
    for (format, bytes) in [
        (
            Format::Pickle,
            &b"\x80\x03(J\xff\xff\xff\xffK\0X\x06\0\0\0.replyNt."[..],
        ),
        (Format::Msgpack, b"\x94\xff\x00\xa6.reply\xc0"),
    ] {
        assert_eq!(decode(format, bytes), Ok(Message::Heartbeat));
    }
}

#[test]
fn an_unknown_method_is_named_shortened() {
    let name = "evil\n".repeat(100);
    let length = u32::try_from(name.len()).unwrap().to_le_bytes();
    let bytes = [b"\x80\x03(K\x01\x89X", &length[..], name.as_bytes(), b")t."].concat();
    let Err(DecodeError::UnknownMethod { name }) = decode(Format::Pickle, &bytes) else {
        panic!("it was decoded");
    };
    assert!(name.starts_with("evil\\nevil") && name.len() <= 160);
    let unnamed = decode(Format::Msgpack, b"\x94\x01\xc2\xc0\x90");
    assert!(matches!(unnamed, Err(DecodeError::UnknownMethod { .. })));
}

fn bad_arguments(format: Format, bytes: &[u8]) -> (Vec<u8>, bool, &'static str, String) {
    match decode(format, bytes) {
        Err(DecodeError::BadArguments {
            id,
            one_way,
            method,
            detail,
            ..
        }) => (id.as_bytes().to_vec(), one_way, method, detail),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_arguments_are_told_apart() {
    let cases: [(&[u8], &str); 7] = [
        (
            b"X\x04\0\0\0voteK\x01K\x02\x86",
            "takes 1 arguments, 2 given",
        ),
        (b"X\x04\0\0\0vote)", "argument id is missing"),
        (
            b"X\x06\0\0\0getTidC\x07\0\0\0\0\0\0\0\x85",
            "argument oid must be an oid",
        ),
        (
            b"X\x06\0\0\0getTidX\x07\0\0\0\0\0\0\0\0\0\0\x85",
            "argument oid must be an oid",
        ),
        (b"X\x04\0\0\0pingN", "the arguments are not a tuple"),
        (b"X\x04\0\0\0ping(NNNNNNNNNt", "takes 0 arguments, 9 given"),
        (
            b"X\x08\0\0\0registerK\x01\x88\x86",
            "argument storage_id must be bytes or a str",
        ),
    ];
    for (rest, expected) in cases {
        let bytes = [b"\x80\x03(K\x07\x88", rest, b"t."].concat();
        let (id, one_way, _, detail) = bad_arguments(Format::Pickle, &bytes);
        assert_eq!(
            (id.as_slice(), one_way, detail.as_str()),
            (&b"K\x07"[..], true, expected)
        );
    }
    let (id, one_way, method, _) = bad_arguments(Format::Msgpack, b"\x94\x07\xc2\xa4ping\xc0");
    assert_eq!(
        (id.as_slice(), one_way, method),
        (&b"\x07"[..], false, "ping")
    );
    let (.., detail) = bad_arguments(Format::Msgpack, b"\x94\x07\xc2\xa4ping\x91\xc0");
    assert_eq!(detail, "takes 0 arguments, 1 given");
}

#[test]
fn an_id_may_come_as_text_of_eight_latin_characters() {
    let bytes = b"\x80\x03(K\x07\x89X\x06\0\0\0getTidX\x09\0\0\0\0\0\0\0\0\0\0\xc3\xbf\x85t.";
    let expected = Request::GetTid {
        oid: Oid([0, 0, 0, 0, 0, 0, 0, 0xff]),
    };
    assert_eq!(pickle_call(bytes).2, expected);
    let bytes = b"\x80\x03(K\x07\x89X\x06\0\0\0getTidX\x0a\0\0\0\0\0\0\0\0\0\0\xe2\x82\xac\x85t.";
    assert!(
        decode(Format::Pickle, bytes).is_err(),
        "no byte stands for a euro sign"
    );
}

#[test]
fn transaction_keys_may_be_anything() {
    let key = |argument: &[u8]| {
        let bytes = [b"\x80\x03(K\x07\x89X\x04\0\0\0vote", argument, b"\x85t."].concat();
        match pickle_call(&bytes).2 {
            Request::Vote { transaction } => transaction,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(key(b"K\x05"), TransactionKey::Int(5));
    assert_eq!(key(b"J\x05\0\0\0"), TransactionKey::Int(5));
    assert_eq!(key(b"\x8a\x02\x05\0"), TransactionKey::Int(5));
    assert_eq!(key(b"I5\n"), TransactionKey::Int(5));
    let wide = key(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0");
    assert_eq!(wide, TransactionKey::Int(i128::from(u64::MAX)));
    assert_eq!(key(b"C\x01x"), key(b"B\x01\0\0\0x"));
    assert_ne!(key(b"C\x01x"), key(b"X\x01\0\0\0x"));
    assert_eq!(key(b"K\x01K\x02\x86"), key(b"(K\x01K\x02t"));
}

#[test]
fn any_id_is_echoed_free_of_memo_entries() {
    let bytes = b"\x80\x04(\x8c\x01a\x94h\x00]\x94(h\x00K\x01ee\x86\x89X\x04\0\0\0ping)t.";
    assert!(decode(Format::Pickle, bytes).is_err(), "unbalanced");
    let bytes = b"\x80\x04(\x8c\x01a\x94]\x94(h\x00K\x01e\x86\x89X\x04\0\0\0ping)t.";
    assert_eq!(
        pickle_call(bytes).0,
        b"X\x01\0\0\0a](X\x01\0\0\0aK\x01e\x86"
    );
}

#[test]
fn an_overlong_id_is_refused() {
    let bytes = [
        b"\x80\x03(B\x88\x13\0\0",
        &[b'x'; 5000][..],
        b"\x89X\x04\0\0\0ping)t.",
    ]
    .concat();
    let refused = decode(Format::Pickle, &bytes);
    assert!(matches!(refused, Err(DecodeError::Malformed { .. })));
}

#[test]
fn extensions_are_kept_as_pickled_dicts() {
    let extension = |argument: &[u8]| {
        let head = b"\x80\x03(K\x07\x89X\x09\0\0\0tpc_begin(K\x01C\x00C\x00";
        let bytes = [head, argument, b"tt."].concat();
        match decode(Format::Pickle, &bytes).map(call) {
            Ok((_, _, Request::TpcBegin { extension, .. })) => Some(extension),
            _ => None,
        }
    };
    assert_eq!(extension(b"}"), Some(vec![]));
    assert_eq!(extension(b"N"), Some(vec![]));
    assert_eq!(extension(b"C\x03abc"), Some(b"abc".to_vec()));
    assert_eq!(extension(b"]"), None);
    let nested = b"}X\x01\0\0\0a(K\x01]K\x02a}K\x03K\x04sC\x01bts";
    let expected = [b"\x80\x03", &nested[..], b"."].concat();
    assert_eq!(extension(nested), Some(expected));
    // Python could never load it again.
    assert_eq!(extension(b"}]K\x01s"), None);
    assert_eq!(extension(b"}K\x01}]K\x01ss"), None);
    assert_eq!(extension(b"}X\x01\0\0\0acdatetime\ndatetime\ns"), None);
}

#[test]
fn prefixes_of_paths_keep_their_value() {
    let vectors = vectors();
    let prefix = vectors.iter().find_map(|vector| match &vector.request {
        Request::UndoInfo { specification, .. } => match specification.get("user_name") {
            Some(Value::Prefix { path }) => Some(path.clone()),
            _ => None,
        },
        _ => None,
    });
    let prefix = prefix.expect("a vector has one");
    assert!(crate::wire::value::prefix_matches(&prefix, "/a/b user"));
}

/// The payload of a call as this process writes it.
fn written(format: Format, id: i64, one_way: bool, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_request(format, &mut out, id, one_way, request).unwrap();
    out.split_off(crate::wire::FRAME_HEADER_BYTES)
}

#[test]
fn every_request_that_is_written_is_read_back() {
    for Vector {
        one_way, request, ..
    } in vectors()
    {
        for format in [Format::Pickle, Format::Msgpack] {
            let is_for_pickle = matches!(&request, Request::UndoInfo { specification, .. }
                if !specification.is_falsy());
            if format == Format::Msgpack && is_for_pickle {
                continue;
            }
            let payload = written(format, 7, one_way, &request);
            let (_, flag, read) = call(decode(format, &payload).unwrap());
            assert_eq!(flag, one_way);
            if let (Request::TpcBegin { .. }, Format::Msgpack) = (&request, format) {
                // The extension's pickle is made anew, of msgpack's types.
                assert_eq!(read.method(), request.method());
            } else {
                assert_eq!(read, request);
            }
        }
    }
}

#[test]
fn every_method_is_written_as_python_writes_it() {
    let mut equal = std::collections::HashSet::new();
    for Vector {
        pickle,
        msgpack,
        one_way,
        request,
    } in vectors()
    {
        // Ids differ; what stands behind them is compared.
        let (id, ..) = pickle_call(pickle);
        let behind = &pickle[3 + id.len()..];
        let mine = written(Format::Pickle, 7, one_way, &request);
        let mut is_equal = mine[5..] == *behind;
        if is_equal && !msgpack.is_empty() {
            let (id, ..) = call(decode(Format::Msgpack, msgpack).unwrap());
            let mine = written(Format::Msgpack, 7, one_way, &request);
            is_equal = mine[2..] == msgpack[1 + id.len()..];
        }
        if is_equal {
            equal.insert(request.method());
        }
    }
    let missing: Vec<_> = METHODS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !equal.contains(name))
        .collect();
    // Its vectors hold a number that is no iterator's, which is not kept.
    assert_eq!(missing, ["iterator_gc"]);
}

#[test]
fn a_heartbeat_is_read_as_one() {
    for format in [Format::Pickle, Format::Msgpack] {
        let mut out = Vec::new();
        encode_heartbeat(format, &mut out);
        let payload = out.split_off(crate::wire::FRAME_HEADER_BYTES);
        assert_eq!(decode(format, &payload), Ok(Message::Heartbeat));
    }
}
