//! Where in a blob directory an object's revisions lie: ZODB's layouts.
//! Source: ZODB `blob.py`, `BushyLayout`, `LawnLayout`, `auto_layout_select`.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::read_short;
use crate::disk::Disk;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// The file that names the layout.
pub const MARKER: &str = ".layout";
/// How the name of a revision's file ends.
pub const REVISION_SUFFIX: &str = ".blob";
/// A marker that is longer is none of ours.
const MAX_MARKER_BYTES: u64 = 100;

/// Names that say nothing of a layout: what a crash while the directory was
/// made leaves, and what a volume's top directory has. The reference takes
/// these for content, and then makes a lawn.
const NO_CONTENT: [&str; 2] = [super::TEMPORARY, "lost+found"];

/// How the directories of objects are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One directory for each byte of the oid: `0x00/0x00/…/0x2a`.
    Bushy,
    /// One directory for each oid: `0x2a`. Old, and slow on some file systems.
    Lawn,
}

impl Layout {
    /// What the marker says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bushy => "bushy",
            Self::Lawn => "lawn",
        }
    }

    /// Directories between the blob directory and the revisions.
    pub const fn depth(self) -> usize {
        match self {
            Self::Bushy => 8,
            Self::Lawn => 1,
        }
    }

    /// The directory of an object, relative to the blob directory.
    pub fn object_path(self, oid: Oid) -> PathBuf {
        match self {
            Self::Bushy => oid.0.iter().map(|byte| format!("0x{byte:02x}")).collect(),
            Self::Lawn => PathBuf::from(oid.to_string()),
        }
    }

    /// The object whose directory `path` is. Only names are known that
    /// [`Self::object_path`] gives, so that nothing else is ever packed away.
    pub fn object_of(self, path: &Path) -> Option<Oid> {
        let mut number = 0_u64;
        for component in path.components() {
            let Component::Normal(name) = component else {
                return None;
            };
            let digits = name.to_str()?.strip_prefix("0x")?;
            if digits.len() > 16 {
                return None;
            }
            let part = u64::from_str_radix(digits, 16).ok()?;
            number = match self {
                Self::Bushy => number.checked_mul(256)?.checked_add(part)?,
                Self::Lawn => part,
            };
        }
        let oid = Oid::from_u64(number);
        (self.object_path(oid) == path).then_some(oid)
    }
}

/// The name of a revision's file: as ZODB prints the tid, without leading zero bytes.
pub fn revision_name(serial: Tid) -> String {
    format!("{}{REVISION_SUFFIX}", Oid(serial.0))
}

/// The revision that the file `name` is. None: it is something else.
pub fn revision_of(name: &OsStr) -> Option<Tid> {
    let digits = name
        .to_str()?
        .strip_suffix(REVISION_SUFFIX)?
        .strip_prefix("0x")?;
    let serial = Tid::from_u64(u64::from_str_radix(digits, 16).ok()?);
    (name == OsStr::new(&revision_name(serial))).then_some(serial)
}

/// Which layout the directory at `path` has, or is to have. An existing marker
/// decides; files without a marker are from before there were markers.
pub fn choose(disk: &dyn Disk, path: &Path) -> Result<Layout> {
    let marker = path.join(MARKER);
    let shown = path.display();
    if disk.exists(&marker) {
        let bytes = read_short(disk, &marker, MAX_MARKER_BYTES)?;
        let name = String::from_utf8_lossy(&bytes);
        return match name.trim() {
            "bushy" => Ok(Layout::Bushy),
            "lawn" => Ok(Layout::Lawn),
            other => Err(unknown_marker(&marker, other)),
        };
    }
    let names = match disk.read_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::info!("blob directory {shown}: there is none yet; it gets the bushy layout");
            return Ok(Layout::Bushy);
        }
        names => names.map_err(StorageError::io(format!("reading {shown}")))?,
    };
    for name in names {
        let name = name.map_err(StorageError::io(format!("reading {shown}")))?;
        if !NO_CONTENT.iter().any(|known| name == *known)
            && !name.as_encoded_bytes().starts_with(b".")
        {
            tracing::info!("blob directory {shown}: used, but without a marker: lawn layout");
            return Ok(Layout::Lawn);
        }
    }
    tracing::info!("blob directory {shown}: empty; it gets the bushy layout");
    Ok(Layout::Bushy)
}

fn unknown_marker(marker: &Path, found: &str) -> StorageError {
    let hint = if found == "zeocache" {
        "; this is the blob cache of a ZEO client, give the server a directory of its own"
    } else {
        ""
    };
    StorageError::CannotOpen {
        file: marker.display().to_string(),
        problem: format!("the layout {found:?} is unknown (bushy and lawn are known){hint}"),
    }
}
