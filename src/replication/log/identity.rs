//! Whose log is this? A small file beside the engine's: the node's id, and
//! which id each storage's log has. It is read before anything else is touched,
//! and is there when the engine's files are damaged: else a storage would
//! look new, and its node would vote as if it never had.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::engine::GroupId;
use super::error::LogError;
use crate::replication::small_file;
use crate::replication::types::NodeId;

/// Its name.
pub(super) const IDENTITY_FILE: &str = "node.json";
const NEW_IDENTITY_FILE: &str = "node.json.new";
const FORMAT: u32 = 1;

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    format: u32,
    node: NodeId,
    /// The id of the next storage that comes.
    next: GroupId,
    groups: BTreeMap<String, Known>,
}

/// A storage's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub id: GroupId,
    /// Why entries, or a vote, that this node has acknowledged may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Checked {
    content: Content,
    /// Of the content as compact JSON.
    crc32: u32,
}

/// The file, as it stands on disk.
#[derive(Debug)]
pub(super) struct Identity {
    directory: PathBuf,
    content: Content,
}

impl Identity {
    /// Reads the file in `directory`; makes it if that is `new`.
    pub fn open(directory: &Path, node: NodeId, new: bool) -> Result<Self, LogError> {
        let path = directory.join(IDENTITY_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && new => {
                let identity = Self {
                    directory: directory.to_owned(),
                    content: Content {
                        format: FORMAT,
                        node,
                        next: 1,
                        groups: BTreeMap::new(),
                    },
                };
                identity.save()?;
                return Ok(identity);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LogError::Identity {
                    path,
                    why: "it is missing, though there are log files".into(),
                });
            }
            Err(error) => return Err(LogError::io(path, error)),
        };
        let identity = |why: String| LogError::Identity {
            path: path.clone(),
            why,
        };
        let Checked { content, crc32 } =
            serde_json::from_slice(&text).map_err(|error| identity(error.to_string()))?;
        if crc32 != checksum(&content)? {
            return Err(identity("its checksum is wrong".into()));
        }
        if content.format != FORMAT {
            return Err(identity(format!(
                "its format is {}, and this zeod knows {FORMAT}",
                content.format
            )));
        }
        if content.node != node {
            return Err(LogError::OtherNode {
                path,
                found: content.node,
                node,
            });
        }
        Ok(Self {
            directory: directory.to_owned(),
            content,
        })
    }

    /// Whether there are, or were, logs.
    pub fn has_groups(&self) -> bool {
        !self.content.groups.is_empty()
    }

    /// Whether storage `name` has a log.
    pub fn has_group(&self, name: &str) -> bool {
        self.content.groups.contains_key(name)
    }

    /// The log of storage `name`; a new one if there was none.
    pub fn group(&mut self, name: &str) -> Result<Known, LogError> {
        if let Some(known) = self.content.groups.get(name) {
            return Ok(known.clone());
        }
        let known = Known {
            id: self.content.next,
            damage: None,
        };
        self.change(|content| {
            content.next += 1;
            content.groups.insert(name.to_owned(), known.clone());
        })?;
        Ok(known)
    }

    /// Remembers that logs are damaged: the one of `name`, or all. What was known before stays.
    pub fn mark_damaged(&mut self, name: Option<&str>, why: &str) -> Result<(), LogError> {
        self.change(|content| {
            for (group, known) in &mut content.groups {
                if name.is_none_or(|name| name == group) && known.damage.is_none() {
                    known.damage = Some(why.to_owned());
                }
            }
        })
    }

    /// The log of `name` has again all that it ever acknowledged.
    pub fn mark_whole(&mut self, name: &str) -> Result<(), LogError> {
        self.change(|content| {
            if let Some(known) = content.groups.get_mut(name) {
                known.damage = None;
            }
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), LogError> {
        let mut content = self.content.clone();
        change(&mut content);
        if content != self.content {
            let before = std::mem::replace(&mut self.content, content);
            if let Err(error) = self.save() {
                self.content = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Durable when it returns.
    fn save(&self) -> Result<(), LogError> {
        let checked = Checked {
            content: self.content.clone(),
            crc32: checksum(&self.content)?,
        };
        let path = self.directory.join(IDENTITY_FILE);
        let beside = self.directory.join(NEW_IDENTITY_FILE);
        let written = serde_json::to_vec_pretty(&checked)
            .map_err(io::Error::from)
            .and_then(|mut text| {
                text.push(b'\n');
                small_file::replace(&path, &beside, &text)
            });
        written.map_err(|error| LogError::io(path, error))
    }
}

fn checksum(content: &Content) -> Result<u32, LogError> {
    let text = serde_json::to_vec(content)
        .map_err(|error| LogError::io(IDENTITY_FILE.into(), error.into()))?;
    Ok(crc32fast::hash(&text))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn ids_last() {
        let directory = tempdir().unwrap();
        let mut identity = Identity::open(directory.path(), 7, true).unwrap();
        let first = identity.group("main").unwrap();
        let second = identity.group("a \"quoted\" name").unwrap();
        assert_eq!((first.id, second.id), (1, 2));
        identity.mark_damaged(Some("main"), "a test").unwrap();
        identity.mark_damaged(None, "another").unwrap();
        let mut identity = Identity::open(directory.path(), 7, false).unwrap();
        let first = identity.group("main").unwrap();
        assert_eq!((first.id, first.damage.as_deref()), (1, Some("a test")));
        identity.mark_whole("main").unwrap();
        assert_eq!(identity.group("third").unwrap().id, 3);
        let mut identity = Identity::open(directory.path(), 7, false).unwrap();
        assert_eq!(identity.group("main").unwrap().damage, None);
    }

    #[test]
    fn another_node_is_refused() {
        let directory = tempdir().unwrap();
        Identity::open(directory.path(), 7, true).unwrap();
        let error = Identity::open(directory.path(), 8, true).unwrap_err();
        assert!(error.to_string().contains("node 7"), "{error}");
    }

    #[test]
    fn every_changed_byte_is_found() {
        let directory = tempdir().unwrap();
        let mut identity = Identity::open(directory.path(), 7, true).unwrap();
        identity.group("main").unwrap();
        let path = directory.path().join(IDENTITY_FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            if let Ok(mut other) = Identity::open(directory.path(), 7, false) {
                assert!(good[at].is_ascii_whitespace(), "byte {at}");
                assert_eq!(other.group("main").unwrap().id, 1);
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(Identity::open(directory.path(), 7, false).is_err());
    }
}
