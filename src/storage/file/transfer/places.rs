//! Where the records of a transaction stand, by their number; for pointers.

use std::collections::HashMap;

use super::content::Reference;
use crate::storage::Result;
use crate::storage::file::pack::progress::Progress;
use crate::storage::file::pack::walk::Transaction;
use crate::storage::file::pack::window::Window;
use crate::storage::file::reader::DataFile;
use crate::types::{Oid, Tid};

/// Of so many transactions it is remembered where their records stand.
const MAX_REMEMBERED: usize = 64;
/// Pointers lead anywhere: so much is read at once.
const READ_BYTES: usize = 4 << 10;

/// Follows pointers in a file.
#[derive(Debug)]
pub struct Places {
    data: DataFile,
    /// Nothing behind this is read.
    pub end: u64,
    progress: Progress,
    /// By the transaction's position: its id, the positions of its records.
    remembered: HashMap<u64, (Tid, Vec<u64>)>,
}

impl Places {
    /// In `data` up to `end`.
    pub fn new(data: DataFile, end: u64) -> Self {
        Self {
            data,
            end,
            progress: Progress::default(),
            remembered: HashMap::new(),
        }
    }

    /// What to call the record of `oid` at `position`.
    pub fn reference(&mut self, position: u64, oid: Oid) -> Result<Reference> {
        use crate::disk::Access::Wait;
        let head = self.data.read_head_of(oid, position, Wait)?;
        let transaction = head.header.transaction;
        let (tid, records) = self.records(transaction)?;
        match records.binary_search(&position) {
            Ok(number) => Ok(Reference {
                tid: *tid,
                number: u32::try_from(number).unwrap_or(u32::MAX),
            }),
            Err(_) => Err(self.data.corrupt(position, "a pointer to no record")),
        }
    }

    /// The position of record `number` of the transaction at `transaction`.
    pub fn position(&mut self, transaction: u64, number: u32) -> Result<u64> {
        let (_, records) = self.records(transaction)?;
        let position = usize::try_from(number)
            .ok()
            .and_then(|number| records.get(number))
            .copied();
        position.ok_or_else(|| {
            self.data
                .corrupt(transaction, format!("a pointer to record {number}"))
        })
    }

    fn records(&mut self, position: u64) -> Result<&(Tid, Vec<u64>)> {
        if !self.remembered.contains_key(&position) {
            if self.remembered.len() >= MAX_REMEMBERED {
                self.remembered.clear();
            }
            let mut window = Window::new(&self.data, &self.progress, self.end, READ_BYTES);
            let transaction = Transaction::read(&mut window, position)?;
            let mut records = Vec::new();
            transaction.for_each_record(&mut window, |_, record| {
                records.push(record.position);
                Ok(())
            })?;
            let tid = transaction.header.tid;
            self.remembered.insert(position, (tid, records));
        }
        self.remembered
            .get(&position)
            .ok_or_else(|| self.data.corrupt(position, "no transaction"))
    }
}
