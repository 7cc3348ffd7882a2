//! Decides which revisions a pack keeps, as ZODB's packer does:
//!
//! 1. of every object the revision that was current at the pack time,
//! 2. with garbage collection, only of objects that were reachable from the
//!    root then,
//! 3. every older revision that a record behind the pack time points back to,
//!    and (with garbage collection) what was reachable from it.
//!
//! Positions at the pack time stand in an [`Index`] of the old file. The copy
//! turns it, entry by entry, into the index of the new file, so it is no
//! memory on top of what the packed database needs anyway.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::copy::same_data;
use super::oid_set::{OidSet, Pending};
use super::progress::{PackPhase, Progress};
use super::references::Scanner;
use super::walk::{Record, Transaction, resolve};
use super::window::{PASS_BYTES, Window};
use crate::disk::Access;
use crate::storage::file::format::{DATA_HEADER_BYTES, FIRST_TRANSACTION, STATUS_PACKED};
use crate::storage::file::index::Index;
use crate::storage::file::reader::DataFile;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// Records that lie no further apart than this are read together …
const GAP_BYTES: u64 = 16 << 10;
/// … up to this much at once.
const GATHER_BYTES: u64 = 512 << 10;
/// So much is read of a record whose length is not known yet.
const RECORD_BYTES: usize = 4 << 10;

/// What is kept of the part up to the pack time.
#[derive(Debug)]
pub struct Reachable {
    /// Where the first transaction behind the pack time begins.
    pub packed_end: u64,
    /// The revisions at the pack time of the objects that are kept.
    pub positions: Index,
    /// Objects of which other revisions are kept: all that are, the one that
    /// counts as theirs at the pack time first.
    pub pinned: HashMap<Oid, Vec<u64>>,
    /// Where records behind the pack time point back to, before it.
    pub targets: HashSet<u64>,
    /// Revisions that are not kept though something points to them: the
    /// object's own revision, which is kept, is of the same transaction and has
    /// the same data; or (0) they say that the object does not exist, for which
    /// no pointer is needed.
    pub doubles: HashMap<u64, u64>,
}

impl Reachable {
    /// Is the record of `oid` at `position` kept?
    pub fn is_kept(&self, oid: Oid, position: u64) -> bool {
        match self.pinned.get(&oid) {
            Some(positions) => positions.contains(&position),
            None => self.positions.get(oid) == Some(position),
        }
    }

    /// The revision at the pack time, as long as it was not copied. None: the
    /// object is not kept at all.
    pub fn position(&self, oid: Oid) -> Option<u64> {
        match self.pinned.get(&oid) {
            Some(positions) => positions.first().copied(),
            None => self.positions.get(oid),
        }
    }
}

/// Looks through the file up to `end`. None: a pack has nothing to do, since
/// all up to `stop` is packed already.
pub fn find(
    data: &DataFile,
    progress: &Progress,
    end: u64,
    stop: Tid,
    gc: bool,
) -> Result<Option<Reachable>> {
    progress.begin(PackPhase::Reading, end);
    let mut window = Window::new(data, progress, end, PASS_BYTES);
    let Some(current) = read_current(&mut window, progress, end, stop)? else {
        return Ok(None);
    };
    let mut reachable = Reachable {
        packed_end: current.packed_end,
        positions: current.positions,
        pinned: HashMap::new(),
        targets: HashSet::new(),
        doubles: HashMap::new(),
    };
    if gc {
        collect(&mut window, data, progress, current.last, &mut reachable)?;
    } else {
        let is_kept = |reachable: &Reachable, oid| reachable.position(oid).is_some();
        let doubles = Some(data);
        read_future(
            &mut window,
            progress,
            current.last,
            &mut reachable,
            is_kept,
            doubles,
        )?;
        reachable.positions.retain(|_| true);
    }
    Ok(Some(reachable))
}

/// What the first pass found.
struct Current {
    packed_end: u64,
    positions: Index,
    last: Tid,
}

