//! Readers that are alone, then again beside busy writers.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::cell::{Cell, to_f64};
use crate::commits::{self, Writers};
use crate::generator::Failure;
use crate::loads::{self, Reader, Readers};
use crate::wire::Object;

/// The names of the extra figures.
pub const P99_ALONE_US: &str = "p99_alone_us";
pub const SLOWDOWN: &str = "p99_busy_to_alone";
pub const RATE_ALONE: &str = "rate_alone";
pub const WRITER_RATE: &str = "commits_per_s";

const READERS: Readers = Readers {
    connections: 2,
    depth: 1,
};
const WRITERS: Writers = Writers {
    connections: 2,
    objects: 1,
};

/// The figures are those of the busy phase; the extra ones those of the quiet phase and
/// of the writers. Readers and writers have their own halves of the objects, so
/// that every load is of a current revision in both phases.
pub fn run(address: SocketAddr, objects: &mut [Object], period: Duration) -> Result<Cell, Failure> {
    let half = objects.len() / 2;
    let (writable, readable) = objects.split_at_mut(half);
    let alone = loads::run(&[address], readable, READERS, period)?;
    let mut busy = beside_writers(address, writable, readable, period)?;
    busy.extra.insert(P99_ALONE_US, alone.p99_us);
    busy.extra.insert(RATE_ALONE, alone.rate);
    busy.extra.insert(SLOWDOWN, busy.p99_us / alone.p99_us);
    Ok(busy)
}

fn beside_writers(
    address: SocketAddr,
    writable: &mut [Object],
    readable: &[Object],
    period: Duration,
) -> Result<Cell, Failure> {
    let requests = loads::requests(address, readable)?;
    let readers = loads::open(&[address], READERS.connections)?;
    let writers = commits::open(&[address], WRITERS.connections)?;
    let barrier = Barrier::new(READERS.connections + WRITERS.connections);
    let (loads, commits) = thread::scope(|scope| {
        let barrier = &barrier;
        let writers: Vec<_> = writers
            .into_iter()
            .zip(commits::shares(writable, WRITERS))
            .map(|(connection, share)| {
                scope.spawn(move || {
                    commits::write(connection, share, WRITERS.objects, barrier, period)
                })
            })
            .collect();
        let readers: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(number, connection)| {
                let first = number * requests.count() / READERS.connections;
                let reader = Reader::new(connection, &requests, first, READERS.depth);
                scope.spawn(move || reader.run(barrier, period))
            })
            .collect();
        let loads = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader panicked"))
            .collect::<Result<Vec<_>, _>>();
        let commits = writers
            .into_iter()
            .map(|writer| Ok(writer.join().expect("a writer panicked")?.in_time))
            .sum::<Result<usize, Failure>>();
        Ok::<_, Failure>((loads?, commits?))
    })?;
    let latencies: Vec<_> = loads.into_iter().flatten().collect();
    let in_time = latencies.len();
    let mut cell = Cell::new(latencies, in_time, period);
    let rate = to_f64(commits) / period.as_secs_f64();
    cell.extra.insert(WRITER_RATE, rate);
    Ok(cell)
}
