//! Blobs that clients ask for.

use super::Server;
use super::blobs::{blob_dir, commit, files};
use super::client::{Client, Event, load, oid, tid};
use crate::session::{Outcome, SENT_AHEAD_BYTES};
use crate::transaction::Inline;
use crate::types::Tid;
use crate::wire::{Request, Value};

/// As the reference's pieces.
const PIECE_BYTES: usize = 59_000;

/// What arrived, each with the oid it is for, or the length of a chunk.
#[derive(Debug, PartialEq)]
enum Arrived {
    Start(u64),
    Chunk(u64, usize),
    Stop(u64),
    Reply(i64),
    Other,
}

fn arrived(event: &Event) -> Arrived {
    let (method, arguments) = match event {
        Event::Reply(id, _) => return Arrived::Reply(*id),
        Event::Error(..) => return Arrived::Other,
        Event::Call(method, arguments) => (method.as_str(), arguments.as_items().unwrap()),
    };
    let number = || {
        let bytes = arguments[0].as_bytes().unwrap();
        u64::from_be_bytes(bytes.try_into().unwrap())
    };
    match method {
        "receiveBlobStart" => Arrived::Start(number()),
        "receiveBlobStop" => Arrived::Stop(number()),
        "receiveBlobChunk" => Arrived::Chunk(number(), arguments[2].as_bytes().unwrap().len()),
        _ => Arrived::Other,
    }
}

fn chunks(events: &[Event]) -> Vec<u8> {
    let mut content = Vec::new();
    for event in events {
        if let Event::Call(method, arguments) = event
            && method == "receiveBlobChunk"
        {
            content.extend_from_slice(arguments.as_items().unwrap()[2].as_bytes().unwrap());
        }
    }
    content
}

fn ask(client: &mut Client, number: u64, serial: Tid) -> i64 {
    client.send(Request::SendBlob {
        oid: oid(number),
        serial,
    })
}

/// As the connection does after each read.
fn send_pieces(client: &mut Client) {
    let Client {
        session, outbox, ..
    } = client;
    session.send_pieces(outbox, &Inline).unwrap();
}

/// Reads all that is sent until nothing more is to come.
fn read_all(client: &mut Client) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        send_pieces(client);
        let more = client.take_events();
        if more.is_empty() && !client.session.is_sending() {
            return events;
        }
        events.extend(more);
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
fn a_blob_comes_in_pieces_and_the_answer_comes_last() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        let data = content(2 * PIECE_BYTES + 5);
        let serial = commit(&mut client, 1, Tid::ZERO, &[&data]);
        client.take_events();
        let id = ask(&mut client, 1, serial);
        let events = read_all(&mut client);
        let order: Vec<_> = events.iter().map(arrived).collect();
        let expected = [
            Arrived::Start(1),
            Arrived::Chunk(1, PIECE_BYTES),
            Arrived::Chunk(1, PIECE_BYTES),
            Arrived::Chunk(1, 5),
            Arrived::Stop(1),
            Arrived::Reply(id),
        ];
        assert_eq!(order, expected);
        assert!(chunks(&events) == data);
        let Event::Call(_, arguments) = &events[1] else {
            panic!("{:?}", order[1]);
        };
        assert_eq!(tid(&arguments.as_items().unwrap()[1]), serial);
        assert_eq!(events.last(), Some(&Event::Reply(id, Value::None)));
    }
}

#[test]
fn an_empty_blob_comes_without_pieces() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let serial = commit(&mut client, 1, Tid::ZERO, &[]);
    client.take_events();
    let id = ask(&mut client, 1, serial);
    let order: Vec<_> = read_all(&mut client).iter().map(arrived).collect();
    assert_eq!(
        order,
        [Arrived::Start(1), Arrived::Stop(1), Arrived::Reply(id)]
    );
}

#[test]
fn several_blobs_come_one_after_the_other() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let first = commit(&mut client, 1, Tid::ZERO, &[&content(PIECE_BYTES)]);
    let second = commit(&mut client, 1, first, &[b"new"]);
    client.take_events();
    let ids = [ask(&mut client, 1, first), ask(&mut client, 1, second)];
    let order: Vec<_> = read_all(&mut client).iter().map(arrived).collect();
    let expected = [
        Arrived::Start(1),
        Arrived::Chunk(1, PIECE_BYTES),
        Arrived::Stop(1),
        Arrived::Reply(ids[0]),
        Arrived::Start(1),
        Arrived::Chunk(1, 3),
        Arrived::Stop(1),
        Arrived::Reply(ids[1]),
    ];
    assert_eq!(order, expected);
}