fn read_current(
    window: &mut Window<'_>,
    progress: &Progress,
    end: u64,
    stop: Tid,
) -> Result<Option<Current>> {
    let mut positions = Index::default();
    let mut position = FIRST_TRANSACTION;
    let mut last = Tid::ZERO;
    let mut is_packed = true;
    // Of the transaction that decides whether all was packed before: the one
    // behind the pack time, or the last of the file.
    let mut next_status = None;
    while position < end {
        let transaction = Transaction::read(window, position)?;
        next_status = Some(transaction.header.status);
        if transaction.header.tid > stop {
            break;
        }
        transaction.check(window, last)?;
        last = transaction.header.tid;
        is_packed &= transaction.header.status == STATUS_PACKED;
        transaction.for_each_record(window, |_, record| {
            if record.header.data_bytes > 0 || record.back > 0 {
                positions.set(record.header.oid, record.position);
            } else {
                positions.remove(record.header.oid);
            }
            Ok(())
        })?;
        position = transaction.end();
        progress.at(position);
    }
    if is_packed && next_status == Some(STATUS_PACKED) {
        return Ok(None);
    }
    Ok(Some(Current {
        packed_end: position,
        positions,
        last,
    }))
}

/// Goes through the transactions behind the pack time for pointers before it.
/// `is_reached` tells whether an object is kept anyway; the positions that are
/// kept beside are returned in the order that they were found in. With
/// `doubles`, which is the file, doubles of what is kept are not.
fn read_future(
    window: &mut Window<'_>,
    progress: &Progress,
    last: Tid,
    reachable: &mut Reachable,
    is_reached: impl Fn(&Reachable, Oid) -> bool,
    doubles: Option<&DataFile>,
) -> Result<Vec<u64>> {
    let mut extra = Vec::new();
    let mut position = reachable.packed_end;
    let mut last = last;
    while position < window.end() {
        let transaction = Transaction::read(window, position)?;
        transaction.check(window, last)?;
        last = transaction.header.tid;
        transaction.for_each_record(window, |_, record| {
            let Record { header, back, .. } = record;
            if back == 0 || back >= reachable.packed_end {
                return Ok(());
            }
            if let Some(data) = doubles
                && let Some(kept) = double_of(data, reachable, header.oid, back)?
            {
                if kept > 0 {
                    reachable.targets.insert(kept);
                }
                reachable.doubles.insert(back, kept);
                return Ok(());
            }
            reachable.targets.insert(back);
            if !is_reached(reachable, header.oid) {
                // What this revision refers to is not followed: so does ZODB.
                reachable.pinned.insert(header.oid, vec![back]);
                return Ok(());
            }
            let main = reachable.positions.get(header.oid);
            let pinned = reachable
                .pinned
                .entry(header.oid)
                .or_insert_with(|| main.into_iter().collect());
            // The first is kept as the object's own; the same again is a root like any other.
            if !pinned.iter().skip(1).any(|&kept| kept == back) {
                pinned.push(back);
                extra.push(back);
            }
            Ok(())
        })?;
        position = transaction.end();
        progress.at(position);
    }
    Ok(extra)
}

/// What is as good as the revision at `back`: see [`Reachable::doubles`].
fn double_of(data: &DataFile, reachable: &Reachable, oid: Oid, back: u64) -> Result<Option<u64>> {
    if data.read_data(oid, back, Access::Wait)?.is_none() {
        return Ok(Some(0));
    }
    let Some(kept) = reachable.positions.get(oid).filter(|&kept| kept != back) else {
        return Ok(None);
    };
    let transaction = |position| {
        let head = data.read_head_of(oid, position, Access::Wait)?;
        Ok::<_, StorageError>(head.header.transaction)
    };
    let is_double = transaction(kept)? == transaction(back)? && same_data(data, oid, kept, back)?;
    Ok(is_double.then_some(kept))
}

/// Keeps only what can be reached.
fn collect(
    window: &mut Window<'_>,
    data: &DataFile,
    progress: &Progress,
    last: Tid,
    reachable: &mut Reachable,
) -> Result<()> {
    progress.begin(PackPhase::Following, reachable.positions.len());
    let end = reachable.packed_end;
    let mut follower = Follower {
        window: Window::new(data, progress, end, RECORD_BYTES),
        chased: Window::new(data, progress, end, RECORD_BYTES),
        progress,
        scanner: Scanner::default(),
        reached: OidSet::default(),
        pending: Pending::default(),
        followed: 0,
    };
    // A database that had nothing at the pack time keeps nothing of it.
    if reachable.positions.len() > 0 {
        follower.reach(&reachable.positions, Oid::ROOT, FIRST_TRANSACTION)?;
        follower.follow(&reachable.positions)?;
    }
    progress.begin(PackPhase::Reading, window.end());
    let extra = {
        let reached = &follower.reached;
        let is_reached = |reachable: &Reachable, oid| {
            reached.contains(oid) || reachable.pinned.contains_key(&oid)
        };
        read_future(window, progress, last, reachable, is_reached, None)?
    };
    for &oid in reachable.pinned.keys() {
        follower.reached.insert(oid);
    }
    progress.begin(PackPhase::Following, reachable.positions.len());
    for position in extra {
        follower.references(&reachable.positions, position)?;
        follower.follow(&reachable.positions)?;
    }
    let reached = follower.reached;
    reachable.positions.retain(|oid| reached.contains(oid));
    Ok(())
}

