use super::*;
use crate::disk::RealDisk;

fn area(directory: &Path) -> Arc<StagingArea> {
    let disk = Arc::new(RealDisk);
    StagingArea::open(disk, &directory.join("Data.fs"), None, Arc::default()).unwrap()
}

#[test]
fn a_file_is_there_under_its_digest_until_it_is_released() {
    let directory = tempfile::tempdir().unwrap();
    let staging = area(directory.path());
    let body = StagedBody::Memory(vec![7; PIECE_BYTES * 2 + 5]);
    let digest = staging.take_body(&body).unwrap();
    assert_eq!(digest.length, PIECE_BYTES as u64 * 2 + 5);
    let mut unfinished = staging.receive().unwrap();
    unfinished.write(b"abc").unwrap();
    std::mem::forget(unfinished);
    drop(staging);

    let staging = area(directory.path());
    assert!(staging.has(&digest));
    assert_eq!(staging.bytes(), digest.length);
    let names = || std::fs::read_dir(&staging.path).unwrap().count();
    assert_eq!(names(), 1, "what came halfway is gone");
    let mut read = Vec::new();
    let body = staging.body(&digest).unwrap().unwrap();
    body.read(&(digest.length - 3..digest.length), &mut read)
        .unwrap();
    assert_eq!(read, [7; 3]);
    let live = HashSet::from([digest]);
    assert_eq!(staging.clean(&live, Duration::ZERO), 0);
    let none = HashSet::new();
    assert_eq!(staging.clean(&none, Duration::from_mins(10)), 0);
    assert_eq!(staging.clean(&none, Duration::ZERO), 1);
    assert!(!staging.has(&digest) && staging.body(&digest).unwrap().is_none());
    assert_eq!(names(), 0);
}

/// The entry that names it next is not in the log yet when an earlier one goes.
#[test]
fn a_file_that_was_given_twice_is_not_released_with_the_first_that_named_it() {
    let directory = tempfile::tempdir().unwrap();
    let staging = area(directory.path());
    let take = |seed| {
        staging
            .take_body(&StagedBody::Memory(vec![seed; 9]))
            .unwrap()
    };
    let (once, taken, given) = (take(1), take(2), take(3));
    assert_eq!(take(2), taken);
    assert!(staging.claim(&given) && !staging.claim(&FileDigest::default()));
    staging.release(&[once, taken, given]);
    let has = [once, taken, given].map(|digest| staging.has(&digest));
    assert_eq!(has, [false, true, true]);
    assert_eq!(staging.clean(&HashSet::new(), Duration::from_mins(10)), 0);
    assert_eq!(staging.clean(&HashSet::new(), Duration::ZERO), 2);
    assert!(!staging.has(&taken) && !staging.has(&given));
}

/// Otherwise it would be waited for, and not be asked for.
#[test]
fn a_file_that_somebody_has_removed_is_not_here_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let staging = area(directory.path());
    let take = |seed| {
        let digest = staging
            .take_body(&StagedBody::Memory(vec![seed; 9]))
            .unwrap();
        std::fs::remove_file(staging.path_of(&digest)).unwrap();
        digest
    };
    let digest = take(1);
    assert!(staging.body(&digest).unwrap().is_none() && !staging.has(&digest));
    let digest = take(2);
    assert!(staging.open_file(&digest).unwrap().is_none() && !staging.has(&digest));
}

#[test]
fn what_is_not_what_was_promised_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let staging = area(directory.path());
    let mut receiving = staging.receive().unwrap();
    receiving.write(b"something").unwrap();
    let promised = FileDigest {
        length: 9,
        ..FileDigest::default()
    };
    let error = receiving.finish(Some(promised)).unwrap_err();
    assert!(error.to_string().contains("what came is"), "{error}");
    assert_eq!(std::fs::read_dir(&staging.path).unwrap().count(), 0);
}

#[test]
fn a_blob_gets_a_second_name_and_goes_to_its_place_again_and_again() {
    use crate::types::{Oid, Tid};
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let blobs =
        BlobDirectory::open(Arc::clone(&disk), &directory.path().join("blobs"), false).unwrap();
    let staging = StagingArea::open(
        disk,
        &directory.path().join("Data.fs"),
        Some(&blobs),
        Arc::default(),
    )
    .unwrap();
    let mut upload = blobs.upload().unwrap();
    upload.write(b"a blob").unwrap();
    let pending = upload.finish();
    let digest = staging.take_blob(&pending).unwrap();
    assert_eq!(staging.take_blob(&pending).unwrap(), digest);
    // Another session has given it the name, and is not done.
    staging.files.lock().clear();
    assert_eq!(staging.take_blob(&pending).unwrap(), digest);
    assert!(staging.has(&digest), "durably");
    drop(pending);
    blobs.clean_after_crash(Tid::ZERO);
    let (oid, tid) = (Oid::from_u64(5), Tid::from_u64(6));
    for _ in 0..2 {
        let pending = staging.blob(&digest, &blobs).unwrap().unwrap();
        blobs.place_received(oid, tid, pending).unwrap();
        let path = blobs.revision_path(oid, tid);
        assert_eq!(std::fs::read(path).unwrap(), b"a blob");
    }
    staging.clean(&HashSet::new(), Duration::ZERO);
    assert!(staging.blob(&digest, &blobs).unwrap().is_none());
    assert_eq!(blobs.open_revision(oid, tid).unwrap().length_bytes, 6);
}
