use proptest::prelude::*;

use super::*;
use crate::wire::pickle::write_value;

fn read(bytes: &[u8]) -> Value<'_> {
    read_value(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
}

/// (b'a\xff', bytearray(b'12'), {1}, 'é', 1.5, 2**40, True, None)
fn sample() -> Value<'static> {
    Value::Tuple(vec![
        Value::from(&b"a\xff"[..]),
        Value::from(&b"12"[..]),
        Value::Set(vec![Value::Int(1)]),
        "\u{e9}".into(),
        1.5.into(),
        (1_i64 << 40).into(),
        true.into(),
        Value::None,
    ])
}

#[test]
fn reads_every_protocol() {
    for pickle in SAMPLES {
        assert_eq!(read(pickle), sample(), "{pickle:?}");
    }
}

#[test]
fn empty_bytes_of_old_protocols_are_a_call() {
    assert_eq!(
        read(b"\x80\x02c__builtin__\nbytes\nq\x00)Rq\x01."),
        Value::from(&b""[..])
    );
    let binary = read(b"\x80\x02czodbpickle\nbinary\nq\x01U\x02ab\x85q\x02Rq\x03.");
    assert_eq!(binary, Value::from(&b"ab"[..]));
}

#[test]
fn a_list_is_filled_after_it_was_stored() {
    let one = || Value::List(vec![Value::Int(1)]);
    assert_eq!(read(b"(]q\0K\x01ah\0t."), Value::Tuple(vec![one(), one()]));
}

#[test]
fn the_start_of_the_bytes_may_be_a_pickle() {
    assert_eq!(read_prefix(b"K\x05.rest"), Ok((Value::Int(5), 3)));
    let error = read_value(b"K\x05.rest").unwrap_err();
    assert_eq!((error.offset, error.fault), (3, PickleFault::TrailingData));
}

#[test]
fn extensions_lose_only_what_is_no_plain_data() {
    let plain = || Value::Dict(vec![("a".into(), 1_i64.into()), ("c".into(), "d".into())]);
    for odd in [
        &b"cdatetime\ndatetime\nC\x02ab\x85R"[..],
        b"cm\nC\n)\x81}X\x01\0\0\0xK\x01sb",
        b"(im\nC\n}b",
        b"(cm\nC\nK\x01o",
        b"]cm\nC\na",
        b"K\x01Q",
        b"Pid\n",
        b"\x82\x05",
        b"X\x01\0\0\0mX\x01\0\0\0C\x93",
        b"cm\nL\n)\x81(K\x01K\x02e",
        b"cm\nD\n)\x81K\x01K\x02s",
        b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nobject\nNtR",
    ] {
        let head = b"\x80\x02}(X\x01\0\0\0aK\x01X\x01\0\0\0b";
        let pickle = [head, odd, b"X\x01\0\0\0cX\x01\0\0\0du."].concat();
        assert_eq!(read_dict_lenient(&pickle), plain(), "{odd:?}");
        assert!(read_value(&pickle).is_err(), "{odd:?}");
    }
}

#[test]
fn an_extension_that_is_no_dict_is_empty() {
    for pickle in [&b""[..], b"N.", b"}", b"]K\x01a.", b"cm\nC\n.", b"garbage"] {
        assert_eq!(read_dict_lenient(pickle), Value::Dict(Vec::new()));
    }
}

#[test]
fn a_lone_surrogate_is_replaced_in_extensions_only() {
    let pickle = b"\x80\x03}X\x01\0\0\0aX\x03\0\0\0\xed\xa0\x80s.";
    assert!(read_value(pickle).is_err());
    let dict = read_dict_lenient(pickle);
    assert!(dict.get("a").and_then(Value::as_str).is_some());
}

