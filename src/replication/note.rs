//! What a node's `Data.fs` holds of the log: `Data.fs.raft` beside it.
//!
//! `Data.fs` itself has no room for it, and has to be the same on all nodes.
//! The note is written after the file was synced; what was applied later is cut
//! off when the node starts, and applied again from the log.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::{LogId, StoredMembership};
use thiserror::Error;

use super::entry_codec::{DecodeError, Layout, Reader, decode, encode, put_length, put_u64};
use super::small_file;
use super::types::{Member, NodeId, StateMark};
use crate::types::Tid;

/// A [`PackJob`] in a note: three numbers and a flag.
const PACK_JOB_BYTES: u64 = 3 * 8 + 1;

/// A pack that the log asks for and that is not done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackJob {
    /// Its place in the log.
    pub log_index: u64,
    /// Pack to this time …
    pub stop: Tid,
    /// … drop what cannot be reached …
    pub gc: bool,
    /// … as seen after this transaction.
    pub until: Tid,
}

/// What is on the disk for sure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The last entry that the file holds. None: none yet.
    pub applied: Option<LogId<NodeId>>,
    /// Who was in the cluster then.
    pub membership: StoredMembership<NodeId, Member>,
    /// The state of the file.
    pub mark: StateMark,
    /// A pack is about to put a file of this length in place.
    pub packed_bytes: Option<u64>,
    /// Packs to be done, in order.
    pub packs: Vec<PackJob>,
    /// Packs that the log has asked for so far.
    pub pack_orders: u64,
}

/// Why a note cannot be used.
#[derive(Debug, Error)]
pub enum NoteError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The note.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged.
    #[error(
        "{path} is damaged ({problem}). Move it, Data.fs and the replication directory of this \
         node away, and have the node join its cluster anew: it gets all from the others"
    )]
    Damaged {
        /// The note.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Note {
    /// Where the note of a `Data.fs` is.
    pub fn path_of(data_path: &Path) -> PathBuf {
        let mut name = data_path.as_os_str().to_owned();
        name.push(".raft");
        name.into()
    }

    /// Reads the note at `path`; None where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, NoteError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_at(path)(source)),
        };
        let damaged = |problem: String| NoteError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let Some((body, checksum)) = bytes.split_last_chunk::<4>() else {
            return Err(damaged("too short".to_owned()));
        };
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(damaged("wrong checksum".to_owned()));
        }
        decode(Bytes::copy_from_slice(body))
            .map(Some)
            .map_err(|error: DecodeError| damaged(error.to_string()))
    }

    /// Puts the note in the place of an older one; durable afterwards.
    pub fn write(&self, path: &Path) -> Result<(), NoteError> {
        let mut bytes = encode(self);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        small_file::replace(path, Path::new(&temporary), &bytes).map_err(io_at(path))
    }

    /// After a crash during a pack either file can be there: which is it, by its
    /// length?
    pub fn settle_pack(&mut self, file_bytes: u64) {
        // A pack that would not make the file shorter puts nothing in place.
        if self.packed_bytes.take() == Some(file_bytes) && file_bytes != self.mark.length {
            self.mark.length = file_bytes;
            self.mark.packs += 1;
            if !self.packs.is_empty() {
                self.packs.remove(0);
            }
        }
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> NoteError {
    let path = path.to_owned();
    move |source| NoteError::Io { path, source }
}

impl Layout for Note {
    fn put(&self, out: &mut Vec<u8>) {
        self.applied.put(out);
        self.membership.put(out);
        self.mark.put(out);
        put_u64(self.packed_bytes.unwrap_or(0), out);
        put_u64(self.pack_orders, out);
        put_length(self.packs.len(), out);
        for job in &self.packs {
            for number in [job.log_index, job.stop.to_u64(), job.until.to_u64()] {
                put_u64(number, out);
            }
            out.push(u8::from(job.gc));
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        let applied = <Option<LogId<NodeId>> as Layout>::take(from)?;
        let membership = StoredMembership::take(from)?;
        let mark = StateMark::take(from)?;
        let packed_bytes = Some(from.u64("a packed length")?).filter(|&bytes| bytes > 0);
        let pack_orders = from.u64("a number of packs")?;
        let count = from.count(PACK_JOB_BYTES, "packs")?;
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            packs.push(PackJob {
                log_index: from.u64("a log index")?,
                stop: Tid::from_u64(from.u64("a pack time")?),
                until: Tid::from_u64(from.u64("a tid")?),
                gc: from.u8("garbage collection")? != 0,
            });
        }
        Ok(Self {
            applied,
            membership,
            mark,
            packed_bytes,
            packs,
            pack_orders,
        })
    }
}

impl Layout for StateMark {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.last_tid.to_u64(), out);
        put_u64(self.length, out);
        put_u64(self.packs, out);
        put_u64(self.reserved_oid, out);
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            last_tid: Tid::from_u64(from.u64("a tid")?),
            length: from.u64("a length")?,
            packs: from.u64("a number of packs")?,
            reserved_oid: from.u64("an oid")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        let leader = openraft::CommittedLeaderId::new(3, 1);
        Note {
            applied: Some(LogId::new(leader, 77)),
            membership: StoredMembership::default(),
            mark: StateMark {
                last_tid: Tid::from_u64(9),
                length: 1000,
                packs: 2,
                reserved_oid: 4,
            },
            packed_bytes: Some(600),
            pack_orders: 5,
            packs: vec![PackJob {
                log_index: 70,
                stop: Tid::from_u64(5),
                gc: true,
                until: Tid::from_u64(8),
            }],
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = Note::path_of(&directory.path().join("Data.fs"));
        assert_eq!(Note::read(&path).unwrap(), None);
        note().write(&path).unwrap();
        assert_eq!(Note::read(&path).unwrap(), Some(note()));
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Note::read(&path).is_err(), "byte {at}");
        }
        std::fs::write(&path, &good[..7]).unwrap();
        let message = Note::read(&path).unwrap_err().to_string();
        assert!(message.contains("join its cluster anew"), "{message}");
    }

    #[test]
    fn after_a_crash_in_a_pack_the_length_tells_which_file_is_there() {
        let mut packed = note();
        packed.settle_pack(600);
        assert_eq!((packed.mark.length, packed.mark.packs), (600, 3));
        assert!(packed.packs.is_empty());
        let mut unpacked = note();
        unpacked.settle_pack(1000);
        assert_eq!((unpacked.mark.length, unpacked.mark.packs), (1000, 2));
        assert_eq!(unpacked.packs.len(), 1);
    }
}
