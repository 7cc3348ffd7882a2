//! One client's connection: bytes to requests, outcomes to bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::limits::{
    HELLO_TIME, LINGER_TIME, MAX_BEHIND_BYTES, MAX_FRAME_BYTES, MAX_HELLO_BYTES, MAX_OUTBOX_BYTES,
    MAX_STRANGERS_FRAME_BYTES, READ_BYTES, STALLED_TIME,
};
use crate::session::{self, Databases, Outbox, SENT_AHEAD_BYTES, Session};
use crate::stats::Client;
use crate::transaction::Blocking;
use crate::wire::{
    self, ClientHello, DecodeError, Exception, FRAME_HEADER_BYTES, Format, FrameStep, Message,
};

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client closed it.
    Closed,
    /// The network did.
    Io(io::Error),
    /// The client broke a rule; it is cut off.
    CutOff(String),
    /// The server stops.
    Stopping,
    /// The client held its locks for longer than this.
    TransactionTimeout(Duration),
}

impl End {
    /// Why the server ended it, in one word for the statistics.
    fn cut_off(&self) -> Option<&'static str> {
        match self {
            Self::Closed | Self::Io(_) | Self::Stopping => None,
            Self::CutOff(_) => Some("rule"),
            Self::TransactionTimeout(_) => Some("transaction_timeout"),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        // TLS would have its end announced, which Python does not do. The
        // frames' lengths tell whether anything is missing.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        Self::Io(error)
    }
}

/// Waits for the disk after giving the thread's other tasks to another one.
#[derive(Clone, Copy, Debug)]
struct InPlace;

impl Blocking for InPlace {
    fn run(&self, work: &mut dyn FnMut()) {
        tokio::task::block_in_place(work);
    }
}

/// Serves a client until one of both ends it.
pub async fn serve<S>(mut stream: S, session: Session, databases: &Databases, format: Format)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let label = session.label().to_owned();
    let client = Arc::clone(session.client());
    let hello = tokio::time::timeout(HELLO_TIME, greet(&mut stream, format));
    // Nobody but a stop has anything for one who has not registered.
    let inbox = session.inbox();
    let stop = poll_fn(|context| inbox.poll_filled(context.waker()));
    let hello = tokio::select! {
        hello = hello => hello,
        () = stop => Ok(Err(End::Stopping)),
    };
    let end = match hello {
        Ok(Ok(ClientHello::Speak(format))) => {
            let mut connection = Connection::new(stream, session, format);
            let end = connection.run().await;
            return log_end(connection.session.label(), &client, &end);
        }
        Ok(Ok(ClientHello::Ruok)) => answer_ruok(&mut stream, databases).await,
        Ok(Err(end)) => end,
        Err(_) => End::CutOff(format!("no greeting within {} s", HELLO_TIME.as_secs())),
    };
    log_end(&label, &client, &end);
}

fn log_end(label: &str, client: &Client, end: &End) {
    if let Some(reason) = end.cut_off() {
        client.note_cut_off(reason);
    }
    match end {
        End::Closed => tracing::info!("({label}) disconnected"),
        End::Io(error) => tracing::info!("({label}) disconnected: {error}"),
        End::CutOff(why) => tracing::warn!("({label}) connection closed: {why}"),
        End::Stopping => tracing::debug!("({label}) connection closed: the server stops"),
        End::TransactionTimeout(limit) => {
            let seconds = limit.as_secs_f64();
            tracing::error!(
                critical = true,
                "({label}) Transaction timeout after {seconds} seconds"
            );
        }
    }
}

/// Says which protocol is spoken here, and hears which the client speaks.
async fn greet<S>(stream: &mut S, format: Format) -> Result<ClientHello, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut greeting = Vec::new();
    wire::put_frame(&mut greeting, format.greeting());
    stream.write_all(&greeting).await?;
    let mut header = [0; FRAME_HEADER_BYTES];
    if stream.read(&mut header[..1]).await? == 0 {
        return Err(End::Closed);
    }
    stream.read_exact(&mut header[1..]).await?;
    if wire::is_tls(header) {
        return Err(End::CutOff(
            "a TLS client, but this address is not encrypted: give <zeo> an <ssl> section, or \
             take it from the client"
                .to_owned(),
        ));
    }
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_HELLO_BYTES {
        return Err(End::CutOff(format!(
            "a first message of {length} bytes; this is no ZEO client"
        )));
    }
    let mut hello = vec![0; length];
    stream.read_exact(&mut hello).await?;
    ClientHello::parse(&hello).map_err(|error| End::CutOff(error.to_string()))
}

