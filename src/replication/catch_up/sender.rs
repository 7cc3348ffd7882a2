//! The side that has the state: answers what the other one asks for.

use std::io::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::{Link, converse};
use super::message::{Entry, Hello, Item, Message, Offer, Run};
use super::progress::{Phase, Progress, RateLimit};
use super::{CatchUpError, Result, blobs};
use crate::replication::types::StateMark;
use crate::storage::BlobDirectory;
use crate::storage::file::transfer::codec::Encoder;
use crate::storage::file::transfer::content::{Digest, Digester};
use crate::storage::file::transfer::source::{Passed, Source};
use crate::storage::file::transfer::{HeldFile, Progress as Work, source};
use crate::types::Tid;

/// A run of transactions ends when it has so many …
const RUN_TRANSACTIONS: usize = 16;
/// … or takes so much of the file.
const RUN_BYTES: u64 = 32 << 10;
/// So many runs go in one frame.
const RUNS_PER_FRAME: usize = 512;
/// A receiver may ask for so many items before it reads; it asks for fewer.
const MAX_ITEMS: usize = 1 << 20;

/// The state that others can have.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file, held when the mark was made.
    pub held: HeldFile,
    /// What the state is called.
    pub mark: StateMark,
    /// Where the blobs are.
    pub blobs: Option<Arc<BlobDirectory>>,
}

/// Answers over `stream` until the receiver has all that it lacks. The stream
/// can be used for something else afterwards.
pub async fn send<S>(
    stream: &mut S,
    origin: Origin,
    rate: &RateLimit,
    progress: &Arc<Progress>,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    if origin.held.end() != origin.mark.length {
        return Err(CatchUpError::Protocol(format!(
            "the held file has {} bytes, its mark says {}",
            origin.held.end(),
            origin.mark.length
        )));
    }
    let told = Arc::clone(progress);
    let sent = converse(stream, rate, progress, move |link, work| {
        let mut sender = Sender {
            source: Source::new(&origin.held, work),
            origin: &origin,
            progress: &told,
            work,
            runs: Vec::new(),
        };
        sender.serve(link)
    })
    .await;
    progress.begin(Phase::Idle, 0);
    sent
}

struct Sender<'a> {
    origin: &'a Origin,
    source: Source<'a>,
    progress: &'a Progress,
    work: &'a Work,
    /// Where each run begins, and the last one ends.
    runs: Vec<u64>,
}