fn values() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from_i128),
        (-1000.0..1000.0).prop_map(Value::Float),
        any::<Vec<u8>>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..8);
        prop_oneof![
            items.clone().prop_map(Value::Tuple),
            items.clone().prop_map(Value::List),
            items.prop_map(Value::Set),
            prop::collection::vec((inner.clone(), inner), 0..8).prop_map(Value::Dict),
            Just(Value::Prefix {
                path: vec!["".into(), "a".into()]
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in values()) {
        let mut pickle = Vec::new();
        write_value(&mut pickle, &value).unwrap();
        prop_assert_eq!(read(&pickle), value);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let _ = read_prefix(&bytes);
        let _ = read_dict_lenient(&[b"}(", &bytes[..], b"u."].concat());
    }
}

/// `sample` in protocols 0 to 5, by Python 3.
const SAMPLES: [&[u8]; 6] = [
    b"(c_codecs\x0aencode\x0ap0\x0a(Va\xff\x0ap1\x0aVlatin1\x0ap2\x0atp3\x0aRp4\x0ac__builtin__\x0abytearray\x0ap5\x0a(g0\x0a(V12\x0ap6\x0ag2\x0atp7\x0aRp8\x0atp9\x0aRp10\x0ac__builtin__\x0aset\x0ap11\x0a((lp12\x0aI1\x0aatp13\x0aRp14\x0aV\xe9\x0ap15\x0aF1.5\x0aL1099511627776L\x0aI01\x0aNtp16\x0a.",
    b"(c_codecs\x0aencode\x0aq\x00(X\x03\x00\x00\x00a\xc3\xbfq\x01X\x06\x00\x00\x00latin1q\x02tq\x03Rq\x04c__builtin__\x0abytearray\x0aq\x05(h\x00(X\x02\x00\x00\x0012q\x06h\x02tq\x07Rq\x08tq\x09Rq\x0ac__builtin__\x0aset\x0aq\x0b(]q\x0cK\x01atq\x0dRq\x0eX\x02\x00\x00\x00\xc3\xa9q\x0fG?\xf8\x00\x00\x00\x00\x00\x00L1099511627776L\x0aI01\x0aNtq\x10.",
    b"\x80\x02(c_codecs\x0aencode\x0aq\x00X\x03\x00\x00\x00a\xc3\xbfq\x01X\x06\x00\x00\x00latin1q\x02\x86q\x03Rq\x04c__builtin__\x0abytearray\x0aq\x05h\x00X\x02\x00\x00\x0012q\x06h\x02\x86q\x07Rq\x08\x85q\x09Rq\x0ac__builtin__\x0aset\x0aq\x0b]q\x0cK\x01a\x85q\x0dRq\x0eX\x02\x00\x00\x00\xc3\xa9q\x0fG?\xf8\x00\x00\x00\x00\x00\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x88Ntq\x10.",
    b"\x80\x03(C\x02a\xffq\x00cbuiltins\x0abytearray\x0aq\x01C\x0212q\x02\x85q\x03Rq\x04cbuiltins\x0aset\x0aq\x05]q\x06K\x01a\x85q\x07Rq\x08X\x02\x00\x00\x00\xc3\xa9q\x09G?\xf8\x00\x00\x00\x00\x00\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x88Ntq\x0a.",
    b"\x80\x04\x95I\x00\x00\x00\x00\x00\x00\x00(C\x02a\xff\x94\x8c\x08builtins\x94\x8c\x09bytearray\x94\x93\x94C\x0212\x94\x85\x94R\x94\x8f\x94(K\x01\x90\x8c\x02\xc3\xa9\x94G?\xf8\x00\x00\x00\x00\x00\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x88Nt\x94.",
    b"\x80\x05\x953\x00\x00\x00\x00\x00\x00\x00(C\x02a\xff\x94\x96\x02\x00\x00\x00\x00\x00\x00\x0012\x94\x8f\x94(K\x01\x90\x8c\x02\xc3\xa9\x94G?\xf8\x00\x00\x00\x00\x00\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x88Nt\x94.",
];
