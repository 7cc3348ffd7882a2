use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::layout::{revision_name, revision_of};
use super::*;
use crate::disk::RealDisk;

fn open(path: &Path) -> Arc<BlobDirectory> {
    BlobDirectory::open(Arc::new(RealDisk), path, false).unwrap()
}

fn oid(number: u64) -> Oid {
    Oid::from_u64(number)
}

fn tid(number: u64) -> Tid {
    Tid::from_u64(number)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn pending(blobs: &Arc<BlobDirectory>, content: &[u8]) -> PendingBlob {
    let mut upload = blobs.upload().unwrap();
    for chunk in content.chunks(7) {
        upload.write(chunk).unwrap();
    }
    assert_eq!(upload.length_bytes(), content.len() as u64);
    upload.finish()
}

/// Commits blobs as a transaction with `serial` would.
fn commit(blobs: &Arc<BlobDirectory>, serial: u64, contents: &[(u64, &[u8])]) {
    let mut staged = crate::storage::Staged::default();
    for &(number, content) in contents {
        staged.blobs.insert(oid(number), pending(blobs, content));
    }
    staged.blobs.prepare(Tid::ZERO).unwrap();
    let mut batch = [crate::storage::Committing {
        tid: tid(serial),
        staged,
    }];
    place_batch(&mut batch).unwrap();
    settle_batch(&mut batch);
}

fn content(blobs: &BlobDirectory, number: u64, serial: u64) -> Result<Vec<u8>> {
    let blob = blobs.open_revision(oid(number), tid(serial))?;
    let (mut all, mut piece) = (Vec::new(), Vec::new());
    loop {
        blob.read_piece(all.len() as u64, 10, Access::Wait, &mut piece)?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}

/// All files and empty directories below `path`, relative, in order.
fn tree(path: &Path) -> Vec<String> {
    fn below(root: &Path, path: &Path, found: &mut Vec<String>) {
        let entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap()).collect();
        if entries.is_empty() {
            let relative = path.strip_prefix(root).unwrap();
            found.push(format!("{}/", relative.display()));
        }
        for entry in entries {
            if entry.file_type().unwrap().is_dir() {
                below(root, &entry.path(), found);
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    below(path, path, &mut found);
    found.sort();
    found
}

/// What ZODB's layouts give for the same ids.
#[test]
fn paths_are_zodbs() {
    let vectors = [
        (0, "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x00", "0x00"),
        (1, "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01", "0x01"),
        (0x100, "0x00/0x00/0x00/0x00/0x00/0x00/0x01/0x00", "0x0100"),
        (0x1234, "0x00/0x00/0x00/0x00/0x00/0x00/0x12/0x34", "0x1234"),
        (
            0xabcd_ef01_2345_6789,
            "0xab/0xcd/0xef/0x01/0x23/0x45/0x67/0x89",
            "0xabcdef0123456789",
        ),
        (
            0x0a00_0000_0000_0000,
            "0x0a/0x00/0x00/0x00/0x00/0x00/0x00/0x00",
            "0x0a00000000000000",
        ),
    ];
    for (number, bushy, lawn) in vectors {
        for (layout, path) in [(Layout::Bushy, bushy), (Layout::Lawn, lawn)] {
            assert_eq!(layout.object_path(oid(number)), Path::new(path));
            assert_eq!(layout.object_of(Path::new(path)), Some(oid(number)));
        }
    }
    for (serial, name) in [
        (0x03f1_e2d3_c4b5_a697, "0x03f1e2d3c4b5a697.blob"),
        (1, "0x01.blob"),
        (0xfff, "0x0fff.blob"),
        (u64::MAX, "0xffffffffffffffff.blob"),
    ] {
        assert_eq!(revision_name(tid(serial)), name);
        assert_eq!(revision_of(OsStr::new(name)), Some(tid(serial)));
    }
}

#[test]
fn names_that_are_no_objects_are_not_taken_for_some() {
    for path in ["", "tmp", "0x1", "0xAB", "0x001", "ab", "0x+1", "../0x01"] {
        assert_eq!(Layout::Lawn.object_of(Path::new(path)), None, "{path}");
    }
    for path in [
        "0x00",
        "0x0/0x0/0x0/0x0/0x0/0x0/0x0/0x1",
        "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0xAB",
        "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01",
        "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01/tmp",
    ] {
        assert_eq!(Layout::Bushy.object_of(Path::new(path)), None, "{path}");
    }
    for name in [
        "0x1.blob",
        "0x01.BLOB",
        "0x01.blob~",
        "x.blob",
        ".zeod-1-1.upload",
    ] {
        assert_eq!(revision_of(OsStr::new(name)), None, "{name}");
    }
}

#[test]
fn the_layout_is_the_one_that_is_there() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("new/blobs");
    assert_eq!(open(&path).layout(), Layout::Bushy);
    assert_eq!(tree(&path), [".layout", "tmp/"]);
    assert_eq!(fs::read(path.join(".layout")).unwrap(), b"bushy");

    let used = files.path().join("used");
    fs::create_dir_all(used.join("0x01")).unwrap();
    let blobs = open(&used);
    assert_eq!(blobs.layout(), Layout::Lawn);
    assert_eq!(fs::read(used.join(".layout")).unwrap(), b"lawn");
    commit(&blobs, 5, &[(1, b"one")]);
    assert!(used.join("0x01/0x05.blob").exists());
    assert_eq!(open(&used).layout(), Layout::Lawn);

    let volume = files.path().join("volume");
    fs::create_dir_all(volume.join("lost+found")).unwrap();
    fs::create_dir_all(volume.join("tmp")).unwrap();
    assert_eq!(open(&volume).layout(), Layout::Bushy);
}

#[test]
fn an_unknown_marker_is_refused_with_its_name() {
    let files = tempfile::tempdir().unwrap();
    for (marker, words) in [("zeocache", "cache of a ZEO client"), ("mown", "\"mown\"")] {
        fs::write(files.path().join(".layout"), marker).unwrap();
        let error = BlobDirectory::open(Arc::new(RealDisk), files.path(), false).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(tree(files.path()), [".layout"]);
}

#[test]
fn a_read_only_directory_is_left_as_it_is() {
    let files = tempfile::tempdir().unwrap();
    let blobs = BlobDirectory::open(Arc::new(RealDisk), files.path(), true).unwrap();
    assert!(matches!(blobs.upload(), Err(StorageError::ReadOnly)));
    fs::create_dir(files.path().join("tmp")).unwrap();
    fs::write(files.path().join("tmp/.zeod-1-1.upload"), "").unwrap();
    assert_eq!(blobs.clean_after_crash(Tid::ZERO), Cleaned::default());
    assert_eq!(tree(files.path()), ["tmp/.zeod-1-1.upload"]);
}

#[test]
fn a_committed_blob_is_there_and_nothing_else() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    let long: Vec<u8> = (0..100).collect();
    commit(&blobs, 0x10, &[(1, &long), (0x1234, b"")]);
    commit(&blobs, 0x11, &[(1, b"newer")]);
    assert_eq!(content(&blobs, 1, 0x10).unwrap(), long);
    assert_eq!(content(&blobs, 1, 0x11).unwrap(), b"newer");
    assert_eq!(content(&blobs, 0x1234, 0x10).unwrap(), b"");
    assert_eq!(blobs.revisions(oid(1)).unwrap(), [tid(0x10), tid(0x11)]);
    let zeros = "0x00/0x00/0x00/0x00/0x00/0x00";
    assert_eq!(
        tree(files.path()),
        [
            ".layout".to_owned(),
            format!("{zeros}/0x00/0x01/0x10.blob"),
            format!("{zeros}/0x00/0x01/0x11.blob"),
            format!("{zeros}/0x12/0x34/0x10.blob"),
            "tmp/".to_owned(),
        ]
    );
    let missing = content(&blobs, 1, 0x12).unwrap_err();
    assert!(matches!(missing, StorageError::NoSuchBlob { .. }));
    assert!(missing.to_string().starts_with("No blob file at /"));
}

/// Vectors from ZODB's `set_not_writable`: the directory's mode, the file's.
#[test]
fn a_committed_file_is_readable_for_whom_its_directory_is() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    let object = blobs.object_path(oid(1));
    fs::create_dir_all(&object).unwrap();
    for (serial, (directory, file)) in [
        (0o755, 0o444),
        (0o700, 0o400),
        (0o750, 0o440),
        (0o775, 0o444),
        (0o777, 0o444),
    ]
    .into_iter()
    .enumerate()
    {
        fs::set_permissions(&object, fs::Permissions::from_mode(directory)).unwrap();
        let upload = blobs.upload().unwrap();
        let waiting = fs::read_dir(blobs.temporary_path()).unwrap().next();
        assert_eq!(mode(&waiting.unwrap().unwrap().path()), 0o600);
        drop(upload);
        commit(&blobs, 1 + serial as u64, &[(1, b"x")]);
        let path = blobs.revision_path(oid(1), tid(1 + serial as u64));
        assert_eq!(mode(&path), file, "in {directory:o}");
    }
}

#[test]
fn what_is_given_up_before_its_commit_leaves_no_file() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    let upload = blobs.upload().unwrap();
    assert_eq!(tree(&blobs.temporary_path()).len(), 1);
    drop(upload);
    drop(pending(&blobs, b"pending"));
    let mut staged = StagedBlobs::default();
    staged.insert(oid(1), pending(&blobs, b"first"));
    staged.insert(oid(1), pending(&blobs, b"second"));
    staged.insert(oid(2), pending(&blobs, b"other"));
    assert_eq!(tree(&blobs.temporary_path()).len(), 2);
    staged.prepare(Tid::ZERO).unwrap();
    let intents = tree(&blobs.temporary_path());
    assert!(
        intents.len() == 1 && intents[0].ends_with(".intent"),
        "{intents:?}"
    );
    drop(staged);
    let left = tree(files.path());
    assert!(
        left.iter()
            .all(|name| name == ".layout" || name.ends_with('/')),
        "{left:?}"
    );
}

#[test]
fn a_shared_file_is_taken_over_only_under_a_plain_temporary_name() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    let object = blobs.object_path(oid(7));
    fs::create_dir_all(object.join("directory.tmp")).unwrap();
    fs::write(files.path().join("secret.tmp"), "secret").unwrap();
    for name in ["0x01.blob", "x", "", "y.tmpxx"] {
        let _ = fs::write(object.join(name), "there");
    }
    std::os::unix::fs::symlink(files.path().join("secret.tmp"), object.join("link.tmp")).unwrap();
    for name in [
        "../../../../../../../../secret.tmp",
        "/etc/passwd.tmp",
        "link.tmp",
        "directory.tmp",
        "missing.tmp",
        "nul\0.tmp",
        "0x01.blob",
        "y.tmpxx",
        "x",
        ".",
        "..",
        "",
    ] {
        let refused = blobs.adopt(oid(7), name);
        assert!(
            matches!(refused, Err(StorageError::BadBlobFile { .. })),
            "{name:?}"
        );
    }
    for (serial, name) in [(9, "0x03abcdef.tmp-"), (10, "0x03.tmp"), (11, "b.tmpé")] {
        fs::write(object.join(name), name).unwrap();
        let mut staged = crate::storage::Staged::default();
        staged
            .blobs
            .insert(oid(7), blobs.adopt(oid(7), name).unwrap());
        staged.blobs.prepare(Tid::ZERO).unwrap();
        let mut batch = [crate::storage::Committing {
            tid: tid(serial),
            staged,
        }];
        place_batch(&mut batch).unwrap();
        settle_batch(&mut batch);
        assert_eq!(content(&blobs, 7, serial).unwrap(), name.as_bytes());
        assert!(!object.join(name).exists());
    }
    assert_eq!(
        fs::read(files.path().join("secret.tmp")).unwrap(),
        b"secret"
    );
}

