//! How much a catch-up moves and how long it takes, on a database of some size:
//!
//! ```text
//! cargo test --release --test catch_up_volume -- --ignored --nocapture
//! ZEOD_CATCH_UP_MB=5000 cargo test …     (takes four times the space in TMPDIR)
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test says by panicking what is wrong"
)]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use zeod::disk::{Disk, RealDisk};
use zeod::replication::catch_up::{Origin, Progress, RateLimit, Way, receive, send};
use zeod::replication::types::StateMark;
use zeod::storage::file::pack::PackOptions;
use zeod::storage::file::transfer::Intent;
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::storage::{
    Committing, RECORD_GAP_BYTES, Staged, StagedBody, StagedRecord, StagedRecordKind, Storage,
};
use zeod::types::{Oid, Tid};

/// Objects written by a transaction, and lengths of their records.
const RECORDS: u64 = 6;
const LENGTHS: std::ops::Range<u64> = 100..1400;
const BATCH: usize = 40;

struct Database {
    directory: TempDir,
    storage: FileStorage,
    tid: u64,
    objects: u64,
    seed: u64,
}

impl Database {
    fn open(directory: TempDir) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let options = FileOptions {
            pack_keep_old: false,
            ..FileOptions::new(directory.path().join("Data.fs"))
        };
        let storage = FileStorage::open(disk, options).unwrap();
        Self {
            tid: storage.last_tid().to_u64(),
            objects: storage.object_count(),
            directory,
            storage,
            seed: 88_172_645_463_325_252,
        }
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn record(&mut self, staged: &mut Staged, body: &mut Vec<u8>, oid: u64) {
        let length = LENGTHS.start + self.random() % (LENGTHS.end - LENGTHS.start);
        body.extend_from_slice(&[0; RECORD_GAP_BYTES]);
        let start = body.len() as u64;
        while (body.len() as u64) < start + length {
            body.extend_from_slice(&self.random().to_be_bytes());
        }
        staged.records.push(StagedRecord {
            oid: Oid::from_u64(oid),
            data: start..body.len() as u64,
            kind: StagedRecordKind::Store,
        });
    }

    /// Adds transactions until the file is so long. `change`: one in so many
    /// records changes an object that is there, the others are new.
    fn grow(&mut self, bytes: u64, change: u64) {
        while self.storage.size_bytes() < bytes {
            let mut batch = Vec::with_capacity(BATCH);
            // As with locks, none of a batch changes what another one does.
            let mut changed = HashSet::new();
            for _ in 0..BATCH {
                let mut staged = Staged::default();
                let mut body = Vec::new();
                for _ in 0..RECORDS {
                    let oid = match self.random() % self.objects.max(1) {
                        known if self.random().is_multiple_of(change) && changed.insert(known) => {
                            known
                        }
                        _ => {
                            self.objects += 1;
                            changed.insert(self.objects);
                            self.objects
                        }
                    };
                    self.record(&mut staged, &mut body, oid);
                }
                staged.body = StagedBody::Memory(body);
                self.tid += 10;
                batch.push(Committing {
                    tid: Tid::from_u64(self.tid),
                    staged,
                });
            }
            self.storage.append(&mut batch).unwrap();
            self.storage.publish(&batch);
        }
    }

    fn pack(&self) {
        let options = PackOptions {
            gc: Some(false),
            ..PackOptions::default()
        };
        self.storage
            .pack_with(Tid::from_u64(self.tid), options)
            .unwrap();
    }

