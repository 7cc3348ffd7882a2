//! One client's connection: bytes to requests, outcomes to bytes.

mod end;
mod greeting;
mod input;
mod patience;
mod scratch;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::limits::{
    Bounds, HELLO_TIME, LINGER_TIME, MAX_STRANGERS_FRAME_BYTES, READ_BYTES, UNCOUNTED_BYTES,
};
use super::memory::Share;
use crate::session::{Databases, Outbox, SENT_AHEAD_BYTES, Session};
use crate::transaction::Blocking;
use crate::wire::{
    self, ClientHello, DecodeError, Exception, Format, FrameError, FrameStep, Message,
};
use end::{End, Limit, log_end};
use greeting::{answer_ruok, greet};
use input::Input;
use patience::{Stall, Starved, Timer};

/// Waits for the disk after giving the thread's other tasks to another one.
#[derive(Clone, Copy, Debug)]
struct InPlace;

impl Blocking for InPlace {
    fn run(&self, work: &mut dyn FnMut()) {
        tokio::task::block_in_place(work);
    }
}

/// Serves a client until one of both ends it.
pub async fn serve<S>(
    mut stream: S,
    session: Session,
    databases: &Databases,
    format: Format,
    bounds: &Arc<Bounds>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let label = session.label().to_owned();
    let client = Arc::clone(session.client());
    let is_remote = session.is_remote();
    let takes_changes = || is_remote || databases.values().all(|database| database.takes_changes());
    let hello = tokio::time::timeout(HELLO_TIME, greet(&mut stream, format, takes_changes));
    // Nobody but a stop has anything for one who has not registered.
    let inbox = session.inbox();
    let stop = poll_fn(|context| inbox.poll_filled(context.waker()));
    let hello = tokio::select! {
        hello = hello => hello,
        () = stop => Ok(Err(End::Stopping)),
    };
    let end = match hello {
        Ok(Ok(ClientHello::Speak(format))) => {
            let mut connection = Connection::new(stream, session, format, bounds);
            let end = connection.run().await;
            return log_end(connection.session.label(), &client, &end);
        }
        Ok(Ok(ClientHello::Ruok)) => answer_ruok(&mut stream, databases).await,
        Ok(Err(end)) => end,
        Err(_) => End::CutOff(format!("no greeting within {} s", HELLO_TIME.as_secs())),
    };
    log_end(&label, &client, &end);
}