/// Follows references from object to object.
///
/// Memory: a bit per object that was reached, and one per object that is still
/// to be read. Objects are read in batches, in the order of the file, which
/// keeps a disk from seeking back and forth as a walk along the references would.
struct Follower<'a> {
    window: Window<'a>,
    /// For data that back pointers lead to, elsewhere in the file.
    chased: Window<'a>,
    progress: &'a Progress,
    scanner: Scanner,
    reached: OidSet,
    pending: Pending,
    followed: u64,
}

impl Follower<'_> {
    /// Notes that the record at `from` refers to `oid`.
    fn reach(&mut self, positions: &Index, oid: Oid, from: u64) -> Result<()> {
        match reach(&mut self.reached, &mut self.pending, positions, oid) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(oid) => Err(StorageError::DanglingReference {
                oid,
                position: from,
            }),
        }
    }

    /// Reads all objects that are pending, and those that they lead to.
    fn follow(&mut self, positions: &Index) -> Result<()> {
        let mut batch = Vec::new();
        loop {
            batch.clear();
            let place = |oid| batch.extend(positions.get(oid));
            if !self.pending.take(place) {
                return Ok(());
            }
            batch.sort_unstable();
            let mut rest = batch.as_slice();
            while let Some((&position, after)) = rest.split_first() {
                if !self.window.holds(position, RECORD_BYTES) {
                    self.window.prefetch(position, gather(rest))?;
                }
                self.references(positions, position)?;
                rest = after;
            }
            self.followed += batch.len() as u64;
            self.progress.at(self.followed);
        }
    }

    /// Reaches what the record at `position` refers to.
    fn references(&mut self, positions: &Index, position: u64) -> Result<()> {
        let head = self.window.head(position)?;
        let (window, found) = if head.header.data_bytes > 0 {
            let at = position + DATA_HEADER_BYTES as u64;
            (&mut self.window, Some((at, head.header.data_bytes)))
        } else {
            let found = resolve(&mut self.chased, head.back)?;
            (&mut self.chased, found)
        };
        let Some((at, length)) = found else {
            return Ok(());
        };
        let length = usize::try_from(length)
            .map_err(|_| window.corrupt(position, "the record does not fit into memory"))?;
        let record = window.get(at, length)?;
        let mut outcome = ControlFlow::Continue(());
        let (reached, pending) = (&mut self.reached, &mut self.pending);
        let scanned = self.scanner.for_each_reference(record, |oid| {
            if outcome.is_continue() {
                outcome = reach(reached, pending, positions, oid);
            }
        });
        scanned.map_err(|source| StorageError::UnknownReferences { position, source })?;
        match outcome {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(oid) => Err(StorageError::DanglingReference { oid, position }),
        }
    }
}

/// Breaks with the oid where there is no such object.
fn reach(
    reached: &mut OidSet,
    pending: &mut Pending,
    positions: &Index,
    oid: Oid,
) -> ControlFlow<Oid> {
    if reached.contains(oid) {
        return ControlFlow::Continue(());
    }
    if positions.get(oid).is_none() {
        return ControlFlow::Break(oid);
    }
    reached.insert(oid);
    pending.insert(oid);
    ControlFlow::Continue(())
}

/// So much is read at the first of these positions, for it and those that follow closely.
fn gather(positions: &[u64]) -> usize {
    let first = positions.first().copied().unwrap_or(0);
    let mut last = first;
    for &position in positions {
        if position - last > GAP_BYTES || position - first > GATHER_BYTES {
            break;
        }
        last = position;
    }
    usize::try_from(last - first)
        .unwrap_or(0)
        .saturating_add(RECORD_BYTES)
}