async fn answer_ruok<S: AsyncWrite + Unpin>(stream: &mut S, databases: &Databases) -> End {
    let mut answer = Vec::new();
    wire::put_frame(&mut answer, session::ruok(databases).as_bytes());
    let sent = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    sent.await.map_or_else(End::Io, |()| End::Closed)
}

struct Connection<S> {
    stream: S,
    session: Session,
    outbox: Outbox,
    /// Bytes of the client's: those in `start..filled` are still to be handled.
    input: Vec<u8>,
    start: usize,
    filled: usize,
    /// How many bytes the message at `start` needs in all, as far as is known.
    needed_bytes: usize,
    /// Bytes that others left for the client since its outbox has been full.
    behind_bytes: usize,
    timer: Timer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, session: Session, format: Format) -> Self {
        Self {
            stream,
            session,
            outbox: Outbox::new(format),
            input: vec![0; READ_BYTES],
            start: 0,
            filled: 0,
            needed_bytes: FRAME_HEADER_BYTES,
            behind_bytes: 0,
            timer: Timer::default(),
        }
    }

    async fn run(&mut self) -> End {
        loop {
            let handled = self.handle_all();
            let sent = handled.and_then(|()| self.session.send_pieces(&mut self.outbox, &InPlace));
            if let Err(why) = sent {
                // Nothing stays locked for one who is waited for.
                self.session.disconnect();
                // What was answered before is still the client's.
                let rest = async {
                    poll_fn(|context| self.poll_write(context)).await?;
                    self.stream.shutdown().await.map_err(End::from)
                };
                let _ = tokio::time::timeout(LINGER_TIME, rest).await;
                return End::CutOff(why);
            }
            if self.session.is_drained() {
                self.session.disconnect();
                let _ = tokio::time::timeout(LINGER_TIME, self.part()).await;
                return End::Stopping;
            }
            self.make_room();
            if let Err(end) = poll_fn(|context| self.poll_progress(context)).await {
                return end;
            }
        }
    }

    /// Delivers what waits and handles every whole message, while there is room for answers.
    fn handle_all(&mut self) -> Result<(), String> {
        loop {
            // Before each request: it must not be answered from a state newer
            // than what the client was told.
            self.deliver()?;
            if self.outbox.unsent().len() >= MAX_OUTBOX_BYTES || self.session.is_drained() {
                return Ok(());
            }
            let unhandled = self.input.get(self.start..self.filled).unwrap_or_default();
            let longest = if self.session.is_registered() {
                MAX_FRAME_BYTES
            } else {
                MAX_STRANGERS_FRAME_BYTES
            };
            match wire::next_frame(unhandled, longest).map_err(|error| error.to_string())? {
                FrameStep::Incomplete { needed_bytes } => {
                    self.needed_bytes = needed_bytes;
                    return Ok(());
                }
                FrameStep::Complete { payload } => {
                    let end = self.start + payload.end;
                    let payload = unhandled.get(payload).unwrap_or_default();
                    handle(payload, &mut self.session, &mut self.outbox)?;
                    self.start = end;
                }
            }
        }
    }

    /// Delivers what waits, also to a client that does not read: it may be a
    /// granted lock. But only so much of it.
    fn deliver(&mut self) -> Result<(), String> {
        let before = self.outbox.unsent().len();
        self.session.deliver(&mut self.outbox, &InPlace)?;
        if before < MAX_OUTBOX_BYTES {
            self.behind_bytes = 0;
            return Ok(());
        }
        self.behind_bytes += self.outbox.unsent().len() - before;
        if self.behind_bytes > MAX_BEHIND_BYTES {
            return Err("the client does not read what it is sent".to_owned());
        }
        Ok(())
    }

    /// Sends what was answered, and waits until the client has closed, too: what
    /// it still sends would otherwise make its kernel throw the answers away.
    async fn part(&mut self) -> Result<(), End> {
        poll_fn(|context| self.poll_write(context)).await?;
        self.stream.shutdown().await?;
        while self.stream.read(&mut self.input).await? > 0 {}
        Ok(())
    }

    /// Moves what is unhandled to the buffer's front, and grows the buffer for
    /// a long message, no faster than its bytes arrive.
    fn make_room(&mut self) {
        if self.start == self.filled {
            self.start = 0;
            self.filled = 0;
            if self.input.len() > READ_BYTES {
                self.input = vec![0; READ_BYTES];
            }
        } else if self.start > 0 {
            self.input.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        if self.filled == self.input.len() && self.needed_bytes > self.filled {
            let length = self.needed_bytes.min(self.input.len() * 2);
            self.input.resize(length, 0);
        }
    }

    /// Ready once there is something to do: bytes came, deliveries came, or
    /// there is room again for answers.
    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let was_full = self.outbox.unsent().len() >= MAX_OUTBOX_BYTES;
        let wrote = match self.poll_write(context) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
            Poll::Pending => false,
        };
        let unsent = self.outbox.unsent().len();
        self.session.client().unsent_bytes.set(unsent as u64);
        let is_full = unsent >= MAX_OUTBOX_BYTES;
        let mut progress = was_full && !is_full;
        if !is_full && self.filled < self.input.len() {
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => {}
            }
        }
        if self.session.is_sending() && self.outbox.unsent().len() < SENT_AHEAD_BYTES {
            progress = true;
        }
        if self.session.inbox().poll_filled(context.waker()).is_ready() {
            progress = true;
        }
        if progress {
            return Poll::Ready(Ok(()));
        }
        self.poll_deadlines(context, wrote)
    }

    /// Sends what can be sent; ready when nothing is left.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        while !self.outbox.unsent().is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, self.outbox.unsent()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Closed)),
                Poll::Ready(Ok(count)) => {
                    self.session.client().sent_bytes.add(count as u64);
                    self.outbox.note_sent(count);
                    self.timer.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.timer.stalled_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        // A stream that encrypts may hold bytes back.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut room = ReadBuf::new(self.input.get_mut(self.filled..).unwrap_or_default());
        match Pin::new(&mut self.stream).poll_read(context, &mut room) {
            Poll::Ready(Ok(())) if room.filled().is_empty() => Poll::Ready(Err(End::Closed)),
            Poll::Ready(Ok(())) => {
                let count = room.filled().len();
                self.session.client().received_bytes.add(count as u64);
                self.filled += count;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Has the client held its locks for too long, or read nothing for too long?
    fn poll_deadlines(&mut self, context: &mut Context<'_>, wrote: bool) -> Poll<Result<(), End>> {
        let stalled = self
            .timer
            .stalled_since
            .filter(|_| !wrote)
            .map(|since| since + STALLED_TIME);
        loop {
            let transaction = self.session.deadline();
            let Some(deadline) = [stalled, transaction].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            if Instant::now() >= deadline {
                let end = if transaction == Some(deadline) {
                    let limit = self.session.transaction_timeout().unwrap_or_default();
                    End::TransactionTimeout(limit)
                } else {
                    let seconds = STALLED_TIME.as_secs();
                    End::CutOff(format!("the client has read nothing for {seconds} s"))
                };
                return Poll::Ready(Err(end));
            }
            if self.timer.poll_until(deadline, context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Handles one message.
fn handle(payload: &[u8], session: &mut Session, outbox: &mut Outbox) -> Result<(), String> {
    match wire::decode(outbox.format(), payload) {
        Ok(Message::Heartbeat) => Ok(()),
        Ok(Message::Call {
            id,
            one_way,
            request,
        }) => {
            if request.is_barrier() {
                session.settle();
                session.deliver(outbox, &InPlace)?;
            }
            session.answer(&id, one_way, request, outbox, &InPlace)
        }
        Err(DecodeError::BadArguments {
            id,
            one_way: false,
            method,
            names_no_object,
            detail,
        }) => {
            // That an object is not there is no news, whatever names it.
            if names_no_object {
                tracing::debug!("({}) {method}: {detail}", session.label());
            } else {
                tracing::warn!("({}) {method}: {detail}", session.label());
            }
            outbox.error(&id, &bad_arguments(method, names_no_object, &detail));
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The exception that the reference raises for such arguments.
fn bad_arguments(method: &str, names_no_object: bool, detail: &str) -> Exception {
    let message = format!("{method}: {detail}");
    if names_no_object {
        Exception::Other {
            class: "ZODB.POSException.POSKeyError".to_owned(),
            message,
        }
    } else {
        Exception::TypeError(message)
    }
}

/// One timer for all deadlines of a connection. It is not set anew with each
/// transaction: deadlines only move away, so it is enough to look again when it
/// goes off.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    stalled_since: Option<Instant>,
}

impl Timer {
    /// Ready when it is time to look at the deadlines again.
    fn poll_until(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        let polled = sleep.as_mut().poll(context);
        if polled.is_ready() {
            self.sleep = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests;
