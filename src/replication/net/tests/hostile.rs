//! Those that connect and are no nodes, or bad ones.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::replication::net::bounds::{Lane, MAX_STRANGERS};
use crate::replication::net::frame::Unsealed;
use crate::replication::net::hello::{self, Hello, Purpose, Verdict};
use crate::replication::net::message;

/// A connection for calls, as a node makes it.
async fn connected(member: &Member) -> TcpStream {
    let mut stream = TcpStream::connect(&member.address).await.unwrap();
    let hello = Hello {
        purpose: Purpose::Calls(Lane::Urgent),
        from: 7,
        to: 2,
        group: String::new(),
    };
    hello::write_hello(&mut stream, &hello).await.unwrap();
    let welcome = hello::read_welcome(&mut stream).await.unwrap();
    assert_eq!(welcome.verdict, Verdict::Welcome);
    stream
}

/// What comes before the other end closes the connection.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got));
    // Closed with bytes unread: a reset.
    let _ = closed.await.unwrap();
    got
}

#[tokio::test]
async fn what_is_no_greeting_ends_that_connection_only() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    serve(&one.network, 2, &two.member, b"before").await;
    let mut noise = 1_u64;
    for length in [1, 7, 20, 100, 5_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                noise.to_be_bytes()[0]
            })
            .collect();
        let mut stream = TcpStream::connect(&two.member.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(until_closed(stream).await, b"");
    }
    assert!(one.network.reports()[0].is_connected);
    serve(&one.network, 2, &two.member, b"after").await;
    assert_eq!(one.network.reports()[0].last_error, None);
}

#[tokio::test]
async fn what_is_no_message_ends_that_connection_only() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    serve(&one.network, 2, &two.member, b"before").await;
    let mut unknown = Unsealed::with_capacity(10);
    unknown.message().extend([1, 99]);
    unknown.message().extend([0; 8]);
    let unknown = unknown.seal(1).unwrap();
    let mut damaged = unknown.clone();
    damaged[12] ^= 1;
    let endless = [u32::MAX.to_le_bytes(), [0; 4]].concat();
    for bytes in [unknown, damaged, endless] {
        let mut stream = connected(&two.member).await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(until_closed(stream).await, b"");
    }
    serve(&one.network, 2, &two.member, b"after").await;
    assert_eq!(one.network.reports()[0].last_error, None);
    assert_eq!(two.script.asked.lock().len(), 2);
}

/// One that asks and never reads its answers holds up itself.
#[tokio::test]
async fn who_does_not_read_is_read_no_longer() {
    const QUESTIONS: usize = 4_000;
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let mut stream = connected(&two.member).await;
    let mut question = Unsealed::with_capacity(20_000);
    let request = Request::Service(vec![7; 20_000].into());
    message::put_request("main", &request, question.message()).unwrap();
    let question = question.seal(1).unwrap();
    let asking = tokio::spawn(async move {
        for _ in 0..QUESTIONS {
            stream.write_all(&question).await.unwrap();
        }
        stream
    });
    let mut asked = 0;
    while asked == 0 || asked < two.script.asked.lock().len() {
        asked = two.script.asked.lock().len();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // What the kernel takes of the answers makes room for as many more.
    let most = Lane::Urgent.under_way() + (20 << 20) / 20_000;
    assert!(
        asked < most && most < QUESTIONS,
        "{asked} questions were read"
    );
    assert!(!asking.is_finished());
    serve(&one.network, 2, &two.member, b"other").await;
}

#[tokio::test]
async fn those_that_say_nothing_keep_nobody_out() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let mut silent = Vec::new();
    for _ in 0..MAX_STRANGERS + 10 {
        let mut stream = TcpStream::connect(&two.member.address).await.unwrap();
        stream.write_all(b"zeod").await.unwrap();
        silent.push(stream);
    }
    serve(&one.network, 2, &two.member, b"service").await;
    // The oldest had to make room; the newest may still say who they are.
    let mut newest = silent.pop().unwrap();
    assert_eq!(until_closed(silent.remove(0)).await, b"");
    let closed = tokio::time::timeout(Duration::from_millis(100), newest.read_u8());
    assert!(closed.await.is_err(), "it is still open");
    // In the end they, too, have to go.
    tokio::time::pause();
    for stream in silent {
        assert_eq!(until_closed(stream).await, b"");
    }
}
