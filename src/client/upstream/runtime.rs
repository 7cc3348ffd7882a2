use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

use super::describe::storage_error;
use crate::client::CallError;
use crate::storage::Result;
use std::sync::Arc;

/// A runtime on a thread of its own.
#[derive(Debug)]
pub(super) struct Runtime {
    handle: Handle,
    stop: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Ready(tokio::runtime::Runtime),
    Running(JoinHandle<()>),
    Stopped,
}

impl Runtime {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            stop: Arc::default(),
            state: Mutex::new(State::Ready(runtime)),
        })
    }

    /// Begins to run `work`, and all that is spawned, until it is stopped.
    pub(super) fn start(
        &self,
        name: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Stopped) {
            State::Ready(runtime) => {
                let stop = Arc::clone(&self.stop);
                let run = move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = work => {}
                            () = stop.notified() => {}
                        }
                    });
                };
                let thread = std::thread::Builder::new().name(format!("upstream {name}"));
                *state = State::Running(thread.spawn(run)?);
            }
            other => *state = other,
        }
        Ok(())
    }

    pub(super) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.handle.spawn(work)
    }

    /// Runs `work` there, while this thread waits.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<T, CallError>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver
            .recv()
            .unwrap_or_else(|_| Err(CallError::Disconnected("this server stops".into())))
            .map_err(storage_error)
    }

    /// Ends everything that runs there.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
        let state = std::mem::replace(&mut *self.state.lock(), State::Stopped);
        match state {
            State::Running(thread) => {
                if thread.join().is_err() {
                    tracing::error!("the thread of a <zeoclient> panicked");
                }
            }
            State::Ready(runtime) => runtime.shutdown_background(),
            State::Stopped => {}
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.notify_one();
        // The last handle may be dropped by a task of this runtime, which
        // cannot wait for itself.
        if let State::Ready(runtime) = std::mem::replace(&mut *self.state.lock(), State::Stopped) {
            runtime.shutdown_background();
        }
    }
}
