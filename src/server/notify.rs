//! What the service manager (systemd, or whoever set `NOTIFY_SOCKET`) is told.
//! Without one all of this does nothing.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::session::Databases;

/// A start is given this much more time, again and again, as long as it goes on.
const START_EXTENSION: Duration = Duration::from_mins(1);

/// Clients can connect. `status` is shown to the administrator.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What the server is doing, for the administrator.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The configuration is being read anew; [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        // Without the time systemd would take the reload for a failed one.
        Err(error) => tracing::warn!("the clock cannot be read: {error}"),
    }
}

/// The end has begun.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Asks for more time while the storages are being opened; a large one without
/// an index takes longer than systemd waits by default. Asks once at once, and
/// again by the returned future, which is never ready.
pub fn ask_for_time() -> impl Future<Output = ()> {
    ask_once();
    async {
        loop {
            tokio::time::sleep(START_EXTENSION / 3).await;
            ask_once();
        }
    }
}

fn ask_once() {
    let extension = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(extension)]);
}

/// Tells the watchdog that the server lives, twice as often as it asks for. It
/// is told only while tasks run and no lock that every commit takes is stuck.
/// A slow disk is no reason to be killed.
pub async fn feed_watchdog(databases: Arc<Databases>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut interval = tokio::time::interval(limit / 2);
    loop {
        interval.tick().await;
        let databases = Arc::clone(&databases);
        let probe = tokio::task::spawn_blocking(move || {
            for database in databases.values() {
                database.settle();
                database.locks.waiting();
            }
        });
        if let Err(error) = probe.await {
            tracing::error!("the watchdog is not told that the server lives: {error}");
            continue;
        }
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager cannot be told: {error}");
    }
}
