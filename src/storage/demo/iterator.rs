//! The transactions of a base, and then those of the changes.

use crate::storage::{RecordIterator, Result, TransactionIterator};
use crate::types::TransactionMeta;

/// See the module.
#[derive(Debug)]
pub struct BothIterator {
    base: Box<dyn TransactionIterator>,
    changes: Box<dyn TransactionIterator>,
    is_in_changes: bool,
}

impl BothIterator {
    /// Both begin where they are to.
    pub fn new(base: Box<dyn TransactionIterator>, changes: Box<dyn TransactionIterator>) -> Self {
        Self {
            base,
            changes,
            is_in_changes: false,
        }
    }
}

impl TransactionIterator for BothIterator {
    fn next_transaction(&mut self) -> Result<Option<TransactionMeta>> {
        if !self.is_in_changes {
            if let Some(meta) = self.base.next_transaction()? {
                return Ok(Some(meta));
            }
            self.is_in_changes = true;
        }
        self.changes.next_transaction()
    }

    fn records(&self) -> Result<Box<dyn RecordIterator>> {
        if self.is_in_changes {
            self.changes.records()
        } else {
            self.base.records()
        }
    }
}
