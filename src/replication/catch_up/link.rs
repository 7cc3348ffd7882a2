//! The conversation of a transfer: the work is done on a thread that may wait
//! for disks; this carries its messages to the stream and back.

use std::future::Future;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::message::{MAX_FRAME_BYTES, Message};
use super::progress::{Progress, RateLimit};
use super::{CatchUpError, Result};
use crate::storage::file::transfer::Progress as Work;

/// So many frames wait at most between the thread and the stream, each way.
const QUEUED_FRAMES: usize = 8;
/// Data goes in frames of this size.
const DATA_BYTES: usize = 256 << 10;
/// Who works without a word says so at least as often; see [`Link::still_here`].
const WORD_INTERVAL: Duration = Duration::from_secs(10);
/// While the other's words are waited for and nothing comes or goes for so
/// long, it is given up. A disk may take that long to sync.
const PATIENCE: Duration = Duration::from_mins(1);

/// The thread's end.
pub struct Link {
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::Receiver<Message>,
    activity: Arc<Activity>,
    last_word: Instant,
}

/// What the stream has to know to give the other node up.
#[derive(Debug, Default)]
struct Activity {
    /// Grows with each frame that comes or goes.
    frames: AtomicU64,
    /// The thread waits for the other node to speak or to listen.
    is_waited_for: AtomicBool,
}

impl Link {
    /// Says something.
    pub fn send(&self, message: &Message) -> Result<()> {
        let is_waited_for = &self.activity.is_waited_for;
        is_waited_for.store(true, Ordering::Relaxed);
        let sent = self.outgoing.blocking_send(message.to_frame());
        is_waited_for.store(false, Ordering::Relaxed);
        sent.map_err(|_| broken())
    }

    /// To be called during long work that needs nothing of the other.
    pub fn still_here(&mut self) -> Result<()> {
        if self.last_word.elapsed() < WORD_INTERVAL {
            return Ok(());
        }
        self.last_word = Instant::now();
        self.send(&Message::StillHere)
    }

    /// What the other says next.
    pub fn receive(&mut self) -> Result<Message> {
        let is_waited_for = &self.activity.is_waited_for;
        is_waited_for.store(true, Ordering::Relaxed);
        let message = self.incoming.blocking_recv().ok_or_else(broken)?;
        is_waited_for.store(false, Ordering::Relaxed);
        match message {
            Message::Failed(why) => Err(CatchUpError::Peer(why)),
            message => Ok(message),
        }
    }

    /// The error for what does not belong here.
    pub fn unexpected(message: &Message) -> CatchUpError {
        let text = format!("{message:?}");
        let shown: String = text.chars().take(40).collect();
        CatchUpError::Protocol(format!("unexpected message {shown}"))
    }

    /// What is written there goes out as data; [`DataOut::end`] ends it.
    pub fn data_out(&self) -> DataOut<'_> {
        DataOut {
            link: self,
            buffer: Vec::new(),
        }
    }

    /// What comes in as data, up to its end.
    pub fn data_in(&mut self) -> DataIn<'_> {
        DataIn {
            link: self,
            piece: Vec::new(),
            at: 0,
            is_over: false,
        }
    }
}

fn broken() -> CatchUpError {
    CatchUpError::Broken(io::ErrorKind::ConnectionAborted.into())
}

/// See [`Link::data_out`].
pub struct DataOut<'a> {
    link: &'a Link,
    buffer: Vec<u8>,
}

impl DataOut<'_> {
    /// Sends what is left, and that it was all.
    pub fn end(mut self) -> Result<()> {
        self.send()?;
        self.link.send(&Message::DataEnd)
    }

    fn send(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.buffer);
        self.link.send(&Message::Data(data))
    }
}

impl Write for DataOut<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.reserve(DATA_BYTES);
        }
        let room = DATA_BYTES - self.buffer.len().min(DATA_BYTES);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= DATA_BYTES {
            self.send().map_err(io::Error::other)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See [`Link::data_in`].
pub struct DataIn<'a> {
    link: &'a mut Link,
    piece: Vec<u8>,
    at: usize,
    is_over: bool,
}

impl DataIn<'_> {
    /// See [`Link::still_here`].
    pub fn still_here(&mut self) -> Result<()> {
        self.link.still_here()
    }

    /// All has to be read; its end is still to come.
    pub fn end(mut self) -> Result<()> {
        match self.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(CatchUpError::Protocol("more data than expected".to_owned())),
            Err(error) => Err(CatchUpError::Broken(error)),
        }
    }
}

