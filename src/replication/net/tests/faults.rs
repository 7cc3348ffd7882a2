//! Nodes that stop, come back, move, or fall silent.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::relay::{Flow, Relay};
use super::*;
use crate::replication::net::bounds::{GREETING_TIME, Lane};

const LONG: Duration = Duration::from_mins(1);

/// Asks until there is an answer.
async fn answered(network: &Network, to: NodeId, member: &Member) {
    let asking = async {
        let one = Duration::from_secs(1);
        let ask = || network.call(to, member, "main", Request::ReadIndex, one);
        while ask().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
}

/// Why nothing comes from node 2.
async fn failure(one: &Node, member: &Member, patience: Duration) -> PeerError {
    let asked = one
        .network
        .call(2, member, "main", Request::ReadIndex, patience);
    asked.await.unwrap_err()
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again_at_its_old_address_and_at_another() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let member = two.member.clone();
    let held = Request::Service(Bytes::from_static(HELD));
    let held = one.network.call(2, &member, "main", held, PATIENCE);
    let stopping = async {
        answered(&one.network, 2, &member).await;
        while two.script.asked.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        two.stop().await;
    };
    let (held, ()) = tokio::join!(held, stopping);
    let error = held.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
    let error = refusal(&one.network, 2, &member).await;
    assert!(error.contains("refused"), "{error}");
    let report = &one.network.reports()[0];
    assert!(!report.is_connected && report.last_error.is_some());
    let two = Node::start_at(2, &member.address).await;
    answered(&one.network, 2, &member).await;
    assert!(one.network.reports()[0].is_connected);
    two.stop().await;
    let elsewhere = Node::start_at(2, "127.0.0.9:0").await;
    answered(&one.network, 2, &elsewhere.member).await;
    let report = &one.network.reports()[0];
    assert_eq!(report.address, elsewhere.member.address);
}

/// The kernel takes what is sent, and nobody answers.
#[tokio::test]
async fn a_connection_on_which_nothing_comes_any_more_is_given_up_and_made_anew() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let relay = Relay::start(&two.member).await;
    answered(&one.network, 2, &relay.member).await;
    relay.set(Flow::Nothing);
    tokio::time::pause();
    let began = Instant::now();
    let error = failure(&one, &relay.member, LONG).await.to_string();
    assert!(error.contains("not a byte came within 1.5 s"), "{error}");
    assert!(began.elapsed() < Lane::Urgent.silence() + Duration::from_secs(1));
    let began = Instant::now();
    let error = failure(&one, &relay.member, LONG).await.to_string();
    assert!(error.contains("no greeting within 3 s"), "{error}");
    assert!(began.elapsed() < GREETING_TIME + Duration::from_secs(1));
    relay.set(Flow::All);
    tokio::time::resume();
    answered(&one.network, 2, &relay.member).await;
}

#[tokio::test]
async fn who_accepts_and_says_nothing_costs_a_caller_its_patience_only() {
    let one = Node::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let member = Member { address };
    tokio::time::pause();
    let patience = Duration::from_millis(700);
    let began = Instant::now();
    let error = failure(&one, &member, patience).await;
    assert!(matches!(error, PeerError::Silent { .. }), "{error}");
    assert!(began.elapsed() < patience + Duration::from_millis(50));
    let opened = one
        .network
        .stream(2, &member, "main", StreamKind::Zeo)
        .await;
    let Err(error) = opened else {
        panic!("it was opened");
    };
    assert!(error.to_string().contains("no greeting"), "{error}");
}

#[tokio::test]
async fn who_thinks_for_long_is_not_taken_for_dead() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    answered(&one.network, 2, &two.member).await;
    serve(&one.network, 2, &two.member, b"connects").await;
    tokio::time::pause();
    let held = Request::Service(Bytes::from_static(HELD));
    let held = one.network.call(2, &two.member, "main", held, LONG);
    let (held, ()) = tokio::join!(held, async {
        tokio::time::sleep(10 * Lane::Service.silence()).await;
        two.script.let_go.add_permits(1);
    });
    held.unwrap();
    assert_eq!(one.network.reports()[0].last_error, None);
}

/// Who has waited long for the next attempt does not wait for the rest of it.
#[tokio::test]
async fn a_node_that_comes_by_is_looked_for_at_once() {
    let one = Node::start(1).await;
    let gone = Node::start(2).await;
    let member = gone.member.clone();
    gone.stop().await;
    for _ in 0..7 {
        refusal(&one.network, 2, &member).await;
    }
    let two = Node::start_at(2, &member.address).await;
    tokio::time::pause();
    let began = Instant::now();
    let (reply, _) = tokio::join!(
        call(&one.network, 2, &member, Request::ReadIndex),
        call(&two.network, 1, &one.member, Request::ReadIndex),
    );
    assert!(matches!(reply, Reply::ReadIndex(None)));
    let waited = began.elapsed();
    assert!(waited < Duration::from_millis(500), "{waited:?}");
}

/// A connection that is refused again and again is tried at growing intervals,
/// and the log has one line.
#[test]
fn attempts_become_rare_and_the_log_tells_once() {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            LINES.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = tracing_subscriber::fmt().with_writer(|| Count).finish();
    tracing::subscriber::with_default(log, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(refused_again_and_again());
    });
    assert_eq!(LINES.load(Ordering::Relaxed), 1);
}

async fn refused_again_and_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let member = Member {
        address: listener.local_addr().unwrap().to_string(),
    };
    drop(listener);
    let network = Network::new(NetOptions { node: 1, tls: None });
    let began = Instant::now();
    for _ in 0..10 {
        let error = refusal(&network, 2, &member).await;
        assert!(error.contains("refused"), "{error}");
    }
    // 50, 100, 200, 400, 800 ms, and then one second each.
    let lasted = began.elapsed();
    let expected = Duration::from_millis(5_550);
    let slack = Duration::from_millis(200);
    assert!(
        lasted >= expected && lasted < expected + slack,
        "{lasted:?}"
    );
    assert_eq!(network.reports()[0].failed_calls, 10);
}
