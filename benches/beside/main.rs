//! What small commits feel of a pack and of large uploads, through the server:
//! `cargo bench --bench beside`. `benches/README.md` says how to read it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here ends the benchmark, and should"
)]

mod commits;
mod database;
#[path = "../common/generator.rs"]
mod generator;
mod memory;
mod pack;
#[path = "../common/program.rs"]
mod program;
#[path = "../../tests/support/raw_client.rs"]
mod raw_client;
mod server;
#[path = "../../tests/support/server_process.rs"]
mod server_process;
mod uploads;
#[path = "../common/wire.rs"]
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use generator::Failure;
use program::Common;

/// Measure small commits alone and beside heavy work, in turn.
#[derive(Debug, Parser)]
#[command(name = "beside")]
struct Options {
    #[command(subcommand)]
    work: Option<Work>,
    /// How often
    #[arg(long, global = true, default_value_t = 5)]
    rounds: u32,
    /// How long commits alone are measured, before and after the work
    #[arg(long, global = true, default_value_t = 3.0)]
    seconds: f64,
    /// The pause of the client between two commits, in microseconds
    #[arg(long, global = true, default_value_t = 1000)]
    pause: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Subcommand)]
enum Work {
    /// A pack of a large database
    Pack {
        /// Objects in it
        #[arg(long, default_value_t = 2_000_000)]
        objects: u64,
        /// Also time the pack of Python's FileStorage, by this interpreter
        #[arg(long)]
        python: Option<PathBuf>,
    },
    /// Clients that upload blobs
    Uploads {
        /// How many at once
        #[arg(long, default_value_t = 8)]
        clients: usize,
        /// The size of each blob in MB
        #[arg(long, default_value_t = 64)]
        megabytes: usize,
        /// MB per second of all together; 0: as fast as it goes
        #[arg(long, default_value_t = 0)]
        rate: usize,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    program::end("beside", run(&options).map(|()| ExitCode::SUCCESS))
}

fn run(options: &Options) -> Result<(), Failure> {
    let directory = tempfile::tempdir_in(options.common.directory())?;
    let plan = commits::Plan {
        rounds: options.rounds,
        alone: Duration::from_secs_f64(options.seconds),
        pause: Duration::from_micros(options.pause),
    };
    match &options.work {
        Some(Work::Pack { objects, python }) => {
            pack::run(directory.path(), &plan, *objects, python.as_deref())
        }
        Some(Work::Uploads {
            clients,
            megabytes,
            rate,
        }) => uploads::run(directory.path(), &plan, *clients, *megabytes, *rate),
        None => {
            pack::run(directory.path(), &plan, 2_000_000, None)?;
            uploads::run(directory.path(), &plan, 8, 64, 0)
        }
    }
}