impl BufRead for DataIn<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.is_over && self.at >= self.piece.len() {
            match self.link.receive().map_err(io::Error::other)? {
                Message::Data(piece) => {
                    self.piece = piece;
                    self.at = 0;
                }
                Message::DataEnd => self.is_over = true,
                other => return Err(io::Error::other(Link::unexpected(&other))),
            }
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for DataIn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

/// Tells a thread to stop when whoever waits for it goes away.
struct StopWork(Arc<Work>);

impl Drop for StopWork {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Does `work` on a thread of its own, and carries its messages over `stream`
/// meanwhile. Afterwards nothing of the stream was read that came behind the
/// other's last message.
///
/// Dropped, it makes the thread stop, which takes a moment.
pub async fn converse<S, T>(
    stream: &mut S,
    rate: &RateLimit,
    progress: &Progress,
    work: impl FnOnce(&mut Link, &Work) -> Result<T> + Send + 'static,
) -> Result<T>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    T: Send + 'static,
{
    let (outgoing, from_work) = mpsc::channel(QUEUED_FRAMES);
    let (to_work, incoming) = mpsc::channel(QUEUED_FRAMES);
    let stop = Arc::new(Work::default());
    let is_stopped = StopWork(Arc::clone(&stop));
    let activity = Arc::new(Activity::default());
    let of_link = Arc::clone(&activity);
    let worker = tokio::task::spawn_blocking(move || {
        let mut link = Link {
            outgoing,
            incoming,
            activity: of_link,
            last_word: Instant::now(),
        };
        let result = work(&mut link, &stop);
        if let Err(error) = &result
            && !matches!(error, CatchUpError::Peer(_) | CatchUpError::Broken(_))
        {
            // Where the connection is gone there is nobody to tell.
            let _ = link.send(&Message::Failed(error.to_string()));
        }
        result
    });
    let (reader, writer) = tokio::io::split(stream);
    let result = carry(
        worker,
        read(reader, to_work, &activity, progress),
        write(writer, from_work, rate, &activity, progress),
    )
    .await;
    drop(is_stopped);
    result
}

/// Waits for the worker, and for its last words to be written. The first error
/// of the stream is the one to tell: the worker only sees that it is gone.
async fn carry<T>(
    worker: tokio::task::JoinHandle<Result<T>>,
    reading: impl Future<Output = io::Result<()>>,
    writing: impl Future<Output = io::Result<()>>,
) -> Result<T> {
    tokio::pin!(worker, reading, writing);
    let (mut read, mut written) = (None, None);
    let result = loop {
        tokio::select! {
            result = &mut reading, if read.is_none() => read = Some(result),
            result = &mut writing, if written.is_none() => written = Some(result),
            result = &mut worker => break result,
        }
    };
    let result = result.unwrap_or_else(|error| Err(CatchUpError::Broken(io::Error::other(error))));
    let written = match written {
        Some(written) => written,
        None => writing.await,
    };
    match result {
        Ok(value) => written.map(|()| value).map_err(CatchUpError::Broken),
        Err(error) => match read.and_then(io::Result::err).or(written.err()) {
            Some(of_stream) => Err(CatchUpError::Broken(of_stream)),
            None => Err(error),
        },
    }
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    to_work: mpsc::Sender<Message>,
    activity: &Activity,
    progress: &Progress,
) -> io::Result<()> {
    loop {
        let message = tokio::select! {
            message = read_frame(&mut stream, progress) => message?,
            () = silence(activity) => return Err(io::ErrorKind::TimedOut.into()),
            () = to_work.closed() => return Ok(()),
        };
        activity.frames.fetch_add(1, Ordering::Relaxed);
        if message == Message::StillHere {
            continue;
        }
        let is_last = message.is_last();
        if to_work.send(message).await.is_err() || is_last {
            return Ok(());
        }
    }
}

/// Returns when the other node is to be given up.
async fn silence(activity: &Activity) {
    loop {
        let before = activity.frames.load(Ordering::Relaxed);
        tokio::time::sleep(PATIENCE).await;
        let is_waited_for = activity.is_waited_for.load(Ordering::Relaxed);
        if is_waited_for && activity.frames.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    progress: &Progress,
) -> io::Result<Message> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(invalid(format!("a frame of {length} bytes")));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    progress.moved(frame.len() as u64 + 4);
    Message::parse(&frame).map_err(|error| invalid(error.to_string()))
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut from_work: mpsc::Receiver<Vec<u8>>,
    rate: &RateLimit,
    activity: &Activity,
    progress: &Progress,
) -> io::Result<()> {
    loop {
        let frame = if let Ok(frame) = from_work.try_recv() {
            frame
        } else {
            stream.flush().await?;
            match from_work.recv().await {
                Some(frame) => frame,
                None => return Ok(()),
            }
        };
        rate.take(frame.len() as u64).await;
        stream.write_all(&frame).await?;
        activity.frames.fetch_add(1, Ordering::Relaxed);
        progress.moved(frame.len() as u64);
    }
}
