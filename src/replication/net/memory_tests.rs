//! That the network in memory does what simulations are built on.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::*;

/// Echoes what it is asked; streams too.
#[derive(Default)]
struct Echo {
    asked: AtomicU64,
    delay: Duration,
    order: Mutex<Vec<Bytes>>,
}

impl PeerHandler for Echo {
    fn call<'a>(&'a self, _: NodeId, _: &'a str, request: Request) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.delay).await;
            let Request::Service(bytes) = request else {
                panic!("not asked for");
            };
            self.order.lock().push(bytes.clone());
            Reply::Service(bytes)
        })
    }

    fn stream<'a>(
        &'a self,
        _: NodeId,
        _: &'a str,
        _: StreamKind,
        mut stream: PeerStream,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut chunk = vec![0; 1000];
            while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                stream.write_all(&chunk[..length]).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);

async fn ask(peers: &Arc<dyn Peers>, to: NodeId, what: u8) -> Result<Bytes, PeerError> {
    let request = Request::Service(Bytes::copy_from_slice(&[what]));
    let member = Member::default();
    match peers.call(to, &member, "1", request, SECOND).await? {
        Reply::Service(bytes) => Ok(bytes),
        other => panic!("{other:?}"),
    }
}

fn network(seed: u64) -> (MemoryNetwork, Arc<dyn Peers>, Arc<Echo>) {
    let network = MemoryNetwork::new(seed);
    let peers = network.boot(1).peers();
    let echo = Arc::new(Echo::default());
    network
        .boot(2)
        .serve(Arc::clone(&echo) as Arc<dyn PeerHandler>);
    (network, peers, echo)
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_and_nobody_is_where_none_runs() {
    let (network, peers, _) = network(1);
    assert_eq!(&ask(&peers, 2, 7).await.unwrap()[..], [7]);
    let refused = |error| matches!(error, PeerError::Unreachable { .. });
    assert!(refused(ask(&peers, 3, 7).await.unwrap_err()));
    network.crash(2);
    assert!(refused(ask(&peers, 2, 7).await.unwrap_err()));
    network.crash(1);
    assert!(refused(ask(&peers, 2, 7).await.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn each_direction_is_cut_by_itself() {
    let (network, peers, echo) = network(1);
    let began = Instant::now();
    network.cut(1, 2);
    let error = ask(&peers, 2, 7).await.unwrap_err();
    assert!(matches!(error, PeerError::Silent { .. }), "{error}");
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(echo.asked.load(Ordering::Relaxed), 0);
    network.heal_all();
    network.cut(2, 1);
    ask(&peers, 2, 7).await.unwrap_err();
    assert_eq!(
        echo.asked.load(Ordering::Relaxed),
        1,
        "the question arrived"
    );
    network.heal(2, 1);
    ask(&peers, 2, 7).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_held_arrives_when_it_is_released() {
    let (network, peers, echo) = network(1);
    network.hold(1, 2);
    ask(&peers, 2, 7).await.unwrap_err();
    assert!(echo.order.lock().is_empty());
    network.release(1, 2);
    ask(&peers, 2, 8).await.unwrap();
    assert_eq!(echo.order.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_loses_patience_does_not_stop_the_other_end_but_a_crash_does() {
    for crash in [false, true] {
        let (network, peers, _) = network(1);
        let slow = Arc::new(Echo {
            delay: 2 * SECOND,
            ..Echo::default()
        });
        network
            .boot(2)
            .serve(Arc::clone(&slow) as Arc<dyn PeerHandler>);
        ask(&peers, 2, 7).await.unwrap_err();
        if crash {
            network.crash(2);
        }
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(slow.order.lock().len(), usize::from(!crash));
    }
}

async fn stormy(seed: u64) -> (Vec<Bytes>, Counts) {
    let (network, peers, echo) = network(seed);
    network.set_weather(Weather {
        lost_per_mille: 200,
        delay: Duration::ZERO..=Duration::from_millis(50),
    });
    let mut calls = tokio::task::JoinSet::new();
    for what in 0..100 {
        let peers = Arc::clone(&peers);
        calls.spawn(async move { ask(&peers, 2, what).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    calls.join_all().await;
    let order = echo.order.lock().clone();
    (order, network.counts())
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_storm_each_time() {
    let (order, counts) = stormy(1).await;
    assert!(counts.lost > 10 && counts.lost < 100, "{counts:?}");
    assert!(!order.is_sorted(), "messages overtake each other");
    assert_eq!((order.clone(), counts), stormy(1).await);
    assert_ne!(order, stormy(2).await.0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_loses_nothing_waits_out_a_cut_and_ends_with_its_node() {
    let (network, peers, _) = network(1);
    network.set_weather(Weather {
        lost_per_mille: 200,
        ..Weather::default()
    });
    let member = Member::default();
    let mut stream = loop {
        let opened = peers.stream(2, &member, "1", StreamKind::CatchUp).await;
        if let Ok(stream) = opened {
            break stream;
        }
    };
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
    let (mut reading, mut writing) = tokio::io::split(&mut stream);
    let mut got = vec![0; sent.len()];
    let (wrote, read, ()) = tokio::join!(
        writing.write_all(&sent),
        reading.read_exact(&mut got),
        async {
            network.part(&[1], &[2]);
            tokio::time::sleep(60 * SECOND).await;
            network.heal_all();
        }
    );
    wrote.unwrap();
    read.unwrap();
    assert_eq!(got, sent);
    network.crash(2);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}
