//! The task that owns a connection's stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::connect::Stream;
use super::connection::{Listener, Options};
use super::error::CallError;
use super::outgoing::{Shared, Work};
use crate::wire::{self, FrameStep, ServerMessage, ServerNotice};

/// So much is read at once.
const READ_BYTES: usize = 64 << 10;
/// What waits when the connection is closed may take so long to be sent.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// Why it ended, where this side wanted it.
const CLOSED: &str = "closed";

/// Serves a connection until one of both ends it.
pub(super) async fn drive(
    stream: impl Stream,
    shared: Arc<Shared>,
    listener: Listener,
    options: Options,
) {
    // Whatever ends the task, also a panic in a callback, nobody waits for ever.
    let ending = Ending(Arc::clone(&shared));
    let (reading, writing) = tokio::io::split(stream);
    let why = tokio::select! {
        why = read(reading, &shared, listener, options.max_frame_bytes) => why,
        why = write(writing, &shared, options.heartbeat) => why,
    };
    tracing::debug!("connection to a server ended: {why}");
    shared.note_end(&why);
    drop(ending);
}

struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.end().is_none() {
            self.0.note_end("the connection's task was stopped");
        }
    }
}

/// Sends what waits, until there is an error or the connection is to be closed.
async fn write(
    mut stream: impl AsyncWrite + Unpin,
    shared: &Shared,
    heartbeat: Duration,
) -> String {
    let mut bytes = Vec::new();
    loop {
        match shared.take_work(&mut bytes) {
            Work::Send => {
                let sent = async {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                };
                if let Err(error) = sent.await {
                    return error.to_string();
                }
                shared.note_written(&mut bytes);
            }
            Work::Close => {
                // An error says that the other end has closed already.
                let _ = tokio::time::timeout(LINGER_TIME, stream.shutdown()).await;
                return CLOSED.to_owned();
            }
            Work::Wait => {
                if tokio::time::timeout(heartbeat, shared.work())
                    .await
                    .is_err()
                {
                    shared.queue_heartbeat();
                }
            }
        }
    }
}

/// Reads messages and hands them out, until there is an error.
async fn read(
    mut stream: impl AsyncRead + Unpin,
    shared: &Arc<Shared>,
    mut listener: Listener,
    max_frame_bytes: usize,
) -> String {
    let mut buffer = BytesMut::new();
    loop {
        let needed_bytes = loop {
            match wire::next_frame(&buffer, max_frame_bytes) {
                Ok(FrameStep::Complete { payload }) => {
                    let end = payload.end;
                    let payload = buffer.get(payload).unwrap_or_default();
                    if let Err(why) = hand_out(payload, shared, &mut listener) {
                        return why;
                    }
                    let _ = buffer.split_to(end);
                }
                Ok(FrameStep::Incomplete { needed_bytes }) => break needed_bytes,
                Err(error) => return format!("the server sent {error}"),
            }
        };
        // No faster than the bytes arrive, whatever length was announced.
        let missing = needed_bytes.saturating_sub(buffer.len());
        buffer.reserve(missing.min(buffer.len()).max(READ_BYTES));
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return "the server closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// Gives one message to whom it is for. An error says why the connection is of
/// no use any more.
fn hand_out(payload: &[u8], shared: &Arc<Shared>, listener: &mut Listener) -> Result<(), String> {
    match wire::decode_server(shared.format, payload).map_err(|error| error.to_string())? {
        ServerMessage::Heartbeat => Ok(()),
        ServerMessage::Reply { id, result } => {
            if shared.reply(id, result.map_err(CallError::Remote)) {
                Ok(())
            } else {
                Err(format!("the server answers call {id}, which was not made"))
            }
        }
        ServerMessage::Notice(notice) => {
            if !shared.with_sink(|sink| sink.take(&notice)) {
                tell(notice, listener);
            }
            Ok(())
        }
    }
}

fn tell(notice: ServerNotice<'_>, listener: &mut Listener) {
    match listener {
        Listener::Nobody => {}
        Listener::Callback(callback) => callback(notice),
    }
}