struct Connection<S> {
    stream: S,
    session: Session,
    outbox: Outbox,
    input: Input,
    bounds: Arc<Bounds>,
    /// What it has of the memory for all.
    share: Share,
    /// No request is handled until the client has read some answers.
    is_full: bool,
    /// Bytes that others left for the client since its outbox has been full.
    behind_bytes: usize,
    /// The client as a reader of what waits for it.
    reader: Stall,
    /// The client as the sender of an unfinished message.
    sender: Stall,
    /// Its long message waits for memory.
    starved: Option<Starved>,
    timer: Timer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, session: Session, format: Format, bounds: &Arc<Bounds>) -> Self {
        Self {
            stream,
            session,
            outbox: Outbox::new(format),
            input: Input::new(),
            bounds: Arc::clone(bounds),
            share: Share::new(Arc::clone(&bounds.memory)),
            is_full: false,
            behind_bytes: 0,
            reader: Stall::default(),
            sender: Stall::default(),
            starved: None,
            timer: Timer::default(),
        }
    }

    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.work() {
                // Nothing stays locked for one who is waited for.
                self.session.disconnect();
                // What was answered before is still the client's.
                let rest = async {
                    poll_fn(|context| self.poll_write(context)).await?;
                    self.stream.shutdown().await.map_err(End::from)
                };
                let _ = tokio::time::timeout(LINGER_TIME, rest).await;
                return end;
            }
            if self.session.is_drained() {
                self.session.disconnect();
                let _ = tokio::time::timeout(LINGER_TIME, self.part()).await;
                return End::Stopping;
            }
            if let Err(end) = poll_fn(|context| self.poll_progress(context)).await {
                return end;
            }
        }
    }

    /// Does what can be done without waiting for the client.
    fn work(&mut self) -> Result<(), End> {
        self.session.lend_buffer(scratch::take(&scratch::RECORD));
        self.outbox.lend_buffer(|| scratch::take(&scratch::WRITE));
        let handled = self.handle_all();
        let sent =
            handled.and_then(|()| Ok(self.session.send_pieces(&mut self.outbox, &InPlace)?));
        scratch::give_back(&scratch::RECORD, self.session.take_buffer());
        sent?;
        if self.bounds.memory.is_used_up() && self.session.transaction_bytes() > UNCOUNTED_BYTES {
            self.session.save_memory();
        }
        self.count_memory();
        if self.input.make_room(&mut self.share) {
            self.starved = None;
            return Ok(());
        }
        let starved = Starved::again(self.starved, self.bounds.limits.stall_time);
        self.starved = Some(starved);
        if starved.is_over() {
            return Err(self.without_memory());
        }
        Ok(())
    }

    /// Delivers what waits and handles every whole message, while there is room for answers.
    fn handle_all(&mut self) -> Result<(), End> {
        loop {
            // Before each request: it must not be answered from a state newer
            // than what the client was told.
            self.deliver()?;
            self.is_full = self.outbox.unsent().len() >= self.answers_bytes();
            if self.is_full || self.session.is_drained() {
                return Ok(());
            }
            let unhandled = self.input.unhandled();
            let longest = if self.session.is_registered() {
                self.bounds.limits.max_message_bytes
            } else {
                MAX_STRANGERS_FRAME_BYTES
            };
            match wire::next_frame(unhandled, longest).map_err(|error| self.too_long(&error))? {
                FrameStep::Incomplete { needed_bytes } => {
                    self.input.note_needed(needed_bytes);
                    return Ok(());
                }
                FrameStep::Complete { payload } => {
                    let end = payload.end;
                    let payload = unhandled.get(payload).unwrap_or_default();
                    handle(payload, &mut self.session, &mut self.outbox)?;
                    self.input.note_handled(end);
                    self.sender.end();
                }
            }
        }
    }

    fn too_long(&self, error: &FrameError) -> End {
        if self.session.is_registered() {
            let why = format!("{error}; max-message-size in the <zeod> section sets that");
            End::AtLimit(Limit::MessageLength, why)
        } else {
            End::CutOff(error.to_string())
        }
    }

    /// With so much of answers unread no more requests are handled. Less, while
    /// there is no memory for more.
    fn answers_bytes(&self) -> usize {
        if self.bounds.memory.is_used_up() {
            UNCOUNTED_BYTES
        } else {
            self.bounds.limits.answers_bytes()
        }
    }

    /// Delivers what waits, also to a client that does not read: it may be a
    /// granted lock. But only so much of it.
    fn deliver(&mut self) -> Result<(), End> {
        let before = self.outbox.unsent().len();
        if let Err(why) = self.session.deliver(&mut self.outbox, &InPlace) {
            if self.session.inbox().has_overflowed() {
                return Err(End::AtLimit(Limit::Unsent, why));
            }
            return Err(End::CutOff(why));
        }
        if before < self.bounds.limits.answers_bytes() {
            self.behind_bytes = 0;
            return Ok(());
        }
        let unsent = self.outbox.unsent().len();
        self.behind_bytes += unsent - before;
        if self.behind_bytes > self.bounds.limits.behind_bytes() {
            let why = format!(
                "the client does not read what it is sent; {unsent} bytes wait for it (max-unsent)"
            );
            return Err(End::AtLimit(Limit::Unsent, why));
        }
        Ok(())
    }

    /// Sends what was answered, and waits until the client has closed, too: what
    /// it still sends would otherwise make its kernel throw the answers away.
    async fn part(&mut self) -> Result<(), End> {
        poll_fn(|context| self.poll_write(context)).await?;
        self.stream.shutdown().await?;
        // Not in the task of every connection.
        let mut dropped = vec![0; READ_BYTES];
        while self.stream.read(&mut dropped).await? > 0 {}
        Ok(())
    }

    /// Tells what the connection has in use of the memory for all.
    fn count_memory(&mut self) {
        let counted = |bytes: usize| if bytes > UNCOUNTED_BYTES { bytes } else { 0 };
        let outbox = counted(self.outbox.memory_bytes());
        let transaction = counted(self.session.transaction_bytes());
        self.share
            .set(self.input.counted_bytes() + outbox + transaction);
    }

    /// Ready once there is something to do: bytes came, deliveries came, or
    /// there is room again for answers.
    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let wrote = match self.poll_write(context) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
            Poll::Pending => false,
        };
        let unsent = self.outbox.unsent().len();
        self.session.client().unsent_bytes.set(unsent as u64);
        let mut progress = false;
        if self.is_full {
            progress = unsent < self.answers_bytes();
        } else if self.input.has_room() {
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
                    self.reader.note_moved(count);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.reader.begin();
                    return Poll::Pending;
                }
            }
        }
        self.reader.end();
        scratch::give_back(&scratch::WRITE, self.outbox.take_buffer());
        self.count_memory();
        // A stream that encrypts may hold bytes back.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        match self.input.poll_read(&mut self.stream, context) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(End::Closed)),
            Poll::Ready(Ok(count)) => {
                self.session.client().received_bytes.add(count as u64);
                self.sender.note_moved(count);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => {
                if !self.input.unhandled().is_empty() {
                    self.sender.begin();
                }
                Poll::Pending
            }
        }
    }

    /// Has the client held its locks for too long, or stood still for too long
    /// while it is waited for? Ready without error when it is time to look for
    /// memory again.
    fn poll_deadlines(&mut self, context: &mut Context<'_>, wrote: bool) -> Poll<Result<(), End>> {
        if self.is_full || self.starved.is_some() {
            // It is the server that does not read.
            self.sender.end();
        }
        loop {
            let patience = self.bounds.limits.stall_time;
            let transaction = self.session.deadline();
            let reader = self.reader.deadline(patience).filter(|_| !wrote);
            let sender = self.sender.deadline(patience);
            let retry = self.starved.map(|starved| starved.retry);
            let deadlines = [transaction, reader, sender, retry];
            let Some(deadline) = deadlines.into_iter().flatten().min() else {
                return Poll::Pending;
            };
            if Instant::now() < deadline {
                if self.timer.poll_until(deadline, context).is_pending() {
                    return Poll::Pending;
                }
                continue;
            }
            let is_due = |at: Option<Instant>| at == Some(deadline);
            return Poll::Ready(if is_due(transaction) {
                let limit = self.session.transaction_timeout().unwrap_or_default();
                Err(End::TransactionTimeout(limit))
            } else if is_due(reader) {
                Err(self.stalled_reader())
            } else if is_due(sender) {
                Err(self.stalled_sender())
            } else {
                Ok(())
            });
        }
    }

    fn stalled_reader(&self) -> End {
        let why = format!(
            "the client has read nothing for {} s; {} bytes wait for it (stall-time)",
            self.bounds.limits.stall_time.as_secs(),
            self.outbox.unsent().len()
        );
        End::AtLimit(Limit::StalledReader, why)
    }

    fn stalled_sender(&self) -> End {
        let why = format!(
            "the client has not gone on for {} s with a message of which {} of {} bytes came \
             (stall-time)",
            self.bounds.limits.stall_time.as_secs(),
            self.input.unhandled().len(),
            self.input.needed_bytes()
        );
        End::AtLimit(Limit::StalledSender, why)
    }

    fn without_memory(&self) -> End {
        let why = format!(
            "a message of {} bytes has waited for memory for {} s; what all clients send takes {} \
             bytes already (memory-budget)",
            self.input.needed_bytes(),
            self.bounds.limits.stall_time.as_secs(),
            self.bounds.memory.used_bytes()
        );
        End::AtLimit(Limit::Memory, why)
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

#[cfg(test)]
mod tests;
