//! Loads, encoded ahead.

use crate::raw_client::push_request;
use crate::wire::{Object, RECORD_BYTES, push_bytes};

/// The load requests of many objects, one behind the other and of one size, so
/// that any run of them is a slice to send.
pub struct LoadRequests {
    bytes: Vec<u8>,
    count: usize,
}

/// A pickled (oid, tid) stands at this place of a load request, after the frame's
/// length and the pickle's start: it is the message id.
const LOAD_ID_START: usize = 7;
/// Two bytes of eight with their opcodes, and the tuple's.
const LOAD_ID_BYTES: usize = 21;

impl LoadRequests {
    /// Requests for the states before `tid`, in the given order.
    pub fn new(objects: impl IntoIterator<Item = Object>, tid: [u8; 8]) -> Self {
        let mut bytes = Vec::new();
        let mut count = 0;
        for object in objects {
            let mut pair = Vec::with_capacity(LOAD_ID_BYTES);
            push_bytes(&mut pair, &object.oid);
            push_bytes(&mut pair, &tid);
            pair.push(0x86);
            push_request(&mut bytes, &pair, false, "loadBefore", &pair);
            count += 1;
        }
        Self { bytes, count }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// `count` requests from the one numbered `first` on.
    pub fn run(&self, first: usize, count: usize) -> &[u8] {
        let size = self.size();
        &self.bytes[first * size..(first + count) * size]
    }

    /// The message id of a request.
    pub fn id(&self, number: usize) -> &[u8] {
        let start = number * self.size() + LOAD_ID_START;
        &self.bytes[start..start + LOAD_ID_BYTES]
    }

    fn size(&self) -> usize {
        self.bytes.len() / self.count
    }
}

/// True for the arguments of a reply (record of the right size, tid, end tid).
pub fn is_loaded_record(arguments: &[u8]) -> bool {
    let Some(rest) = arguments.strip_prefix(b"B\x00\x04\x00\x00") else {
        return false;
    };
    match rest.get(RECORD_BYTES..) {
        Some([b'C', 8, tail @ ..]) => {
            let tail = tail.get(8..).unwrap_or_default();
            tail == b"N\x87t." || (tail.len() == 13 && tail.starts_with(b"C\x08"))
        }
        _ => false,
    }
}