#[test]
fn other_answers_and_invalidations_come_between_the_pieces() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let data = content(4 * SENT_AHEAD_BYTES);
    let serial = commit(&mut client, 1, Tid::ZERO, &[&data]);
    let mut other = server.client();
    client.take_events();
    let blob = ask(&mut client, 1, serial);
    send_pieces(&mut client);
    let mut events = client.take_events();
    let committed = other.commit(&[(2, Tid::ZERO, b"other")]);
    let loaded = client.send(load(2, Tid::MAX));
    events.extend(read_all(&mut client));
    let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let answer = place(&|event| matches!(event, Event::Reply(id, _) if *id == loaded));
    let invalidation =
        place(&|event| super::client::invalidation(event).is_some_and(|(tid, _)| tid == committed));
    let end = place(&|event| matches!(event, Event::Reply(id, _) if *id == blob));
    assert!(invalidation < answer && answer < end);
    assert!(!chunks(&events[..answer]).is_empty() && !chunks(&events[answer..end]).is_empty());
    assert!(chunks(&events) == data);
}

#[test]
fn a_client_that_does_not_read_is_sent_only_so_much_ahead() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let serial = commit(&mut client, 1, Tid::ZERO, &[&content(8 * SENT_AHEAD_BYTES)]);
    client.take_events();
    let request = Request::SendBlob {
        oid: oid(1),
        serial,
    };
    let (_, outcome) = client.handle(request);
    assert!(matches!(outcome, Outcome::Later));
    let most = SENT_AHEAD_BYTES + PIECE_BYTES + 200;
    for _ in 0..3 {
        send_pieces(&mut client);
        let waits = client.outbox.unsent().len();
        assert!((SENT_AHEAD_BYTES..most).contains(&waits), "{waits}");
    }
    // It reads a little, and is sent a little.
    client.outbox.note_sent(2 * PIECE_BYTES);
    send_pieces(&mut client);
    let waits = client.outbox.unsent().len();
    assert!((SENT_AHEAD_BYTES..most).contains(&waits), "{waits}");
    assert!(client.session.is_sending());
}

#[test]
fn a_blob_that_is_not_there_is_a_pos_key_error() {
    for server in Server::both_with_blobs() {
        let mut client = server.client();
        let blob = commit(&mut client, 1, Tid::ZERO, &[b"data"]);
        let plain = client.commit(&[(2, Tid::ZERO, b"no blob")]);
        for (number, serial) in [(1, blob.next()), (1, Tid::ZERO), (2, plain), (3, blob)] {
            let id = ask(&mut client, number, serial);
            let refused = client.answer(id).unwrap().unwrap_err();
            assert_eq!(refused.class, "ZODB.POSException.POSKeyError");
            assert!(!client.session.is_sending());
        }
        let id = ask(&mut client, 1, blob);
        assert_eq!(client.answer(id), None);
    }
}

#[test]
fn a_storage_without_blobs_has_none_to_send() {
    for server in Server::both() {
        let mut client = server.client();
        let serial = client.commit(&[(1, Tid::ZERO, b"data")]);
        let id = ask(&mut client, 1, serial);
        assert!(client.answer(id).unwrap().is_err());
    }
}

#[test]
fn a_client_asks_for_a_hundred_blobs_at_once_at_most() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let serial = commit(&mut client, 1, Tid::ZERO, &[b"data"]);
    client.take_events();
    for _ in 0..100 {
        let id = ask(&mut client, 1, serial);
        assert_eq!(client.answer(id), None);
    }
    let refused = ask(&mut client, 1, serial);
    assert!(client.answer(refused).unwrap().is_err());
    let replies = |event: &&Event| matches!(event, Event::Reply(..));
    assert_eq!(read_all(&mut client).iter().filter(replies).count(), 100);
    let id = ask(&mut client, 1, serial);
    assert!(read_all(&mut client).contains(&Event::Reply(id, Value::None)));
}

#[test]
fn a_blob_that_was_cut_meanwhile_closes_the_connection_without_its_end() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let serial = commit(&mut client, 1, Tid::ZERO, &[&content(4 * SENT_AHEAD_BYTES)]);
    client.take_events();
    ask(&mut client, 1, serial);
    send_pieces(&mut client);
    client.take_events();
    let [path] = &files(&server)[..] else {
        panic!("one blob below {:?}", blob_dir(&server));
    };
    // Another name for it can be written to, whatever the file's mode.
    let short = path.with_extension("short");
    std::fs::rename(path, &short).unwrap();
    let mut permissions = std::fs::metadata(&short).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&short, permissions).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&short)
        .unwrap();
    file.set_len(10).unwrap();
    let Client {
        session, outbox, ..
    } = &mut client;
    let why = session.send_pieces(outbox, &Inline).unwrap_err();
    assert!(why.contains("sendBlob"), "{why}");
    assert!(
        !client
            .take_events()
            .iter()
            .any(|event| arrived(event) == Arrived::Stop(1))
    );
}

#[test]
fn a_revision_that_is_removed_while_it_is_sent_arrives_whole() {
    let server = Server::file_with_blobs();
    let mut client = server.client();
    let data = content(4 * SENT_AHEAD_BYTES);
    let serial = commit(&mut client, 1, Tid::ZERO, &[&data]);
    client.take_events();
    ask(&mut client, 1, serial);
    send_pieces(&mut client);
    std::fs::remove_file(&files(&server)[0]).unwrap();
    assert!(chunks(&read_all(&mut client)) == data);
}
