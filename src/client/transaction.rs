//! A transaction that was collected here, sent to where it is decided.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::connection::Connection;
use super::error::CallError;
use crate::transaction::{Operation, TransactionBuffer};
use crate::types::Tid;
use crate::wire::TransactionKey;

impl Connection {
    /// Sends the operations of `buffer` from number `from` on, in order. Their
    /// number, to go on from.
    pub async fn send_operations(
        &self,
        buffer: &TransactionBuffer,
        from: usize,
        key: &TransactionKey,
    ) -> Result<usize, CallError> {
        let operations = buffer.operations();
        for (number, operation) in operations.iter().enumerate().skip(from) {
            self.send_operation(buffer, number, operation, key.clone())
                .await?;
        }
        Ok(operations.len())
    }

    async fn send_operation(
        &self,
        buffer: &TransactionBuffer,
        number: usize,
        operation: &Operation,
        key: TransactionKey,
    ) -> Result<(), CallError> {
        let data = |range| buffer.data(range).map_err(|error| CallError::file(&error));
        match operation {
            Operation::Store {
                oid,
                serial,
                data: range,
            } => {
                let record = data(range)?;
                let Some(blob) = buffer.blob(number) else {
                    return self.store(*oid, *serial, &record, key).await;
                };
                let file = blob.open().map_err(|error| CallError::file(&error))?;
                let read = move |position, limit, into: &mut Vec<u8>| {
                    read_piece(&*file, position, limit, into)
                };
                self.store_blob(*oid, *serial, &record, key, read).await
            }
            Operation::Delete { oid, serial, .. } => self.delete_object(*oid, *serial, key).await,
            Operation::Check { oid, serial } => self.check_current_serial(*oid, *serial, key).await,
            Operation::Undo { tid } => self.undo(undo_id(*tid).as_bytes(), key).await,
            Operation::Restore {
                oid,
                serial,
                data: range,
                has_data,
                previous,
            } => {
                let record = data(range)?;
                let record = has_data.then_some(record.as_slice());
                self.restore(*oid, *serial, record, *previous, key).await
            }
        }
    }
}

/// A transaction's id as `undoLog` gives it: the tid in base64.
fn undo_id(tid: Tid) -> String {
    STANDARD.encode(tid.0)
}

fn read_piece(
    file: &dyn crate::disk::DiskFile,
    position: u64,
    limit: usize,
    into: &mut Vec<u8>,
) -> io::Result<()> {
    let begin = into.len();
    into.resize(begin + limit, 0);
    let read = match into.get_mut(begin..) {
        Some(room) => file.read_at(room, position, crate::disk::Access::Wait)?,
        None => 0,
    };
    into.truncate(begin + read);
    Ok(())
}
