//! Lays the sender's file out anew, from what is here and what it sends.

use std::collections::HashMap;
use std::iter::Peekable;

use super::compare::{Statuses, Step};
use super::link::{DataIn, Link};
use super::message::{Entry, Item, Message};
use super::progress::Progress;
use super::{CatchUpError, Result};
use crate::storage::StorageError;
use crate::storage::file::transfer::build::Builder;
use crate::storage::file::transfer::codec::{Decoder, Own};
use crate::storage::file::transfer::content::{Digest, Digester, Head, Record, Visitor};
use crate::storage::file::transfer::source::Source;
use crate::types::Tid;

/// So many runs that differ are looked at together: each time costs the way
/// there and back twice.
const RUNS_AT_ONCE: usize = 512;
/// Of a transaction that differs so many records of ours are told …
const MAX_HAVE: usize = 32 << 10;
/// … and of those looked at together so many. What was not told comes whole.
const MAX_HAVE_AT_ONCE: usize = 256 << 10;
/// Questions are sent once they take about so much.
const FRAME_BYTES: usize = 256 << 10;
/// What an item takes at most, without its digests; what a digest takes.
const ITEM_BYTES: usize = 32;
const HAVE_BYTES: usize = 17;

/// Puts a file together.
pub struct Assembly<'a, 'f> {
    /// The files here.
    pub sources: &'a mut [Source<'f>],
    /// The new file.
    pub builder: &'a mut Builder<'f>,
    /// How far it is.
    pub progress: &'a Progress,
    /// Where the first file here ends.
    pub own_end: u64,
    /// Set once its last transaction is found to be part of the new one.
    pub continues: bool,
}

/// A part of the new file.
enum Part {
    /// From a file here: which, from where to where.
    Ours(usize, u64, u64, Statuses),
    /// So many transactions that come.
    Theirs(u64),
    /// One that comes, some of whose records may be here: file and position.
    TheirsPartly(Tid, Option<(usize, u64)>),
}

impl Assembly<'_, '_> {
    /// By these steps.
    pub fn run(&mut self, link: &mut Link, steps: Vec<Step>) -> Result<()> {
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let steps = next_steps(&mut steps);
            let entries = list(link, &steps)?;
            let (parts, items) = self.plan(steps, entries)?;
            ask(link, &items)?;
            let mut data = link.data_in();
            self.build(&mut data, parts)?;
            if !items.is_empty() {
                data.end()?;
            }
        }
        Ok(())
    }

    fn plan(
        &mut self,
        steps: Vec<Step>,
        entries: Vec<Vec<Entry>>,
    ) -> Result<(Vec<Part>, Vec<Item>)> {
        let mut entries = entries.into_iter();
        let (mut parts, mut items) = (Vec::new(), Vec::new());
        let mut may_tell = MAX_HAVE_AT_ONCE;
        for step in steps {
            match step {
                Step::Same {
                    source,
                    begin,
                    end,
                    statuses,
                } => parts.push(Part::Ours(source, begin, end, statuses)),
                Step::Missing { first, last, count } => {
                    parts.push(Part::Theirs(count));
                    items.push(Item::Runs(first, last));
                }
                Step::Other { run, ranges } => {
                    let ours = self.ours(&ranges)?;
                    for entry in entries.next().unwrap_or_default() {
                        let found = ours.get(&entry.tid);
                        let (part, item) = self.entry(run, &entry, found, &mut may_tell);
                        parts.push(part);
                        items.extend(item);
                    }
                }
            }
        }
        Ok((parts, items))
    }

    /// The transactions in these ranges: for each id, where it is and what it holds.
    fn ours(&mut self, ranges: &[(usize, u64, u64)]) -> Result<HashMap<Tid, Vec<Found>>> {
        let mut found: HashMap<Tid, Vec<Found>> = HashMap::new();
        let mut digester = Digester::default();
        for &(at, begin, end) in ranges {
            let Some(source) = self.sources.get_mut(at) else {
                continue;
            };
            let mut position = begin;
            while position < end {
                let passed = source.visit(position, &mut digester)?;
                found.entry(passed.tid).or_default().push(Found {
                    source: at,
                    position,
                    end: passed.end,
                    digest: digester.take(),
                });
                position = passed.end;
            }
        }
        Ok(found)
    }

    fn entry(
        &mut self,
        run: u32,
        entry: &Entry,
        found: Option<&Vec<Found>>,
        may_tell: &mut usize,
    ) -> (Part, Option<Item>) {
        let found = found.map(Vec::as_slice).unwrap_or_default();
        let same = |ours: &&Found| ours.digest == entry.digest;
        self.continues |= found
            .iter()
            .filter(same)
            .any(|ours| ours.source == 0 && ours.end == self.own_end);
        if let Some(ours) = found.iter().find(same) {
            let statuses = vec![(1, entry.status)];
            let part = Part::Ours(ours.source, ours.position, ours.end, statuses);
            return (part, None);
        }
        let mut have = Vec::new();
        let mut place = None;
        if let Some(ours) = found.first()
            && let Some(source) = self.sources.get_mut(ours.source)
            && let Ok(digests) = source.data_digests(ours.position)
        {
            have = digests.digests;
            have.truncate(MAX_HAVE.min(*may_tell));
            *may_tell -= have.len();
            place = (!have.is_empty()).then_some((ours.source, ours.position));
        }
        let tid = entry.tid;
        let item = Item::Transaction { run, tid, have };
        (Part::TheirsPartly(tid, place), Some(item))
    }

    fn build(&mut self, data: &mut DataIn<'_>, parts: Vec<Part>) -> Result<()> {
        for part in parts {
            match part {
                Part::Ours(source, begin, end, statuses) => {
                    self.copy(data, source, (begin, end), &statuses)?;
                }
                Part::Theirs(count) => {
                    for _ in 0..count {
                        Decoder::new(data).transaction(None, &mut Nothing, self.builder)?;
                        self.progress.at(self.builder.position());
                    }
                }
                Part::TheirsPartly(tid, place) => {
                    let mut own = OwnRecords::of(self.sources, place)?;
                    Decoder::new(data).transaction(Some(tid), &mut own, self.builder)?;
                }
            }
            self.progress.at(self.builder.position());
        }
        Ok(())
    }

    fn copy(
        &mut self,
        data: &mut DataIn<'_>,
        source: usize,
        (begin, end): (u64, u64),
        statuses: &Statuses,
    ) -> Result<()> {
        let Some(source) = self.sources.get_mut(source) else {
            return Ok(());
        };
        let mut position = begin;
        for &(count, status) in statuses {
            for _ in 0..count {
                let mut visitor = WithStatus {
                    status,
                    inner: self.builder,
                };
                position = source.visit(position, &mut visitor)?.end;
                self.progress.at(visitor.inner.position());
                data.still_here()?;
            }
        }
        if position == end {
            Ok(())
        } else {
            Err(CatchUpError::Protocol(
                "a run of another number of transactions".to_owned(),
            ))
        }
    }
}

