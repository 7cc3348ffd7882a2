//! The side that wants the state: finds out which way is the shortest, and
//! goes it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};

use super::assemble::Assembly;
use super::compare::compare;
use super::link::{Link, converse};
use super::message::{Hello, Message, Offer};
use super::progress::{Phase, Progress, RateLimit};
use super::{CatchUpError, Result, blobs};
use crate::disk::{Access, Disk, DiskFile, OpenMode};
use crate::replication::types::StateMark;
use crate::storage::StorageError;
use crate::storage::file::FileStorage;
use crate::storage::file::transfer::build::Builder;
use crate::storage::file::transfer::raw::{Place, RawCopy};
use crate::storage::file::transfer::source::Source;
use crate::storage::file::transfer::{
    Built, HeldFile, Intent, Kind, Progress as Work, State, Target, pending,
};

/// A transfer that was given up needs a moment to end; the next one waits so long for it.
const FORMER_PATIENCE: Duration = Duration::from_mins(1);

/// How a state was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The end of the file.
    Tail,
    /// What differs.
    Difference,
    /// All of it.
    Whole,
}

/// A state that is here, checked and durable, but not in place.
#[derive(Debug)]
pub struct Incoming {
    disk: Arc<dyn Disk>,
    target: Target,
    kind: Kind,
    built: Built,
    /// What it is.
    pub mark: StateMark,
    /// How it came.
    pub way: Way,
    /// It goes on from the state that was here: clients that know that one only
    /// need to be told what was written since. Otherwise what they keep is to
    /// be forgotten: their connections are to be closed.
    pub continues: bool,
}

impl Incoming {
    /// Notes durably that it is to be put in place. `label` is for whoever finds
    /// the note after a crash. No pack may run from now on until it is in place
    /// ([`FileStorage::stop_packing`]).
    pub fn make_intent(&self, label: Vec<u8>) -> Result<Intent> {
        let intent = Intent {
            kind: self.kind,
            state: State {
                length: self.mark.length,
                last_tid: self.mark.last_tid,
                reserved_oid: self.mark.reserved_oid,
            },
            label,
        };
        if matches!(self.kind, Kind::Tail { .. }) {
            let (own, path) = (&self.target.own, &self.target.paths.data);
            if !own.is_in_place(&*self.disk, path) {
                return Err(CatchUpError::Overtaken);
            }
            // After a crash it is what the tail goes behind.
            own.sync()?;
        }
        intent.write(&*self.disk, &self.target.paths.data)?;
        Ok(intent)
    }

    /// Puts it in place, in a storage that is open; see [`FileStorage::install`].
    pub fn install(self, storage: &FileStorage, intent: &Intent) -> Result<()> {
        Ok(storage.install(intent, self.built)?)
    }
}

/// Asks over `stream` for the state that the other side offers, and receives it
/// beside the files that are there. `packs`: how many packs the file that is
/// there has seen; None where that is not known.
///
/// What an error leaves is used by the next attempt.
pub async fn receive<S>(
    stream: &mut S,
    target: Target,
    packs: Option<u64>,
    progress: &Arc<Progress>,
) -> Result<Incoming>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let told = Arc::clone(progress);
    converse(
        stream,
        &RateLimit::default(),
        progress,
        move |link, work| {
            let _alone = Alone::begin(target.paths.data.clone())?;
            let receiver = Receiver {
                target,
                packs,
                progress: &told,
                work,
            };
            receiver.run(link)
        },
    )
    .await
}

struct Receiver<'a> {
    target: Target,
    packs: Option<u64>,
    progress: &'a Progress,
    work: &'a Work,
}

/// What came, and how.
struct Received {
    built: Built,
    kind: Kind,
    way: Way,
    continues: bool,
}

