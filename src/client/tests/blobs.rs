use std::io;

use super::*;

const LENGTH: usize = 20 * BLOB_PIECE_BYTES + 17;

fn content() -> Vec<u8> {
    (0..251_u8).cycle().take(LENGTH).collect()
}

#[tokio::test]
async fn a_blob_goes_out_in_pieces_with_its_record_behind() {
    for format in FORMATS {
        let (client, mut peer) = connected(format).await;
        let sending = tokio::spawn(async move {
            let content = content();
            let read = move |position, count, buffer: &mut Vec<u8>| {
                let rest = &content[usize::try_from(position).unwrap()..];
                buffer.extend_from_slice(&rest[..rest.len().min(count)]);
                Ok(())
            };
            client
                .store_blob(oid(1), tid(2), b"record", KEY, read)
                .await
        });
        assert_eq!(peer.next_call().await.request, Request::StoreBlobStart);
        let mut received = Vec::new();
        loop {
            match peer.next_call().await.request {
                Request::StoreBlobChunk { chunk } => {
                    assert!(chunk.len() <= BLOB_PIECE_BYTES);
                    received.extend_from_slice(&chunk);
                }
                end => {
                    let data = b"record"[..].into();
                    let (oid, serial) = (oid(1), tid(2));
                    let transaction = KEY;
                    let expected = Request::StoreBlobEnd {
                        oid,
                        serial,
                        data,
                        transaction,
                    };
                    assert_eq!(end, expected);
                    break;
                }
            }
        }
        assert!(received == content());
        sending.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_blob_is_fetched_piece_by_piece() {
    for format in FORMATS {
        let (client, mut peer) = connected(format).await;
        let received = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&received);
        let fetching = tokio::spawn(async move {
            let write = move |piece: &[u8]| {
                sink.lock().extend_from_slice(piece);
                Ok(())
            };
            client.fetch_blob(oid(1), tid(2), write).await
        });
        send_blob(&mut peer, &content()).await;
        fetching.await.unwrap().unwrap();
        assert!(*received.lock() == content());
    }
}

/// Answers a `sendBlob`.
async fn send_blob(peer: &mut Peer, content: &[u8]) {
    let call = peer.next_call().await;
    let Request::SendBlob { oid, serial } = call.request else {
        panic!("{call:?}");
    };
    peer.call(&ServerCall::ReceiveBlobStart { oid, serial })
        .await;
    for chunk in content.chunks(1000) {
        peer.call(&ServerCall::ReceiveBlobChunk { oid, serial, chunk })
            .await;
    }
    peer.call(&ServerCall::ReceiveBlobStop { oid, serial })
        .await;
    peer.reply(&call, &Reply::Nothing).await;
}

#[tokio::test]
async fn a_full_disk_fails_the_fetch_and_not_the_connection() {
    let (client, mut peer) = connected(Format::Pickle).await;
    let fetching = client.clone();
    let fetch = tokio::spawn(async move {
        let write = |_: &[u8]| Err(io::Error::other("no room"));
        fetching.fetch_blob(oid(1), tid(2), write).await
    });
    send_blob(&mut peer, &content()).await;
    assert_eq!(fetch.await.unwrap(), Err(CallError::File("no room".into())));
    let fetch = tokio::spawn(async move { client.fetch_blob(oid(3), tid(4), |_| Ok(())).await });
    send_blob(&mut peer, b"small").await;
    assert_eq!(fetch.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_an_error() {
    let (client, mut peer) = connected(Format::Pickle).await;
    let fetch = tokio::spawn(async move {
        client
            .fetch_blob(oid(1), tid(2), |_| panic!("no piece"))
            .await
    });
    let call = peer.next_call().await;
    let raised = Exception::PosKeyError {
        oid: oid(1),
        serial: Some(tid(2)),
    };
    peer.fail(&call, &raised).await;
    let error = fetch.await.unwrap().unwrap_err();
    assert!(error.remote().unwrap().is_no_such_object());
}
