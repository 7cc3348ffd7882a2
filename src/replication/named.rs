//! Which entries of a storage's log name files that lie beside it.

use std::collections::{BTreeMap, HashSet};

use super::command::{Commit, Payload};
use super::log::Extent;
use crate::storage::staging::FileDigest;
use crate::types::{Oid, Tid};

/// A file that an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// It.
    pub digest: FileDigest,
    /// A blob: where it lies on nodes that have applied the entry.
    pub place: Option<(Oid, Tid)>,
}

impl NamedFile {
    /// All files of a batch.
    fn all_of(commits: &[Commit]) -> Vec<Self> {
        let of_one = |commit: &Commit| {
            let payload = match &commit.payload {
                Payload::Inline(_) => None,
                Payload::Staged(digest) => Some(*digest),
            };
            let payload = payload.map(|digest| Self {
                digest,
                place: None,
            });
            let tid = commit.tid;
            let blobs = commit.blobs.iter().map(move |&(oid, digest)| Self {
                digest,
                place: Some((oid, tid)),
            });
            payload.into_iter().chain(blobs).collect::<Vec<_>>()
        };
        commits.iter().flat_map(of_one).collect()
    }
}

/// The entries that name files, as far as the log was looked through. Those that are applied are
/// known without that.
///
/// All indexes here are of the first entry that is not meant any more.
#[derive(Debug, Default)]
pub struct Named {
    entries: BTreeMap<u64, Vec<NamedFile>>,
    /// The log was looked through up to here,
    looked: u64,
    /// and no entry before this one will ever be another one.
    committed: u64,
    /// What was applied before this start is known when the log was looked through up to here.
    applied_before: Option<u64>,
    /// How often the end of the log was cut off so far.
    cuts: u64,
    /// The log has no more than what was looked through.
    is_complete: bool,
}

impl Named {
    /// The entry at `index` is this batch.
    pub fn name(&mut self, index: u64, commits: &[Commit]) {
        let files = NamedFile::all_of(commits);
        if files.is_empty() {
            self.entries.remove(&index);
        } else {
            self.entries.insert(index, files);
        }
    }

    /// Where to go on looking through a log of this `extent`, of which what stands before
    /// `applied` is applied.
    pub fn begin(&mut self, extent: &Extent, applied: u64) -> u64 {
        let before = *self.applied_before.get_or_insert(applied);
        if std::mem::replace(&mut self.cuts, extent.cuts) != extent.cuts {
            // Others may stand in the place of those that were looked through.
            self.entries.split_off(&applied);
            self.looked = self.looked.min(applied);
        }
        self.committed = extent.committed.max(applied);
        self.looked = self.looked.max(extent.first);
        if self.looked >= before {
            self.looked = self.looked.max(applied);
        }
        self.is_complete = false;
        self.looked
    }

    /// The log was looked through up to `index`; whether it ended there.
    pub fn looked_upto(&mut self, index: u64, is_complete: bool) {
        self.looked = self.looked.max(index);
        self.is_complete = is_complete;
    }

    /// Does it know of all entries?
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The first entry whose files this node may still need from others, where all before
    /// `applied` is applied and `has` tells what is here.
    pub fn needed_from(&self, applied: u64, has: impl Fn(&FileDigest) -> bool) -> u64 {
        let sure = self.looked.min(self.committed);
        let mut waiting = self.entries.range(applied..);
        let lacking = waiting.find(|(_, files)| !files.iter().all(|file| has(&file.digest)));
        lacking
            .map_or(sure, |(&index, _)| index.min(sure))
            .max(applied)
    }

