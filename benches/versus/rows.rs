//! The rows of the table: what is measured.

use std::time::Duration;

use crate::cell::Cell;
use crate::commits::{self, Writers};
use crate::generator::Failure;
use crate::invalidations;
use crate::loads::{self, Readers};
use crate::mixed;
use crate::servers::Server;

/// The work of a row.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Loads(Readers),
    Commits(Writers),
    LoadsBesideCommits,
    Invalidations { listeners: usize },
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// For `--rows` and the JSON file.
    pub key: &'static str,
    pub title: &'static str,
    pub work: Work,
}

/// Which figure of a cell stands for the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headline {
    /// Operations per second: more is better.
    Rate,
    /// The 99th percentile of the latency: less is better.
    P99,
}

impl Row {
    pub fn headline(&self) -> Headline {
        match self.work {
            Work::Loads(_) | Work::Commits(_) => Headline::Rate,
            Work::LoadsBesideCommits | Work::Invalidations { .. } => Headline::P99,
        }
    }

    /// How many times better `ours` is than `theirs`: above 1 is better, be it
    /// more operations or less time.
    pub fn ratio(&self, ours: &Cell, theirs: &Cell) -> f64 {
        match self.headline() {
            Headline::Rate => ours.rate / theirs.rate,
            Headline::P99 => theirs.p99_us / ours.p99_us,
        }
    }

    /// Measures the row once at one server.
    pub fn measure(&self, server: &mut Server, period: Duration) -> Result<Cell, Failure> {
        let address = server.address();
        let objects = &mut server.objects;
        match self.work {
            Work::Loads(readers) => loads::run(&[address], objects, readers, period),
            Work::Commits(writers) => commits::run(&[address], objects, writers, period),
            Work::LoadsBesideCommits => mixed::run(address, objects, period),
            Work::Invalidations { listeners } => {
                invalidations::run(address, objects, listeners, period)
            }
        }
    }
}

pub const PIPELINED_READERS: &str = "loads-8x16";
pub const EIGHT_WRITERS: &str = "commits-8x1";

/// All rows, in the table's order.
pub const ROWS: &[Row] = &[
    loads("loads-1x1", "loads, 1 connection, depth 1", 1, 1),
    loads("loads-8x1", "loads, 8 connections, depth 1", 8, 1),
    loads(PIPELINED_READERS, "loads, 8 connections, depth 16", 8, 16),
    commits("commits-1x1", "commits, 1 writer, 1 object", 1, 1),
    commits(EIGHT_WRITERS, "commits, 8 writers, 1 object", 8, 1),
    commits("commits-8x10", "commits, 8 writers, 10 objects", 8, 10),
    commits("commits-64x1", "commits, 64 writers, 1 object", 64, 1),
    Row {
        key: "loads-beside-commits",
        title: "loads, 2 readers beside 2 writers",
        work: Work::LoadsBesideCommits,
    },
    invalidations("invalidations-20", "invalidations, 20 listeners", 20),
    invalidations("invalidations-200", "invalidations, 200 listeners", 200),
];

const fn loads(key: &'static str, title: &'static str, connections: usize, depth: usize) -> Row {
    let work = Work::Loads(Readers { connections, depth });
    Row { key, title, work }
}

const fn commits(
    key: &'static str,
    title: &'static str,
    connections: usize,
    objects: usize,
) -> Row {
    let work = Work::Commits(Writers {
        connections,
        objects,
    });
    Row { key, title, work }
}

const fn invalidations(key: &'static str, title: &'static str, listeners: usize) -> Row {
    let work = Work::Invalidations { listeners };
    Row { key, title, work }
}
