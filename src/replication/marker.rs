//! Two small files in the directory of the log: `bootstrap`, by which an
//! administrator makes a node the first of a cluster, or the only one that is left, and `member`, by which a
//! node remembers that it belongs to one.
//!
//! Both are JSON. A file is there whole or not at all, also after a power cut
//! (`small_file.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::small_file;
use super::types::NodeId;

/// Asks the node to begin a cluster of its own.
pub const BOOTSTRAP: &str = "bootstrap";
/// Says that the node belongs to a cluster.
pub const MEMBER: &str = "member";

/// What `bootstrap` says. The node carries it out once and removes it then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The node for which it was written.
    pub node: NodeId,
    /// Where the other nodes reach it.
    pub address: String,
    /// The storages that begin so.
    pub storages: Vec<String>,
    /// No new cluster: the other nodes are gone for good, and this one goes on alone with its log
    /// and its storages. Carried out by a start, before anything else (`survivor.rs`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub survivor: bool,
}

/// What `member` says. The node writes it before it acts as a member for the
/// first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The id by which the others know it. A node that is given another one
    /// starts with an empty directory.
    pub node: NodeId,
    /// Nodes that were given up when this one went on alone. They still count each other, and this one, as
    /// a quorum, and one that comes back with its log would take this one's from it: it is not listened to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<NodeId>,
}

/// Why such a file could not be read or written.
#[derive(Debug, Error)]
pub enum MarkerError {
    /// The system says so.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something else wrote it.
    #[error("{path} is not what zeod writes ({why}); move it away")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

impl Bootstrap {
    /// Reads it. None: nobody asked.
    pub fn read(directory: &Path) -> Result<Option<Self>, MarkerError> {
        read(&directory.join(BOOTSTRAP))
    }

    /// Writes it durably.
    pub fn write(&self, directory: &Path) -> Result<(), MarkerError> {
        write(directory, BOOTSTRAP, self)
    }

    /// Removes it durably: it is carried out.
    pub fn remove(directory: &Path) -> Result<(), MarkerError> {
        let path = directory.join(BOOTSTRAP);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at(&path)(error)),
            Ok(()) => small_file::sync_directory_of(&path).map_err(at(&path)),
        }
    }
}

impl Membership {
    /// Of a node that has given nobody up.
    pub fn new(node: NodeId) -> Self {
        let gone = BTreeSet::new();
        Self { node, gone }
    }

    /// Reads it. None: the node has never belonged to a cluster.
    pub fn read(directory: &Path) -> Result<Option<Self>, MarkerError> {
        read(&directory.join(MEMBER))
    }

    /// Writes it durably.
    pub fn write(&self, directory: &Path) -> Result<(), MarkerError> {
        write(directory, MEMBER, self)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, MarkerError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(at(path))?,
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| MarkerError::Unreadable {
            path: path.display().to_string(),
            why: error.to_string(),
        })
}

fn write(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), MarkerError> {
    let path = directory.join(name);
    let beside = directory.join(format!("{name}.new"));
    let mut text = serde_json::to_vec(value)
        .map_err(io::Error::from)
        .map_err(at(&path))?;
    text.push(b'\n');
    small_file::replace(&path, &beside, &text).map_err(at(&path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MarkerError {
    let path = path.display().to_string();
    move |source| MarkerError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap() -> Bootstrap {
        Bootstrap {
            node: 1,
            address: "db1:8101".to_owned(),
            storages: vec!["1".to_owned(), "main".to_owned()],
            survivor: false,
        }
    }

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert_eq!(Bootstrap::read(directory).unwrap(), None);
        assert_eq!(Membership::read(directory).unwrap(), None);
        bootstrap().write(directory).unwrap();
        bootstrap().write(directory).unwrap();
        let mut belongs = Membership::new(7);
        belongs.write(directory).unwrap();
        assert_eq!(Bootstrap::read(directory).unwrap(), Some(bootstrap()));
        let member = Membership::read(directory).unwrap();
        assert_eq!(member.as_ref(), Some(&belongs));
        belongs.gone.extend([2, 3]);
        belongs.write(directory).unwrap();
        assert_eq!(Membership::read(directory).unwrap(), Some(belongs));
        let mut survivor = bootstrap();
        survivor.survivor = true;
        survivor.write(directory).unwrap();
        assert_eq!(Bootstrap::read(directory).unwrap(), Some(survivor));
        Bootstrap::remove(directory).unwrap();
        Bootstrap::remove(directory).unwrap();
        assert_eq!(Bootstrap::read(directory).unwrap(), None);
        let left: Vec<_> = fs::read_dir(directory).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(directory.join(BOOTSTRAP), "{\"node\": 1").unwrap();
        let error = Bootstrap::read(directory).unwrap_err().to_string();
        assert!(error.contains("bootstrap is not what zeod"), "{error}");
        let missing = directory.join("missing");
        assert!(bootstrap().write(&missing).is_err());
        fs::create_dir(directory.join(MEMBER)).unwrap();
        assert!(Membership::read(directory).is_err());
    }
}
