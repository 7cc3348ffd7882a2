//! Intents: which objects' directories a crash may have left in disorder.
//!
//! An intent is a small text file in `tmp/`, one for each voted transaction
//! with blobs:
//!
//! ```text
//! zeod blobs 1
//! after 0x03f1e2d3c4b5a697      the storage's last transaction at the vote
//! 0x2a                          an object that gets a blob; one line for each
//! end 1                         how many; without this line it is not whole
//! ```

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::Path;

use super::{BlobDirectory, OWN_PREFIX, read_short};
use crate::disk::OpenMode;
use crate::storage::{Result, StorageError};
use crate::types::{Oid, Tid};

/// How the names of intents end.
pub const SUFFIX: &str = ".intent";
const HEAD: &str = "zeod blobs 1";
/// More than the intent of the largest transaction takes.
const MAX_INTENT_BYTES: u64 = 128 << 20;

/// What [`BlobDirectory::clean_after_crash`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Files that belonged to no transaction.
    pub uploads: usize,
    /// Blobs of transactions that never became durable.
    pub orphans: usize,
    /// What could not be removed, or not be read. It is told in the log.
    pub failures: usize,
}

/// A whole intent.
#[derive(Debug, PartialEq, Eq)]
struct Intent {
    after: Tid,
    oids: Vec<Oid>,
}

impl Intent {
    fn to_text(after: Tid, oids: &[Oid]) -> String {
        let mut text = format!("{HEAD}\nafter {after}\n");
        for oid in oids {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{oid}");
        }
        let _ = writeln!(text, "end {}", oids.len());
        text
    }

