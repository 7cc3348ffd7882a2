//! What a client puts into its transaction. All of these are sent one-way, so
//! an error closes the connection; where it is the transaction that cannot be
//! taken, its vote fails instead.

use super::{Outcome, Registered};
use crate::disk::is_full;
use crate::storage::StorageError;
use crate::transaction::{BufferError, TransactionBuffer};
use crate::types::{Oid, Tid};
use crate::wire::{Exception, TransactionKey};

impl Registered {
    /// A new revision of an object.
    pub(super) fn store(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
        data: &[u8],
    ) -> Outcome<'static> {
        self.collect(key, true, |buffer| buffer.store(oid, serial, data))
    }

    /// A revision of another storage.
    pub(super) fn restore(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
        data: Option<&[u8]>,
        previous: Option<Tid>,
    ) -> Outcome<'static> {
        self.collect(key, true, |buffer| {
            buffer.restore(oid, serial, data, previous)
        })
    }

    /// An object is to go.
    pub(super) fn delete_object(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
    ) -> Outcome<'static> {
        self.collect(key, true, |buffer| buffer.delete(oid, serial))
    }

    /// An object must stay as the client saw it.
    pub(super) fn check_current_serial(
        &mut self,
        key: &TransactionKey,
        oid: Oid,
        serial: Tid,
    ) -> Outcome<'static> {
        self.collect(key, false, |buffer| buffer.check(oid, serial))
    }

    pub(super) fn collect(
        &mut self,
        key: &TransactionKey,
        is_store: bool,
        add: impl FnOnce(&mut TransactionBuffer) -> Result<(), BufferError>,
    ) -> Outcome<'static> {
        let transaction = match self.current_transaction(key) {
            Ok(transaction) => transaction,
            Err(exception) => return Outcome::Error(exception),
        };
        let Some(buffer) = transaction.collecting() else {
            let message = "the transaction is voted and takes no more changes".to_owned();
            return Outcome::Error(Exception::StorageTransactionError { message });
        };
        // One that was given up takes nothing more; its vote says why.
        if buffer.refusal().is_some() {
            return Outcome::DONE;
        }
        match add(buffer) {
            Ok(()) if is_store => self.database.stats.stores.increment(),
            Ok(()) => {}
            Err(error) => {
                let is_full = matches!(&error, BufferError::Spill(cause) if is_full(cause));
                buffer.refuse(error);
                if is_full {
                    self.database.stats.full_disk_refusals.increment();
                }
            }
        }
        Outcome::DONE
    }

    /// Another node of a cluster may have room.
    pub(super) fn note_full_disk(&self, error: &StorageError) {
        if matches!(error, StorageError::NoSpace { .. }) {
            self.database.stats.full_disk_refusals.increment();
        }
    }
}
