//! `Data.fs.install`: the durable intent to put a received file in place.
//!
//! | step | what | a crash after it leaves |
//! |---|---|---|
//! | 1 | what comes is written to `Data.fs.incoming` (or `.incoming-tail`), checked and synced | a further source for the next transfer |
//! | 2 | the intent is written, synced and named | a complete file that the next start puts in place |
//! | 3 | consensus is told: its log begins behind the new state from now on | the same |
//! | 4 | the file is put in place: renamed, or added at the end and synced, then removed | the new file, and an intent that has nothing to do any more |
//! | 5 | the owner has noted the new state durably; the intent is removed | nothing |
//!
//! Steps 4 and 5 can be done again as often as need be. Between 2 and 5 no pack
//! and no other transfer may begin.

use std::io::IoSlice;
use std::path::Path;

use super::{HeldFile, PIECE_BYTES, Paths};
use crate::disk::{Access, Disk, OpenMode};
use crate::storage::file::pack::directory;
use crate::storage::file::{beside, oids};
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

const SUFFIX: &str = ".install";
const MAGIC: [u8; 8] = *b"zeodins1";
/// Longer than any intent.
const MAX_BYTES: usize = 1 << 20;
/// Length without the label: magic, kind, six numbers, the label's length, CRC.
const FIXED_BYTES: usize = 8 + 1 + 6 * 8 + 4 + 4;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The incoming file takes the place of `Data.fs`.
    Whole,
    /// The incoming bytes go to this position, behind this transaction.
    Tail {
        /// Where they begin.
        from: u64,
        /// The transaction that ends there; [`Tid::ZERO`]: none.
        behind: Tid,
    },
}

/// What the storage is afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Length of `Data.fs`.
    pub length: u64,
    /// The last transaction; later than the last in the file where a pack dropped that.
    pub last_tid: Tid,
    /// Oids up to this one may have been given out.
    pub reserved_oid: u64,
}

/// What was noted durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What is to be done.
    pub kind: Kind,
    /// What comes of it.
    pub state: State,
    /// Whatever the owner has to know then.
    pub label: Vec<u8>,
}

impl Intent {
    /// Step 2. The incoming file is complete and synced.
    pub fn write(&self, disk: &dyn Disk, data_path: &Path) -> Result<()> {
        let path = beside(data_path, SUFFIX);
        let temporary = beside(&path, ".tmp");
        let doing = || format!("noting in {} what was received", path.display());
        // The names of the incoming files have to outlive a crash as well.
        disk.sync_directory(directory(data_path))
            .and_then(|()| disk.open(&temporary, OpenMode::Truncate))
            .and_then(|file| {
                file.write_at(&[IoSlice::new(&self.to_bytes())], 0)?;
                file.sync()
            })
            .and_then(|()| disk.rename(&temporary, &path))
            .map_err(StorageError::io(doing()))
    }