    /// None: it is not whole, or none at all.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != HEAD {
            return None;
        }
        let after = Tid::from_u64(hex(lines.next()?.strip_prefix("after ")?)?);
        let mut oids = Vec::new();
        loop {
            let line = lines.next()?;
            if let Some(count) = line.strip_prefix("end ") {
                let is_whole = count.parse() == Ok(oids.len()) && lines.next().is_none();
                return is_whole.then_some(Self { after, oids });
            }
            oids.push(Oid::from_u64(hex(line)?));
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

impl BlobDirectory {
    /// Writes an intent, durably.
    pub(super) fn write_intent(&self, path: &Path, after: Tid, oids: &[Oid]) -> Result<()> {
        let text = Intent::to_text(after, oids);
        self.disk
            .open(path, OpenMode::New)
            .and_then(|file| {
                file.write_at(&[IoSlice::new(text.as_bytes())], 0)?;
                file.sync()
            })
            .map_err(StorageError::no_space_or_io(
                text.len() as u64,
                format!("writing {}", path.display()),
            ))?;
        self.sync_directory(&self.temporary_path())
    }

    /// Removes what an earlier run of the storage left: its uploads, and the
    /// blobs of transactions that did not become durable. `last_tid` is the
    /// last one that did. To be called once after opening, before the first
    /// upload. Costs a listing of `tmp/` and of the directories of the objects
    /// whose transactions were voted at the crash.
    ///
    /// What cannot be cleaned is told in the log, and does not keep a storage
    /// from being served.
    pub fn clean_after_crash(&self, last_tid: Tid) -> Cleaned {
        let mut cleaned = Cleaned::default();
        if self.read_only {
            return cleaned;
        }
        let temporary = self.temporary_path();
        let mut names = self.own_names(&temporary, &mut cleaned);
        // Intents go last: as long as one is there, the work can be done again.
        names.sort_by_key(|name| has_suffix(name, SUFFIX));
        for name in names {
            let path = temporary.join(&name);
            if !has_suffix(&name, SUFFIX) {
                cleaned.uploads += usize::from(self.remove_leftover(&path, &mut cleaned));
            } else if self.clean_intent(&path, last_tid, &mut cleaned) {
                self.remove_leftover(&path, &mut cleaned);
            }
        }
        if cleaned != Cleaned::default() {
            tracing::info!(
                "blob directory {}: after a crash removed {} uncommitted files, {} blobs of \
                 transactions that were not acknowledged; {} failures",
                self.path.display(),
                cleaned.uploads,
                cleaned.orphans,
                cleaned.failures
            );
        }
        cleaned
    }

    /// Puts the directories in order that an intent names; false: it has to be
    /// done once more by the next start.
    fn clean_intent(&self, path: &Path, last_tid: Tid, cleaned: &mut Cleaned) -> bool {
        let text = match read_short(&*self.disk, path, MAX_INTENT_BYTES) {
            Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
            Err(error) => return failed(cleaned, &error),
        };
        // Nothing is moved before the intent is whole.
        let Some(intent) = Intent::parse(&text) else {
            return true;
        };
        // Later than both: an operator may have put an older Data.fs in place,
        // and may still put the newer one back.
        let last = last_tid.max(intent.after);
        let mut done = true;
        for oid in intent.oids {
            done &= self.clean_object(oid, last, cleaned);
        }
        done
    }

    fn clean_object(&self, oid: Oid, last: Tid, cleaned: &mut Cleaned) -> bool {
        let object = self.object_path(oid);
        if !self.disk.exists(&object) {
            return true;
        }
        let failures = cleaned.failures;
        for name in self.own_names(&object, cleaned) {
            cleaned.uploads += usize::from(self.remove_leftover(&object.join(name), cleaned));
        }
        let revisions = self.revisions(oid).unwrap_or_else(|error| {
            failed(cleaned, &error);
            Vec::new()
        });
        for tid in revisions.into_iter().filter(|&tid| tid > last) {
            let path = self.revision_path(oid, tid);
            if self.remove_leftover(&path, cleaned) {
                cleaned.orphans += 1;
                tracing::warn!(
                    "removed {}: its transaction did not become durable",
                    path.display()
                );
            }
        }
        // From the object up to the blob directory: the crash may have come
        // between making a directory and syncing its parent.
        for directory in object.ancestors() {
            if let Err(error) = self.disk.sync_directory(directory) {
                failed(cleaned, &error);
            }
            if directory == self.path {
                break;
            }
        }
        cleaned.failures == failures
    }

    /// The names of our own files in a directory.
    fn own_names(&self, directory: &Path, cleaned: &mut Cleaned) -> Vec<OsString> {
        let is_own = |name: &OsString| name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes());
        let names = self.disk.read_directory(directory).and_then(|names| {
            names
                .filter(|name| name.as_ref().map_or(true, is_own))
                .collect::<io::Result<Vec<_>>>()
        });
        names.unwrap_or_else(|error| {
            failed(cleaned, &error);
            Vec::new()
        })
    }

    fn remove_leftover(&self, path: &Path, cleaned: &mut Cleaned) -> bool {
        match self.disk.remove(path) {
            Ok(()) => true,
            Err(error) => failed(cleaned, &format!("removing {}: {error}", path.display())),
        }
    }
}

/// Notes a failure; always false.
fn failed(cleaned: &mut Cleaned, error: &dyn std::fmt::Display) -> bool {
    tracing::warn!("cleaning the blob directory: {error}");
    cleaned.failures += 1;
    false
}

fn has_suffix(name: &OsString, suffix: &str) -> bool {
    name.as_encoded_bytes().ends_with(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_back_and_a_torn_one_is_not() {
        let (after, oids) = (Tid::from_u64(77), [Oid::ROOT, Oid::from_u64(0x1234)]);
        let text = Intent::to_text(after, &oids);
        let whole = Intent {
            after,
            oids: oids.to_vec(),
        };
        assert_eq!(Intent::parse(&text), Some(whole));
        for cut in 0..text.len() {
            assert_eq!(Intent::parse(&text[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Intent::parse(&format!("{text}0x01\n")), None);
    }
}