#[test]
fn the_start_removes_what_is_its_own_and_not_what_others_left() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    commit(&blobs, 5, &[(1, b"five")]);
    commit(&blobs, 6, &[(1, b"six"), (2, b"two")]);
    commit(&blobs, 7, &[(3, b"not named by any intent")]);
    let temporary = blobs.temporary_path();
    fs::write(temporary.join("BUCxyz"), "a client's").unwrap();
    fs::write(temporary.join(".zeod-1-1.upload"), "ours").unwrap();
    fs::write(
        temporary.join(".zeod-1-3.intent"),
        "zeod blobs 1\nafter 0x00",
    )
    .unwrap();
    let intent = "zeod blobs 1\nafter 0x0000000000000004\n0x01\n0x99\nend 2\n";
    fs::write(temporary.join(".zeod-1-2.intent"), intent).unwrap();
    let object = blobs.object_path(oid(1));
    fs::write(object.join("0x07.tmp-"), "a client's").unwrap();
    fs::write(object.join(".zeod-1-4.upload"), "ours").unwrap();
    let cleaned = open(files.path()).clean_after_crash(tid(5));
    let expected = Cleaned {
        uploads: 2,
        orphans: 1,
        failures: 0,
    };
    assert_eq!(cleaned, expected);
    assert_eq!(tree(&temporary), ["BUCxyz"]);
    assert_eq!(tree(&object), ["0x05.blob", "0x07.tmp-"]);
    assert_eq!(content(&blobs, 2, 6).unwrap(), b"two");
    assert_eq!(content(&blobs, 3, 7).unwrap(), b"not named by any intent");
    // An older Data.fs was put in place: what the intent did not mean stays.
    fs::write(
        temporary.join(".zeod-1-2.intent"),
        intent.replace("04", "05"),
    )
    .unwrap();
    assert_eq!(blobs.clean_after_crash(tid(2)).orphans, 0);
    assert_eq!(content(&blobs, 1, 5).unwrap(), b"five");
}