    /// Step 5.
    pub fn forget(disk: &dyn Disk, data_path: &Path) -> Result<()> {
        let path = beside(data_path, SUFFIX);
        disk.remove(&path)
            .and_then(|()| disk.sync_directory(directory(data_path)))
            .map_err(StorageError::io(format!("removing {}", path.display())))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let (kind, from, behind) = match self.kind {
            Kind::Whole => (0, 0, Tid::ZERO),
            Kind::Tail { from, behind } => (1, from, behind),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        for number in [
            from,
            behind.to_u64(),
            self.state.length,
            self.state.last_tid.to_u64(),
            self.state.reserved_oid,
            0,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let label_bytes = u32::try_from(self.label.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&label_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.label);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (checked, crc) = bytes.split_last_chunk()?;
        if crc32fast::hash(checked) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (kind, rest) = checked.strip_prefix(&MAGIC)?.split_first()?;
        let (numbers, rest) = rest.split_at_checked(6 * 8)?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let number = |at: usize| numbers.get(at).map(|bytes| u64::from_be_bytes(*bytes));
        let (label_bytes, label) = rest.split_first_chunk()?;
        if usize::try_from(u32::from_be_bytes(*label_bytes)).ok()? != label.len() {
            return None;
        }
        let kind = match kind {
            0 => Kind::Whole,
            1 => Kind::Tail {
                from: number(0)?,
                behind: Tid::from_u64(number(1)?),
            },
            _ => return None,
        };
        Some(Self {
            kind,
            state: State {
                length: number(2)?,
                last_tid: Tid::from_u64(number(3)?),
                reserved_oid: number(4)?,
            },
            label: label.to_vec(),
        })
    }
}

/// The intent that was noted and not forgotten since.
pub fn pending(disk: &dyn Disk, data_path: &Path) -> Result<Option<Intent>> {
    let path = beside(data_path, SUFFIX);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let doing = || format!("reading {}", path.display());
    let file = disk
        .open(&path, OpenMode::Read)
        .map_err(StorageError::io(doing()))?;
    let mut bytes = vec![0; MAX_BYTES + FIXED_BYTES];
    let count = file
        .read_at(&mut bytes, 0, Access::Wait)
        .map_err(StorageError::io(doing()))?;
    bytes.truncate(count);
    match Intent::parse(&bytes) {
        Some(intent) => Ok(Some(intent)),
        None => Err(StorageError::CannotOpen {
            file: path.display().to_string(),
            problem: "it is damaged. It says how a copy of another node's data is put in place; \
                      remove it and let this node join the cluster anew"
                .to_owned(),
        }),
    }
}

/// Step 4 at a start: carries out the intent that was found, if there is one.
/// To be called before `Data.fs` is opened.
pub fn carry_out(disk: &dyn Disk, data_path: &Path) -> Result<Option<Intent>> {
    let Some(intent) = pending(disk, data_path)? else {
        return Ok(None);
    };
    let paths = Paths {
        data: data_path.to_path_buf(),
    };
    match intent.kind {
        Kind::Whole if disk.exists(&paths.incoming()) => put_whole(disk, &paths, &intent)?,
        Kind::Tail { from, behind } if disk.exists(&paths.tail()) => {
            check_base(disk, &paths, from, behind)?;
            let data = disk
                .open(data_path, OpenMode::ReadWrite)
                .map_err(StorageError::io(format!("opening {}", data_path.display())))?;
            add_tail(disk, &paths, &*data, from, intent.state.length)?;
        }
        // Done already.
        Kind::Whole | Kind::Tail { .. } => {}
    }
    oids::reserve_up_to(disk, data_path, Oid::from_u64(intent.state.reserved_oid))?;
    Ok(Some(intent))
}

fn put_whole(disk: &dyn Disk, paths: &Paths, intent: &Intent) -> Result<()> {
    let incoming = paths.incoming();
    let found = HeldFile::open(disk, &incoming)?.end();
    if found != intent.state.length {
        return Err(StorageError::CannotOpen {
            file: incoming.display().to_string(),
            problem: format!(
                "it was received whole with {} bytes and has {found} now. Remove it and \
                 {SUFFIX}, and let this node join the cluster anew",
                intent.state.length
            ),
        });
    }
    tracing::info!(
        "{}: the state received from another node is put in place",
        paths.data.display()
    );
    forget_index(disk, &paths.data)?;
    disk.rename(&incoming, &paths.data)
        .map_err(StorageError::io(format!(
            "putting {} in place",
            incoming.display()
        )))
}

/// The saved index is that of the old file; beside the new one it would be wrong.
pub(super) fn forget_index(disk: &dyn Disk, data_path: &Path) -> Result<()> {
    let index = beside(data_path, ".index");
    disk.remove(&index)
        .and_then(|()| disk.sync_directory(directory(data_path)))
        .map_err(StorageError::io(format!("removing {}", index.display())))
}

/// What was received belongs behind a certain transaction and nowhere else.
fn check_base(disk: &dyn Disk, paths: &Paths, from: u64, behind: Tid) -> Result<()> {
    let data = HeldFile::open(disk, &paths.data)?;
    if data.end() >= from && data.tid_before(from).unwrap_or_default() == behind {
        return Ok(());
    }
    Err(StorageError::CannotOpen {
        file: paths.data.display().to_string(),
        problem: format!(
            "what was received from another node belongs behind transaction {behind} at byte \
             {from}, which is not there any more: the file was exchanged. Remove {} and \
             {SUFFIX}, and let this node join the cluster anew",
            paths.tail().display()
        ),
    })
}

/// Writes what was received to `data` from `from` on, makes it durable, and
/// removes it. What lies behind it is not touched.
pub(super) fn add_tail(
    disk: &dyn Disk,
    paths: &Paths,
    data: &dyn crate::disk::DiskFile,
    from: u64,
    length: u64,
) -> Result<()> {
    let tail = paths.tail();
    let doing = || format!("adding {} to {}", tail.display(), paths.data.display());
    let source = disk
        .open(&tail, OpenMode::Read)
        .map_err(StorageError::io(doing()))?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = from;
    while at < length {
        let left = usize::try_from(length - at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        crate::disk::read_exact_at(&*source, piece, at - from, Access::Wait)
            .and_then(|()| data.write_at(&[IoSlice::new(piece)], at))
            .map_err(StorageError::no_space_or_io(length - at, doing()))?;
        at += wanted as u64;
    }
    // Once it is removed it is never added again, also not to a file that a
    // pack has exchanged meanwhile.
    data.sync()
        .and_then(|()| disk.remove(&tail))
        .and_then(|()| disk.sync_directory(directory(&paths.data)))
        .map_err(StorageError::io(doing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_back_and_a_damaged_one_is_not() {
        for kind in [
            Kind::Whole,
            Kind::Tail {
                from: 77,
                behind: Tid::from_u64(5),
            },
        ] {
            let intent = Intent {
                kind,
                state: State {
                    length: 1000,
                    last_tid: Tid::from_u64(9),
                    reserved_oid: 12,
                },
                label: b"log id".to_vec(),
            };
            let bytes = intent.to_bytes();
            assert_eq!(bytes.len(), FIXED_BYTES + intent.label.len());
            assert_eq!(Intent::parse(&bytes), Some(intent));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                assert_eq!(Intent::parse(&damaged), None, "byte {at}");
                assert_eq!(Intent::parse(&bytes[..at]), None, "cut at {at}");
            }
        }
    }
}
