//! Clients that send what no client would: that one connection is closed, with
//! a line in the log, and that is all.

use crate::raw_client::{PATIENCE, RawClient, Z5, int, push_frame, push_request};
use crate::site::{Site, bytes, error, load_arguments, store_arguments, text, tuple, value};

/// What the server may grow by while it refuses small bad messages.
const SMALL_KIB: u64 = 24 << 10;
/// The longest frame that the server takes.
const MAX_FRAME_BYTES: u32 = 256 << 20;

/// The client is cut off, the log says `why`, and others are served.
fn assert_cut_off(site: &mut Site, client: &mut RawClient, why: &str) {
    assert!(client.is_closed_within(PATIENCE), "{why}");
    site.await_log(&format!("connection closed: {why}"));
    site.assert_serves();
}

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(length)
    .collect()
}

#[test]
fn a_greeting_of_another_protocol_is_refused() {
    let mut site = Site::start(&[]);
    let mut client = site.stranger();
    client.send_raw(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_cut_off(
        &mut site,
        &mut client,
        "a first message of 1195725856 bytes",
    );
    for protocol in ["Z4", "M6", "", "Z5Z5"] {
        let mut client = site.stranger();
        client.send_frame(protocol.as_bytes()).unwrap();
        let why = format!("the client asks for the protocol \"{protocol}\"");
        assert_cut_off(&mut site, &mut client, &why);
    }
    for seed in 1..20 {
        let mut client = site.stranger();
        // A length that no greeting has.
        let bytes = [&[seed; 1][..], &random_bytes(seed.into(), 5000)].concat();
        // It may be closed before all of it is sent.
        let _ = client.send_raw(&bytes);
        assert_cut_off(&mut site, &mut client, "a first message of");
    }
    site.await_all_gone();
    site.assert_grown_at_most(SMALL_KIB);
}

#[test]
fn a_client_that_greets_byte_by_byte_keeps_nobody_waiting() {
    let mut site = Site::start(&[]);
    let mut slow: Vec<_> = (0..100).map(|_| site.stranger()).collect();
    for byte in [0, 0, 0] {
        for client in &mut slow {
            client.send_raw(&[byte]).unwrap();
        }
        site.assert_serves();
        site.client();
    }
    site.assert_grown_at_most(SMALL_KIB);
    // Nor does it keep the server from stopping.
    assert!(site.zeod.process.stop().unwrap().success());
}

#[test]
#[ignore = "takes half a minute: that long a client may take to greet"]
fn a_client_that_never_greets_is_cut_off() {
    let site = Site::start(&[]);
    let mut client = site.stranger();
    client.send_raw(&[0, 0]).unwrap();
    assert!(client.is_closed_within(PATIENCE * 4));
    site.await_log("no greeting within 30 s");
}

#[test]
fn frames_of_random_bytes_are_refused() {
    let mut site = Site::start(&[]);
    for seed in 1..40 {
        let mut client = site.client();
        let length = usize::try_from(seed * 13).unwrap();
        client.send_frame(&random_bytes(seed, length)).unwrap();
        assert_cut_off(&mut site, &mut client, "");
    }
    // Behind the marks of a pickle they get further.
    for seed in 1..40 {
        let mut client = site.client();
        let payload = [b"\x80\x03(K\x01", &random_bytes(seed, 200)[..]].concat();
        client.send_frame(&payload).unwrap();
        assert_cut_off(&mut site, &mut client, "malformed message");
    }
    site.await_all_gone();
    site.assert_grown_at_most(SMALL_KIB);
}

#[test]
fn frames_of_random_bytes_are_refused_in_msgpack_too() {
    let mut site = Site::start(&[]);
    for seed in 1..40 {
        let mut client = site.stranger();
        client.send_frame(b"M5").unwrap();
        let payload = [b"\x94", &random_bytes(seed, 100)[..]].concat();
        client.send_frame(&payload).unwrap();
        assert_cut_off(&mut site, &mut client, "");
    }
    site.assert_grown_at_most(SMALL_KIB);
}

#[test]
fn a_client_that_goes_within_a_frame_leaves_nothing() {
    let mut site = Site::start(&[]);
    let mut frame = Vec::new();
    let arguments = store_arguments(1, [0; 8], &[7; 2000]);
    push_request(&mut frame, &int(9), false, "storea", &arguments);
    for length in [1, 3, 4, 5, 50, frame.len() - 1] {
        let mut client = site.client();
        client.send_raw(&frame[..length]).unwrap();
    }
    site.await_all_gone();
    site.await_log("disconnected");
    site.assert_serves();
    site.assert_grown_at_most(SMALL_KIB);
}

#[test]
fn a_length_of_four_gigabytes_is_refused_at_once() {
    let mut site = Site::start(&[]);
    let mut client = site.client();
    client.send_raw(b"\xff\xff\xff\xff").unwrap();
    let why = "a frame of 4294967295 bytes is longer than the 268435456 allowed";
    assert_cut_off(&mut site, &mut client, why);
    site.assert_grown_at_most(SMALL_KIB);
}

#[test]
fn memory_for_a_frame_is_taken_as_it_arrives() {
    let mut site = Site::start(&[]);
    let mut client = site.client();
    client
        .send_raw(&(MAX_FRAME_BYTES + 1).to_be_bytes())
        .unwrap();
    assert_cut_off(&mut site, &mut client, "a frame of 268435457 bytes");
    // One byte less is allowed, by many at once, and costs what has arrived.
    let mut clients: Vec<_> = (0..20).map(|_| site.client()).collect();
    for client in &mut clients {
        client.send_raw(&MAX_FRAME_BYTES.to_be_bytes()).unwrap();
        client.send_raw(&vec![0; 100_000]).unwrap();
    }
    site.assert_serves();
    site.assert_grown_at_most(SMALL_KIB);
    drop(clients);
    site.await_all_gone();
}

#[test]
fn who_has_not_registered_may_not_send_much() {
    let mut site = Site::start(&[]);
    let mut client = site.stranger();
    client.send_frame(Z5).unwrap();
    client.send_raw(&(1_u32 << 20).to_be_bytes()).unwrap();
    let why = "a frame of 1048576 bytes is longer than the 65536 allowed";
    assert_cut_off(&mut site, &mut client, why);
}

/// A message `ping` with these arguments, pickled, is refused.
fn assert_refused(site: &mut Site, arguments: &[u8], why: &str) {
    for one_way in [false, true] {
        let mut client = site.client();
        let mut frame = Vec::new();
        push_request(&mut frame, &int(5), one_way, "ping", arguments);
        // It may be closed before all of it is sent.
        let _ = client.send_raw(&frame);
        assert_cut_off(site, &mut client, why);
    }
}

#[test]
fn deeply_nested_values_are_refused() {
    const DEPTH: usize = 1_000_000;
    let mut site = Site::start(&[]);
    let tuples = [b")".to_vec(), vec![0x85; DEPTH]].concat();
    let lists = [vec![b']'; DEPTH], vec![b'a'; DEPTH - 1], vec![0x85]].concat();
    let marks = vec![b'('; DEPTH];
    let marked = [vec![b'('; DEPTH], vec![b't'; DEPTH]].concat();
    for nested in [tuples, lists, marks, marked] {
        assert_refused(&mut site, &nested, "malformed message");
    }
    site.assert_grown_at_most(64 << 10);
}

#[test]
fn values_that_grow_by_their_memo_are_refused() {
    let mut site = Site::start(&[]);
    // Each step names the one before twice: 2 ** 60 items.
    let mut doubling = [bytes(&[7; 1000]), b"q\x00".to_vec()].concat();
    for step in 0..60 {
        doubling.extend_from_slice(&[b'h', step, b'h', step, 0x86, b'q', step + 1]);
    }
    doubling.push(0x85);
    assert_refused(&mut site, &doubling, "malformed message");
    // A memo entry far away must not make a long table.
    let far = b"(K\x01r\xff\xff\xff\xfft".to_vec();
    let mut client = site.client();
    let mut frame = Vec::new();
    push_request(&mut frame, &int(5), false, "new_oids", &far);
    client.send_raw(&frame).unwrap();
    site.assert_serves();
    // Many entries of one long value.
    let mut many = bytes(&vec![7; 1 << 20]);
    for number in 0..200_u32 {
        many.extend_from_slice(&[&b"r"[..], &number.to_le_bytes()].concat());
    }
    many.push(b'(');
    for number in 0..200_u32 {
        many.extend_from_slice(&[&b"j"[..], &number.to_le_bytes()].concat());
    }
    many.extend_from_slice(b"t\x86");
    assert_answered_or_cut_off(&mut site, &many);
    site.assert_grown_at_most(64 << 10);
}

fn assert_answered_or_cut_off(site: &mut Site, arguments: &[u8]) {
    let mut client = site.client();
    let mut frame = Vec::new();
    push_request(&mut frame, &int(5), false, "ping", arguments);
    client.send_raw(&frame).unwrap();
    let _ = client.read_frame(PATIENCE);
    site.assert_serves();
}

#[test]
fn nothing_that_a_message_names_is_executed() {
    let mut site = Site::start(&[]);
    let globals: [&[u8]; 4] = [
        b"(cos\nsystem\nX\x02\0\0\0id\x85Rt",
        b"(cbuiltins\neval\nt",
        b"(X\x02\0\0\0osX\x06\0\0\0system\x93t",
        b"(c__main__\nThing\n)\x81}bt",
    ];
    for global in globals {
        assert_refused(&mut site, global, "malformed message");
    }
    site.assert_grown_at_most(SMALL_KIB);
}

#[test]
fn an_unknown_method_is_refused() {
    let mut site = Site::start(&[]);
    for method in ["__init__", "close", "loadBulk", "ping\n(forged) line"] {
        let mut client = site.client();
        client.send_call(method, b")").unwrap();
        let why = format!("unknown method \"{}\"", method.escape_debug());
        assert_cut_off(&mut site, &mut client, &why);
    }
}

#[test]
fn a_call_before_register_is_refused() {
    let mut site = Site::start(&[]);
    let oid = load_arguments(1);
    for (method, arguments) in [
        ("ping", &b")"[..]),
        ("loadBefore", &oid),
        ("get_info", b")"),
    ] {
        let mut client = site.stranger();
        client.send_frame(Z5).unwrap();
        client.send_call(method, arguments).unwrap();
        let why = format!("{method}: asked for before register");
        assert_cut_off(&mut site, &mut client, &why);
    }
}

#[test]
fn a_call_with_wrong_arguments_is_a_type_error() {
    let site = Site::start(&[]);
    let mut client = site.client();
    let short_oid = tuple(&[&bytes(b"1234567"), &bytes(b"12345678")]);
    let wrong: [(&str, &[u8]); 5] = [
        ("loadBefore", b")"),
        ("ping", b"K\x01\x85"),
        ("tpc_begin", b"K\x01\x85"),
        ("new_oids", &tuple(&[&text("many")])),
        ("vote", b"N"),
    ];
    for (method, arguments) in wrong {
        let error = error(&mut client, method, arguments);
        assert!(error.starts_with("builtins.TypeError"), "{error}");
        site.await_log(&format!("{method}: "));
    }
    // What is no oid names no object.
    let error = error(&mut client, "loadBefore", &short_oid);
    assert!(
        error.starts_with("ZODB.POSException.POSKeyError"),
        "{error}"
    );
    // The connection goes on.
    value(&mut client, "lastTransaction", b")");
}

#[test]
fn a_one_way_message_with_wrong_arguments_closes() {
    let mut site = Site::start(&[]);
    let short_oid = tuple(&[&bytes(b"1"), &bytes(b""), &bytes(b""), &int(1)]);
    let wrong: [(&str, &[u8]); 3] = [
        ("storea", &short_oid),
        ("storea", b")"),
        ("checkCurrentSerialInTransaction", b"K\x01\x85"),
    ];
    for (method, arguments) in wrong {
        let mut client = site.client();
        client.send_one_way(method, arguments).unwrap();
        assert_cut_off(&mut site, &mut client, &format!("{method}: "));
    }
    // Right ones at the wrong time as well.
    let mut client = site.client();
    let store = store_arguments(1, [0; 8], b"data");
    client.send_one_way("storea", &store).unwrap();
    let why = "storea: a one-way request failed: StorageTransactionError";
    assert_cut_off(&mut site, &mut client, why);
}

#[test]
fn many_frames_in_one_piece_are_all_handled_up_to_the_bad_one() {
    let mut site = Site::start(&[]);
    let mut client = site.client();
    let mut frames = Vec::new();
    for id in 1..=500 {
        push_request(&mut frames, &int(id), false, "ping", b")");
    }
    push_frame(&mut frames, |out| out.extend_from_slice(b"garbage"));
    push_request(&mut frames, &int(501), false, "ping", b")");
    client.send_raw(&frames).unwrap();
    for id in 1..=500 {
        let payload = client.read_frame(PATIENCE).unwrap();
        let head = crate::raw_client::head(&payload).unwrap();
        assert_eq!(head.int_id(), Some(id));
    }
    assert_cut_off(&mut site, &mut client, "malformed message");
}
