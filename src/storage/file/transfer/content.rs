//! What a transaction says, whatever its position in a file.
//!
//! Positions in a `Data.fs` shift when a pack removes anything before them. So
//! two files are compared, and one is built from another, by what follows. A
//! pointer is told as what it leads to; that a record points to the object's
//! newest record before it, as it nearly always does, costs no byte.
//!
//! ```text
//! transaction  form (1), tid (8), length (8), lengths of user, description and
//!              extension (2 each), these three, then by the form
//!              0: record*, until the length is reached
//!              1: the bytes of the records as they are (undone in a way of old)
//! record       flags (1), oid (8), tid (8) where it is not the transaction's,
//!              where the flags say so: reference (previous),
//!              then data length (8) and the data; or reference (back); or
//!              which of the receiver's own records it equals (4); or nothing
//! reference    tid (8), number of the record in that transaction (4)
//! ```
//!
//! All numbers are big-endian. The status of a transaction, which each first
//! pack changes, is no part of it and travels beside it.

use sha2::{Digest as _, Sha256};

use crate::storage::Result;
use crate::storage::file::format::{NUMBER_BYTES, STATUS_UNDONE, TransactionHeader};
use crate::types::{Oid, Tid};

/// Bytes of a [`Digest`].
pub const DIGEST_BYTES: usize = 16;

/// The beginning of the SHA-256 of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; DIGEST_BYTES]);

impl Digest {
    /// What a finished hash is cut to.
    pub fn of(hasher: Sha256) -> Self {
        let whole = hasher.finalize();
        Self(whole.first_chunk().copied().unwrap_or_default())
    }
}

/// Names a record by its place in its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The transaction.
    pub tid: Tid,
    /// Counted from 0.
    pub number: u32,
}

/// Which record of the object a record names as the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// The newest before the transaction; none where there is none.
    Newest,
    /// None, though there is one: what a pack writes.
    None,
    /// Another one.
    Record(Reference),
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Data(u64),
    /// The object ends.
    Nothing,
    /// What another record holds.
    SameAs(Reference),
}

impl Body {
    /// Bytes that follow the record's header in the file.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Data(bytes) => bytes,
            Self::Nothing | Self::SameAs(_) => NUMBER_BYTES as u64,
        }
    }
}

/// A transaction's header and texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The header; its length is the same wherever the transaction stands.
    pub header: TransactionHeader,
    /// User, description and extension.
    pub texts: Vec<u8>,
}

impl Head {
    /// Its records are nothing but bytes.
    pub fn is_raw(&self) -> bool {
        self.header.status == STATUS_UNDONE
    }
}

/// A record without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The object.
    pub oid: Oid,
    /// The revision; mostly the transaction's.
    pub tid: Tid,
    /// The one before.
    pub previous: Previous,
    /// What it holds.
    pub body: Body,
}

/// Is led through a transaction.
pub trait Visitor {
    /// A transaction begins.
    fn begin(&mut self, head: &Head) -> Result<()>;
    /// Its next record.
    fn record(&mut self, record: &Record) -> Result<()>;
    /// The next piece of the record's data, or of a raw transaction.
    fn data(&mut self, piece: &[u8]) -> Result<()>;
    /// The transaction ends.
    fn end(&mut self) -> Result<()>;
}

pub(super) const PREVIOUS_NONE: u8 = 1;
pub(super) const PREVIOUS_RECORD: u8 = 2;
pub(super) const PREVIOUS_BITS: u8 = 3;
pub(super) const BODY_NOTHING: u8 = 1 << 2;
pub(super) const BODY_SAME_AS: u8 = 2 << 2;
pub(super) const BODY_YOURS: u8 = 3 << 2;
pub(super) const BODY_BITS: u8 = 3 << 2;
pub(super) const OTHER_TID: u8 = 1 << 4;
pub(super) const ALL_BITS: u8 = PREVIOUS_BITS | BODY_BITS | OTHER_TID;

pub(super) fn put_head(out: &mut Vec<u8>, head: &Head) {
    let header = &head.header;
    out.push(u8::from(head.is_raw()));
    out.extend_from_slice(&header.tid.0);
    out.extend_from_slice(&header.length.to_be_bytes());
    for bytes in [
        header.user_bytes,
        header.description_bytes,
        header.extension_bytes,
    ] {
        out.extend_from_slice(&bytes.to_be_bytes());
    }
    out.extend_from_slice(&head.texts);
}

/// `yours`: the record's data is that of this record of the receiver's.
pub(super) fn put_record(out: &mut Vec<u8>, record: &Record, transaction: Tid, yours: Option<u32>) {
    let mut flags = match record.previous {
        Previous::Newest => 0,
        Previous::None => PREVIOUS_NONE,
        Previous::Record(_) => PREVIOUS_RECORD,
    };
    flags |= match (record.body, yours) {
        (Body::Data(_), Some(_)) => BODY_YOURS,
        (Body::Data(_), None) => 0,
        (Body::Nothing, _) => BODY_NOTHING,
        (Body::SameAs(_), _) => BODY_SAME_AS,
    };
    if record.tid != transaction {
        flags |= OTHER_TID;
    }
    out.push(flags);
    out.extend_from_slice(&record.oid.0);
    if record.tid != transaction {
        out.extend_from_slice(&record.tid.0);
    }
    let mut reference = |reference: Reference| {
        out.extend_from_slice(&reference.tid.0);
        out.extend_from_slice(&reference.number.to_be_bytes());
    };
    if let Previous::Record(previous) = record.previous {
        reference(previous);
    }
    match (record.body, yours) {
        (Body::SameAs(back), _) => reference(back),
        (Body::Data(_), Some(number)) => out.extend_from_slice(&number.to_be_bytes()),
        (Body::Data(bytes), None) => out.extend_from_slice(&bytes.to_be_bytes()),
        (Body::Nothing, _) => {}
    }
}

/// Computes the digest of a transaction.
#[derive(Debug, Default)]
pub struct Digester {
    hasher: Sha256,
    buffer: Vec<u8>,
    transaction: Tid,
}

impl Digester {
    /// The digest of the transaction that was visited; the next one can be.
    pub fn take(&mut self) -> Digest {
        Digest::of(std::mem::take(&mut self.hasher))
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }
}

impl Visitor for Digester {
    fn begin(&mut self, head: &Head) -> Result<()> {
        self.transaction = head.header.tid;
        put_head(&mut self.buffer, head);
        self.flush();
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        put_record(&mut self.buffer, record, self.transaction, None);
        self.flush();
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<()> {
        self.hasher.update(piece);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Computes the digest of the data of each record that has some.
#[derive(Debug, Default)]
pub struct DataDigests {
    /// One for each record; None for those without data of their own.
    pub digests: Vec<Option<Digest>>,
    under_way: Option<Sha256>,
}

impl DataDigests {
    fn finish(&mut self) {
        if let Some(hasher) = self.under_way.take() {
            self.digests.push(Some(Digest::of(hasher)));
        }
    }
}

impl Visitor for DataDigests {
    fn begin(&mut self, _: &Head) -> Result<()> {
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        self.finish();
        match record.body {
            Body::Data(_) => self.under_way = Some(Sha256::new()),
            Body::Nothing | Body::SameAs(_) => self.digests.push(None),
        }
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<()> {
        if let Some(hasher) = &mut self.under_way {
            hasher.update(piece);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.finish();
        Ok(())
    }
}
