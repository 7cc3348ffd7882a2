//! Copies the transactions behind the pack time: everything stays as it is,
//! but for the pointers.

use std::collections::HashMap;

use super::copy::{CHASED_BYTES, Moved, header_bytes, same_data};
use super::oid_set::OidSet;
use super::progress::Progress;
use super::walk::{Record, Transaction};
use super::window::{Output, PASS_BYTES, Window};
use crate::disk::Access;
use crate::storage::Result;
use crate::storage::file::format::{DATA_HEADER_BYTES, DataHeader};
use crate::storage::file::index::Index;
use crate::storage::file::reader::DataFile;
use crate::types::Oid;

/// Of so many transactions it is remembered which objects they hold twice.
const MAX_REPEATS: usize = 64;

/// Copies transaction by transaction, in as many steps as it takes.
#[derive(Debug)]
pub struct Rest<'a> {
    data: &'a DataFile,
    progress: &'a Progress,
    /// The file's end at this step.
    end: u64,
    /// Next to be copied.
    position: u64,
    /// Where the part begins, in the old file and in the new one.
    begins: (u64, u64),
    moved: Moved,
    /// Of the transactions that were pointed into lately, by position: the
    /// first record of each object that they hold several of.
    repeats: HashMap<u64, HashMap<Oid, u64>>,
    /// The records of the transaction at hand.
    written: Vec<(Oid, u64)>,
}

impl<'a> Rest<'a> {
    /// From `begin` in the old file on, behind what was `moved` to a new one
    /// that is `now` long.
    pub fn new(
        data: &'a DataFile,
        progress: &'a Progress,
        begin: u64,
        now: u64,
        moved: Moved,
    ) -> Self {
        Self {
            data,
            progress,
            end: begin,
            position: begin,
            begins: (begin, now),
            moved,
            repeats: HashMap::new(),
            written: Vec::new(),
        }
    }

    /// Up to where it has copied.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Copies up to `end`, where a transaction ends. `positions` becomes the
    /// index of what was written.
    pub fn copy(&mut self, out: &mut Output, positions: &Index, end: u64) -> Result<()> {
        self.end = end;
        let mut window = Window::new(self.data, self.progress, end, PASS_BYTES);
        while self.position < end {
            let transaction = Transaction::read(&mut window, self.position)?;
            self.transaction(out, positions, &mut window, &transaction)?;
            self.position = transaction.end();
            self.progress.at(self.position);
        }
        Ok(())
    }

    fn transaction(
        &mut self,
        out: &mut Output,
        positions: &Index,
        window: &mut Window<'_>,
        transaction: &Transaction,
    ) -> Result<()> {
        let start = out.position();
        out.put(header_bytes(window, transaction)?)?;
        transaction.for_each_record(window, |window, record| {
            self.record(out, positions, window, &record, start)
        })?;
        out.put(&transaction.header.length.to_be_bytes())?;
        for (oid, position) in self.written.drain(..) {
            positions.set(oid, position);
        }
        Ok(())
    }

    fn record(
        &mut self,
        out: &mut Output,
        positions: &Index,
        window: &mut Window<'_>,
        record: &Record,
        start: u64,
    ) -> Result<()> {
        let old = record.header;
        self.written.push((old.oid, out.position()));
        let header = DataHeader {
            previous: positions.get(old.oid).unwrap_or(0),
            transaction: start,
            ..old
        };
        out.put(&header.to_bytes())?;
        match (old.data_bytes, record.back) {
            (0, 0) => out.put(&0_u64.to_be_bytes()),
            (0, back) => {
                let back = self.pointed_to(old.oid, back)?;
                out.put(&back.to_be_bytes())
            }
            (length, _) => {
                let at = record.position + DATA_HEADER_BYTES as u64;
                out.copy(window, at, length)
            }
        }
    }

    /// Where a pointer that led to `back` leads now.
    fn pointed_to(&mut self, oid: Oid, back: u64) -> Result<u64> {
        let (begin, now) = self.begins;
        if back < begin {
            return self.moved.get(&back).copied().ok_or_else(|| {
                self.data.corrupt(
                    back,
                    format!(
                        "a transaction that came during the pack points to a revision of {oid} \
                         that the pack drops; pack again"
                    ),
                )
            });
        }
        let head = self.data.read_head_of(oid, back, Access::Wait)?;
        let transaction = head.header.transaction;
        if !self.repeats.contains_key(&transaction) {
            if self.repeats.len() >= MAX_REPEATS {
                self.repeats.clear();
            }
            let repeats = self.find_repeats(transaction)?;
            self.repeats.insert(transaction, repeats);
        }
        let first = self.repeats.get(&transaction).and_then(|r| r.get(&oid));
        let back = match first {
            // ZODB looks for the record by its transaction and takes the first
            // one of the object there, which is as good if it holds the same.
            Some(&first) if first != back && same_data(self.data, oid, first, back)? => first,
            _ => back,
        };
        Ok(back - begin + now)
    }

    /// The objects of which a transaction holds several records, with the first of each.
    fn find_repeats(&self, position: u64) -> Result<HashMap<Oid, u64>> {
        let mut window = Window::new(self.data, self.progress, self.end, CHASED_BYTES);
        let transaction = Transaction::read(&mut window, position)?;
        let mut seen = OidSet::default();
        let mut repeats = HashMap::new();
        transaction.for_each_record(&mut window, |_, record| {
            if !seen.insert(record.header.oid) {
                repeats.insert(record.header.oid, 0);
            }
            Ok(())
        })?;
        if !repeats.is_empty() {
            transaction.for_each_record(&mut window, |_, record| {
                if let Some(first) = repeats.get_mut(&record.header.oid)
                    && *first == 0
                {
                    *first = record.position;
                }
                Ok(())
            })?;
        }
        Ok(repeats)
    }
}
