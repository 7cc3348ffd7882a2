//! An entry as raft-engine wants it: a `protobuf::Message`. Its bytes are ours;
//! nothing of protobuf's format is in them, so there is nothing to parse.
//!
//! ```text
//! index u64 | length u32 | so many bytes in the layout of entry_codec
//! ```
//!
//! Little-endian. Length 0 is a mark: raft-engine cannot cut off the end of a
//! log, but an entry at an index that exists drops all that stood from there
//! on. So the mark takes the place of the first entry that goes, and whoever
//! opens the log ignores it.

use std::any::Any;
use std::sync::LazyLock;

use bytes::Bytes;
use protobuf::reflect::MessageDescriptor;
use protobuf::well_known_types::BytesValue;
use protobuf::{
    Clear, CodedInputStream, CodedOutputStream, Message, ProtobufResult, UnknownFields,
};
use raft_engine::MessageExt;

use super::super::entry_codec::EntryPieces;

/// Index and length.
const HEAD_SIZE: u32 = 12;

/// An entry, or the mark behind the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    pub index: u64,
    /// Written as its pieces; read as one, in `payload`.
    pub entry: EntryPieces,
    unknown: UnknownFields,
}

impl Stored {
    pub fn new(index: u64, entry: EntryPieces) -> Self {
        Self {
            index,
            entry,
            unknown: UnknownFields::default(),
        }
    }

    /// The end of a log whose entries from `index` on are gone.
    pub fn mark(index: u64) -> Self {
        Self::new(index, EntryPieces::default())
    }

    /// The entry's bytes, unless it is the mark. Of one that was read.
    pub fn into_bytes(self) -> Option<Bytes> {
        Some(self.entry.payload).filter(|bytes| !bytes.is_empty())
    }

    fn length(&self) -> u32 {
        let length = self.entry.head.len() + self.entry.payload.len();
        u32::try_from(length).unwrap_or(u32::MAX)
    }
}

/// How raft-engine finds the index.
pub(super) enum Stores {}

impl MessageExt for Stores {
    type Entry = Stored;

    fn index(entry: &Stored) -> u64 {
        entry.index
    }
}

impl Clear for Stored {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for Stored {
    /// Only asked for by protobuf's error texts and reflection.
    fn descriptor(&self) -> &'static MessageDescriptor {
        BytesValue::descriptor_static()
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, from: &mut CodedInputStream) -> ProtobufResult<()> {
        self.index = from.read_raw_little_endian64()?;
        let length = from.read_raw_little_endian32()?;
        self.entry.payload = from.read_raw_bytes(length)?.into();
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, to: &mut CodedOutputStream) -> ProtobufResult<()> {
        to.write_raw_little_endian64(self.index)?;
        to.write_raw_little_endian32(self.length())?;
        to.write_raw_bytes(&self.entry.head)?;
        to.write_raw_bytes(&self.entry.payload)
    }

    fn compute_size(&self) -> u32 {
        self.length().saturating_add(HEAD_SIZE)
    }

    fn get_cached_size(&self) -> u32 {
        self.compute_size()
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new() -> Self {
        Self::default()
    }

    fn default_instance() -> &'static Self {
        static INSTANCE: LazyLock<Stored> = LazyLock::new(Stored::default);
        &INSTANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let entry = EntryPieces {
            head: b"head".to_vec(),
            payload: Bytes::from_static(b"payload"),
        };
        let stored = Stored::new(7, entry);
        let mut bytes = b"before".to_vec();
        stored.write_to_vec(&mut bytes).unwrap();
        assert_eq!(bytes.len() - 6, stored.compute_size() as usize);
        let back = Stored::parse_from_bytes(&bytes[6..]).unwrap();
        assert_eq!(back.index, 7);
        assert_eq!(back.into_bytes().unwrap(), "headpayload");
    }

    #[test]
    fn the_mark_is_no_entry() {
        let bytes = Stored::mark(9).write_to_bytes().unwrap();
        assert_eq!(bytes.len(), HEAD_SIZE as usize);
        let back = Stored::parse_from_bytes(&bytes).unwrap();
        assert_eq!((back.index, back.into_bytes()), (9, None));
    }

    #[test]
    fn other_bytes_are_refused() {
        let bytes = Stored::new(
            1,
            EntryPieces {
                head: vec![1; 40],
                payload: Bytes::new(),
            },
        )
        .write_to_bytes()
        .unwrap();
        for length in 0..bytes.len() {
            assert!(Stored::parse_from_bytes(&bytes[..length]).is_err());
        }
        assert!(Stored::parse_from_bytes(&[bytes, vec![0]].concat()).is_err());
    }
}
