//! What is shared between those who call and the task that owns the stream:
//! what waits to be sent, and who waits for which reply.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::blob::BlobSink;
use super::error::CallError;
use crate::wire::{self, Format, Request, Value};

/// What is done with a reply.
pub type OnReply = Box<dyn FnOnce(Result<Value<'_>, CallError>) + Send>;

/// So many replies may be awaited; who wants one more waits.
const MAX_AWAITED: usize = 10_000;
/// The buffer of what was sent is kept up to this size.
const KEPT_BYTES: usize = 1 << 20;

/// See the module.
pub(super) struct Shared {
    pub(super) format: Format,
    max_unsent_bytes: usize,
    state: Mutex<State>,
    /// There is something to send, or to end.
    work: Notify,
    /// There is room again.
    room: Notify,
    /// Why the connection is over, once it is.
    end: watch::Sender<Option<Arc<str>>>,
    /// One blob is sent, and one fetched, at a time.
    pub(super) upload_turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) fetch_turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    /// Encoded, not taken by the task yet.
    queue: Vec<u8>,
    /// Taken, and perhaps not written yet.
    writing_bytes: usize,
    last_id: i64,
    awaited: HashMap<i64, OnReply>,
    /// Where the blob goes that the server sends.
    sink: Option<BlobSink>,
    is_closing: bool,
}

/// What there is to do for the one who writes.
pub(super) enum Work {
    /// Send these.
    Send,
    /// End the stream.
    Close,
    /// Nothing.
    Wait,
}

/// Closes the connection when the last handle is dropped.
pub(super) struct Guard(pub(super) Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Shared")
            .field("format", &self.format)
            .field("unsent_bytes", &state.unsent_bytes())
            .field("awaited", &state.awaited.len())
            .finish_non_exhaustive()
    }
}

impl State {
    fn unsent_bytes(&self) -> usize {
        self.queue.len() + self.writing_bytes
    }
}

impl Shared {
    pub(super) fn new(format: Format, max_unsent_bytes: usize) -> Self {
        Self {
            format,
            max_unsent_bytes,
            state: Mutex::default(),
            work: Notify::new(),
            room: Notify::new(),
            end: watch::Sender::new(None),
            upload_turn: Arc::default(),
            fetch_turn: Arc::default(),
        }
    }

    /// Queues a request once there is room for it.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        mut on_reply: Option<OnReply>,
    ) -> Result<(), CallError> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Before the look, so that what becomes free afterwards wakes us.
            room.as_mut().enable();
            if self.try_send(request, &mut on_reply)? {
                self.work.notify_one();
                return Ok(());
            }
            room.await;
        }
    }

    /// False: there is no room now, and `on_reply` was left.
    fn try_send(
        &self,
        request: &Request<'_>,
        on_reply: &mut Option<OnReply>,
    ) -> Result<bool, CallError> {
        let mut state = self.state.lock();
        if let Some(why) = self.end() {
            return Err(CallError::Disconnected(why));
        }
        if state.is_closing {
            return Err(CallError::Disconnected("closed".into()));
        }
        let is_full = state.unsent_bytes() >= self.max_unsent_bytes;
        if is_full || (on_reply.is_some() && state.awaited.len() >= MAX_AWAITED) {
            return Ok(false);
        }
        // The reference's one-way calls all have the id 0.
        let id = if on_reply.is_some() {
            state.last_id + 1
        } else {
            0
        };
        let one_way = on_reply.is_none();
        wire::encode_request(self.format, &mut state.queue, id, one_way, request).map_err(
            |source| CallError::Argument {
                method: request.method(),
                source,
            },
        )?;
        if let Some(on_reply) = on_reply.take() {
            state.last_id = id;
            state.awaited.insert(id, on_reply);
        }
        Ok(true)
    }

    /// Queues a heartbeat.
    pub(super) fn queue_heartbeat(&self) {
        wire::encode_heartbeat(self.format, &mut self.state.lock().queue);
    }

    /// Moves what waits to be sent into `bytes`, which is empty.
    pub(super) fn take_work(&self, bytes: &mut Vec<u8>) -> Work {
        let mut state = self.state.lock();
        if !state.queue.is_empty() {
            std::mem::swap(&mut state.queue, bytes);
            state.writing_bytes = bytes.len();
            Work::Send
        } else if state.is_closing {
            Work::Close
        } else {
            Work::Wait
        }
    }

    /// Ready when there may be work.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// What was taken is written; empties `bytes`.
    pub(super) fn note_written(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
        self.state.lock().writing_bytes = 0;
        self.room.notify_waiters();
    }

    /// Hands a reply to who waits for it. False: nobody does.
    pub(super) fn reply(&self, id: i64, reply: Result<Value<'_>, CallError>) -> bool {
        let on_reply = {
            let mut state = self.state.lock();
            if state.awaited.len() == MAX_AWAITED {
                self.room.notify_waiters();
            }
            state.awaited.remove(&id)
        };
        match on_reply {
            Some(on_reply) => {
                on_reply(reply);
                true
            }
            None => false,
        }
    }

    /// Where the next blob that the server sends goes.
    pub(super) fn set_sink(&self, sink: BlobSink) {
        self.state.lock().sink = Some(sink);
    }

    pub(super) fn take_sink(&self) -> Option<BlobSink> {
        self.state.lock().sink.take()
    }

    /// Gives the sink what is for it; false where there is none for that.
    pub(super) fn with_sink(&self, give: impl FnOnce(&mut BlobSink) -> bool) -> bool {
        // Taken out, so that nobody waits for a file.
        let Some(mut sink) = self.take_sink() else {
            return false;
        };
        let given = give(&mut sink);
        self.set_sink(sink);
        given
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.work.notify_one();
    }

    /// The connection is over: everybody who waits is told.
    pub(super) fn note_end(&self, why: &str) {
        let why: Arc<str> = why.into();
        let awaited = {
            let mut state = self.state.lock();
            // Under the lock, so that nobody queues anything behind it.
            self.end.send_replace(Some(Arc::clone(&why)));
            state.queue = Vec::new();
            std::mem::take(&mut state.awaited)
        };
        self.room.notify_waiters();
        // In the order in which they were asked.
        let mut awaited: Vec<_> = awaited.into_iter().collect();
        awaited.sort_unstable_by_key(|(id, _)| *id);
        for (_, on_reply) in awaited {
            on_reply(Err(CallError::Disconnected(Arc::clone(&why))));
        }
    }

    pub(super) fn end(&self) -> Option<Arc<str>> {
        self.end.borrow().clone()
    }

    pub(super) async fn ended(&self) -> Arc<str> {
        let mut end = self.end.subscribe();
        // The sender lives as long as `self`.
        match end.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => Arc::default(),
        }
    }
}