impl Receiver<'_> {
    fn run(self, link: &mut Link) -> Result<Incoming> {
        let disk = Arc::clone(&self.target.disk);
        if pending(&*disk, &self.target.paths.data)?.is_some() {
            return Err(CatchUpError::Protocol(
                "an earlier state was received and its installation is not finished".to_owned(),
            ));
        }
        self.keep_partial()?;
        link.send(&Message::Hello(self.hello()?))?;
        let Message::Offer(offer) = link.receive()? else {
            return Err(CatchUpError::Protocol("no offer came".to_owned()));
        };
        let received = match offer.tail {
            Some(from) => self.tail(link, &offer, from)?,
            None => self.other(link, &offer)?,
        };
        if let Some(blobs) = &self.target.blobs {
            blobs::receive(link, blobs, &received.built.blobs, self.progress)?;
        }
        self.forget_partial()?;
        link.send(&Message::Finished)?;
        match link.receive()? {
            Message::Goodbye => {}
            other => return Err(Link::unexpected(&other)),
        }
        self.progress.begin(Phase::Complete, 0);
        Ok(Incoming {
            disk,
            target: self.target,
            kind: received.kind,
            built: received.built,
            mark: offer.mark,
            way: received.way,
            continues: received.continues,
        })
    }

    fn hello(&self) -> Result<Hello> {
        let own = &self.target.own;
        let disk = &*self.target.disk;
        let tail = self.target.paths.tail();
        let tail = if disk.exists(&tail) {
            let file = open(disk, &tail)?;
            let bytes = file.len().map_err(StorageError::io("reading a length"))?;
            (bytes, crc(&file, bytes)?)
        } else {
            (0, 0)
        };
        Ok(Hello {
            packs: self.packs.filter(|_| !own.is_empty()),
            length: own.end(),
            last_tid: own.last_tid(),
            probe: own.probe(own.end())?,
            tail,
        })
    }

    /// The end of the file, from `from` on; what lies between the file here and
    /// that was received before.
    fn tail(&self, link: &mut Link, offer: &Offer, from: u64) -> Result<Received> {
        let own = &self.target.own;
        let disk = &*self.target.disk;
        let path = self.target.paths.tail();
        let end = offer.mark.length;
        self.progress.begin(Phase::Receiving, end);
        let place = Place::Behind(own);
        let with_blobs = self.target.blobs.is_some();
        let mut copy = RawCopy::new(disk, &path, place, &self.target.precedence, with_blobs)?;
        let before = BufReader::new(FileInput {
            file: open(disk, &path)?,
            position: 0,
        });
        link.send(&Message::SendRaw(from))?;
        let mut data = link.data_in();
        let mut input = before.take(from - own.end()).chain(&mut data);
        if let Err(error) = self.take_raw(&mut copy, &mut input, end) {
            copy.give_up();
            return Err(error);
        }
        drop(input);
        data.end()?;
        let built = copy.finish()?;
        Ok(Received {
            kind: Kind::Tail {
                from: own.end(),
                behind: own.last_tid(),
            },
            built,
            way: Way::Tail,
            continues: true,
        })
    }

    fn take_raw(&self, copy: &mut RawCopy<'_>, input: &mut dyn BufRead, end: u64) -> Result<()> {
        while copy.position() < end {
            self.work.check()?;
            copy.transaction(input)?;
            self.progress.at(copy.position());
        }
        Ok(())
    }

    fn other(&self, link: &mut Link, offer: &Offer) -> Result<Received> {
        self.target
            .disk
            .remove(&self.target.paths.tail())
            .map_err(StorageError::io("removing what was received before"))?;
        let partial = self.target.paths.partial();
        let mut files = vec![self.target.own.clone()];
        if self.target.disk.exists(&partial) {
            files.push(HeldFile::open(&*self.target.disk, &partial)?);
        }
        if !files.iter().all(HeldFile::is_empty)
            && let Some(received) = self.difference(link, offer, &files)?
        {
            return Ok(received);
        }
        self.whole(link, offer)
    }

    /// None: it cannot be compared, or did not become what it should.
    fn difference(
        &self,
        link: &mut Link,
        offer: &Offer,
        files: &[HeldFile],
    ) -> Result<Option<Received>> {
        let length = offer.mark.length;
        let own_end = self.target.own.end();
        self.progress.begin(Phase::Comparing, length);
        let mut sources: Vec<Source<'_>> = files
            .iter()
            .map(|file| Source::lenient(file, self.work))
            .collect();
        let Some(compared) = compare(link, &mut sources, own_end, self.progress)? else {
            return Ok(None);
        };
        self.progress.begin(Phase::Receiving, length);
        let mut builder = Builder::new(
            &*self.target.disk,
            &self.target.paths.incoming(),
            offer.magic,
            &self.target.precedence,
            self.target.blobs.is_some(),
        )?;
        let mut assembly = Assembly {
            sources: &mut sources,
            builder: &mut builder,
            progress: self.progress,
            own_end,
            continues: compared.continues,
        };
        let assembled = assembly.run(link, compared.steps);
        let continues = assembly.continues;
        if let Err(error) = assembled {
            builder.give_up();
            return Err(error);
        }
        let built = builder.finish()?;
        if (built.end, built.crc) != (length, compared.crc) {
            tracing::warn!(
                "catch-up: {} bytes with checksum {:08x} were put together instead of {length} with \
                 {:08x}; the whole file is copied",
                built.end,
                built.crc,
                compared.crc
            );
            return Ok(None);
        }
        Ok(Some(Received {
            built,
            kind: Kind::Whole,
            way: Way::Difference,
            continues,
        }))
    }

    fn whole(&self, link: &mut Link, offer: &Offer) -> Result<Received> {
        let path = self.target.paths.incoming();
        let end = offer.mark.length;
        self.progress.begin(Phase::Receiving, end);
        let disk = &*self.target.disk;
        let with_blobs = self.target.blobs.is_some();
        let place = Place::Whole;
        let mut copy = RawCopy::new(disk, &path, place, &self.target.precedence, with_blobs)?;
        link.send(&Message::SendRaw(0))?;
        let mut data = link.data_in();
        let mut magic = [0; 4];
        data.read_exact(&mut magic).map_err(CatchUpError::Broken)?;
        copy.magic(magic)?;
        if let Err(error) = self.take_raw(&mut copy, &mut data, end) {
            copy.give_up();
            return Err(error);
        }
        data.end()?;
        Ok(Received {
            built: copy.finish()?,
            kind: Kind::Whole,
            way: Way::Whole,
            continues: self.target.own.is_empty(),
        })
    }

    /// What an attempt that broke has received of a whole file is a source for
    /// this one. Of two, the longer one.
    fn keep_partial(&self) -> Result<()> {
        let disk = &*self.target.disk;
        let (incoming, partial) = (self.target.paths.incoming(), self.target.paths.partial());
        if !disk.exists(&incoming) {
            return Ok(());
        }
        let length = |path: &Path| {
            if !disk.exists(path) {
                return Ok(0);
            }
            let file = open(disk, path)?;
            file.len().map_err(StorageError::io("reading a length"))
        };
        let kept = if length(&incoming)? >= length(&partial)? {
            disk.rename(&incoming, &partial)
        } else {
            disk.remove(&incoming)
        };
        kept.map_err(StorageError::io("keeping what was received before"))?;
        Ok(())
    }

    fn forget_partial(&self) -> Result<()> {
        self.target
            .disk
            .remove(&self.target.paths.partial())
            .map_err(StorageError::io("removing what was received before"))?;
        Ok(())
    }
}

