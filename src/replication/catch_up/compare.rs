//! Goes through the files here in step with the sender's runs.

use sha2::{Digest as _, Sha256};

use super::link::Link;
use super::message::{Message, Run};
use super::progress::Progress;
use super::{CatchUpError, Result};
use crate::storage::StorageError;
use crate::storage::file::transfer::content::{Digest, Digester};
use crate::storage::file::transfer::source::{Source, is_damage};
use crate::types::Tid;

/// Statuses of transactions that follow each other: so many have this one.
pub type Statuses = Vec<(u64, u8)>;

/// How the next part of the sender's file comes about.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// From this file here.
    Same {
        /// Which of the files.
        source: usize,
        /// From there …
        begin: u64,
        /// … to there.
        end: u64,
        /// The statuses that the sender's transactions have.
        statuses: Statuses,
    },
    /// All from the sender.
    Missing {
        /// The first run.
        first: u32,
        /// The last one.
        last: u32,
        /// Transactions in them.
        count: u64,
    },
    /// A run of which parts may be here.
    Other {
        /// The run.
        run: u32,
        /// What is here of its time: file, begin, end.
        ranges: Vec<(usize, u64, u64)>,
    },
}

/// What a comparison gives.
#[derive(Debug)]
pub struct Compared {
    /// The sender's file, from its beginning to its end.
    pub steps: Vec<Step>,
    /// Its CRC-32.
    pub crc: u32,
    /// The last transaction of the first file here is part of it.
    pub continues: bool,
}

/// Hears the sender's runs to their end. None: its file cannot be compared.
pub fn compare(
    link: &mut Link,
    sources: &mut [Source<'_>],
    own_end: u64,
    progress: &Progress,
) -> Result<Option<Compared>> {
    let mut compared = Compared {
        steps: Vec::new(),
        crc: 0,
        continues: false,
    };
    let mut number = 0;
    link.send(&Message::SendRuns)?;
    loop {
        match link.receive()? {
            Message::Runs(position, runs) => {
                for run in runs {
                    compared.run(number, &run, sources, own_end)?;
                    number += 1;
                }
                progress.at(position);
            }
            Message::RunsEnd(crc) => {
                compared.crc = crc;
                for source in sources {
                    source.end_first_pass();
                }
                return Ok(Some(compared));
            }
            Message::NotComparable(why) => {
                tracing::info!("catch-up: the whole file is copied, for {why}");
                return Ok(None);
            }
            other => return Err(Link::unexpected(&other)),
        }
    }
}

impl Compared {
    fn run(
        &mut self,
        number: u32,
        run: &Run,
        sources: &mut [Source<'_>],
        own_end: u64,
    ) -> Result<()> {
        let mut same = None;
        let mut all = Vec::new();
        for (at, source) in sources.iter_mut().enumerate() {
            let (digest, ranges) = pass_by(source, run.last, at == 0)?;
            if digest == run.digest
                && let [(begin, end)] = ranges.as_slice()
            {
                same.get_or_insert((at, *begin, *end));
                self.continues |= at == 0 && *end == own_end;
            }
            all.extend(ranges.into_iter().map(|(begin, end)| (at, begin, end)));
        }
        match same {
            Some((source, begin, end)) => self.same(source, begin, end, &run.statuses),
            None if all.is_empty() => self.missing(number, run),
            None => self.steps.push(Step::Other {
                run: number,
                ranges: all,
            }),
        }
        Ok(())
    }

    /// Steps that go on from the last one become part of it.
    fn same(&mut self, source: usize, begin: u64, end: u64, statuses: &[(u16, u8)]) {
        if !matches!(self.steps.last(), Some(Step::Same { source: s, end: e, .. })
            if *s == source && *e == begin)
        {
            self.steps.push(Step::Same {
                source,
                begin,
                end,
                statuses: Statuses::new(),
            });
        }
        let Some(Step::Same {
            end: last_end,
            statuses: all,
            ..
        }) = self.steps.last_mut()
        else {
            return;
        };
        *last_end = end;
        for &(count, status) in statuses {
            match all.last_mut() {
                Some((before, same)) if *same == status => *before += u64::from(count),
                _ => all.push((u64::from(count), status)),
            }
        }
    }

    fn missing(&mut self, number: u32, run: &Run) {
        let more: u64 = run.statuses.iter().map(|(n, _)| u64::from(*n)).sum();
        match self.steps.last_mut() {
            Some(Step::Missing { last, count, .. }) if last.checked_add(1) == Some(number) => {
                *last = number;
                *count += more;
            }
            _ => self.steps.push(Step::Missing {
                first: number,
                last: number,
                count: more,
            }),
        }
    }
}

/// Passes by the transactions up to `last`: the digest of them all, and where
/// they are. Damage is passed over; there are several ranges then, or none.
fn pass_by(
    source: &mut Source<'_>,
    last: Tid,
    is_storage: bool,
) -> Result<(Digest, Vec<(u64, u64)>)> {
    let mut hasher = Sha256::new();
    let mut ranges = Vec::new();
    let mut begin = source.position();
    loop {
        match pass_one(source, last) {
            Ok(Some(digest)) => hasher.update(digest.0),
            Ok(None) => break,
            Err(error) if is_damage(&error) => {
                // What was received before may end anywhere.
                if is_storage {
                    tracing::warn!("catch-up replaces what is damaged here: {error}");
                }
                if source.position() > begin {
                    ranges.push((begin, source.position()));
                }
                source.skip_damage();
                begin = source.position();
                // Whatever follows, this run is not whole.
                hasher.update([0]);
            }
            Err(error) => return Err(CatchUpError::Storage(error)),
        }
    }
    if source.position() > begin {
        ranges.push((begin, source.position()));
    }
    Ok((Digest::of(hasher), ranges))
}

fn pass_one(
    source: &mut Source<'_>,
    last: Tid,
) -> std::result::Result<Option<Digest>, StorageError> {
    match source.next_tid()? {
        Some(tid) if tid <= last => {}
        _ => return Ok(None),
    }
    let mut digester = Digester::default();
    source.next(&mut digester)?;
    Ok(Some(digester.take()))
}
