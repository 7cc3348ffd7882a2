//! What the system and administrators tell the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP: the configuration was changed. (Or the terminal was closed.)
    Reload,
    /// SIGUSR2: somebody has moved the log files away.
    ReopenLogs,
}

/// The signals that the server listens to.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user2: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Wanted {
        let (name, wanted) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", Wanted::Stop),
            _ = self.interrupt.recv() => ("SIGINT", Wanted::Stop),
            _ = self.hangup.recv() => ("SIGHUP", Wanted::Reload),
            _ = self.user2.recv() => ("SIGUSR2", Wanted::ReopenLogs),
        };
        tracing::info!("received {name}");
        wanted
    }
}