fn open(disk: &dyn Disk, path: &Path) -> std::result::Result<Arc<dyn DiskFile>, StorageError> {
    let doing = format!("opening {}", path.display());
    disk.open(path, OpenMode::Read)
        .map_err(StorageError::io(doing))
}

fn crc(file: &Arc<dyn DiskFile>, bytes: u64) -> Result<u32> {
    let mut input = BufReader::new(FileInput {
        file: Arc::clone(file),
        position: 0,
    })
    .take(bytes);
    let mut crc = crc32fast::Hasher::new();
    loop {
        let piece = input
            .fill_buf()
            .map_err(StorageError::io("reading what was received before"))?;
        if piece.is_empty() {
            return Ok(crc.finalize());
        }
        crc.update(piece);
        let count = piece.len();
        input.consume(count);
    }
}

/// A file, read from its beginning.
struct FileInput {
    file: Arc<dyn DiskFile>,
    position: u64,
}

impl Read for FileInput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.position, Access::Wait)?;
        self.position += count as u64;
        Ok(count)
    }
}

static BUSY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static FREE: Condvar = Condvar::new();

/// One transfer at a time writes beside a database.
struct Alone(PathBuf);

impl Alone {
    fn begin(path: PathBuf) -> Result<Self> {
        let mut busy = BUSY.lock();
        while busy.contains(&path) {
            if FREE.wait_for(&mut busy, FORMER_PATIENCE).timed_out() {
                return Err(CatchUpError::Protocol(
                    "another transfer to this storage is going on".to_owned(),
                ));
            }
        }
        busy.insert(path.clone());
        Ok(Self(path))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        BUSY.lock().remove(&self.0);
        FREE.notify_all();
    }
}
