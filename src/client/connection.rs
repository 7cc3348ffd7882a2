use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::connect::Stream;
use super::driver;
use super::error::{CallError, OpenError};
use super::outgoing::{Guard, OnReply, Shared};
use crate::wire::{self, Format, Request, ServerNotice, Value};

/// A greeting is two bytes long; other programs' may be longer.
const MAX_GREETING_BYTES: usize = 64;

/// How a connection is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest message that is taken from the server. Memory is taken as
    /// its bytes arrive. A longer one ends the connection.
    pub max_frame_bytes: usize,
    /// While so much waits to be sent, who wants to send more waits. One
    /// request can be longer.
    pub max_unsent_bytes: usize,
    /// So often the server is shown that its client lives.
    pub heartbeat: Duration,
    /// So long the server may take to greet.
    pub greeting_time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_frame_bytes: 256 << 20,
            max_unsent_bytes: 1 << 20,
            heartbeat: Duration::from_mins(1),
            greeting_time: Duration::from_secs(30),
        }
    }
}

/// Who is told what the server says unasked.
pub enum Listener {
    /// Nobody.
    Nobody,
    /// A function, called by the task that reads, between the replies before
    /// and after. It must not wait.
    Callback(Box<dyn FnMut(ServerNotice<'_>) + Send>),
}

impl Listener {
    /// A function.
    pub fn callback(callback: impl FnMut(ServerNotice<'_>) + Send + 'static) -> Self {
        Self::Callback(Box::new(callback))
    }
}

/// A connection to a server. Clones are the same connection, which is closed
/// when the last one is dropped; what was sent before still goes out.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) shared: Arc<Shared>,
    _guard: Arc<Guard>,
}

impl Connection {
    /// Greets the server at the other end of `stream`, and starts the task
    /// that serves the connection.
    pub async fn open(
        mut stream: impl Stream,
        options: Options,
        listener: Listener,
    ) -> Result<Self, OpenError> {
        let greeted = tokio::time::timeout(options.greeting_time, greet(&mut stream));
        let format = greeted.await.map_err(|_| OpenError::Silent {
            seconds: options.greeting_time.as_secs(),
        })??;
        let shared = Arc::new(Shared::new(format, options.max_unsent_bytes));
        tokio::spawn(driver::drive(
            stream,
            Arc::clone(&shared),
            listener,
            options,
        ));
        Ok(Self {
            _guard: Arc::new(Guard(Arc::clone(&shared))),
            shared,
        })
    }

    /// How messages are written; the server chose.
    pub fn format(&self) -> Format {
        self.shared.format
    }

    /// Sends a request that has no reply, once there is room for it.
    pub async fn send_one_way(&self, request: &Request<'_>) -> Result<(), CallError> {
        self.shared.send(request, None).await
    }

    /// Sends a request once there is room for it; `on_reply` is run when the
    /// answer is there, or there will be none, by the task that also calls the
    /// [`Listener`], in the order of what the server sent. It must not wait.
    pub async fn send_with(
        &self,
        request: &Request<'_>,
        on_reply: OnReply,
    ) -> Result<(), CallError> {
        self.shared.send(request, Some(on_reply)).await
    }

    /// Sends a request once there is room for it. What is sent later is
    /// handled later by the server; the reply need not be awaited before.
    pub async fn send(&self, request: &Request<'_>) -> Result<PendingReply, CallError> {
        let (sender, receiver) = oneshot::channel();
        let on_reply = move |reply: Result<Value<'_>, CallError>| {
            // Nobody may wait any more.
            let _ = sender.send(reply.map(Value::into_owned));
        };
        self.send_with(request, Box::new(on_reply)).await?;
        Ok(PendingReply(receiver))
    }

    /// Sends a request and waits for its reply.
    pub async fn call(&self, request: &Request<'_>) -> Result<Value<'static>, CallError> {
        self.send(request).await?.await
    }

    /// Begins to close the connection. What was sent before goes out; calls
    /// that wait for a reply are told that there is none.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Is it over? Then why.
    pub fn end(&self) -> Option<Arc<str>> {
        self.shared.end()
    }

    /// Waits until it is over, and says why.
    pub async fn ended(&self) -> Arc<str> {
        self.shared.ended().await
    }
}

/// A reply that is on its way.
#[derive(Debug)]
pub struct PendingReply(oneshot::Receiver<Result<Value<'static>, CallError>>);

impl Future for PendingReply {
    type Output = Result<Value<'static>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender is gone only with the task, when the runtime stops.
        let gone = |_| Err(CallError::Disconnected("this process stops".into()));
        Pin::new(&mut self.0)
            .poll(context)
            .map(|received| received.unwrap_or_else(gone))
    }
}

/// Reads the server's greeting and answers it.
async fn greet(stream: &mut impl Stream) -> Result<Format, OpenError> {
    let mut header = [0; wire::FRAME_HEADER_BYTES];
    match stream.read_exact(&mut header).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(OpenError::Closed);
        }
        read => read?,
    };
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_GREETING_BYTES {
        return Err(Format::of_server(&header)
            .err()
            .map_or(OpenError::Closed, OpenError::Protocol));
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await?;
    let format = Format::of_server(&greeting)?;
    let mut answer = Vec::new();
    wire::put_frame(&mut answer, format.greeting());
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok(format)
}
