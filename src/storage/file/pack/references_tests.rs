use proptest::prelude::*;

use super::*;

/// What a first pickle looks like: the class.
const CLASS: &[u8] = b"cm\nK\nq\x00.";
const OID: &[u8; 8] = b"\0\0\0\0\0\0\0\x05";

fn scan(record: &[u8]) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    Scanner::default().for_each_reference(record, |oid| found.push(oid.to_u64()))?;
    Ok(found)
}

fn with_class(parts: &[&[u8]]) -> Vec<u8> {
    [CLASS, &parts.concat()].concat()
}

/// The expected lists are those that ZODB's `referencesf` gives.
#[test]
fn references_are_those_of_zodb() {
    let cases: &[(&[&[u8]], &[u64])] = &[
        (&[b"C\x08", OID, b"Q."], &[5]),
        (&[b"U\x08", OID, b"Q."], &[5]),
        (&[b"T\x08\0\0\0", OID, b"Q."], &[5]),
        (&[b"X\x08\0\0\0", OID, b"Q."], &[5]),
        (&[b"C\x08", OID, b"h\x00\x86Q."], &[5]),
        (&[b"(U\x08", OID, b"cm\nK\ntQ."], &[5]),
        (&[b"C\x08", OID, b"NN\x87Q."], &[5]),
        (&[b"C\x08", OID, b"\x85Q."], &[5]),
        // weak, old weak, into other databases
        (&[b"]q\x05(X\x01\0\0\0wC\x08", OID, b"\x85eQ."], &[]),
        (&[b"]C\x08", OID, b"aQ."], &[]),
        (&[b"(U\x08", OID, b"lQ."], &[]),
        (&[b"](U\x01m(U\x05otherU\x08", OID, b"cm\nK\nteQ."], &[]),
        // protocol 0
        (&[b"Pabcdefgh\n."], &[0x6162_6364_6566_6768]),
        (&[b"Vabc\\u0000efgh\nQ."], &[0x6162_6300_6566_6768]),
        (&[br"S'\x00\x00\x00\x00\x00\x00\x00\x07'", b"\nQ."], &[7]),
        (&[br"S'\0\00\000\x00\x00\n\\\q'", b"\np1\n0g1\n0N."], &[]),
        (&[br"S'\0\00\000\x00\x00\n\\'", b"\np1\n0g1\n0N."], &[]),
        (&[br"S'\0\00\000\x00\x00\n\\q'", b"\nQ."], &[0x0a_5c71]),
        // memoised persistent ids
        (&[b"C\x08", OID, b"q\x01Q0h\x01Q0h\x01\x85Q."], &[5, 5, 5]),
        (&[b"C\x08", OID, b"r\x01\x02\0\0Q0j\x01\x02\0\0Q."], &[5, 5]),
        // things around them
        (&[b"F1.5\nI01\n\x86L5L\n\x86."], &[]),
        (&[b"(im\nK\nC\x08", OID, b"Q\x86."], &[5]),
        (&[b"(dU\x01aC\x08", OID, b"Qs."], &[5]),
        (&[b"cm\nK\n)\x81}U\x01aC\x08", OID, b"Qsb."], &[5]),
        (&[b"(cm\nK\nC\x08", OID, b"Qo."], &[5]),
        (&[b"((lC\x08", OID, b"Q20(10."], &[5]),
        (&[b"N.what follows is not looked at"], &[]),
    ];
    for (parts, expected) in cases {
        let record = with_class(parts);
        assert_eq!(scan(&record).as_deref(), Ok(*expected), "{record:?}");
    }
}

#[test]
fn the_second_pickle_names_what_the_first_memoised() {
    let record = [b"C\x08".as_slice(), OID, b"q\x03.h\x03Q."].concat();
    assert_eq!(scan(&record), Ok(vec![5]));
}

#[test]
fn what_zodb_refuses_is_refused() {
    for parts in [
        [b"C\x02\0\x01Q.".as_slice()].as_slice(),
        &[b"NQ."],
        &[b"K\x01Q."],
        &[b")Q."],
        &[b"0."],
        &[b"."],
        &[b"t."],
        &[b"h\x07."],
        &[],
        &[b"C\x08"],
        &[b"N"],
    ] {
        let record = with_class(parts);
        assert!(scan(&record).is_err(), "{record:?}");
    }
}

/// ZODB stops at these, though other programs write them.
#[test]
fn more_is_understood_than_zodb_does() {
    let cases: &[(&[&[u8]], &[u64])] = &[
        // Python 2: an oid, and an attribute, beyond ASCII
        (&[b"U\x08\0\0\0\0\0\0\0\xfeQ."], &[0xfe]),
        (&[b"}U\x01aU\x02\xff\xfes."], &[]),
        // protocol 2 of Python 3
        (
            &[
                b"\x80\x02c_codecs\nencode\nq\x00X\x09\0\0\0\0\0\0\0\0\0\0\xc3\xbe",
                b"X\x06\0\0\0latin1\x86Rcm\nK\n\x86Q.",
            ],
            &[0xfe],
        ),
        // protocols 4 and 5: places in the memo are counted anew in each pickle
        (
            &[
                b"\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94C\x08",
                OID,
                b"\x94\x8c\x01m\x94\x8c\x01K\x94\x93\x94\x86\x94Q\x8c\x01bh\x02Qu.",
            ],
            &[5, 5],
        ),
        (
            &[
                b"\x80\x05\x8f(C\x08",
                OID,
                b"Q\x90(C\x08",
                OID,
                b"Q\x91\x96\x02\0\0\0\0\0\0\0Q.\x8d\x01\0\0\0\0\0\0\0x)}\x92.",
            ],
            &[5, 5],
        ),
    ];
    for (parts, expected) in cases {
        let record = with_class(parts);
        assert_eq!(scan(&record).as_deref(), Ok(*expected), "{record:?}");
    }
}

#[test]
fn a_far_place_in_the_memo_costs_nothing() {
    let record = with_class(&[b"C\x08", OID, b"r\xff\xff\xff\xffQ0j\xff\xff\xff\xffQ."]);
    let mut scanner = Scanner::default();
    let mut count = 0;
    scanner.for_each_reference(&record, |_| count += 1).unwrap();
    assert_eq!(count, 2);
    assert!(scanner.memo.dense.capacity() < 4096);
}

proptest! {
    #[test]
    fn hostile_records_end_in_an_error_at_worst(
        record in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"(.0QPCUqh]lt\x85\x86\x94eusab2NK}R\x81".to_vec())],
            0..200,
        ),
    ) {
        let _ = scan(&record);
    }
}
