//! Writes the packed file: first what is kept up to the pack time, every
//! record with its data and no pointers, then all transactions behind it.

use std::collections::HashMap;

use super::RemovedBlob;
use super::blob_record::{PROBE_BYTES, is_blob_record};
use super::progress::{PackPhase, Progress};
use super::reachable::Reachable;
use super::walk::{Record, Transaction, resolve};
use super::window::{Output, PASS_BYTES, Window};
use crate::storage::Result;
use crate::storage::file::format::{
    DATA_HEADER_BYTES, DataHeader, FIRST_TRANSACTION, MAGIC_PYTHON3, NUMBER_BYTES, STATUS_PACKED,
};
use crate::storage::file::reader::DataFile;
use crate::types::Oid;

/// So much is read where a back pointer leads.
pub const CHASED_BYTES: usize = 4 << 10;
/// Offset of the length in a transaction's header, and of the status behind it.
const LENGTH_AT: u64 = 8;
const STATUS_AT: usize = 16;

/// Is told of each blob revision that the pack drops. They are dropped only
/// once the pack has succeeded.
pub type OnRemovedBlob<'a> = &'a mut (dyn FnMut(RemovedBlob) -> Result<()> + 'a);

/// Where a record that something behind the pack time points to has gone.
pub type Moved = HashMap<u64, u64>;

/// Copies the part up to the pack time.
pub struct Copier<'a, 'b> {
    data: &'a DataFile,
    reachable: &'a mut Reachable,
    out: &'a mut Output,
    /// For data elsewhere in the file.
    chased: Window<'a>,
    on_removed: Option<OnRemovedBlob<'b>>,
    moved: Moved,
    /// Of the transaction at hand: where the first of several kept records of
    /// one object was and is now.
    firsts: HashMap<Oid, (u64, u64)>,
}

impl<'a, 'b> Copier<'a, 'b> {
    /// From `data` to `out`, by what `reachable` says.
    pub fn new(
        data: &'a DataFile,
        progress: &'a Progress,
        reachable: &'a mut Reachable,
        out: &'a mut Output,
        on_removed: Option<OnRemovedBlob<'b>>,
    ) -> Self {
        let end = reachable.packed_end;
        Self {
            chased: Window::new(data, progress, end, CHASED_BYTES),
            data,
            reachable,
            out,
            on_removed,
            moved: Moved::new(),
            firsts: HashMap::new(),
        }
    }

    /// Copies. Afterwards the positions of `reachable` are those of the new file.
    pub fn copy(mut self, progress: &Progress) -> Result<Moved> {
        let end = self.reachable.packed_end;
        progress.begin(PackPhase::Copying, end);
        let mut window = Window::new(self.data, progress, end, PASS_BYTES);
        let magic = window.array::<{ MAGIC_PYTHON3.len() }>(0)?;
        self.out.put(&magic)?;
        let mut position = FIRST_TRANSACTION;
        while position < end {
            let transaction = Transaction::read(&mut window, position)?;
            self.transaction(&mut window, &transaction)?;
            position = transaction.end();
            progress.at(position);
        }
        for (double, kept) in &self.reachable.doubles {
            let now = self.moved.get(kept).copied().unwrap_or(0);
            self.moved.insert(*double, now);
        }
        if let Some(on_removed) = &mut self.on_removed {
            on_removed(RemovedBlob::NoMore)?;
        }
        Ok(self.moved)
    }

    fn transaction(&mut self, window: &mut Window<'_>, transaction: &Transaction) -> Result<()> {
        let mut start = None;
        self.firsts.clear();
        transaction.for_each_record(window, |window, record| {
            if !self.reachable.is_kept(record.header.oid, record.position) {
                return self.dropped(window, &record);
            }
            let start = match start {
                Some(start) => start,
                None => *start.insert(self.header(window, transaction)?),
            };
            self.record(window, &record, start)
        })?;
        if let Some(start) = start {
            let length = (self.out.position() - start).to_be_bytes();
            self.out.patch(start + LENGTH_AT, &length)?;
            self.out.put(&length)?;
        }
        Ok(())
    }

    /// Writes the header of a transaction that something is kept of. Its length
    /// is filled in when that is known.
    fn header(&mut self, window: &mut Window<'_>, transaction: &Transaction) -> Result<u64> {
        let start = self.out.position();
        let mut bytes = header_bytes(window, transaction)?.to_vec();
        if let Some(status) = bytes.get_mut(STATUS_AT) {
            *status = STATUS_PACKED;
        }
        self.out.put(&bytes)?;
        Ok(start)
    }

    fn record(&mut self, window: &mut Window<'_>, record: &Record, start: u64) -> Result<()> {
        let old = record.header;
        let mut is_near = true;
        let place = match old.data_bytes {
            0 => {
                is_near = false;
                resolve(&mut self.chased, record.back)?
            }
            length => Some((record.position + DATA_HEADER_BYTES as u64, length)),
        };
        let position = self.out.position();
        let header = DataHeader {
            previous: 0,
            transaction: start,
            data_bytes: place.map_or(0, |(_, length)| length),
            ..old
        };
        self.out.put(&header.to_bytes())?;
        match place {
            Some((at, length)) if is_near => self.out.copy(window, at, length)?,
            Some((at, length)) => self.out.copy(&mut self.chased, at, length)?,
            None => self.out.put(&[0; NUMBER_BYTES])?,
        }
        self.reachable.positions.set(old.oid, position);
        let mut first = (record.position, position);
        if self.reachable.pinned.contains_key(&old.oid) {
            first = *self.firsts.entry(old.oid).or_insert(first);
        }
        if self.reachable.targets.contains(&record.position) {
            let now = self.pointed_to(&record.header, record.position, position, first)?;
            self.moved.insert(record.position, now);
        }
        Ok(())
    }

    /// Where pointers to the record that was at `before` and is at `now` lead.
    /// ZODB looks for it by its transaction and takes the first record of the
    /// object there, which is as good if it holds the same.
    fn pointed_to(
        &self,
        header: &DataHeader,
        before: u64,
        now: u64,
        first: (u64, u64),
    ) -> Result<u64> {
        let (first_before, first_now) = first;
        if first_before != before && same_data(self.data, header.oid, first_before, before)? {
            return Ok(first_now);
        }
        Ok(now)
    }

    /// Tells of a blob that goes with this record.
    fn dropped(&mut self, window: &mut Window<'_>, record: &Record) -> Result<()> {
        let Some(on_removed) = &mut self.on_removed else {
            return Ok(());
        };
        let oid = record.header.oid;
        let beginning = match record.header.data_bytes {
            0 => match resolve(&mut self.chased, record.back)? {
                Some((at, length)) => self.chased.get(at, probe(length))?,
                None => return Ok(()),
            },
            length => {
                let at = record.position + DATA_HEADER_BYTES as u64;
                window.get(at, probe(length))?
            }
        };
        if !is_blob_record(beginning) {
            return Ok(());
        }
        match self.reachable.position(oid) {
            None => on_removed(RemovedBlob::Object(oid)),
            Some(kept) => {
                // Old files can have the record that is kept twice; both have one blob.
                let kept = self.chased.head(kept)?.header;
                if kept.tid == record.header.tid {
                    return Ok(());
                }
                on_removed(RemovedBlob::Revision(oid, record.header.tid))
            }
        }
    }
}

fn probe(length: u64) -> usize {
    usize::try_from(length).map_or(PROBE_BYTES, |length| length.min(PROBE_BYTES))
}

/// The header of a transaction with its texts, as it stands in the file.
pub fn header_bytes<'w>(window: &'w mut Window<'_>, transaction: &Transaction) -> Result<&'w [u8]> {
    let length = usize::try_from(transaction.header.header_bytes()).unwrap_or(usize::MAX);
    window.get(transaction.position, length)
}

/// Do two records of an object give the same data, or both none?
pub fn same_data(data: &DataFile, oid: Oid, one: u64, other: u64) -> Result<bool> {
    use crate::disk::Access::Wait;
    Ok(data.read_data(oid, one, Wait)? == data.read_data(oid, other, Wait)?)
}
