//! A client that commits one small object after the other, and its latencies.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::generator::{Connection, Failure};
use crate::wire::{self, Object};

/// How commits are measured.
#[derive(Debug)]
pub struct Plan {
    pub rounds: u32,
    /// For so long commits are alone, before the work and after it.
    pub alone: Duration,
    /// Between two commits.
    pub pause: Duration,
}

/// The client.
pub struct Committer<'a> {
    connection: Connection,
    object: [Object; 1],
    record: Vec<u8>,
    plan: &'a Plan,
}

/// The latencies of commits.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<Duration>);

impl<'a> Committer<'a> {
    /// Connects, and creates the object that is to be changed.
    pub fn new(address: SocketAddr, plan: &'a Plan) -> Result<Self, Failure> {
        let mut connection = Connection::open(address, false)?;
        let oid = connection.new_oids()?[0];
        let record = wire::record();
        let mut object = [Object {
            oid,
            serial: [0; 8],
        }];
        connection.commit(&mut object, &record)?;
        Ok(Self {
            connection,
            object,
            record,
            plan,
        })
    }

    /// Commits as long as `goes_on` says so.
    pub fn run(&mut self, goes_on: impl Fn() -> bool) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::default();
        while goes_on() {
            let begun = Instant::now();
            self.connection.commit(&mut self.object, &self.record)?;
            latencies.0.push(begun.elapsed());
            thread::sleep(self.plan.pause);
        }
        Ok(latencies)
    }

    /// Commits with nothing beside it.
    pub fn alone(&mut self) -> Result<Latencies, Failure> {
        let end = Instant::now() + self.plan.alone;
        self.run(|| Instant::now() < end)
    }
}

impl Latencies {
    /// Takes in those of another measurement.
    pub fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// The latency that `percent` of the commits stayed within.
    pub fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }

    fn figures(&self) -> String {
        let ms = |percent| self.at(percent).as_secs_f64() * 1e3;
        format!(
            "{:>6} commits: p50 {:>7.2} p90 {:>7.2} p99 {:>7.2} max {:>7.2} ms",
            self.0.len(),
            ms(50),
            ms(90),
            ms(99),
            ms(100)
        )
    }
}

/// What the rounds gave.
#[derive(Debug, Default)]
pub struct Rounds {
    alone: Latencies,
    beside: Latencies,
    p99_ratios: Vec<f64>,
}

impl Rounds {
    /// Prints a round and adds it.
    pub fn add(&mut self, alone: &Latencies, beside: &Latencies) {
        let number = self.p99_ratios.len() + 1;
        let ratio = print(&format!("round {number}"), alone, beside);
        self.p99_ratios.push(ratio);
        self.alone.add(alone);
        self.beside.add(beside);
    }

    /// Prints what all gave together. A stall of the disk in one round is in
    /// the figures of all, and not in the median.
    pub fn print(&mut self) {
        print("all rounds", &self.alone, &self.beside);
        self.p99_ratios.sort_unstable_by(f64::total_cmp);
        let median = self.p99_ratios.get(self.p99_ratios.len() / 2);
        println!(
            "  median of the rounds' p99 ratios {:.2}",
            median.copied().unwrap_or_default()
        );
    }
}

/// Prints the latencies with their ratios, and returns that of p99.
fn print(title: &str, alone: &Latencies, beside: &Latencies) -> f64 {
    let ratio = |percent| beside.at(percent).as_secs_f64() / alone.at(percent).as_secs_f64();
    println!("{title}");
    println!("  alone  {}", alone.figures());
    println!("  beside {}", beside.figures());
    println!(
        "  ratio  p50 {:.2} p90 {:.2} p99 {:.2}",
        ratio(50),
        ratio(90),
        ratio(99)
    );
    ratio(99)
}
