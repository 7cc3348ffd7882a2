//! Listeners: how long after a commit's reply each of many clients hears of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cell::Cell;
use crate::generator::{Connection, Failure, misplaced};
use crate::loads;
use crate::raw_client::{Head, RawClient, head};
use crate::wire::{self, Object};

/// A listener that hears nothing of a commit for so long fails the benchmark.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the listeners look whether they are to stop.
const POLL: Duration = Duration::from_millis(50);

/// A listener heard of this transaction at this instant.
type Arrival = ([u8; 8], Instant);

/// One writer commits; the next commit waits until all listeners have heard, so that
/// the figures are latencies and not queues.
pub fn run(
    address: SocketAddr,
    objects: &mut [Object],
    listeners: usize,
    period: Duration,
) -> Result<Cell, Failure> {
    let mut connections = loads::open(&[address], listeners)?;
    let mut writer = Connection::open(address, false)?;
    let stop = AtomicBool::new(false);
    let (sender, arrivals) = channel();
    thread::scope(|scope| {
        let listening = scope.spawn(|| {
            let result = listen(&mut connections, &sender, &stop);
            // Hanging up tells the writer that nothing more will arrive.
            drop(sender);
            result
        });
        let written = write(&mut writer, objects, &arrivals, listeners, period);
        stop.store(true, Ordering::Relaxed);
        // Why listening ended early says more than that the writer missed it.
        listening.join().expect("the listening thread panicked")?;
        written
    })
}

fn write(
    writer: &mut Connection,
    objects: &mut [Object],
    arrivals: &Receiver<Arrival>,
    listeners: usize,
    period: Duration,
) -> Result<Cell, Failure> {
    let record = wire::record();
    let mut delays = Vec::new();
    let mut commits = 0;
    let end = Instant::now() + period;
    while Instant::now() < end {
        let place = commits % objects.len();
        let tid = writer.commit(&mut objects[place..=place], &record)?;
        let replied = Instant::now();
        for _ in 0..listeners {
            let (heard, at) = arrivals
                .recv_timeout(PATIENCE)
                .map_err(|_| missed("a listener did not hear of a commit"))?;
            if heard != tid {
                return Err(missed("a listener heard of another transaction"));
            }
            // Whoever hears before the writer has its reply has no delay.
            delays.push(at.saturating_duration_since(replied));
        }
        commits += 1;
    }
    Ok(Cell::new(delays, commits, period))
}

/// Waits for all connections in one thread: waking two hundred threads would
/// cost more than what is measured.
fn listen(
    connections: &mut [Connection],
    arrivals: &Sender<Arrival>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let mut clients: Vec<&mut RawClient> = connections.iter_mut().map(Connection::client).collect();
    let timeout = Timespec::try_from(POLL).expect("50 ms are a time");
    while !stop.load(Ordering::Relaxed) {
        let mut polled: Vec<_> = clients
            .iter_mut()
            .map(|client| PollFd::from_borrowed_fd(borrow(client), PollFlags::IN))
            .collect();
        poll(&mut polled, Some(&timeout)).map_err(std::io::Error::from)?;
        let ready: Vec<_> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        for (client, _) in clients.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            hear(client, arrivals)?;
        }
    }
    Ok(())
}

fn borrow(client: &mut RawClient) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(client.parts().0)
}

/// Reads once, which does not block as the poll saw something.
fn hear(client: &mut RawClient, arrivals: &Sender<Arrival>) -> Result<(), Failure> {
    let (stream, frames) = client.parts();
    frames.fill(stream)?;
    let now = Instant::now();
    while let Some(payload) = frames.next()? {
        let Some(head) = head(payload) else {
            return Err(misplaced("invalidateTransaction", payload));
        };
        if let Some(tid) = invalidated_tid(&head) {
            // The writer has hung up only when it has failed, and says so itself.
            let _ = arrivals.send((tid, now));
        }
    }
    Ok(())
}

fn missed(what: &str) -> Failure {
    Failure::Unexpected {
        method: "invalidateTransaction",
        what: what.into(),
    }
}

/// The tid of an invalidation; None for other messages.
fn invalidated_tid(head: &Head<'_>) -> Option<[u8; 8]> {
    if head.method != b"invalidateTransaction" {
        return None;
    }
    head.arguments
        .strip_prefix(b"C\x08")?
        .first_chunk()
        .copied()
}
