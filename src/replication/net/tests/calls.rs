//! Calls and streams while all is well.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::relay::{Flow, Relay};
use super::*;
use crate::replication::types::NOBODY;

#[tokio::test]
async fn calls_arrive_with_all_that_belongs_to_them() {
    let (one, two, three) = tokio::join!(Node::start(1), Node::start(2), Node::start(3));
    let pre_vote = Request::PreVote {
        term: 5,
        last_log: None,
    };
    let reply = call(&one.network, 2, &two.member, pre_vote).await;
    assert!(matches!(
        reply,
        Reply::PreVote {
            granted: true,
            term: 5
        }
    ));
    let reply = call(&three.network, 2, &two.member, append(Some(3 << 20))).await;
    assert!(matches!(
        reply,
        Reply::Append(AppendEntriesResponse::Success)
    ));
    let reply = two.network.call(
        1,
        &one.member,
        "Größe",
        Request::Admin("{}".to_owned()),
        PATIENCE,
    );
    assert!(matches!(reply.await, Ok(Reply::Admin(text)) if text == "{}"));
    let main = || "main".to_owned();
    let asked = two.script.asked.lock().clone();
    assert_eq!(
        asked,
        [
            (1, main(), "PreVote { term: 5, last_log: None }".to_owned()),
            (3, main(), "1 entries".to_owned())
        ]
    );
    let asked = one.script.asked.lock().clone();
    assert_eq!(asked, [(2, "Größe".to_owned(), "Admin(\"{}\")".to_owned())]);
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other_and_who_goes_does_not_end_it() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let held = serve(&one.network, 2, &two.member, HELD);
    let others = async {
        for what in 0..100 {
            assert_eq!(
                serve(&one.network, 2, &two.member, &[what]).await,
                [what][..]
            );
        }
        assert!(!two.script.done.lock().contains(&Bytes::from_static(HELD)));
        two.script.let_go.add_permits(1);
    };
    tokio::join!(held, others);
    let request = Request::Service(Bytes::from_static(HELD));
    let little = Duration::from_millis(20);
    let late = one.network.call(2, &two.member, "main", request, little);
    let error = late.await.unwrap_err();
    assert!(
        matches!(error, PeerError::Silent { node: 2, .. }),
        "{error}"
    );
    two.script.let_go.add_permits(1);
    assert_eq!(two.script.done(102).await.len(), 102);
    assert_eq!(
        serve(&one.network, 2, &two.member, b"next").await,
        &b"next"[..]
    );
    assert_eq!(one.network.reports()[0].failed_calls, 1);
}

#[tokio::test]
async fn many_calls_at_a_time_get_each_its_own_answer() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..3_000_u32 {
        let (network, member) = (one.network.clone(), two.member.clone());
        calls.spawn(async move {
            let what = number.to_le_bytes();
            assert_eq!(serve(&network, 2, &member, &what).await, what[..]);
        });
    }
    calls.join_all().await;
    assert_eq!(two.script.done.lock().len(), 3_000);
}

/// The entries never get through, and so nothing behind them would.
#[tokio::test]
async fn heartbeats_do_not_wait_behind_entries_nor_entries_behind_another_storages() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let relay = Relay::start(&two.member).await;
    relay.set(Flow::FirstBytes(1 << 20));
    let large = one
        .network
        .call(2, &relay.member, "main", append(Some(4 << 20)), PATIENCE);
    let small = async {
        call(&one.network, 2, &relay.member, append(None)).await;
        call(&one.network, 2, &relay.member, Request::ReadIndex).await;
        serve(&one.network, 2, &relay.member, b"service").await;
        let other = one
            .network
            .call(2, &relay.member, "other", append(Some(10)), PATIENCE);
        other.await.unwrap();
        let seen = two.script.asked.lock().len();
        relay.set(Flow::All);
        seen
    };
    let (large, seen) = tokio::join!(large, small);
    large.unwrap();
    assert_eq!(seen, 4, "the large one was still on its way");
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_to_their_end() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    for kind in [
        StreamKind::Zeo,
        StreamKind::CatchUp,
        StreamKind::Staging,
        StreamKind::Fetch,
    ] {
        let opened = one.network.stream(2, &two.member, "main", kind).await;
        let (mut reader, mut writer) = tokio::io::split(opened.unwrap());
        let sent = vec![7; 1_000_000];
        let mut got = Vec::new();
        let (_, wrote) = tokio::join!(reader.read_to_end(&mut got), async {
            writer.write_all(&sent).await?;
            writer.shutdown().await
        });
        wrote.unwrap();
        let greeting = format!("1 main {kind:?}\n");
        assert_eq!(got[..greeting.len()], *greeting.as_bytes());
        assert_eq!(got[greeting.len()..], sent);
    }
    let report = &one.network.reports()[0];
    assert!(report.received_bytes > 4_000_000 && report.sent_bytes > 4_000_000);
}

#[tokio::test]
async fn what_is_too_long_is_refused_by_itself() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let request = Request::Service(vec![0; 17 << 20].into());
    let refused = one.network.call(2, &two.member, "main", request, PATIENCE);
    let error = refused.await.unwrap_err().to_string();
    assert!(
        error.contains("cannot be sent, 16777216 at most"),
        "{error}"
    );
    let request = Request::Service(Bytes::from_static(LONG_ANSWER));
    let reply = call(&one.network, 2, &two.member, request).await;
    let Reply::Refused { leader: None, why } = reply else {
        panic!("{reply:?}");
    };
    assert!(why.contains("16777216 at most"), "{why}");
    let name = "a".repeat(2_000);
    let error = one
        .network
        .call(2, &two.member, &name, Request::ReadIndex, PATIENCE);
    assert!(error.await.unwrap_err().to_string().contains("1024 bytes"));
    serve(&one.network, 2, &two.member, b"next").await;
}

#[tokio::test]
async fn only_the_node_that_is_wanted_is_talked_to() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    let error = refusal(&one.network, 3, &two.member).await;
    assert!(error.starts_with("node 2 is there, not node 3"), "{error}");
    let error = refusal(&one.network, 1, &one.member).await;
    assert!(error.contains("the same node-id"), "{error}");
    let opened = one
        .network
        .stream(3, &two.member, "main", StreamKind::Zeo)
        .await;
    assert!(opened.is_err());
    assert!(two.script.asked.lock().is_empty());
    // Tools ask whoever is there.
    let tool = Network::new(NetOptions {
        node: NOBODY,
        tls: None,
    });
    serve(&tool, NOBODY, &two.member, b"who").await;
    assert_eq!(two.script.asked.lock()[0].0, NOBODY);
    assert!(tool.reports().is_empty());
}

#[tokio::test]
async fn observers_are_told_of_the_others() {
    let (one, two) = tokio::join!(Node::start(1), Node::start(2));
    call(&one.network, 2, &two.member, Request::ReadIndex).await;
    let report = &one.network.reports()[0];
    assert_eq!((report.node, &report.address), (2, &two.member.address));
    assert!(report.is_connected && report.round_trip.is_some());
    assert_eq!((report.calls, report.failed_calls), (1, 0));
    assert!(report.sent_bytes > 0 && report.received_bytes > 0);
    assert_eq!(report.last_error, None);
    // What node 2 does not know it does not tell of.
    assert!(two.network.reports().is_empty());
}
