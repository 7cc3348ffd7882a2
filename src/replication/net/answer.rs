//! A connection for calls, seen from the node that is called: each call runs by
//! itself, so that a slow one holds up nobody.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, split};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::bounds::{BUFFER_BYTES, Lane};
use super::frame::{self, FrameError, SIGN_OF_LIFE, Unsealed};
use super::message;
use crate::replication::entry_codec::DecodeError;
use crate::replication::peers::{PeerHandler, PeerStream, Reply};
use crate::replication::types::NodeId;

/// Why a connection was given up.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it sends is no message.
    #[error(transparent)]
    Frame(FrameError),
    /// What it asks is no question.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl From<FrameError> for AnswerError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Io(error),
            other => Self::Frame(other),
        }
    }
}

/// A frame on its way out, and the place that it takes until it is there.
struct Answer {
    frame: Vec<u8>,
    _turn: OwnedSemaphorePermit,
}

/// Answers what node `from` asks, until it closes the connection. Calls that
/// have begun are carried through even if it breaks.
pub async fn answer(
    stream: PeerStream,
    from: NodeId,
    lane: Lane,
    handler: &Arc<dyn PeerHandler>,
) -> Result<(), AnswerError> {
    let (reader, writer) = split(stream);
    let (answers, answered) = channel(lane.under_way());
    let mut calls = JoinSet::new();
    let receiving = async {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        receive(&mut reader, from, lane, handler, &answers, &mut calls).await
    };
    let result = tokio::select! {
        result = receiving => result,
        result = send(writer, answered) => result.map_err(AnswerError::Io),
    };
    while calls.join_next().await.is_some() {}
    result
}

async fn receive(
    reader: &mut (impl AsyncRead + Unpin),
    from: NodeId,
    lane: Lane,
    handler: &Arc<dyn PeerHandler>,
    answers: &Sender<Answer>,
    calls: &mut JoinSet<()>,
) -> Result<(), AnswerError> {
    let turns = Arc::new(Semaphore::new(lane.under_way()));
    while let Some((id, message)) = frame::read(reader, lane.frame_bytes()).await? {
        while calls.try_join_next().is_some() {}
        // Nobody closes it.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            break;
        };
        if id == SIGN_OF_LIFE {
            let frame = Unsealed::with_capacity(0).seal(id).unwrap_or_default();
            let _ = answers.send(Answer { frame, _turn: turn }).await;
            continue;
        }
        let (group, request) = message::request_of(message)?;
        let (handler, answers) = (Arc::clone(handler), answers.clone());
        calls.spawn(async move {
            let reply = handler.call(from, &group, request).await;
            let frame = sealed(&reply, lane, id);
            // Where it fails the connection is gone.
            let _ = answers.send(Answer { frame, _turn: turn }).await;
        });
    }
    Ok(())
}

fn sealed(reply: &Reply, lane: Lane, id: u64) -> Vec<u8> {
    let mut unsealed = Unsealed::with_capacity(0);
    message::put_reply(reply, unsealed.message());
    let length = unsealed.len();
    let max = lane.frame_bytes();
    if length > max {
        let why = format!("the answer has {length} bytes, {max} at most can be sent");
        tracing::error!("replication: {why}");
        unsealed = Unsealed::with_capacity(0);
        let leader = None;
        message::put_reply(&Reply::Refused { leader, why }, unsealed.message());
    }
    unsealed.seal(id).unwrap_or_default()
}

async fn send(writer: impl AsyncWrite + Unpin, mut answered: Receiver<Answer>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, writer);
    while let Some(answer) = answered.recv().await {
        writer.write_all(&answer.frame).await?;
        if answered.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}
