//! Blobs that clients send: how they arrive, and what becomes of them when the
//! transaction ends in one way or another.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::client::{Client, key, oid, tid};
use super::undo::send_undo;
use super::{DatabaseMap, Server};
use crate::types::{Oid, Tid};
use crate::wire::{Request, Value};

const RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x01.\x80\x03N.";

pub fn blob_dir(server: &Server) -> PathBuf {
    server.directory.path().join("blobs")
}

/// All files of the blob directory but its marker.
pub fn files(server: &Server) -> Vec<PathBuf> {
    fn below(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if !path.ends_with(".layout") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(&blob_dir(server), &mut found);
    found.sort();
    found
}

fn object_path(server: &Server, object: Oid) -> PathBuf {
    let directories = object.0.iter().map(|byte| format!("0x{byte:02x}"));
    blob_dir(server).join(directories.collect::<PathBuf>())
}

/// Where ZODB looks for the blob of a revision.
fn revision_path(server: &Server, number: u64, serial: Tid) -> PathBuf {
    object_path(server, oid(number)).join(format!("{:#018x}.blob", serial.to_u64()))
}

fn start(client: &mut Client) {
    client.send(Request::StoreBlobStart);
}

fn chunk(client: &mut Client, chunk: &[u8]) {
    client.send(Request::StoreBlobChunk {
        chunk: Cow::Borrowed(chunk),
    });
}

fn end(client: &mut Client, number: u64, serial: Tid) {
    client.send(Request::StoreBlobEnd {
        oid: oid(number),
        serial,
        data: Cow::Borrowed(RECORD),
        transaction: key(1),
    });
}

/// As the stock client: the record, then the blob in pieces with the record.
pub fn store(client: &mut Client, number: u64, serial: Tid, pieces: &[&[u8]]) {
    client.store(1, number, serial, RECORD);
    start(client);
    for piece in pieces {
        chunk(client, piece);
    }
    end(client, number, serial);
}

/// A whole transaction with one blob.
pub fn commit(client: &mut Client, number: u64, serial: Tid, pieces: &[&[u8]]) -> Tid {
    client.begin(1);
    store(client, number, serial, pieces);
    assert_eq!(client.vote(1), Ok(Value::List(Vec::new())));
    tid(&client.finish(1).unwrap())
}

fn shared(client: &mut Client, number: u64, name: &str) {
    client.send(Request::StoreBlobShared {
        oid: oid(number),
        serial: Tid::ZERO,
        data: Cow::Borrowed(RECORD),
        filename: Cow::Borrowed(name),
        transaction: key(1),
    });
}

#[test]
fn a_blob_sent_in_pieces_lies_under_the_name_of_its_revision() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        let first = commit(&mut client, 0x1234, Tid::ZERO, &[b"one ", b"", b"two"]);
        let path = revision_path(&server, 0x1234, first);
        assert_eq!(files(&server), std::slice::from_ref(&path));
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o222, 0, "a committed blob is not writable");
        assert_eq!(client.load(0x1234), Ok((RECORD.to_vec(), first)));
        // An empty one, as a new revision.
        let second = commit(&mut client, 0x1234, first, &[]);
        let path = revision_path(&server, 0x1234, second);
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(files(&server).len(), 2);
    }
}

#[test]
fn a_transaction_takes_many_blobs_between_other_requests() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        client.begin(1);
        for number in 1..=3_u64 {
            client.store(1, number, Tid::ZERO, RECORD);
            start(&mut client);
            chunk(&mut client, b"blob ");
            assert!(client.load(99).is_err());
            assert_eq!(client.last_transaction(), Tid::ZERO);
            chunk(&mut client, number.to_string().as_bytes());
            end(&mut client, number, Tid::ZERO);
        }
        client.store(1, 4, Tid::ZERO, b"no blob");
        client.vote(1).unwrap();
        let serial = tid(&client.finish(1).unwrap());
        for number in 1..=3 {
            let content = fs::read(revision_path(&server, number, serial)).unwrap();
            assert_eq!(content, format!("blob {number}").into_bytes());
        }
        assert_eq!(files(&server).len(), 3);
    }
}

#[test]
fn of_two_blobs_for_one_object_the_last_one_counts() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        client.begin(1);
        store(&mut client, 1, Tid::ZERO, &[b"first"]);
        store(&mut client, 1, Tid::ZERO, &[b"last"]);
        client.vote(1).unwrap();
        let serial = tid(&client.finish(1).unwrap());
        let path = revision_path(&server, 1, serial);
        assert_eq!(files(&server), std::slice::from_ref(&path));
        assert_eq!(fs::read(path).unwrap(), b"last");
    }
}