    /// The files of entries from `applied` on.
    pub fn waiting(&self, applied: u64) -> impl Iterator<Item = NamedFile> + '_ {
        self.entries
            .range(applied..)
            .flat_map(|(_, files)| files)
            .copied()
    }

    /// The first entry from `index` on that names files.
    pub fn first_from(&self, index: u64) -> Option<u64> {
        let mut entries = self.entries.range(index..);
        entries.next().map(|(&index, _)| index)
    }

    /// The first entry to be kept so that the files of all have `bytes` at most; None: all may be
    /// kept.
    pub fn keeping(&self, bytes: u64) -> Option<u64> {
        let mut kept = 0_u64;
        for (&index, files) in self.entries.iter().rev() {
            let own: u64 = files.iter().map(|file| file.digest.length).sum();
            kept = kept.saturating_add(own);
            if kept > bytes {
                return Some(index + 1);
            }
        }
        None
    }

    /// Entries up to `index` are gone: the files that no other one names.
    pub fn purged(&mut self, index: u64) -> Vec<FileDigest> {
        let kept = self.entries.split_off(&(index + 1));
        let gone = std::mem::replace(&mut self.entries, kept);
        let live = self.live();
        let gone = gone.into_values().flatten().map(|file| file.digest);
        gone.filter(|file| !live.contains(file)).collect()
    }

    /// All files that are named.
    pub fn live(&self) -> HashSet<FileDigest> {
        let files = self.entries.values().flatten();
        files.map(|file| file.digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TransactionMeta;

    fn digest(number: u8, length: u64) -> FileDigest {
        FileDigest {
            sha256: [number; 32],
            length,
        }
    }

    fn commits(files: &[u8]) -> Vec<Commit> {
        let commit = |&file: &u8| Commit {
            tid: Tid::from_u64(file.into()),
            remote: None,
            meta: TransactionMeta::default(),
            records: Vec::new(),
            payload: Payload::Staged(digest(file, 10)),
            pack_orders: 0,
            blobs: vec![(Oid::from_u64(1), digest(file + 100, 5))],
        };
        files.iter().map(commit).collect()
    }

    fn extent(first: u64, next: u64, committed: u64, cuts: u64) -> Extent {
        Extent {
            first,
            next,
            committed,
            cuts,
        }
    }

    /// Looked through to its end.
    fn look(named: &mut Named, extent: &Extent, applied: u64, entries: &[(u64, &[u8])]) {
        let from = named.begin(extent, applied);
        for &(index, files) in entries.iter().filter(|(index, _)| *index >= from) {
            named.name(index, &commits(files));
        }
        named.looked_upto(extent.next, true);
    }

    #[test]
    fn what_is_applied_is_looked_through_once_and_what_comes_when_it_comes() {
        let mut named = Named::default();
        assert_eq!(named.begin(&extent(3, 50, 50, 0), 20), 3);
        named.looked_upto(10, false);
        assert!(!named.is_complete());
        // An earlier run has applied those up to 20: nobody else names their files.
        assert_eq!(named.begin(&extent(3, 50, 50, 0), 30), 10);
        named.looked_upto(20, false);
        assert_eq!(named.begin(&extent(3, 50, 50, 0), 30), 30);
        named.looked_upto(50, true);
        assert!(named.is_complete());
        assert_eq!(named.begin(&extent(3, 60, 50, 0), 40), 50);
        assert!(!named.is_complete());
    }

    #[test]
    fn entries_in_place_of_those_that_were_cut_off_are_looked_through_again() {
        let mut named = Named::default();
        look(&mut named, &extent(0, 9, 5, 0), 5, &[(4, &[4]), (7, &[7])]);
        assert_eq!(named.live().len(), 4);
        look(&mut named, &extent(0, 9, 7, 1), 5, &[(8, &[8])]);
        assert!(!named.live().contains(&digest(7, 10)));
        assert!(named.live().contains(&digest(8, 10)));
        assert!(named.live().contains(&digest(4, 10)));
    }

    #[test]
    fn files_are_needed_from_the_first_that_lacks_on() {
        let mut named = Named::default();
        let entries: &[(u64, &[u8])] = &[(2, &[2]), (5, &[5]), (7, &[7]), (9, &[9])];
        look(&mut named, &extent(0, 12, 11, 0), 4, entries);
        assert_eq!(named.needed_from(4, |file| file.sha256[0] != 107), 7);
        // What is not committed may be replaced by what names other files.
        assert_eq!(named.needed_from(4, |_| true), 11);
        assert_eq!(named.needed_from(12, |_| false), 12);
        named.begin(&extent(0, 20, 20, 1), 4);
        assert_eq!(named.needed_from(4, |_| true), 4);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut named = Named::default();
        let entries: &[(u64, &[u8])] = &[(2, &[2]), (5, &[5, 6]), (9, &[9])];
        look(&mut named, &extent(0, 12, 12, 0), 0, entries);
        assert_eq!(named.keeping(60), None);
        assert_eq!(named.keeping(59), Some(3));
        assert_eq!(named.keeping(44), Some(6));
        assert_eq!(named.keeping(0), Some(10));
        assert_eq!((named.first_from(3), named.first_from(10)), (Some(5), None));
    }

    #[test]
    fn a_file_goes_with_the_last_entry_that_names_it() {
        let mut named = Named::default();
        let entries: &[(u64, &[u8])] = &[(2, &[2]), (3, &[3]), (5, &[2])];
        look(&mut named, &extent(0, 12, 12, 0), 0, entries);
        assert_eq!(named.purged(3), [digest(3, 10), digest(103, 5)]);
        assert_eq!(named.purged(5), [digest(2, 10), digest(102, 5)]);
        assert!(named.live().is_empty());
    }
}
