//! The transactions that `undoLog` and `undoInfo` list.

use std::borrow::Cow;

use super::Server;
use super::client::{Client, key, tid};
use crate::types::Tid;
use crate::wire::{self, Request, Value};

/// Commits a transaction of one object; the extension is a dict.
fn commit(
    client: &mut Client,
    user: &str,
    description: &str,
    extension: &[(&str, Value<'static>)],
) -> Tid {
    let pairs = extension
        .iter()
        .map(|(key, value)| (Value::from(*key).into_owned(), value.clone()));
    let mut bytes = Vec::new();
    if !extension.is_empty() {
        wire::write_value(&mut bytes, &Value::Dict(pairs.collect())).unwrap();
    }
    begin(client, user, description, bytes, b' ', None);
    let serial = client.load(1).map_or(Tid::ZERO, |(_, serial)| serial);
    client.store(1, 1, serial, description.as_bytes());
    client.vote(1).unwrap();
    tid(&client.finish(1).unwrap())
}

fn begin(
    client: &mut Client,
    user: &str,
    description: &str,
    extension: Vec<u8>,
    status: u8,
    tid: Option<Tid>,
) {
    client
        .call(Request::TpcBegin {
            transaction: key(1),
            user: Cow::Borrowed(user.as_bytes()),
            description: Cow::Borrowed(description.as_bytes()),
            extension,
            tid,
            status,
        })
        .unwrap();
}

/// A server with the transactions 0 to `count` - 1.
fn numbered(count: usize) -> (Server, Client) {
    let server = Server::file();
    let mut client = server.client();
    for number in 0..count {
        commit(&mut client, "user", &number.to_string(), &[]);
    }
    (server, client)
}

/// The descriptions in an answer.
fn descriptions(answer: &Value<'_>) -> Vec<String> {
    let text = |entry: &Value<'_>| {
        let bytes = entry.get("description").unwrap().as_bytes().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    answer.as_items().unwrap().iter().map(text).collect()
}

fn log(client: &mut Client, first: i64, last: i64) -> Vec<String> {
    descriptions(&client.call(Request::UndoLog { first, last }).unwrap())
}

fn info(client: &mut Client, first: i64, last: i64, specification: Value<'static>) -> Vec<String> {
    let request = Request::UndoInfo {
        first,
        last,
        specification,
    };
    descriptions(&client.call(request).unwrap())
}

fn specification(pairs: &[(&str, Value<'static>)]) -> Value<'static> {
    let pair =
        |(key, value): &(&str, Value<'static>)| (Value::from(*key).into_owned(), value.clone());
    Value::Dict(pairs.iter().map(pair).collect())
}

fn prefix(path: &str) -> Value<'static> {
    let path = path.split('/').map(|part| Cow::Owned(part.to_owned()));
    Value::Prefix {
        path: path.collect(),
    }
}

#[test]
fn an_entry_says_what_can_be_undone_and_how_it_is_called() {
    let server = Server::file();
    let mut client = server.client();
    let committed = commit(&mut client, "/a user", "what", &[("key", Value::Int(7))]);
    let answer = client.call(Request::UndoLog { first: 0, last: 1 }).unwrap();
    let [entry] = answer.as_items().unwrap() else {
        panic!("{answer:?}");
    };
    let id = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, committed.0);
    assert_eq!(entry.get("id"), Some(&id.as_bytes().into()));
    assert_eq!(
        entry.get("time"),
        Some(&Value::Float(committed.to_unix_seconds()))
    );
    assert_eq!(entry.get("user_name"), Some(&b"/a user"[..].into()));
    assert_eq!(entry.get("description"), Some(&b"what"[..].into()));
    assert_eq!(entry.get("key"), Some(&Value::Int(7)));
    // The header, the texts, the extension, and the record.
    let extension = b"\x80\x03}q\x00X\x03\x00\x00\x00keyq\x01K\x07s.".len();
    let size = entry.get("size").unwrap().as_int().unwrap();
    let least = 23 + 7 + 4 + 42 + 4;
    assert!(
        (least + 10..=least + i64::try_from(extension).unwrap()).contains(&size),
        "{size}"
    );
}

#[test]
fn the_newest_come_first_from_one_number_up_to_another() {
    let (_server, mut client) = numbered(6);
    assert_eq!(log(&mut client, 0, 3), ["5", "4", "3"]);
    assert_eq!(log(&mut client, 2, 4), ["3", "2"]);
    assert_eq!(log(&mut client, 4, 100), ["1", "0"]);
    assert_eq!(log(&mut client, 3, 3), [""; 0]);
    assert_eq!(log(&mut client, 4, 2), [""; 0]);
    assert_eq!(log(&mut client, 6, 8), [""; 0]);
    assert_eq!(log(&mut client, 0, 0), [""; 0]);
}

#[test]
fn a_negative_last_means_so_many() {
    let (_server, mut client) = numbered(6);
    assert_eq!(log(&mut client, 0, -2), ["5", "4"]);
    assert_eq!(log(&mut client, 3, -2), ["2", "1"]);
    assert_eq!(log(&mut client, 5, -20), ["0"]);
    assert_eq!(log(&mut client, 6, -20), [""; 0]);
    assert_eq!(log(&mut client, 0, i64::MIN).len(), 6);
    assert_eq!(log(&mut client, i64::MAX, i64::MIN), [""; 0]);
    // As in the reference a negative first counts before the newest.
    assert_eq!(log(&mut client, -2, -3), ["5"]);
    assert_eq!(log(&mut client, -2, 2), ["5", "4"]);
}

#[test]
fn an_undo_is_listed_and_an_aborted_one_is_not() {
    let (_server, mut client) = numbered(2);
    for (description, is_aborted) in [("aborted", true), ("undo", false)] {
        let answer = client.call(Request::UndoLog { first: 0, last: 1 }).unwrap();
        let id = answer.as_items().unwrap()[0].get("id").unwrap().clone();
        begin(&mut client, "", description, Vec::new(), b' ', None);
        client.send(Request::Undo {
            undone: Cow::Owned(id.as_bytes().unwrap().to_vec()),
            transaction: key(1),
        });
        client.vote(1).unwrap();
        if is_aborted {
            client.abort(1).unwrap();
        } else {
            client.finish(1).unwrap();
        }
    }
    assert_eq!(log(&mut client, 0, 9), ["undo", "1", "0"]);
}

#[test]
fn the_list_ends_at_a_packed_transaction() {
    let server = Server::file();
    let mut client = server.client();
    begin(
        &mut client,
        "",
        "packed",
        Vec::new(),
        b'p',
        Some(Tid::from_u64(1000)),
    );
    client.store(1, 1, Tid::ZERO, b"data");
    client.vote(1).unwrap();
    client.finish(1).unwrap();
    commit(&mut client, "", "later", &[]);
    assert_eq!(log(&mut client, 0, 9), ["later"]);
}

#[test]
fn a_specification_is_what_an_entry_must_have_with_exactly_these_values() {
    let server = Server::file();
    let mut client = server.client();
    commit(
        &mut client,
        "ann",
        "one",
        &[("request", "/x".into()), ("count", Value::Int(1))],
    );
    commit(&mut client, "bob", "two", &[("request", "/y".into())]);
    commit(
        &mut client,
        "ann",
        "three",
        &[("request", "/x".into()), ("count", Value::Int(2))],
    );
    let mut matching = |pairs: &[_]| info(&mut client, 0, -20, specification(pairs));
    let ann = || ("user_name", Value::from(&b"ann"[..]));
    assert_eq!(matching(&[ann()]), ["three", "one"]);
    assert_eq!(matching(&[("request", "/x".into())]), ["three", "one"]);
    assert_eq!(matching(&[ann(), ("count", Value::Int(1))]), ["one"]);
    assert_eq!(matching(&[("count", Value::Int(3))]), [""; 0]);
    assert_eq!(matching(&[("unknown", Value::Int(3))]), [""; 0]);
    // As Python's `get`: None is what a missing key has.
    assert_eq!(matching(&[("count", Value::None)]), ["two"]);
    assert_eq!(matching(&[("description", b"two"[..].into())]), ["two"]);
    // Text is not bytes.
    assert_eq!(matching(&[("user_name", "ann".into())]), [""; 0]);
    assert_eq!(matching(&[]).len(), 3);
    assert_eq!(info(&mut client, 0, -20, Value::None).len(), 3);
}

#[test]
fn slices_count_only_what_matches() {
    let server = Server::file();
    let mut client = server.client();
    for number in 0..8 {
        let user = ["even", "odd"][number % 2];
        commit(&mut client, user, &number.to_string(), &[]);
    }
    let odd = || specification(&[("user_name", b"odd"[..].into())]);
    assert_eq!(info(&mut client, 0, 2, odd()), ["7", "5"]);
    assert_eq!(info(&mut client, 1, 3, odd()), ["5", "3"]);
    assert_eq!(info(&mut client, 2, -20, odd()), ["3", "1"]);
    assert_eq!(info(&mut client, 4, -20, odd()), [""; 0]);
}

#[test]
fn a_prefix_stands_for_every_path_that_begins_with_it() {
    let server = Server::file();
    let mut client = server.client();
    for user in ["/a/b ann", "/a bob", "/ab ann", "/a/b/c ann", "ann", " "] {
        commit(&mut client, user, user, &[]);
    }
    let mut below = |path| {
        info(
            &mut client,
            0,
            -20,
            specification(&[("user_name", prefix(path))]),
        )
    };
    assert_eq!(below("/a"), ["/a/b/c ann", "/a bob", "/a/b ann"]);
    assert_eq!(below("/a/b"), ["/a/b/c ann", "/a/b ann"]);
    assert_eq!(below("/ab"), ["/ab ann"]);
    assert_eq!(below("/none"), [""; 0]);
}

#[test]
fn a_prefix_of_what_an_entry_does_not_have_matches_nothing() {
    let (_server, mut client) = numbered(2);
    for key in ["unknown", "size", "time"] {
        let wanted = specification(&[(key, prefix("/a"))]);
        assert_eq!(info(&mut client, 0, -20, wanted), [""; 0]);
    }
}

#[test]
fn keys_of_the_extension_win_over_the_entrys_own() {
    let server = Server::file();
    let mut client = server.client();
    commit(
        &mut client,
        "ann",
        "one",
        &[("user_name", "another".into())],
    );
    let wanted = specification(&[("user_name", "another".into())]);
    assert_eq!(info(&mut client, 0, -20, wanted), ["one"]);
    let answer = client.call(Request::UndoLog { first: 0, last: 1 }).unwrap();
    let Value::Dict(items) = &answer.as_items().unwrap()[0] else {
        panic!("{answer:?}");
    };
    let names = items
        .iter()
        .filter(|(key, _)| key.as_str() == Some("user_name"));
    assert_eq!(names.count(), 1);
}

#[test]
fn a_key_that_is_no_text_is_looked_for_as_any_other() {
    let server = Server::file();
    let mut client = server.client();
    let seven = || Value::Dict(vec![(Value::Int(7), "seven".into())]);
    let mut extension = Vec::new();
    wire::write_value(&mut extension, &seven()).unwrap();
    for (description, extension) in [("with", extension), ("without", Vec::new())] {
        begin(&mut client, "", description, extension, b' ', None);
        client.vote(1).unwrap();
        client.finish(1).unwrap();
    }
    assert_eq!(info(&mut client, 0, -20, seven()), ["with"]);
}

#[test]
fn a_storage_without_history_lists_nothing() {
    let server = Server::mapping();
    let mut client = server.client();
    commit(&mut client, "", "one", &[]);
    assert_eq!(log(&mut client, 0, -20), [""; 0]);
    assert_eq!(info(&mut client, 0, -20, Value::None), [""; 0]);
}