#[test]
fn of_undos_and_blobs_for_one_object_the_last_one_counts() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let first = commit(&mut client, 1, Tid::ZERO, &[b"first"]);
    let second = commit(&mut client, 1, first, &[b"second"]);

    client.begin(1);
    send_undo(&mut client, second);
    store(&mut client, 1, second, &[b"third"]);
    client.vote(1).unwrap();
    let third = tid(&client.finish(1).unwrap());
    let content = fs::read(revision_path(&server, 1, third)).unwrap();
    assert_eq!(content, b"third", "stored after the undo");

    client.begin(1);
    store(&mut client, 1, third, &[b"fourth"]);
    send_undo(&mut client, second);
    client.vote(1).unwrap();
    let fourth = tid(&client.finish(1).unwrap());
    let content = fs::read(revision_path(&server, 1, fourth)).unwrap();
    assert_eq!(content, b"first", "undone after the store");
}

#[test]
fn an_object_that_an_undo_ends_gets_no_blob() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let first = commit(&mut client, 1, Tid::ZERO, &[b"first"]);
    let second = commit(&mut client, 1, first, &[b"second"]);
    let before = files(&server);

    client.begin(1);
    store(&mut client, 1, second, &[b"third"]);
    send_undo(&mut client, second);
    send_undo(&mut client, first);
    client.vote(1).unwrap();
    client.finish(1).unwrap();
    assert!(client.load(1).is_err());
    assert_eq!(files(&server), before);
}

#[test]
fn others_are_told_of_a_blob_as_of_any_object() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        let mut other = server.client();
        let serial = commit(&mut client, 1, Tid::ZERO, &[b"blob"]);
        assert_eq!(other.invalidations(), [(serial, vec![oid(1)])]);
    }
}

#[test]
fn blobs_out_of_turn_close_the_connection_and_leave_no_file() {
    let steps: [&dyn Fn(&mut Client); 4] = [
        &|client| chunk(client, b"data"),
        &|client| end(client, 1, Tid::ZERO),
        &|client| {
            start(client);
            start(client);
        },
        // A second end.
        &|client| {
            store(client, 1, Tid::ZERO, &[b"data"]);
            end(client, 1, Tid::ZERO);
        },
    ];
    for server in Server::both_with_blobs() {
        for (number, step) in steps.iter().enumerate() {
            let mut client = server.client();
            client.begin(1);
            step(&mut client);
            let why = client.closed.take();
            assert!(
                why.is_some_and(|why| why.contains("storeBlob")),
                "step {number}"
            );
            drop(client);
            assert_eq!(files(&server), [""; 0].map(PathBuf::from));
        }
    }
}

#[test]
fn a_blob_outside_of_a_transaction_is_dropped_with_the_connection() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        start(&mut client);
        chunk(&mut client, b"data");
        assert_eq!(files(&server).len(), 1);
        end(&mut client, 1, Tid::ZERO);
        assert!(client.closed.is_some());
        assert_eq!(files(&server).len(), 0);
    }
}

#[test]
fn a_client_that_goes_takes_its_uploads_with_it() {
    let steps: [&dyn Fn(&mut Client); 4] = [
        &|client| {
            start(client);
            chunk(client, b"half");
        },
        &|client| {
            client.begin(1);
            store(client, 1, Tid::ZERO, &[b"whole"]);
            start(client);
            chunk(client, b"half");
        },
        &|client| {
            client.begin(1);
            store(client, 1, Tid::ZERO, &[b"voted"]);
            client.vote(1).unwrap();
        },
        &|client| {
            client.begin(1);
            store(client, 9, Tid::ZERO, &[b"waits"]);
            let vote = client.send_vote(1);
            assert_eq!(client.answer(vote), None);
        },
    ];
    for server in Server::both_with_blobs() {
        let mut holder = server.client();
        holder.vote_store(2, 9, Tid::ZERO);
        for step in steps {
            let mut client = server.client();
            step(&mut client);
            assert!(!files(&server).is_empty());
            drop(client);
            assert_eq!(files(&server).len(), 0);
        }
    }
}

#[test]
fn an_abort_removes_the_files_at_every_stage() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        for is_voted in [false, true] {
            client.begin(1);
            store(&mut client, 1, Tid::ZERO, &[b"data"]);
            store(&mut client, 2, Tid::ZERO, &[b"data"]);
            if is_voted {
                client.vote(1).unwrap();
            }
            assert!(files(&server).len() >= 2);
            client.abort(1).unwrap();
            assert_eq!(files(&server).len(), 0, "voted: {is_voted}");
        }
        // The client goes on.
        commit(&mut client, 1, Tid::ZERO, &[b"data"]);
        assert_eq!(files(&server).len(), 1);
    }
}

#[test]
fn until_the_finish_nothing_has_the_name_of_a_revision() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        client.begin(1);
        store(&mut client, 1, Tid::ZERO, &[b"data"]);
        client.vote(1).unwrap();
        let is_revision = |path: &PathBuf| path.extension().is_some_and(|end| end == "blob");
        assert!(!files(&server).iter().any(is_revision));
        client.finish(1).unwrap();
        assert!(files(&server).iter().all(is_revision));
    }
}

