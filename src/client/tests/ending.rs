use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn disconnected<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Disconnected(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn when_the_server_goes_nobody_waits_any_more() {
    let (client, peer) = connected(Format::Pickle).await;
    let pending = client.send(&Request::Ping).await.unwrap();
    drop(peer);
    let why = disconnected(pending.await);
    assert_eq!(*client.ended().await, *why);
    assert_eq!(disconnected(client.call(&Request::Ping).await), why);
}

#[tokio::test]
async fn what_was_sent_goes_out_when_the_last_handle_is_dropped() {
    let (client, mut peer) = connected(Format::Msgpack).await;
    let data = vec![7; 100_000];
    client.store(oid(1), tid(0), &data, KEY).await.unwrap();
    let other = client.clone();
    drop(client);
    assert_eq!(other.end(), None);
    drop(other);
    let store = peer.next_call().await;
    assert!(matches!(store.request, Request::Store { data: sent, .. } if *sent == data));
    assert_eq!(peer.next_frame().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_sends_more_than_the_server_takes_waits() {
    let options = Options {
        max_unsent_bytes: 10_000,
        ..Options::default()
    };
    let (client, mut peer) = connect_with(Format::Pickle, options, Listener::Nobody).await;
    let data = [7; 1000];
    let mut sent = 0;
    // The peer reads nothing.
    while let Ok(stored) = tokio::time::timeout(
        Duration::from_secs(5),
        client.store(oid(1), tid(0), &data, KEY),
    )
    .await
    {
        stored.unwrap();
        sent += 1;
        assert!(sent < 20, "no bound");
    }
    assert!(sent >= 9, "{sent}");
    let waiting = tokio::spawn(async move { client.store(oid(2), tid(0), &data, KEY).await });
    for _ in 0..sent {
        peer.next_call().await;
    }
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_who_waits_for_room_is_told_of_the_end() {
    let options = Options {
        max_unsent_bytes: 1,
        ..Options::default()
    };
    let (client, peer) = connect_with(Format::Pickle, options, Listener::Nobody).await;
    let data = vec![7; 100_000];
    client.store(oid(1), tid(0), &data, KEY).await.unwrap();
    let waiting = tokio::spawn(async move { client.store(oid(2), tid(0), &data, KEY).await });
    tokio::task::yield_now().await;
    drop(peer);
    disconnected(waiting.await.unwrap());
}

#[tokio::test]
async fn a_hostile_server_loses_its_client() {
    let huge = (1_u32 << 31).to_be_bytes();
    for (bytes, reason) in [
        (&huge[..], "the server sent a frame of 2147483648 bytes"),
        (b"\0\0\0\x01x", "malformed message"),
        (
            b"\0\0\0\x15\x80\x03(K\x09K\x00X\x06\0\0\0.replyNt.",
            "answers call 9, which was not made",
        ),
    ] {
        let (client, mut peer) = connected(Format::Pickle).await;
        let pending = client.send(&Request::Ping).await.unwrap();
        peer.stream.write_all(bytes).await.unwrap();
        let why = disconnected(pending.await);
        assert!(why.contains(reason), "{why}");
        // The stream is given back, too.
        let mut rest = Vec::new();
        peer.stream.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_shows_that_it_lives() {
    let (_client, mut peer) = connected(Format::Pickle).await;
    for _ in 0..3 {
        let before = tokio::time::Instant::now();
        let payload = peer.next_frame().await.unwrap();
        assert_eq!(
            crate::wire::decode(Format::Pickle, &payload),
            Ok(crate::wire::Message::Heartbeat)
        );
        assert_eq!(before.elapsed().as_secs(), 60);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_none_is_named() {
    for (said, expected) in [
        (
            &b"\0\0\0\x04Z309"[..],
            "the server speaks the protocol \"Z309\"",
        ),
        (b"HTTP/1.1 400", "the server speaks the protocol \"HTTP\""),
        (b"", "has not greeted within 30 s"),
    ] {
        let (mine, mut stream) = tokio::io::duplex(100);
        stream.write_all(said).await.unwrap();
        let opened = Connection::open(mine, Options::default(), Listener::Nobody).await;
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let (mine, stream) = tokio::io::duplex(100);
    drop(stream);
    let opened = Connection::open(mine, Options::default(), Listener::Nobody).await;
    assert!(matches!(opened, Err(OpenError::Closed)));
}
