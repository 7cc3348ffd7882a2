//! Readers: each keeps a number of loads in flight on its connection.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::Cell;
use crate::generator::{Connection, Failure, expect_tid, misplaced};
use crate::load_requests::{LoadRequests, is_loaded_record};
use crate::raw_client::head;
use crate::wire::Object;

/// How the readers of a cell read.
#[derive(Debug, Clone, Copy)]
pub struct Readers {
    pub connections: usize,
    /// Loads in flight per connection.
    pub depth: usize,
}

/// Runs the readers, shared out among the addresses of one database, for `period` over all of
/// `objects`.
pub fn run(
    addresses: &[SocketAddr],
    objects: &[Object],
    readers: Readers,
    period: Duration,
) -> Result<Cell, Failure> {
    let connections = open(addresses, readers.connections)?;
    let requests = requests(addresses[0], objects)?;
    let barrier = Barrier::new(readers.connections);
    let results = thread::scope(|scope| {
        let readers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(number, connection)| {
                let first = number * requests.count() / readers.connections;
                let reader = Reader::new(connection, &requests, first, readers.depth);
                scope.spawn(|| reader.run(&barrier, period))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader panicked"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let latencies: Vec<Duration> = results.into_iter().flatten().collect();
    let in_time = latencies.len();
    Ok(Cell::new(latencies, in_time, period))
}

/// Read-only connections, as the readers need no more.
pub fn open(addresses: &[SocketAddr], count: usize) -> Result<Vec<Connection>, Failure> {
    let addresses = addresses.iter().cycle();
    addresses
        .take(count)
        .map(|address| Connection::open(*address, true))
        .collect()
}

/// The requests for `objects` in an order that no read-ahead can guess, yet the
/// same for every server and round.
pub fn requests(address: SocketAddr, objects: &[Object]) -> Result<LoadRequests, Failure> {
    let tid = next_tid(&mut Connection::open(address, true)?)?;
    let mut objects = objects.to_vec();
    shuffle(&mut objects);
    Ok(LoadRequests::new(objects, tid))
}

fn shuffle(objects: &mut [Object]) {
    // Knuth's multiplier; any fixed scramble would do.
    objects.sort_unstable_by_key(|object| {
        u64::from_be_bytes(object.oid).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
}

/// One reading connection.
pub struct Reader<'a> {
    connection: Connection,
    requests: &'a LoadRequests,
    depth: usize,
    /// The number of the next request to send, and of the next to be answered.
    next: usize,
    awaited: usize,
    in_flight: VecDeque<Instant>,
    latencies: Vec<Duration>,
}

impl<'a> Reader<'a> {
    pub fn new(
        connection: Connection,
        requests: &'a LoadRequests,
        first: usize,
        depth: usize,
    ) -> Self {
        Self {
            connection,
            requests,
            depth,
            next: first,
            awaited: first,
            in_flight: VecDeque::with_capacity(depth),
            latencies: Vec::new(),
        }
    }

    /// Reads for `period` after all have passed the barrier; gives the latencies of
    /// what was answered in that time.
    pub fn run(mut self, barrier: &Barrier, period: Duration) -> Result<Vec<Duration>, Failure> {
        barrier.wait();
        let end = Instant::now() + period;
        loop {
            self.send(self.depth - self.in_flight.len())?;
            let (stream, frames) = self.connection.client().parts();
            frames.fill(stream)?;
            let now = Instant::now();
            if now >= end {
                // The loads in flight are dropped with the connection.
                return Ok(self.latencies);
            }
            self.take_replies(now)?;
        }
    }

    fn send(&mut self, count: usize) -> Result<(), Failure> {
        let now = Instant::now();
        let mut left = count;
        while left > 0 {
            let run = left.min(self.requests.count() - self.next);
            let (stream, _) = self.connection.client().parts();
            stream.write_all(self.requests.run(self.next, run))?;
            self.next = (self.next + run) % self.requests.count();
            left -= run;
        }
        self.in_flight.extend(std::iter::repeat_n(now, count));
        Ok(())
    }

    /// Takes all complete replies; they come in the order of the requests.
    fn take_replies(&mut self, now: Instant) -> Result<(), Failure> {
        let (_, frames) = self.connection.client().parts();
        while let Some(payload) = frames.next()? {
            match head(payload) {
                Some(head) if head.method != b".reply" => continue,
                Some(head)
                    if head.flag == 0
                        && head.id == self.requests.id(self.awaited)
                        && is_loaded_record(head.arguments) => {}
                _ => return Err(misplaced("loadBefore", payload)),
            }
            let Some(sent) = self.in_flight.pop_front() else {
                return Err(misplaced("loadBefore", payload));
            };
            self.latencies.push(now.saturating_duration_since(sent));
            self.awaited = (self.awaited + 1) % self.requests.count();
        }
        Ok(())
    }
}

/// The tid below which every state committed so far is visible.
fn next_tid(connection: &mut Connection) -> Result<[u8; 8], Failure> {
    let value = connection.call("lastTransaction", b")")?;
    let last = expect_tid("lastTransaction", &value)?;
    Ok((u64::from_be_bytes(last) + 1).to_be_bytes())
}
