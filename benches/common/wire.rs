//! The requests of the load generator, encoded ahead where that is possible.
//! Layout: ZEO protocol 5 in protocol 3 pickles without memo.

use crate::raw_client::{int, push_request, push_str};

/// Size of every stored record, and so of every record loaded.
pub const RECORD_BYTES: usize = 1024;

/// An object of the benchmark's database with the serial of its last revision.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    pub oid: [u8; 8],
    pub serial: [u8; 8],
}

/// A pickled bytes object.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(size) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[b'C', size]);
    } else {
        out.push(b'B');
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
    }
    out.extend_from_slice(bytes);
}

/// A record that a pack could read: a class and a state, `RECORD_BYTES` long.
pub fn record() -> Vec<u8> {
    const BYTES_HEADER: usize = 5;
    const END: &[u8] = b"s.";
    let mut out = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x01.\x80\x03}".to_vec();
    push_str(&mut out, "data");
    out.push(b'}');
    push_str(&mut out, "value");
    let fill = RECORD_BYTES - out.len() - BYTES_HEADER - END.len() - 1;
    push_bytes(&mut out, &vec![b'z'; fill]);
    out.push(b's');
    out.extend_from_slice(END);
    assert_eq!(out.len(), RECORD_BYTES);
    out
}

/// Appends what the stock client sends up to its vote.
pub fn push_commit(out: &mut Vec<u8>, ids: CommitIds, objects: &[Object], record: &[u8]) {
    push_begin(out, ids);
    let mut arguments = Vec::with_capacity(RECORD_BYTES + 64);
    for object in objects {
        arguments.clear();
        push_store(&mut arguments, ids, *object, record);
        push_request(out, &int(0), true, "storea", &arguments);
    }
    push_vote(out, ids);
}

/// Appends the call that begins a commit.
pub fn push_begin(out: &mut Vec<u8>, ids: CommitIds) {
    let mut arguments = vec![b'('];
    arguments.extend_from_slice(&int(ids.transaction));
    push_bytes(&mut arguments, b"");
    push_bytes(&mut arguments, b"");
    arguments.extend_from_slice(b"}N");
    push_str(&mut arguments, " ");
    arguments.push(b't');
    push_request(out, &int(0), true, "tpc_begin", &arguments);
}

/// Appends the arguments of `storea`, which are also those of `storeBlobEnd`.
pub fn push_store(arguments: &mut Vec<u8>, ids: CommitIds, object: Object, record: &[u8]) {
    arguments.push(b'(');
    push_bytes(arguments, &object.oid);
    push_bytes(arguments, &object.serial);
    push_bytes(arguments, record);
    arguments.extend_from_slice(&int(ids.transaction));
    arguments.push(b't');
}

/// Appends the vote.
pub fn push_vote(out: &mut Vec<u8>, ids: CommitIds) {
    let arguments = one(&int(ids.transaction));
    push_request(out, &int(ids.vote), false, "vote", &arguments);
}

/// Appends the call that ends a commit.
pub fn push_finish(out: &mut Vec<u8>, ids: CommitIds) {
    let transaction = int(ids.transaction);
    push_request(
        out,
        &int(ids.finish),
        false,
        "tpc_finish",
        &one(&transaction),
    );
}

/// The numbers of one commit.
#[derive(Debug, Clone, Copy)]
pub struct CommitIds {
    pub transaction: i32,
    pub vote: i32,
    pub finish: i32,
}

/// A pickled tuple of one.
pub fn one(value: &[u8]) -> Vec<u8> {
    let mut out = value.to_vec();
    out.push(0x85);
    out
}
