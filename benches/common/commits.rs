//! Writers: each commits to objects of its own, so that nothing conflicts.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{self, Cell, to_f64};
use crate::generator::{Connection, Failure};
use crate::wire::{self, Object};

/// How the writers of a cell write.
#[derive(Debug, Clone, Copy)]
pub struct Writers {
    pub connections: usize,
    /// Objects per transaction.
    pub objects: usize,
}

/// Runs the writers for `period`; `objects` are shared out among them, and they among the
/// addresses of one database.
pub fn run(
    addresses: &[SocketAddr],
    objects: &mut [Object],
    writers: Writers,
    period: Duration,
) -> Result<Cell, Failure> {
    let barrier = Barrier::new(writers.connections);
    let connections = open(addresses, writers.connections)?;
    let results = thread::scope(|scope| {
        let shares = shares(objects, writers);
        let threads: Vec<_> = connections
            .into_iter()
            .zip(shares)
            .map(|(connection, share)| {
                let barrier = &barrier;
                scope.spawn(move || write(connection, share, writers.objects, barrier, period))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a writer panicked"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(summarise(results, period))
}

/// Connections, each to the next one of the addresses.
pub fn open(addresses: &[SocketAddr], count: usize) -> Result<Vec<Connection>, Failure> {
    let addresses = addresses.iter().cycle();
    addresses
        .take(count)
        .map(|address| Connection::open(*address, false))
        .collect()
}

/// A run of objects for each writer, a multiple of a transaction's size.
pub fn shares(objects: &mut [Object], writers: Writers) -> impl Iterator<Item = &mut [Object]> {
    let share = objects.len() / writers.connections / writers.objects * writers.objects;
    assert!(share > 0, "too few objects for so many writers");
    objects.chunks_exact_mut(share).take(writers.connections)
}

/// One writer's work.
#[derive(Debug)]
pub struct Written {
    latencies: Vec<Duration>,
    /// Commits acknowledged before the period's end.
    pub in_time: usize,
    longest_gap: Duration,
}

/// Commits for `period` after all have passed the barrier. The last commit is
/// carried to its end, however late: the objects' serials must stay known.
pub fn write(
    mut connection: Connection,
    objects: &mut [Object],
    per_transaction: usize,
    barrier: &Barrier,
    period: Duration,
) -> Result<Written, Failure> {
    let record = wire::record();
    let mut written = Written {
        latencies: Vec::new(),
        in_time: 0,
        longest_gap: Duration::ZERO,
    };
    barrier.wait();
    let mut begun = Instant::now();
    let end = begun + period;
    loop {
        for batch in objects.chunks_exact_mut(per_transaction) {
            connection.commit(batch, &record)?;
            let now = Instant::now();
            // A writer begins again at once, so its latency is its gap.
            let latency = now - begun;
            written.latencies.push(latency);
            written.longest_gap = written.longest_gap.max(latency);
            begun = now;
            if now >= end {
                return Ok(written);
            }
            written.in_time += 1;
        }
    }
}

fn summarise(results: Vec<Written>, period: Duration) -> Cell {
    let mut counts: Vec<_> = results
        .iter()
        .map(|written| to_f64(written.in_time))
        .collect();
    counts.sort_unstable_by(f64::total_cmp);
    let gap = results.iter().map(|written| written.longest_gap).max();
    let in_time = results.iter().map(|written| written.in_time).sum();
    let latencies = results
        .into_iter()
        .flat_map(|written| written.latencies)
        .collect();
    let mut cell = Cell::new(latencies, in_time, period);
    cell.extra.extend([
        (cell::FEWEST_COMMITS, counts[0]),
        (cell::MOST_COMMITS, counts[counts.len() - 1]),
        (
            cell::LONGEST_GAP_MS,
            gap.unwrap_or_default().as_secs_f64() * 1e3,
        ),
        (cell::MEDIAN_COMMITS, cell::median(counts)),
    ]);
    cell
}

/// Writes `count` new objects, a hundred to a transaction.
pub fn populate(address: SocketAddr, count: usize) -> Result<Vec<Object>, Failure> {
    let record = wire::record();
    let mut connection = Connection::open(address, false)?;
    let mut objects = Vec::with_capacity(count);
    while objects.len() < count {
        let mut batch: Vec<_> = connection
            .new_oids()?
            .into_iter()
            .take(count - objects.len())
            .map(|oid| Object {
                oid,
                serial: [0; 8],
            })
            .collect();
        connection.commit(&mut batch, &record)?;
        objects.append(&mut batch);
    }
    Ok(objects)
}