#[test]
fn a_conflict_with_a_blob_is_handed_back_and_the_new_blob_is_taken() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        let old = commit(&mut client, 1, Tid::ZERO, &[b"old"]);
        let new = commit(&mut server.client(), 1, old, &[b"new"]);
        client.begin(1);
        store(&mut client, 1, old, &[b"conflicts"]);
        store(&mut client, 2, Tid::ZERO, &[b"another"]);
        let conflicts = client.vote(1).unwrap();
        let conflict = &conflicts.as_items().unwrap()[0];
        let serials = Value::Tuple(vec![new.into(), old.into()]);
        assert_eq!(conflict.get("serials"), Some(&serials));
        assert_eq!(conflict.get("data"), Some(&RECORD.into()));
        // The client cannot merge blobs; one that sends it anew is served.
        store(&mut client, 1, new, &[b"again"]);
        assert_eq!(client.vote(1), Ok(Value::List(Vec::new())));
        let serial = tid(&client.finish(1).unwrap());
        let content = |number| fs::read(revision_path(&server, number, serial)).unwrap();
        assert_eq!(content(1), b"again");
        assert_eq!(content(2), b"another");
        assert_eq!(files(&server).len(), 4);
    }
}

#[test]
fn a_conflict_that_is_given_up_leaves_no_file() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        let old = commit(&mut client, 1, Tid::ZERO, &[b"old"]);
        commit(&mut client, 1, old, &[b"new"]);
        let before = files(&server);
        client.begin(1);
        store(&mut client, 1, old, &[b"conflicts"]);
        assert_eq!(client.vote(1).unwrap().as_items().unwrap().len(), 1);
        client.abort(1).unwrap();
        assert_eq!(files(&server), before);
    }
}

#[test]
fn a_storage_without_blobs_refuses_them() {
    for server in Server::both() {
        let mut client = server.client();
        start(&mut client);
        assert!(client.closed.is_some());
    }
}

#[test]
fn a_read_only_client_sends_no_blob() {
    let server = Server::file_with_blobs();
    let mut client = server.stranger();
    client.register(super::STORAGE, true).unwrap();
    start(&mut client);
    assert!(client.closed.is_some());
    assert_eq!(files(&server).len(), 0);
}

/// What a client that shares the directory puts beside its object's revisions.
fn put_shared(server: &Server, number: u64, name: &str) -> PathBuf {
    let directory = object_path(server, oid(number));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, b"shared").unwrap();
    path
}

#[test]
fn a_file_of_a_client_that_shares_the_directory_is_taken_over() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        for (number, name) in [(1, "BLOB.tmp"), (2, "BLOBabc.tmp-")] {
            put_shared(&server, number, name);
            client.begin(1);
            client.store(1, number, Tid::ZERO, RECORD);
            shared(&mut client, number, name);
            client.vote(1).unwrap();
            let serial = tid(&client.finish(1).unwrap());
            let content = fs::read(revision_path(&server, number, serial)).unwrap();
            assert_eq!(content, b"shared");
        }
        assert_eq!(files(&server).len(), 2);
    }
}

#[test]
fn shared_names_that_lead_elsewhere_are_refused() {
    let server = Server::file_with_blobs();
    let secret = server.directory.path().join("secret.tmp");
    fs::write(&secret, b"secret").unwrap();
    put_shared(&server, 1, "plain");
    let link = object_path(&server, oid(1)).join("link.tmp");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    fs::create_dir(object_path(&server, oid(1)).join("directory.tmp")).unwrap();
    let outside = secret.display().to_string();
    let names = [
        "../../../../../../../../../secret.tmp",
        &outside,
        "sub/a.tmp",
        "plain",
        "missing.tmp",
        "link.tmp",
        "directory.tmp",
        "nul\0.tmp",
        ".",
        "..",
        "",
        "a.tmp--",
    ];
    for name in names {
        let mut client = server.client();
        client.begin(1);
        shared(&mut client, 1, name);
        assert!(client.closed.is_some(), "{name:?}");
    }
    // Nothing was touched, and others are served.
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(files(&server).len(), 2);
    commit(&mut server.client(), 1, Tid::ZERO, &[b"data"]);
}

#[test]
fn a_shared_file_goes_with_an_aborted_transaction() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        put_shared(&server, 1, "BLOB.tmp");
        client.begin(1);
        shared(&mut client, 1, "BLOB.tmp");
        client.abort(1).unwrap();
        assert_eq!(files(&server).len(), 0);
    }
}

#[test]
fn a_session_that_never_registered_has_no_blobs() {
    let mut client = Client::new(std::sync::Arc::new(DatabaseMap::new()));
    start(&mut client);
    assert!(client.closed.is_some());
    assert!(!client.session.is_sending());
}