impl Sender<'_> {
    fn serve(&mut self, link: &mut Link) -> Result<()> {
        let mut wanted = Vec::new();
        loop {
            match link.receive()? {
                Message::Hello(hello) => {
                    let offer = self.offer(&hello)?;
                    link.send(&Message::Offer(offer))?;
                }
                Message::SendRaw(from) => self.raw(link, from)?,
                Message::SendRuns => match self.send_runs(link) {
                    Err(CatchUpError::Storage(error)) if source::is_damage(&error) => {
                        tracing::warn!("catch-up copies the file as it is: {error}");
                        link.send(&Message::NotComparable(error.to_string()))?;
                    }
                    sent => sent?,
                },
                Message::List(runs) => {
                    for run in runs {
                        let entries = self.entries(run)?;
                        link.send(&Message::Entries(entries))?;
                    }
                }
                Message::Get(items) => {
                    wanted.extend(items);
                    if wanted.len() > MAX_ITEMS {
                        return Err(CatchUpError::Protocol("too much asked for".to_owned()));
                    }
                }
                Message::GetEnd => self.transactions(link, std::mem::take(&mut wanted))?,
                Message::NeedBlobs(needs) => {
                    blobs::answer(link, self.origin.blobs.as_deref(), &needs)?;
                }
                Message::Finished => return link.send(&Message::Goodbye),
                other => return Err(Link::unexpected(&other)),
            }
        }
    }

    fn offer(&self, hello: &Hello) -> Result<Offer> {
        let held = &self.origin.held;
        Ok(Offer {
            mark: self.origin.mark,
            magic: held.magic(),
            tail: self.common_beginning(hello)?,
        })
    }

    /// How much of our file the receiver has, if its file is our beginning.
    fn common_beginning(&self, hello: &Hello) -> Result<Option<u64>> {
        let held = &self.origin.held;
        let is_beginning = hello.packs == Some(self.origin.mark.packs)
            && hello.length <= held.end()
            && held.tid_before(hello.length) == Some(hello.last_tid)
            && held.probe(hello.length)? == hello.probe;
        if !is_beginning {
            return Ok(None);
        }
        let (tail, crc) = hello.tail;
        match hello.length.checked_add(tail) {
            Some(end) if end <= held.end() && held.crc(hello.length, end)? == crc => Ok(Some(end)),
            _ => Ok(Some(hello.length)),
        }
    }

    fn raw(&mut self, link: &Link, from: u64) -> Result<()> {
        let end = self.origin.held.end();
        self.progress.begin(Phase::Receiving, end);
        let mut out = link.data_out();
        let mut at = from;
        self.origin.held.pieces(from, end, |piece| {
            self.work.check()?;
            at += piece.len() as u64;
            self.progress.at(at);
            out.write_all(piece).map_err(|error| lost(&error))
        })?;
        out.end()
    }

    fn send_runs(&mut self, link: &Link) -> Result<()> {
        self.progress
            .begin(Phase::Comparing, self.origin.held.end());
        self.runs = vec![self.source.position()];
        let mut runs = Vec::new();
        let mut run = RunUnderWay::default();
        let mut digester = Digester::default();
        loop {
            let passed = self.source.next(&mut digester)?;
            if let Some(passed) = &passed {
                run.add(passed, digester.take());
            }
            if run.count > 0 && (run.is_full() || passed.is_none()) {
                runs.push(std::mem::take(&mut run).end());
                self.runs.push(self.source.position());
            }
            if runs.len() >= RUNS_PER_FRAME || passed.is_none() {
                let position = self.source.position();
                self.progress.at(position);
                link.send(&Message::Runs(position, std::mem::take(&mut runs)))?;
            }
            if passed.is_none() {
                let crc = self.source.end_first_pass();
                self.progress
                    .begin(Phase::Receiving, self.origin.held.end());
                return link.send(&Message::RunsEnd(crc));
            }
        }
    }

    /// Where a run begins and ends.
    fn run(&self, number: u32) -> Result<(u64, u64)> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let begin = self.runs.get(at);
        let end = at.checked_add(1).and_then(|at| self.runs.get(at));
        match (begin, end) {
            (Some(begin), Some(end)) => Ok((*begin, *end)),
            _ => Err(CatchUpError::Protocol(format!("there is no run {number}"))),
        }
    }

    fn entries(&mut self, run: u32) -> Result<Vec<Entry>> {
        let (mut position, end) = self.run(run)?;
        let mut digester = Digester::default();
        let mut entries = Vec::new();
        while position < end {
            let passed = self.source.visit(position, &mut digester)?;
            entries.push(Entry {
                tid: passed.tid,
                status: passed.status,
                digest: digester.take(),
            });
            position = passed.end;
        }
        Ok(entries)
    }

    fn transactions(&mut self, link: &Link, items: Vec<Item>) -> Result<()> {
        let mut out = link.data_out();
        {
            let mut encoder = Encoder::new(&mut out);
            for item in items {
                match item {
                    Item::Runs(first, last) => {
                        let (mut position, _) = self.run(first)?;
                        let (_, end) = self.run(last)?;
                        while position < end {
                            position = self.source.visit(position, &mut encoder)?.end;
                            self.progress.at(position);
                        }
                    }
                    Item::Transaction { run, tid, have } => {
                        let position = self.find(run, tid)?;
                        encoder.known(self.known(position, &have)?);
                        self.source.visit(position, &mut encoder)?;
                        self.progress.at(position);
                    }
                }
            }
        }
        out.end()
    }

    fn find(&mut self, run: u32, tid: Tid) -> Result<u64> {
        let (mut position, end) = self.run(run)?;
        while position < end {
            let passed = self.source.look_at(position)?;
            if passed.tid == tid {
                return Ok(position);
            }
            position = passed.end;
        }
        Err(CatchUpError::Protocol(format!(
            "there is no transaction {tid} in run {run}"
        )))
    }

    /// For each record, which of the receiver's holds the same data.
    fn known(&mut self, position: u64, have: &[Option<Digest>]) -> Result<Vec<Option<u32>>> {
        if have.is_empty() {
            return Ok(Vec::new());
        }
        let numbered = (0_u32..).zip(have);
        let theirs: std::collections::HashMap<Digest, u32> = numbered
            .filter_map(|(number, digest)| digest.map(|digest| (digest, number)))
            .collect();
        let ours = self.source.data_digests(position)?.digests;
        let same = |digest: Option<Digest>| theirs.get(&digest?).copied();
        Ok(ours.into_iter().map(same).collect())
    }
}

#[derive(Default)]
struct RunUnderWay {
    count: usize,
    bytes: u64,
    last: Tid,
    hasher: Sha256,
    statuses: Vec<(u16, u8)>,
}

impl RunUnderWay {
    fn add(&mut self, passed: &Passed, digest: Digest) {
        self.count += 1;
        self.bytes += passed.end - passed.position;
        self.last = passed.tid;
        self.hasher.update(digest.0);
        match self.statuses.last_mut() {
            Some((count, status)) if *status == passed.status => *count += 1,
            _ => self.statuses.push((1, passed.status)),
        }
    }

    fn is_full(&self) -> bool {
        self.count >= RUN_TRANSACTIONS || self.bytes >= RUN_BYTES
    }

    fn end(self) -> Run {
        Run {
            last: self.last,
            digest: Digest::of(self.hasher),
            statuses: self.statuses,
        }
    }
}

fn lost(error: &std::io::Error) -> crate::storage::StorageError {
    crate::storage::StorageError::Io {
        doing: "sending the file to another node".to_owned(),
        source: std::io::Error::other(error.to_string()),
    }
}
