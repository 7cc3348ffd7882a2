//! The way of calls to one node: a queue, and a connection that is made when
//! it is needed and again when it breaks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::bounds::{IDLE_TIME, Lane, MAX_BACKOFF, MIN_BACKOFF};
use super::connect::{self, Own, Target};
use super::conversation::{Conversation, End};
use super::frame::{SIGN_OF_LIFE, Unsealed};
use super::known::Peer;
use super::socket::Meter;

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The time is up.
    Late,
    /// There is no connection, or it broke, or the message cannot be sent.
    Failed(io::Error),
}

/// The callers' end.
#[derive(Debug)]
pub struct Link {
    lane: Lane,
    /// Bounded by `room`.
    queue: UnboundedSender<Queued>,
    waiting: Arc<Waiting>,
    last_id: AtomicU64,
    used_at: Mutex<Instant>,
    /// Calls that may be made.
    turns: Semaphore,
    /// Bytes that may be queued.
    room: Arc<Semaphore>,
}

/// A frame that is to be sent.
#[derive(Debug)]
pub struct Queued {
    /// The call's.
    pub id: u64,
    /// All of it.
    pub frame: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Link {
    /// A link to `target`; its task ends when the link is dropped.
    pub fn new(own: Arc<Own>, target: Target, lane: Lane) -> Self {
        let (queue, queued) = unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let keeper = Keeper {
            peer: own.known.meet(target.node, &target.address),
            own,
            target,
            lane,
            queued,
            waiting: Arc::clone(&waiting),
        };
        tokio::spawn(keeper.run());
        Self {
            lane,
            queue,
            waiting,
            last_id: AtomicU64::new(SIGN_OF_LIFE),
            used_at: Mutex::new(Instant::now()),
            turns: Semaphore::new(lane.under_way()),
            room: Arc::new(Semaphore::new(lane.queued_bytes())),
        }
    }

    /// Has nobody used it for so long that its connection was closed?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.used_at.lock().elapsed() > IDLE_TIME
    }

    /// Sends `message` and waits for the answer until `deadline`. When this
    /// future is dropped, or late, the other end works on.
    pub async fn call(&self, message: Unsealed, deadline: Instant) -> Result<Bytes, CallError> {
        *self.used_at.lock() = Instant::now();
        let (length, max) = (message.len(), self.lane.frame_bytes());
        let bytes = u32::try_from(length).ok().filter(|_| length <= max);
        let Some(bytes) = bytes else {
            let problem = format!("a message of {length} bytes cannot be sent, {max} at most");
            return Err(failed(io::ErrorKind::InvalidInput, problem));
        };
        let closed = || failed(io::ErrorKind::NotConnected, "this node stops");
        let late = |_| CallError::Late;
        let turn = timeout_at(deadline, self.turns.acquire());
        let _turn = turn.await.map_err(late)?.map_err(|_| closed())?;
        let room = timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(bytes));
        let room = room.await.map_err(late)?.map_err(|_| closed())?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (_ticket, answer) = Ticket::take(&self.waiting, id);
        let frame = message.seal(id).ok_or_else(closed)?;
        let queued = Queued {
            id,
            frame,
            _room: room,
        };
        self.queue.send(queued).map_err(|_| closed())?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer.map_err(CallError::Failed),
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(CallError::Late),
        }
    }
}

fn failed(kind: io::ErrorKind, problem: impl Into<String>) -> CallError {
    CallError::Failed(io::Error::new(kind, problem.into()))
}

/// Who waits for the answer to which call; no more than [`Lane::under_way`].
#[derive(Debug, Default)]
pub struct Waiting(Mutex<HashMap<u64, Waiter>>);

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<io::Result<Bytes>>,
    /// Whether the other end may have seen the call.
    is_sent: bool,
}

impl Waiting {
    /// Notes that a call is sent now; false: nobody waits for it any longer.
    pub fn begin(&self, id: u64) -> bool {
        let mut waiters = self.0.lock();
        waiters
            .get_mut(&id)
            .map(|waiter| waiter.is_sent = true)
            .is_some()
    }