    fn copy(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        self.storage.checkpoint().unwrap();
        for name in ["Data.fs", "Data.fs.index"] {
            let from = self.directory.path().join(name);
            std::fs::copy(from, directory.path().join(name)).unwrap();
        }
        Self::open(directory)
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("Data.fs")
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    (here.unwrap(), there.unwrap().0)
}

/// Bytes that were moved.
fn bring(what: &str, sender: &Database, behind: &Database, packs: Option<u64>) -> (Way, u64) {
    let held = sender.storage.hold().unwrap();
    let size = held.end();
    let origin = Origin {
        mark: StateMark {
            last_tid: sender.storage.last_tid(),
            length: size,
            packs: 0,
            reserved_oid: 0,
        },
        held,
        blobs: None,
    };
    let target = behind.storage.target().unwrap();
    let progress = Arc::new(Progress::default());
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let incoming = runtime.block_on(async {
        let (mut here, mut there) = pair().await;
        let (rate, idle) = (RateLimit::default(), Arc::default());
        let (sent, received) = tokio::join!(
            send(&mut there, origin, &rate, &idle),
            receive(&mut here, target, packs, &progress)
        );
        sent.unwrap();
        received.unwrap()
    });
    let came_after = begun.elapsed();
    let way = incoming.way;
    let intent = incoming.make_intent(Vec::new()).unwrap();
    incoming.install(&behind.storage, &intent).unwrap();
    Intent::forget(&RealDisk, &behind.path()).unwrap();
    let took = begun.elapsed();
    let moved = progress.get().moved_bytes;
    println!(
        "{what}: {way:?}, {:.1} MB of {:.1} MB moved ({:.2} %), received in {:.1} s, in place after {:.1} s",
        moved as f64 / 1e6,
        size as f64 / 1e6,
        moved as f64 * 100.0 / size as f64,
        came_after.as_secs_f64(),
        took.as_secs_f64()
    );
    assert!(is_same(&sender.path(), &behind.path()));
    (way, moved)
}

fn is_same(one: &Path, other: &Path) -> bool {
    use std::io::Read;
    let mut files = [one, other].map(|path| std::fs::File::open(path).unwrap());
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let counts: Vec<usize> = files
            .iter_mut()
            .zip(&mut buffers)
            .map(|(file, buffer)| file.read(buffer).unwrap())
            .collect();
        if counts[0] != counts[1] || buffers[0][..counts[0]] != buffers[1][..counts[0]] {
            return false;
        }
        if counts[0] == 0 {
            return true;
        }
    }
}

fn cp(from: &Path) -> Duration {
    let directory = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let to = directory.path().join("copy");
    std::fs::copy(from, &to).unwrap();
    std::fs::File::open(&to).unwrap().sync_all().unwrap();
    begun.elapsed()
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn a_catch_up_moves_little_more_than_what_changed() {
    let megabytes: u64 =
        std::env::var("ZEOD_CATCH_UP_MB").map_or(300, |megabytes| megabytes.parse().unwrap());
    let size = megabytes * 1_000_000;
    let mut sender = Database::open(tempfile::tempdir().unwrap());
    sender.grow(size, 3);
    let packed_past = sender.copy();
    println!(
        "{} objects, {} transactions, cp and sync take {:.1} s",
        sender.objects,
        sender.tid / 10,
        cp(&sender.path()).as_secs_f64()
    );
    let empty = Database::open(tempfile::tempdir().unwrap());
    bring("an empty node", &sender, &empty, None);
    drop(empty);

    // Never packed before: a third of the records goes, scattered over all transactions.
    sender.pack();
    bring("behind the first pack", &sender, &packed_past, Some(1));

    // One in a hundred records changes: new ones come, old ones are packed away.
    let before = sender.storage.size_bytes();
    sender.grow(before + before / 100, 1);
    let changed = sender.storage.size_bytes() - before;
    sender.pack();
    let (way, moved) = bring("1 % changed and packed", &sender, &packed_past, Some(1));
    assert_eq!(way, Way::Difference);
    assert!(
        moved <= 2 * changed,
        "{moved} bytes for {changed} that changed"
    );

    let (way, moved) = bring("a copy of unknown origin", &sender, &packed_past, None);
    assert_eq!(way, Way::Difference);
    assert!(moved * 100 <= sender.storage.size_bytes());

    let before = sender.storage.size_bytes();
    sender.grow(before + before / 3, 3);
    let (way, _) = bring(
        "a third is missing at the end",
        &sender,
        &packed_past,
        Some(0),
    );
    assert_eq!(way, Way::Tail);
}