/// A transaction in a file here.
struct Found {
    source: usize,
    position: u64,
    end: u64,
    digest: Digest,
}

fn next_steps(steps: &mut Peekable<impl Iterator<Item = Step>>) -> Vec<Step> {
    let mut taken = Vec::new();
    let mut others = 0;
    while others < RUNS_AT_ONCE
        && let Some(step) = steps.next()
    {
        others += usize::from(matches!(step, Step::Other { .. }));
        taken.push(step);
    }
    taken
}

/// What is in the runs of which parts may be here.
fn list(link: &mut Link, steps: &[Step]) -> Result<Vec<Vec<Entry>>> {
    let other = |step: &Step| match step {
        Step::Other { run, .. } => Some(*run),
        Step::Same { .. } | Step::Missing { .. } => None,
    };
    let runs: Vec<u32> = steps.iter().filter_map(other).collect();
    let count = runs.len();
    if count > 0 {
        link.send(&Message::List(runs))?;
    }
    let entries = (0..count).map(|_| match link.receive()? {
        Message::Entries(entries) => Ok(entries),
        other => Err(Link::unexpected(&other)),
    });
    entries.collect()
}

fn ask(link: &Link, items: &[Item]) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let mut frame = Vec::new();
    let mut bytes = 0;
    for item in items {
        let have = match item {
            Item::Runs(..) => 0,
            Item::Transaction { have, .. } => have.len(),
        };
        frame.push(item.clone());
        bytes += ITEM_BYTES + have * HAVE_BYTES;
        if bytes >= FRAME_BYTES {
            link.send(&Message::Get(std::mem::take(&mut frame)))?;
            bytes = 0;
        }
    }
    if !frame.is_empty() {
        link.send(&Message::Get(frame))?;
    }
    link.send(&Message::GetEnd)
}

/// The status of a transaction here may be an older one.
struct WithStatus<'a, 'f> {
    status: u8,
    inner: &'a mut Builder<'f>,
}

impl Visitor for WithStatus<'_, '_> {
    fn begin(&mut self, head: &Head) -> std::result::Result<(), StorageError> {
        let mut head = head.clone();
        head.header.status = self.status;
        self.inner.begin(&head)
    }

    fn record(&mut self, record: &Record) -> std::result::Result<(), StorageError> {
        self.inner.record(record)
    }

    fn data(&mut self, piece: &[u8]) -> std::result::Result<(), StorageError> {
        self.inner.data(piece)
    }

    fn end(&mut self) -> std::result::Result<(), StorageError> {
        self.inner.end()
    }
}

fn no_record(number: u32) -> StorageError {
    crate::storage::file::transfer::codec::malformed(format!("there is no record {number} here"))
}

/// Where nothing was told.
struct Nothing;

impl Own for Nothing {
    fn length(&mut self, number: u32) -> std::result::Result<u64, StorageError> {
        Err(no_record(number))
    }

    fn data(&mut self, number: u32, _: &mut dyn Visitor) -> std::result::Result<(), StorageError> {
        Err(no_record(number))
    }
}

/// The records of a transaction here.
struct OwnRecords<'a, 'f> {
    source: Option<&'a mut Source<'f>>,
    places: Vec<Option<(u64, u64)>>,
}

impl<'a, 'f> OwnRecords<'a, 'f> {
    fn of(sources: &'a mut [Source<'f>], place: Option<(usize, u64)>) -> Result<Self> {
        let mut own = Self {
            source: None,
            places: Vec::new(),
        };
        if let Some((source, position)) = place
            && let Some(source) = sources.get_mut(source)
        {
            own.places = source.data_places(position)?;
            own.source = Some(source);
        }
        Ok(own)
    }

    fn place(&self, number: u32) -> std::result::Result<(u64, u64), StorageError> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let place = self.places.get(at).copied().flatten();
        place.ok_or_else(|| no_record(number))
    }
}

impl Own for OwnRecords<'_, '_> {
    fn length(&mut self, number: u32) -> std::result::Result<u64, StorageError> {
        Ok(self.place(number)?.1)
    }

    fn data(
        &mut self,
        number: u32,
        visitor: &mut dyn Visitor,
    ) -> std::result::Result<(), StorageError> {
        let (position, bytes) = self.place(number)?;
        match &mut self.source {
            Some(source) => source.pieces(position, bytes, |piece| visitor.data(piece)),
            None => Err(no_record(number)),
        }
    }
}
