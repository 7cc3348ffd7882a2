//! A connection for calls, seen from the node that calls: sends what is queued,
//! hands out answers, and notices when the other end has fallen silent.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, split};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::bounds::{BUFFER_BYTES, IDLE_TIME, LONG_FRAME_BYTES, Lane, WATCH_INTERVAL};
use super::frame::{self, FrameError, SIGN_OF_LIFE, Unsealed};
use super::link::{Queued, Waiting};
use super::socket::Meter;
use crate::replication::peers::PeerStream;

/// How a conversation ended.
#[derive(Debug)]
pub enum End {
    /// The network, or the other end.
    Broken(io::Error),
    /// Nothing was asked for long.
    Idle,
    /// Nothing will be asked any more.
    Unused,
}

/// What the parts of a conversation know of each other.
pub struct Conversation<'a> {
    lane: Lane,
    meter: &'a Meter,
    waiting: &'a Waiting,
    /// Frames that the other end has not answered.
    owed: AtomicU64,
    /// A long frame is going out: its parts are life.
    is_sending_long: AtomicBool,
    was_answered: AtomicBool,
    ping: Notify,
}

impl<'a> Conversation<'a> {
    /// Nothing is said yet.
    pub fn new(lane: Lane, meter: &'a Meter, waiting: &'a Waiting) -> Self {
        Self {
            lane,
            meter,
            waiting,
            owed: AtomicU64::new(0),
            is_sending_long: AtomicBool::new(false),
            was_answered: AtomicBool::new(false),
            ping: Notify::new(),
        }
    }

    /// Sends `first` and what is queued, until the end.
    pub async fn run(
        &self,
        stream: PeerStream,
        first: Queued,
        queued: &mut UnboundedReceiver<Queued>,
    ) -> End {
        let (reader, writer) = split(stream);
        tokio::select! {
            biased;
            end = self.receive(reader) => end,
            end = self.send(writer, first, queued) => end,
            end = self.watch() => end,
        }
    }

    /// Has the other end ever answered?
    pub fn was_answered(&self) -> bool {
        self.was_answered.load(Ordering::Relaxed)
    }

    async fn receive(&self, reader: impl AsyncRead + Unpin) -> End {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        loop {
            let (id, answer) = match frame::read(&mut reader, self.lane.frame_bytes()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return broken(io::ErrorKind::ConnectionAborted, "the node closed it"),
                Err(FrameError::Io(error)) => return End::Broken(error),
                Err(error) => return End::Broken(io::Error::other(error)),
            };
            let take_one = |owed: u64| owed.checked_sub(1);
            let owed = self
                .owed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one);
            if owed.is_err() {
                return broken(
                    io::ErrorKind::InvalidData,
                    "an answer that nobody asked for",
                );
            }
            self.was_answered.store(true, Ordering::Relaxed);
            if id != SIGN_OF_LIFE {
                self.waiting.answer(id, answer);
            }
        }
    }

    async fn send(
        &self,
        writer: impl AsyncWrite + Unpin,
        first: Queued,
        queued: &mut UnboundedReceiver<Queued>,
    ) -> End {
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, writer);
        let mut next = Some(first);
        loop {
            let sent = match self.frame_of(next.take()) {
                Some(frame) => self.send_frame(&mut writer, &frame).await,
                None => Ok(()),
            };
            if let Err(error) = sent {
                return End::Broken(error);
            }
            next = match queued.try_recv() {
                Ok(queued) => Some(queued),
                Err(TryRecvError::Disconnected) => return End::Unused,
                Err(TryRecvError::Empty) => {
                    if let Err(error) = writer.flush().await {
                        return End::Broken(error);
                    }
                    self.is_sending_long.store(false, Ordering::Relaxed);
                    tokio::select! {
                        biased;
                        () = self.ping.notified() => None,
                        queued = queued.recv() => match queued {
                            Some(queued) => Some(queued),
                            None => return End::Unused,
                        },
                    }
                }
            };
        }
    }

    /// What is to be sent: a call, if somebody still waits for it; without a
    /// call the question for a sign of life.
    fn frame_of(&self, queued: Option<Queued>) -> Option<Vec<u8>> {
        match queued {
            Some(queued) => self.waiting.begin(queued.id).then_some(queued.frame),
            None => Unsealed::with_capacity(0).seal(SIGN_OF_LIFE),
        }
    }

    async fn send_frame(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        frame: &[u8],
    ) -> io::Result<()> {
        self.owed.fetch_add(1, Ordering::Relaxed);
        let is_long = frame.len() > LONG_FRAME_BYTES;
        self.is_sending_long.store(is_long, Ordering::Relaxed);
        writer.write_all(frame).await
    }

    async fn watch(&self) -> End {
        let mut clock = interval(WATCH_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = (self.meter.received_bytes(), self.meter.sent_bytes());
        let (mut heard_at, mut used_at, mut is_asked) = (Instant::now(), Instant::now(), false);
        loop {
            clock.tick().await;
            let now = Instant::now();
            let current = (self.meter.received_bytes(), self.meter.sent_bytes());
            let is_sending_long = self.is_sending_long.load(Ordering::Relaxed);
            let is_alive = current.0 != seen.0 || (is_sending_long && current.1 != seen.1);
            seen = current;
            if is_alive || self.owed.load(Ordering::Relaxed) == 0 {
                (heard_at, is_asked) = (now, false);
            }
            if is_alive || !self.waiting.is_empty() {
                used_at = now;
            }
            let silence = self.lane.silence();
            if now - heard_at >= silence {
                let problem = format!("not a byte came within {} s", silence.as_secs_f32());
                return broken(io::ErrorKind::TimedOut, &problem);
            }
            if now - heard_at >= self.lane.ping_after() && !is_asked {
                is_asked = true;
                self.ping.notify_one();
            }
            if now - used_at >= IDLE_TIME {
                return End::Idle;
            }
        }
    }
}

fn broken(kind: io::ErrorKind, problem: &str) -> End {
    End::Broken(io::Error::new(kind, problem))
}