    /// Gives an answer to whom it is for, if they still wait.
    pub fn answer(&self, id: u64, answer: Bytes) {
        self.end(id, Ok(answer));
    }

    /// Does nobody wait?
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn end(&self, id: u64, result: io::Result<Bytes>) {
        let waiter = self.0.lock().remove(&id);
        if let Some(waiter) = waiter {
            // Who waits no longer does not mind.
            let _ = waiter.answer.send(result);
        }
    }

    /// Ends the calls that were sent on a connection that has broken.
    fn fail_sent(&self, error: &io::Error) {
        let sent = |_: &u64, waiter: &mut Waiter| waiter.is_sent;
        for (_, waiter) in self.0.lock().extract_if(sent) {
            let _ = waiter.answer.send(Err(copy_of(error)));
        }
    }
}

/// A place among those that wait, until it is dropped.
struct Ticket<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl<'a> Ticket<'a> {
    fn take(waiting: &'a Waiting, id: u64) -> (Self, oneshot::Receiver<io::Result<Bytes>>) {
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter {
            answer,
            is_sent: false,
        };
        waiting.0.lock().insert(id, waiter);
        (Self { waiting, id }, answered)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.waiting.0.lock().remove(&self.id);
    }
}

/// The task that keeps the connection.
struct Keeper {
    own: Arc<Own>,
    peer: Arc<Peer>,
    target: Target,
    lane: Lane,
    queued: UnboundedReceiver<Queued>,
    waiting: Arc<Waiting>,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = MIN_BACKOFF;
        while let Some(first) = self.next_wanted().await {
            let began = Instant::now();
            let meter = Arc::<Meter>::default();
            meter.belongs_to(Arc::clone(&self.peer));
            match connect::open(&self.own, &self.target, Arc::clone(&meter)).await {
                Ok(stream) => {
                    self.peer.note_connected(&self.target.address);
                    let conversation = Conversation::new(self.lane, &meter, &self.waiting);
                    let end = conversation.run(stream, first, &mut self.queued).await;
                    if conversation.was_answered() {
                        backoff = MIN_BACKOFF;
                    }
                    self.ended(&end);
                    if !matches!(end, End::Broken(_)) {
                        continue;
                    }
                }
                Err(error) => {
                    self.peer.note_failure(&self.target.address, &error);
                    self.fail_all(first.id, &error);
                }
            }
            self.pause(began, backoff).await;
            backoff = (2 * backoff).min(MAX_BACKOFF);
        }
    }

    /// The next call that somebody still waits for. None: there will be none.
    async fn next_wanted(&mut self) -> Option<Queued> {
        loop {
            let queued = self.queued.recv().await?;
            if self.waiting.begin(queued.id) {
                return Some(queued);
            }
        }
    }

    fn ended(&self, end: &End) {
        let address = &self.target.address;
        match end {
            End::Broken(error) => {
                self.peer.note_ended(address, Some(error));
                self.waiting.fail_sent(error);
            }
            End::Idle | End::Unused => self.peer.note_ended(address, None),
        }
    }

    /// Ends the calls that have waited for a connection.
    fn fail_all(&mut self, first: u64, error: &io::Error) {
        self.waiting.end(first, Err(copy_of(error)));
        while let Ok(queued) = self.queued.try_recv() {
            self.waiting.end(queued.id, Err(copy_of(error)));
        }
    }

    /// Attempts begin `backoff` after each other, or as soon as the other node
    /// is heard of.
    async fn pause(&self, began: Instant, backoff: std::time::Duration) {
        let wait_at_most = sleep_until(began + backoff);
        let heard_of = async {
            self.peer.heard_of().await;
            // Anybody may claim to be it.
            sleep(MIN_BACKOFF).await;
        };
        tokio::select! {
            () = wait_at_most => {}
            () = heard_of => {}
        }
    }
}

/// Errors cannot be cloned; kind and words are all that matters.
fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
