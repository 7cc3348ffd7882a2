//! What one measurement of one row at one server gives.

use std::collections::BTreeMap;
use std::time::Duration;

/// Figures of one cell, or the medians of several.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Operations per second.
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// What only some rows have, by name.
    pub extra: BTreeMap<&'static str, f64>,
}

/// The names of the extra figures of writers.
pub const FEWEST_COMMITS: &str = "fewest_commits";
pub const MEDIAN_COMMITS: &str = "median_commits";
pub const MOST_COMMITS: &str = "most_commits";
pub const LONGEST_GAP_MS: &str = "longest_gap_ms";

impl Cell {
    /// From the latencies of all operations and how many of them ended in time.
    pub fn new(mut latencies: Vec<Duration>, in_time: usize, period: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            rate: to_f64(in_time) / period.as_secs_f64(),
            p50_us: percentile_us(&latencies, 0.5),
            p99_us: percentile_us(&latencies, 0.99),
            p999_us: percentile_us(&latencies, 0.999),
            extra: BTreeMap::new(),
        }
    }

    /// The medians of several rounds. Of what tells of starvation the worst
    /// round counts: a median would hide that one writer stood still once.
    pub fn summary(rounds: &[Cell]) -> Self {
        let of = |field: fn(&Cell) -> f64| median(rounds.iter().map(field).collect());
        let mut summary = Self {
            rate: of(|cell| cell.rate),
            p50_us: of(|cell| cell.p50_us),
            p99_us: of(|cell| cell.p99_us),
            p999_us: of(|cell| cell.p999_us),
            extra: BTreeMap::new(),
        };
        let names = rounds
            .first()
            .into_iter()
            .flat_map(|cell| cell.extra.keys());
        for name in names {
            let figures = rounds
                .iter()
                .filter_map(|cell| cell.extra.get(name).copied());
            let figure = match *name {
                LONGEST_GAP_MS => figures.fold(0.0, f64::max),
                FEWEST_COMMITS => figures.fold(f64::INFINITY, f64::min),
                _ => median(figures.collect()),
            };
            summary.extra.insert(name, figure);
        }
        summary
    }
}

/// The middle of the figures, 0 when there are none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

fn percentile_us(sorted: &[Duration], part: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length is between 0 and that length"
    )]
    let place = (to_f64(sorted.len()) * part) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(place.min(last))
        .map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
}

/// Counts here stay far below the 2^52 that a float holds exactly.
#[allow(clippy::cast_precision_loss, reason = "said above")]
pub fn to_f64(count: usize) -> f64 {
    count as f64
}
