//! The goals of the first issue, for `--assert`.

use crate::cell;
use crate::report::RowResult;
use crate::rows::{EIGHT_WRITERS, PIPELINED_READERS, Work};
use crate::servers::Kind;
use crate::stock::StockTable;

const LONGEST_GAP_MS: f64 = 1000.0;
/// The slowest writer's share of the median writer's commits.
const FAIR_SHARE: f64 = 1.0 / 3.0;

/// The goals that were missed, one line each; empty when all are reached.
pub fn missed(results: &[RowResult], stock: Option<&StockTable>) -> Vec<String> {
    let mut missed = Vec::new();
    for result in results {
        let title = result.row.title;
        let goal = match result.row.key {
            PIPELINED_READERS => 2.0,
            EIGHT_WRITERS => 4.0,
            _ => 1.0,
        };
        match result.ratio(Kind::Zeod, Kind::Python) {
            // A comparison with NaN fails, as it should.
            Some(ratio) if ratio >= goal => {}
            Some(ratio) => missed.push(format!(
                "{title}: {ratio:.2} times Python, the goal is {goal}"
            )),
            None => missed.push(format!("{title}: not measured at both zeod and Python")),
        }
        if matches!(result.row.work, Work::Commits(_)) {
            missed.extend(starved(result));
        }
    }
    for (name, ratio) in stock.into_iter().flat_map(StockTable::ratios) {
        if ratio < 1.0 {
            missed.push(format!("stock client, {name}: {ratio:.2} times Python"));
        }
    }
    missed
}

fn starved(result: &RowResult) -> Vec<String> {
    let title = result.row.title;
    let mut missed = Vec::new();
    for (cell, round) in result
        .rounds
        .get(&Kind::Zeod)
        .into_iter()
        .flatten()
        .zip(1..)
    {
        let figure = |name| cell.extra.get(name).copied().unwrap_or(f64::NAN);
        let gap = figure(cell::LONGEST_GAP_MS);
        let fewest = figure(cell::FEWEST_COMMITS);
        let median = figure(cell::MEDIAN_COMMITS);
        if gap > LONGEST_GAP_MS {
            missed.push(format!(
                "{title}, round {round}: a writer waited {gap:.0} ms"
            ));
        }
        // No commit at all is starvation, even where the median writer has none.
        if fewest < (median * FAIR_SHARE).max(1.0) {
            missed.push(format!(
                "{title}, round {round}: a writer made {fewest} commits, the median is {median}"
            ));
        }
    }
    missed
}