#[test]
fn an_undone_blob_is_the_earlier_one_again() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    commit(&blobs, 5, &[(1, b"five")]);
    let mut staged = crate::storage::Staged::default();
    staged
        .blobs
        .insert(oid(1), blobs.copy_revision(oid(1), tid(5)).unwrap());
    staged.blobs.prepare(tid(5)).unwrap();
    let mut batch = [crate::storage::Committing {
        tid: tid(6),
        staged,
    }];
    place_batch(&mut batch).unwrap();
    settle_batch(&mut batch);
    drop(batch);
    blobs.remove_revision(oid(1), tid(5), None).unwrap();
    assert_eq!(content(&blobs, 1, 6).unwrap(), b"five");
    let missing = blobs.copy_revision(oid(1), tid(5)).unwrap_err();
    assert!(matches!(missing, StorageError::NoSuchBlob { .. }));
    assert_eq!(tree(&blobs.temporary_path()), ["/"]);
}

#[test]
fn a_pack_keeps_what_it_removes_where_that_is_wanted() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("blobs");
    let blobs = open(&path);
    for serial in 5..8 {
        commit(
            &blobs,
            serial,
            &[(1, b"one"), (0x200, b"garbage"), (3, b"three")],
        );
    }
    let before = tree(&path);
    let mut list = blobs.begin_removals().unwrap();
    list.revision(oid(1), tid(5)).unwrap();
    list.revision(oid(1), tid(6)).unwrap();
    list.object(oid(0x200)).unwrap();
    list.revision(oid(3), tid(5)).unwrap();
    list.revision(oid(3), tid(6)).unwrap();
    list.finish().unwrap();
    assert!(blobs.has_removals());
    let old = blobs.begin_old(true).unwrap();
    // Needed after all: a list of a pack whose file never came into its place.
    let needed = |object, serial| Ok(object == oid(3) && serial == tid(6));
    let removed = blobs.apply_removals(&needed, tid(6), old.as_ref()).unwrap();
    assert_eq!(removed, 5);
    assert!(!blobs.has_removals());
    assert_eq!(blobs.revisions(oid(1)).unwrap(), [tid(7)]);
    assert_eq!(blobs.revisions(oid(3)).unwrap(), [tid(6), tid(7)]);
    assert_eq!(
        blobs.revisions(oid(0x200)).unwrap(),
        [tid(7)],
        "committed during the pack"
    );
    let kept: Vec<_> = before.into_iter().filter(|name| name != "tmp/").collect();
    assert_eq!(tree(&files.path().join("blobs.old")), kept);
    assert_eq!(blobs.remove_object(oid(0x200), tid(7), None).unwrap(), 1);
    assert!(!blobs.object_path(oid(0x200)).parent().unwrap().exists());
    assert!(blobs.begin_old(false).unwrap().is_none());
    assert!(!files.path().join("blobs.old").exists());
}

#[test]
fn packs_without_a_list_go_through_the_directory() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    for serial in 5..8 {
        commit(&blobs, serial, &[(1, b"one"), (2, b"two")]);
    }
    let needed = |object, serial| Ok(object == oid(1) || serial == tid(6));
    assert_eq!(blobs.pack_by_need(tid(6), &needed).unwrap(), 1);
    assert_eq!(blobs.revisions(oid(2)).unwrap(), [tid(6), tid(7)]);
    assert_eq!(
        blobs
            .pack_to_newest(tid(7), &|object| Ok(object == oid(1)))
            .unwrap(),
        4
    );
    assert_eq!(blobs.revisions(oid(1)).unwrap(), [tid(7)]);
    assert!(!blobs.object_path(oid(2)).exists());
}

#[test]
fn a_list_with_a_torn_line_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let blobs = open(files.path());
    for text in ["00", "0000000000000001", "000000000000000g\n", "00\n", "\n"] {
        fs::write(files.path().join(".removed"), text).unwrap();
        let refused = blobs.apply_removals(&|_, _| Ok(false), tid(9), None);
        assert!(
            matches!(refused, Err(StorageError::Corrupt { .. })),
            "{text:?}"
        );
    }
}
