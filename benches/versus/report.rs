//! The table on stdout and the JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cell::{self, Cell};
use crate::mixed;
use crate::rows::{Headline, Row};
use crate::servers::Kind;
use crate::stock::StockTable;

/// What was measured of one row.
pub struct RowResult {
    pub row: Row,
    /// One cell per round.
    pub rounds: BTreeMap<Kind, Vec<Cell>>,
}

impl RowResult {
    /// The cell over all rounds.
    pub fn summary(&self, kind: Kind) -> Option<Cell> {
        self.rounds.get(&kind).map(|rounds| Cell::summary(rounds))
    }

    /// How many times better `ours` is than `theirs` in this row. The ratio of
    /// each round is taken first: both figures of a round were measured within seconds,
    /// so that what else the machine did meanwhile cancels out.
    pub fn ratio(&self, ours: Kind, theirs: Kind) -> Option<f64> {
        let ours = self.rounds.get(&ours)?;
        let theirs = self.rounds.get(&theirs)?;
        let ratios = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| self.row.ratio(ours, theirs));
        Some(cell::median(ratios.collect()))
    }
}

/// Prints the table of all rows.
pub fn print(results: &[RowResult]) {
    if results.is_empty() {
        return;
    }
    println!(
        "{:<36} {:<7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7}  notes",
        "row", "server", "ops/s", "p50 us", "p99 us", "p999 us", "xpython", "xlimit"
    );
    for result in results {
        println!();
        for (place, &kind) in result.rounds.keys().enumerate() {
            let title = if place == 0 { result.row.title } else { "" };
            print_line(result, kind, title);
        }
    }
    println!(
        "\nxpython, xlimit: how many times better than that server; ops/s where ops/s are the \
         row's figure, p99 in the rows of readers beside writers and of invalidations."
    );
}

fn print_line(result: &RowResult, kind: Kind, title: &str) {
    let Some(cell) = result.summary(kind) else {
        return;
    };
    let ratio = |other| match result.ratio(kind, other) {
        Some(ratio) if kind != other => format!("{ratio:.2}"),
        _ => "-".to_owned(),
    };
    println!(
        "{title:<36} {:<7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7}  {}",
        kind.to_string(),
        grouped(cell.rate),
        grouped(cell.p50_us),
        grouped(cell.p99_us),
        grouped(cell.p999_us),
        ratio(Kind::Python),
        ratio(Kind::Limit),
        notes(&cell),
    );
}

fn notes(cell: &Cell) -> String {
    let extra = |name| cell.extra.get(name).copied();
    if let (Some(fewest), Some(most), Some(gap)) = (
        extra(cell::FEWEST_COMMITS),
        extra(cell::MOST_COMMITS),
        extra(cell::LONGEST_GAP_MS),
    ) {
        return format!(
            "per writer {}..{}, longest gap {gap:.0} ms",
            grouped(fewest),
            grouped(most)
        );
    }
    if let (Some(alone), Some(slowdown), Some(commits)) = (
        extra(mixed::P99_ALONE_US),
        extra(mixed::SLOWDOWN),
        extra(mixed::WRITER_RATE),
    ) {
        return format!(
            "p99 alone {}, busy/alone {slowdown:.2}, {} commits/s",
            grouped(alone),
            grouped(commits)
        );
    }
    String::new()
}

/// A whole number with thousands set apart.
pub fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes all figures, each round included.
pub fn write_json(
    path: &Path,
    results: &[RowResult],
    stock: Option<&StockTable>,
    settings: &Value,
) -> io::Result<()> {
    let rows: Vec<_> = results.iter().map(row_json).collect();
    let document = json!({
        "settings": settings,
        "rows": rows,
        "stock": stock.map(StockTable::to_json),
    });
    fs::write(path, format!("{document:#}\n"))
}

fn row_json(result: &RowResult) -> Value {
    let servers: serde_json::Map<_, _> = result
        .rounds
        .iter()
        .map(|(kind, rounds)| {
            let rounds_json: Vec<_> = rounds.iter().map(cell_json).collect();
            let figures = json!({
                "summary": cell_json(&Cell::summary(rounds)),
                "rounds": rounds_json,
                "ratio_to_python": result.ratio(*kind, Kind::Python),
                "ratio_to_limit": result.ratio(*kind, Kind::Limit),
            });
            (kind.to_string(), figures)
        })
        .collect();
    json!({
        "key": result.row.key,
        "title": result.row.title,
        "headline": match result.row.headline() {
            Headline::Rate => "rate",
            Headline::P99 => "p99_us",
        },
        "servers": servers,
    })
}

fn cell_json(cell: &Cell) -> Value {
    json!({
        "rate": cell.rate,
        "p50_us": cell.p50_us,
        "p99_us": cell.p99_us,
        "p999_us": cell.p999_us,
        "extra": cell.extra,
    })
}
