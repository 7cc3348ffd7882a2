//! Measures zeod, Python's ZEO server and a server of canned answers side by
//! side: `cargo bench --bench versus`. `benches/README.md` says how to read it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here ends the benchmark, and should"
)]

#[path = "../common/cell.rs"]
mod cell;
#[path = "../common/commits.rs"]
mod commits;
#[path = "../common/generator.rs"]
mod generator;
mod goals;
mod invalidations;
mod limit;
#[path = "../common/load_requests.rs"]
mod load_requests;
#[path = "../common/loads.rs"]
mod loads;
mod mixed;
mod options;
#[path = "../common/program.rs"]
mod program;
#[path = "../../tests/support/raw_client.rs"]
mod raw_client;
mod report;
mod rows;
#[path = "../../tests/support/server_process.rs"]
mod server_process;
mod servers;
mod stock;
#[path = "../common/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use serde_json::json;

use generator::Failure;
use options::Options;
use report::RowResult;
use servers::Server;
use stock::StockTable;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    if let [_, subcommand, file, address_file] = arguments.as_slice()
        && subcommand == limit::SUBCOMMAND
    {
        limit::main(Path::new(file), Path::new(address_file)).unwrap();
        return ExitCode::SUCCESS;
    }
    program::end("versus", run(&Options::from_command_line()))
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let rows = options.chosen_rows();
    if options.list {
        for row in rows {
            println!("{:<22} {}", row.key, row.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() && !options.stock {
        return Err(Failure::Setup("no row matches".into()));
    }
    let parent = options.common.directory();
    fs::create_dir_all(&parent)?;
    let results = measure(options, &rows, &parent)?;
    report::print(&results);
    let stock = measure_stock(options, &parent)?;

    let json_file = servers::target_directory().join("versus.json");
    let settings = json!({
        "rounds": options.rounds,
        "seconds": options.seconds,
        "objects": options.objects,
        "cpus": available_parallelism()?.get(),
    });
    report::write_json(&json_file, &results, stock.as_ref(), &settings)?;
    println!("\nall figures: {}", relative(&json_file).display());

    Ok(verdict(options, &results, stock.as_ref()))
}

/// All rows at all servers. A round takes each row to each server in turn, and
/// each round begins with another server, so that what drifts, drifts for all.
fn measure(
    options: &Options,
    rows: &[rows::Row],
    parent: &Path,
) -> Result<Vec<RowResult>, Failure> {
    let mut results: Vec<_> = rows
        .iter()
        .map(|row| RowResult {
            row: *row,
            rounds: BTreeMap::new(),
        })
        .collect();
    if rows.is_empty() {
        return Ok(results);
    }
    let directory = tempfile::Builder::new()
        .prefix("versus-")
        .tempdir_in(parent)?;
    let mut servers = Vec::new();
    for kind in &options.servers {
        let mut server = Server::start(*kind, directory.path())?;
        let filled = server.populate(options.objects);
        filled.map_err(|failure| explain(&failure, "populate", &server))?;
        servers.push(server);
    }
    let period = Duration::from_secs_f64(options.seconds);
    for round in 1..=options.rounds {
        for result in &mut results {
            eprintln!("round {round} of {}: {}", options.rounds, result.row.title);
            for server in &mut servers {
                let cell = result.row.measure(server, period);
                let cell = cell.map_err(|failure| explain(&failure, result.row.key, server))?;
                result.rounds.entry(server.kind).or_default().push(cell);
            }
        }
        servers.rotate_left(1);
    }
    Ok(results)
}

fn measure_stock(options: &Options, parent: &Path) -> Result<Option<StockTable>, Failure> {
    if !options.stock {
        return Ok(None);
    }
    let directory = tempfile::Builder::new()
        .prefix("stock-")
        .tempdir_in(parent)?;
    let table = StockTable::measure(options, directory.path())?;
    table.print();
    Ok(Some(table))
}

fn verdict(options: &Options, results: &[RowResult], stock: Option<&StockTable>) -> ExitCode {
    if !options.assert {
        return ExitCode::SUCCESS;
    }
    let missed = goals::missed(results, stock);
    for goal in &missed {
        println!("MISSED  {goal}");
    }
    if missed.is_empty() {
        println!("all goals reached");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The failure last, where it is seen.
fn explain(failure: &Failure, row: &str, server: &Server) -> Failure {
    let kind = server.kind;
    let log = server.last_words();
    Failure::Setup(format!(
        "the end of {kind}'s log:\n{log}\n\nversus: {row} at {kind}: {failure}"
    ))
}

/// The path as seen from the project, if it lies in it.
fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .unwrap_or(path)
        .to_owned()
}
