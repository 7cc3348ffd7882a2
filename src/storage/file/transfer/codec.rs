//! Transactions on their way to another node; the format is told in `content.rs`.

use std::io::{self, BufRead, Write};

use super::content::{
    ALL_BITS, BODY_BITS, BODY_NOTHING, BODY_SAME_AS, Body, Head, OTHER_TID, PREVIOUS_BITS,
    PREVIOUS_NONE, PREVIOUS_RECORD, Previous, Record, Reference, Visitor, put_head, put_record,
};
use crate::storage::file::format::{DATA_HEADER_BYTES, TransactionHeader};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// Writes transactions for another node.
pub struct Encoder<'a> {
    out: &'a mut dyn Write,
    /// For each record of the next transaction, which of the receiver's equals it.
    yours: Vec<Option<u32>>,
    number: usize,
    is_left_out: bool,
    transaction: Tid,
    buffer: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Writes to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            yours: Vec::new(),
            number: 0,
            is_left_out: false,
            transaction: Tid::ZERO,
            buffer: Vec::new(),
        }
    }

    /// For the next transaction: which records the receiver has.
    pub fn known(&mut self, yours: Vec<Option<u32>>) {
        self.yours = yours;
    }

    fn flush(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer).map_err(sending)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Visitor for Encoder<'_> {
    fn begin(&mut self, head: &Head) -> Result<()> {
        self.transaction = head.header.tid;
        self.number = 0;
        self.is_left_out = false;
        self.buffer.push(head.header.status);
        put_head(&mut self.buffer, head);
        self.flush()
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        let yours = self.yours.get(self.number).copied().flatten();
        self.number += 1;
        let data_bytes = match record.body {
            Body::Data(bytes) => bytes,
            Body::Nothing | Body::SameAs(_) => 0,
        };
        self.is_left_out = yours.is_some() && data_bytes > 0;
        put_record(&mut self.buffer, record, self.transaction, yours);
        self.flush()
    }

    fn data(&mut self, piece: &[u8]) -> Result<()> {
        if self.is_left_out {
            return Ok(());
        }
        self.out.write_all(piece).map_err(sending)
    }

    fn end(&mut self) -> Result<()> {
        self.yours.clear();
        Ok(())
    }
}

fn sending(error: io::Error) -> StorageError {
    StorageError::io("sending transactions to another node")(error)
}

/// Gives the data of a record of the receiver's own: its length, and then the
/// data itself to a visitor.
pub trait Own {
    /// The length of record `number` of the transaction that the receiver has
    /// under the same id.
    fn length(&mut self, number: u32) -> Result<u64>;
    /// Its data.
    fn data(&mut self, number: u32, visitor: &mut dyn Visitor) -> Result<()>;
}

/// Reads what an [`Encoder`] wrote.
pub struct Decoder<'a> {
    input: &'a mut dyn BufRead,
}

impl<'a> Decoder<'a> {
    /// From `input`.
    pub fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input }
    }

    /// Leads `visitor` through the next transaction, which has to be `expected`
    /// where that is known.
    pub fn transaction(
        &mut self,
        expected: Option<Tid>,
        own: &mut dyn Own,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        let [status, form] = self.array()?;
        let tid = Tid(self.array()?);
        if let Some(expected) = expected.filter(|expected| *expected != tid) {
            let problem = format!("transaction {tid} instead of {expected}");
            return Err(malformed(problem));
        }
        let header = TransactionHeader {
            tid,
            length: u64::from_be_bytes(self.array()?),
            status,
            user_bytes: u16::from_be_bytes(self.array()?),
            description_bytes: u16::from_be_bytes(self.array()?),
            extension_bytes: u16::from_be_bytes(self.array()?),
        };
        let mut texts = vec![0; usize::try_from(header.metadata_bytes()).unwrap_or(0)];
        self.input.read_exact(&mut texts).map_err(receiving)?;
        let head = Head { header, texts };
        if form != u8::from(head.is_raw()) {
            return Err(malformed(format!("form {form} with status {status}")));
        }
        let mut left = header
            .length
            .checked_sub(header.header_bytes())
            .ok_or_else(|| malformed(format!("transaction {tid} is shorter than its header")))?;
        visitor.begin(&head)?;
        if head.is_raw() {
            self.pieces(left, visitor)?;
            left = 0;
        }
        while left > 0 {
            let bytes = self.record(tid, own, visitor)?;
            left = left
                .checked_sub(bytes)
                .ok_or_else(|| malformed(format!("transaction {tid} is too long")))?;
        }
        visitor.end()
    }

    /// The bytes that the record takes in a file.
    fn record(
        &mut self,
        transaction: Tid,
        own: &mut dyn Own,
        visitor: &mut dyn Visitor,
    ) -> Result<u64> {
        let [flags] = self.array()?;
        if flags & !ALL_BITS != 0 {
            return Err(malformed(format!("flags {flags:#x}")));
        }
        let oid = Oid(self.array()?);
        let tid = match flags & OTHER_TID {
            0 => transaction,
            _ => Tid(self.array()?),
        };
        let previous = match flags & PREVIOUS_BITS {
            0 => Previous::Newest,
            PREVIOUS_NONE => Previous::None,
            PREVIOUS_RECORD => Previous::Record(self.reference()?),
            _ => return Err(malformed(format!("flags {flags:#x}"))),
        };
        let mut yours = None;
        let body = match flags & BODY_BITS {
            0 => Body::Data(u64::from_be_bytes(self.array()?)),
            BODY_NOTHING => Body::Nothing,
            BODY_SAME_AS => Body::SameAs(self.reference()?),
            _ => {
                let number = u32::from_be_bytes(self.array()?);
                yours = Some(number);
                Body::Data(own.length(number)?)
            }
        };
        if body == Body::Data(0) {
            return Err(malformed(format!("an empty record of {oid}")));
        }
        visitor.record(&Record {
            oid,
            tid,
            previous,
            body,
        })?;
        match (body, yours) {
            (_, Some(number)) => own.data(number, visitor)?,
            (Body::Data(bytes), None) => self.pieces(bytes, visitor)?,
            (Body::Nothing | Body::SameAs(_), None) => {}
        }
        Ok((DATA_HEADER_BYTES as u64).saturating_add(body.bytes()))
    }

    fn pieces(&mut self, bytes: u64, visitor: &mut dyn Visitor) -> Result<()> {
        for_each_piece(self.input, bytes, |piece| visitor.data(piece))
    }

    fn reference(&mut self) -> Result<Reference> {
        Ok(Reference {
            tid: Tid(self.array()?),
            number: u32::from_be_bytes(self.array()?),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(receiving)?;
        Ok(bytes)
    }
}

/// Hands the next `bytes` of `input` on, as they come.
pub fn for_each_piece(
    input: &mut dyn BufRead,
    bytes: u64,
    mut visit: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = input.fill_buf().map_err(receiving)?;
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        let piece = piece.get(..piece.len().min(limit)).unwrap_or_default();
        let count = piece.len();
        if count == 0 {
            return Err(receiving(io::ErrorKind::UnexpectedEof.into()));
        }
        visit(piece)?;
        input.consume(count);
        left -= count as u64;
    }
    Ok(())
}

/// What a failed read of what another node sends means.
pub fn receiving(error: io::Error) -> StorageError {
    StorageError::io("receiving transactions of another node")(error)
}

/// The other node breaks a rule of this format.
pub fn malformed(problem: impl Into<String>) -> StorageError {
    receiving(io::Error::new(io::ErrorKind::InvalidData, problem.into()))
}
