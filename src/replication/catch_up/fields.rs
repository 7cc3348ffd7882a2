//! Messages from their bytes; see `message.rs`.

use super::message::{Entry, Hello, Item, Message, Offer, Run, VERSION};
use super::{CatchUpError, Result};
use crate::replication::types::StateMark;
use crate::storage::file::transfer::content::{DIGEST_BYTES, Digest};
use crate::storage::staging::FileDigest;
use crate::types::{Oid, Tid};

/// Reads a frame without its length.
pub fn parse(frame: &[u8]) -> Result<Message> {
    let mut fields = Fields(frame);
    let message = fields.message()?;
    match fields.0 {
        [] => Ok(message),
        rest => Err(malformed(&format!("{} bytes too many", rest.len()))),
    }
}

/// Takes fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn message(&mut self) -> Result<Message> {
        let [kind] = self.array()?;
        Ok(match kind {
            1 => Message::Hello(self.hello()?),
            2 => Message::Offer(self.offer()?),
            3 => Message::SendRaw(self.number()?),
            4 => Message::SendRuns,
            5 => Message::Runs(self.number()?, self.all(Self::run)?),
            6 => Message::RunsEnd(self.short()?),
            7 => Message::NotComparable(self.text()),
            8 => Message::List(self.all(Self::short)?),
            9 => Message::Entries(self.all(Self::entry)?),
            10 => Message::Get(self.all(Self::item)?),
            11 => Message::GetEnd,
            12 => Message::NeedBlobs(self.all(|fields| {
                Ok((Oid(fields.array()?), Tid(fields.array()?), fields.number()?))
            })?),
            13 => Message::Blob(self.short()?, self.number()?),
            14 => Message::NoBlob(self.short()?),
            15 => Message::BlobsEnd,
            16 => Message::Data(self.data()?),
            17 => Message::DataEnd,
            18 => Message::Finished,
            19 => Message::Goodbye,
            20 => Message::Failed(self.text()),
            other => return self.message_of_files(other),
        })
    }

    fn message_of_files(&mut self, kind: u8) -> Result<Message> {
        Ok(match kind {
            21 => Message::Stage(self.all(Self::file)?),
            22 => Message::Lacking(self.all(Self::short)?),
            23 => Message::File(self.short()?),
            24 => Message::Stored,
            25 => {
                let file = self.file()?;
                let blob = match self.0 {
                    [] => None,
                    _ => Some((Oid(self.array()?), Tid(self.array()?))),
                };
                Message::Fetch(file, blob)
            }
            26 => Message::NotHere,
            27 => Message::StillHere,
            other => return Err(malformed(&format!("kind {other}"))),
        })
    }

    fn hello(&mut self) -> Result<Hello> {
        let version = self.number()?;
        if version != VERSION {
            return Err(malformed(&format!("version {version:#x}")));
        }
        let has_packs = self.number()? != 0;
        let packs = self.number()?;
        Ok(Hello {
            packs: has_packs.then_some(packs),
            length: self.number()?,
            last_tid: Tid(self.array()?),
            probe: self.short()?,
            tail: (self.number()?, self.short()?),
        })
    }

    fn offer(&mut self) -> Result<Offer> {
        let mark = StateMark {
            last_tid: Tid(self.array()?),
            length: self.number()?,
            packs: self.number()?,
            reserved_oid: self.number()?,
        };
        let magic = self.array()?;
        let tail = self.number()?;
        Ok(Offer {
            mark,
            magic,
            tail: (tail > 0).then_some(tail),
        })
    }

    fn run(&mut self) -> Result<Run> {
        let last = Tid(self.array()?);
        let digest = self.digest()?;
        let [count] = self.array()?;
        let statuses = (0..count).map(|_| {
            let count = u16::from_be_bytes(self.array()?);
            let [status] = self.array()?;
            Ok((count, status))
        });
        let statuses = statuses.collect::<Result<_>>()?;
        Ok(Run {
            last,
            digest,
            statuses,
        })
    }

    fn entry(&mut self) -> Result<Entry> {
        let tid = Tid(self.array()?);
        let [status] = self.array()?;
        let digest = self.digest()?;
        Ok(Entry {
            tid,
            status,
            digest,
        })
    }

    fn item(&mut self) -> Result<Item> {
        let [kind] = self.array()?;
        if kind == 0 {
            return Ok(Item::Runs(self.short()?, self.short()?));
        }
        let run = self.short()?;
        let tid = Tid(self.array()?);
        let count = self.short()?;
        let have = (0..count).map(|_| match self.array()? {
            [0] => Ok(None),
            [_] => Ok(Some(self.digest()?)),
        });
        let have = have.collect::<Result<_>>()?;
        Ok(Item::Transaction { run, tid, have })
    }

    fn file(&mut self) -> Result<FileDigest> {
        Ok(FileDigest {
            sha256: self.array()?,
            length: self.number()?,
        })
    }

    fn data(&mut self) -> Result<Vec<u8>> {
        let crc = self.short()?;
        let piece = std::mem::take(&mut self.0);
        if crc32fast::hash(piece) == crc {
            Ok(piece.to_vec())
        } else {
            Err(malformed("a piece whose checksum is wrong"))
        }
    }

    fn digest(&mut self) -> Result<Digest> {
        Ok(Digest(self.array::<DIGEST_BYTES>()?))
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }

    fn all<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut found = Vec::new();
        while !self.0.is_empty() {
            found.push(one(self)?);
        }
        Ok(found)
    }

    fn number(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn short(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| malformed("it is too short"))?;
        self.0 = rest;
        Ok(*field)
    }
}

fn malformed(problem: &str) -> CatchUpError {
    CatchUpError::Protocol(format!("a malformed message: {problem}"))
}
