//! What a Python user feels: the stock client against zeod and against Python.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cell::median;
use crate::generator::Failure;
use crate::options::Options;
use crate::report::grouped;
use crate::servers::{Kind, Server, helper, python};

/// Operations per second by row, then by server, one per round.
#[derive(Default)]
pub struct StockTable {
    rows: BTreeMap<String, BTreeMap<Kind, Vec<f64>>>,
}

impl StockTable {
    /// Runs the stock client against each server in turn, `rounds` times. Servers and
    /// databases are new, since it writes objects that the raw rows do not know.
    pub fn measure(options: &Options, directory: &Path) -> Result<Self, Failure> {
        let kinds: Vec<_> = options
            .servers
            .iter()
            // The canned answers are no database.
            .filter(|kind| **kind != Kind::Limit)
            .collect();
        let servers = kinds
            .into_iter()
            .map(|kind| Server::start(*kind, directory))
            .collect::<Result<Vec<_>, _>>()?;
        let mut table = Self::default();
        for _ in 0..options.rounds {
            for server in &servers {
                for (name, rate) in run_client(server, options.seconds)? {
                    let row = table.rows.entry(name).or_default();
                    row.entry(server.kind).or_default().push(rate);
                }
            }
        }
        Ok(table)
    }

    /// zeod's rate over Python's for each row that has both, round by round.
    pub fn ratios(&self) -> Vec<(&str, f64)> {
        let ratio = |row: &BTreeMap<Kind, Vec<f64>>| {
            let pairs = row.get(&Kind::Zeod)?.iter().zip(row.get(&Kind::Python)?);
            Some(median(pairs.map(|(ours, theirs)| ours / theirs).collect()))
        };
        self.rows
            .iter()
            .filter_map(|(name, row)| Some((name.as_str(), ratio(row)?)))
            .collect()
    }

    pub fn print(&self) {
        println!("\n{:<36} {:<7} {:>9}", "stock client", "server", "ops/s");
        let ratios: BTreeMap<_, _> = self.ratios().into_iter().collect();
        for (name, row) in &self.rows {
            for (kind, rates) in row {
                let ratio = match ratios.get(name.as_str()) {
                    Some(ratio) if *kind == Kind::Zeod => format!("{ratio:.2} times Python"),
                    _ => String::new(),
                };
                let rate = grouped(median(rates.clone()));
                println!("{name:<36} {:<7} {rate:>9}  {ratio}", kind.to_string());
            }
        }
    }

    pub fn to_json(&self) -> Value {
        let rows: serde_json::Map<_, _> = self
            .rows
            .iter()
            .map(|(name, row)| {
                let rates: serde_json::Map<_, _> = row
                    .iter()
                    .map(|(kind, rates)| (kind.to_string(), json!(rates)))
                    .collect();
                (name.clone(), rates.into())
            })
            .collect();
        rows.into()
    }
}

/// One run of the client: a JSON object of rates on its stdout.
fn run_client(server: &Server, seconds: f64) -> Result<Vec<(String, f64)>, Failure> {
    let address = server.address();
    let output = Command::new(python()?)
        .arg(helper("stock_client.py"))
        .arg(address.ip().to_string())
        .arg(address.port().to_string())
        .arg(seconds.to_string())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        let kind = server.kind;
        return Err(Failure::Setup(format!("the stock client failed at {kind}")));
    }
    let rates: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::Setup(format!("the stock client's figures: {error}")))?;
    Ok(rates.into_iter().collect())
}
