use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::client::{Connection, Listener, Options};
use crate::wire::{
    self, Exception, Format, Message, MessageId, Reply, Request, ServerCall, decode,
};

pub(super) const FORMATS: [Format; 2] = [Format::Pickle, Format::Msgpack];

/// So much is in flight to either side.
const IN_FLIGHT_BYTES: usize = 4096;

/// The server's end of a connection.
pub(super) struct Peer {
    pub(super) stream: DuplexStream,
    format: Format,
}

/// A call that came.
#[derive(Debug)]
pub(super) struct Call {
    id: MessageId<'static>,
    pub(super) one_way: bool,
    pub(super) request: Request<'static>,
}

pub(super) async fn connected(format: Format) -> (Connection, Peer) {
    connect_with(format, Options::default(), Listener::Nobody).await
}

pub(super) async fn connect_with(
    format: Format,
    options: Options,
    listener: Listener,
) -> (Connection, Peer) {
    let (mine, stream) = tokio::io::duplex(IN_FLIGHT_BYTES);
    let mut peer = Peer { stream, format };
    let opening = tokio::spawn(Connection::open(mine, options, listener));
    peer.send_frame(format.greeting()).await;
    assert_eq!(peer.next_frame().await.unwrap(), format.greeting());
    (opening.await.unwrap().unwrap(), peer)
}

impl Peer {
    pub(super) async fn send_frame(&mut self, payload: &[u8]) {
        let mut frame = Vec::new();
        wire::put_frame(&mut frame, payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame; None at the end.
    pub(super) async fn next_frame(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; wire::FRAME_HEADER_BYTES];
        self.stream.read_exact(&mut header).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes(header) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(payload)
    }

    /// The next call; heartbeats are passed over.
    pub(super) async fn next_call(&mut self) -> Call {
        loop {
            let payload = self.next_frame().await.expect("a call");
            match decode(self.format, &payload).unwrap() {
                Message::Heartbeat => {}
                Message::Call {
                    id,
                    one_way,
                    request,
                } => {
                    return Call {
                        id: id.into_owned(),
                        one_way,
                        request: owned(request),
                    };
                }
            }
        }
    }

    pub(super) async fn reply(&mut self, call: &Call, reply: &Reply<'_>) {
        let mut frame = Vec::new();
        wire::encode_reply(self.format, &mut frame, &call.id, reply);
        self.stream.write_all(&frame).await.unwrap();
    }

    pub(super) async fn fail(&mut self, call: &Call, exception: &Exception) {
        let mut frame = Vec::new();
        wire::encode_error(self.format, &mut frame, &call.id, exception);
        self.stream.write_all(&frame).await.unwrap();
    }

    pub(super) async fn call(&mut self, call: &ServerCall<'_>) {
        let mut frame = Vec::new();
        wire::encode_call(self.format, &mut frame, call).unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }
}

/// Those that the tests look at.
fn owned(request: Request<'_>) -> Request<'static> {
    match request {
        Request::Register { storage, read_only } => Request::Register {
            storage: storage.into_owned().into(),
            read_only,
        },
        Request::Store {
            oid,
            serial,
            data,
            transaction,
        } => Request::Store {
            oid,
            serial,
            data: data.into_owned().into(),
            transaction,
        },
        Request::StoreBlobChunk { chunk } => Request::StoreBlobChunk {
            chunk: chunk.into_owned().into(),
        },
        Request::StoreBlobEnd {
            oid,
            serial,
            data,
            transaction,
        } => Request::StoreBlobEnd {
            oid,
            serial,
            data: data.into_owned().into(),
            transaction,
        },
        Request::GetTid { oid } => Request::GetTid { oid },
        Request::SendBlob { oid, serial } => Request::SendBlob { oid, serial },
        Request::Vote { transaction } => Request::Vote { transaction },
        Request::LastTransaction => Request::LastTransaction,
        Request::StoreBlobStart => Request::StoreBlobStart,
        Request::Ping => Request::Ping,
        other => panic!("no test sends {other:?}"),
    }
}
