//! The client against a peer in memory that answers what a test wants.

mod blobs;
mod ending;
mod peer;

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::types::{Oid, Tid};
use crate::wire::{Exception, Format, Reply, Request, ServerCall, TransactionKey, Value};
use peer::{FORMATS, Peer, connect_with, connected};

const KEY: TransactionKey = TransactionKey::Int(7);

fn tid(number: u64) -> Tid {
    Tid::from_u64(number)
}

fn oid(number: u64) -> Oid {
    Oid::from_u64(number)
}

#[tokio::test]
async fn the_server_chooses_the_format() {
    for format in FORMATS {
        let (client, mut peer) = connected(format).await;
        assert_eq!(client.format(), format);
        let registering = tokio::spawn(async move { client.register("main", true).await });
        let call = peer.next_call().await;
        assert_eq!(
            call.request,
            Request::Register {
                storage: "main".into(),
                read_only: true
            }
        );
        peer.reply(&call, &Reply::Tid(tid(5))).await;
        assert_eq!(registering.await.unwrap(), Ok(tid(5)));
    }
}

#[tokio::test]
async fn several_calls_are_under_way_and_each_gets_its_answer() {
    for format in FORMATS {
        let (client, mut peer) = connected(format).await;
        let first = client.send(&Request::GetTid { oid: oid(1) }).await.unwrap();
        let second = client.send(&Request::GetTid { oid: oid(2) }).await.unwrap();
        client.store(oid(3), tid(0), b"data", KEY).await.unwrap();
        let calls = [peer.next_call().await, peer.next_call().await];
        let store = peer.next_call().await;
        assert!(store.one_way);
        assert_eq!(
            store.request,
            Request::Store {
                oid: oid(3),
                serial: tid(0),
                data: b"data"[..].into(),
                transaction: KEY
            }
        );
        peer.reply(&calls[1], &Reply::Tid(tid(22))).await;
        peer.reply(&calls[0], &Reply::Tid(tid(11))).await;
        assert_eq!(second.await.unwrap().as_tid(), Some(tid(22)));
        assert_eq!(first.await.unwrap().as_tid(), Some(tid(11)));
    }
}

#[tokio::test]
async fn replies_and_what_comes_unasked_keep_their_order() {
    for format in FORMATS {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let seen = Arc::clone(&seen);
            move |number: u64| seen.lock().push((what, number))
        };
        let invalidated = note("invalidation");
        let listener = Listener::callback(move |notice| match notice {
            crate::wire::ServerNotice::Invalidation { tid, oids } => {
                assert_eq!(oids, [oid(1), oid(2)]);
                invalidated(tid.to_u64());
            }
            other => panic!("{other:?}"),
        });
        let (client, mut peer) = connect_with(format, Options::default(), listener).await;
        let mut calls = Vec::new();
        for _ in 0..3 {
            let replied = note("reply");
            let on_reply = move |reply: Result<Value<'_>, CallError>| {
                replied(reply.unwrap().as_tid().unwrap().to_u64());
            };
            client
                .send_with(&Request::LastTransaction, Box::new(on_reply))
                .await
                .unwrap();
            calls.push(peer.next_call().await);
        }
        let oids = [oid(1), oid(2)];
        for (number, call) in (0..).step_by(2).zip(&calls) {
            peer.reply(call, &Reply::Tid(tid(number))).await;
            let (tid, oids) = (tid(number + 1), &oids[..]);
            peer.call(&ServerCall::InvalidateTransaction { tid, oids })
                .await;
        }
        let last = client.send(&Request::Ping).await.unwrap();
        let call = peer.next_call().await;
        peer.reply(&call, &Reply::Nothing).await;
        last.await.unwrap();
        let expected: Vec<_> = ["reply", "invalidation"]
            .into_iter()
            .cycle()
            .zip(0..6)
            .collect();
        assert_eq!(*seen.lock(), expected);
    }
}

#[tokio::test]
async fn what_the_server_raises_keeps_its_class_and_arguments() {
    for format in FORMATS {
        let (client, mut peer) = connected(format).await;
        let vote = client
            .send(&Request::Vote { transaction: KEY })
            .await
            .unwrap();
        let call = peer.next_call().await;
        let raised = Exception::ConflictError {
            oid: Some(oid(1)),
            committed: tid(2),
            read: tid(1),
            class_name: Some("a.B".to_owned()),
        };
        peer.fail(&call, &raised).await;
        let error = vote.await.unwrap_err();
        let remote = error.remote().unwrap();
        assert_eq!(remote.class(), raised.class());
        assert!(remote.is_conflict());
        assert_eq!(remote.state().get("oid").unwrap().as_oid(), Some(oid(1)));
    }
}

async fn vote(client: &Connection) -> Result<Vec<VoteItem>, CallError> {
    let answer = client.call(&Request::Vote { transaction: KEY }).await?;
    VoteItem::from_value(&answer)
}

#[tokio::test]
async fn votes_tell_conflicts_from_resolved_objects() {
    for format in FORMATS {
        let (client, mut peer) = connected(format).await;
        let conflict = crate::wire::Conflict {
            oid: oid(1),
            committed: tid(2),
            read: tid(1),
            data: b"state"[..].into(),
        };
        for (value, expected) in [
            (Reply::Nothing, vec![]),
            (Reply::Oids(&[]), vec![]),
            (Reply::Oids(&[oid(9)]), vec![VoteItem::Resolved(oid(9))]),
            (
                Reply::Conflicts(std::slice::from_ref(&conflict)),
                vec![VoteItem::Conflict(conflict.clone())],
            ),
        ] {
            let voting = client.clone();
            let vote = tokio::spawn(async move { vote(&voting).await });
            let call = peer.next_call().await;
            peer.reply(&call, &value).await;
            assert_eq!(vote.await.unwrap(), Ok(expected));
        }
        let vote = tokio::spawn(async move { vote(&client).await });
        let call = peer.next_call().await;
        peer.reply(&call, &Reply::Tid(tid(1))).await;
        let misunderstood = CallError::Answer { method: "vote" };
        assert_eq!(vote.await.unwrap(), Err(misunderstood));
    }
}
