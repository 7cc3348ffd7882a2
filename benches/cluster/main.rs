//! Several zeod with one database: how soon commits come back, what replication costs, and how
//! nodes that were away get what they lack. `cargo bench --bench cluster`; `benches/README.md` says
//! how to read it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here ends the benchmark, and should"
)]

mod catch_up;
#[path = "../common/cell.rs"]
mod cell;
#[path = "../../tests/support/cluster/mod.rs"]
mod cluster;
#[path = "../common/commits.rs"]
mod commits;
#[path = "../beside/database.rs"]
mod database;
mod failover;
#[path = "../common/generator.rs"]
mod generator;
#[path = "../common/load_requests.rs"]
mod load_requests;
#[path = "../common/loads.rs"]
mod loads;
#[path = "../common/program.rs"]
mod program;
#[path = "../../tests/support/python_env.rs"]
mod python_env;
#[path = "../../tests/support/raw_client.rs"]
mod raw_client;
#[path = "../../tests/support/server_process.rs"]
mod server_process;
mod throughput;
#[path = "../common/wire.rs"]
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use generator::Failure;
use program::Common;

/// Measure several zeod with one database.
#[derive(Debug, Parser)]
#[command(name = "cluster")]
struct Options {
    #[command(subcommand)]
    work: Option<Work>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Subcommand)]
enum Work {
    /// From the death of the leader to the next commit of stock clients
    Failover {
        /// How often the leader is killed
        #[arg(long, default_value_t = 20)]
        kills: usize,
        /// How often it hands over
        #[arg(long, default_value_t = 20)]
        transfers: usize,
        /// How often all nodes are restarted, one by one
        #[arg(long, default_value_t = 3)]
        restarts: usize,
    },
    /// Commits and loads of a lone server, and of 1, 3 and 5 nodes, in turn
    Throughput {
        /// How often each is measured
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How long each measurement lasts
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Objects in each database
        #[arg(long, default_value_t = 10_000)]
        objects: usize,
        /// Sizes of clusters
        #[arg(long, value_delimiter = ',', default_value = "1,3,5")]
        nodes: Vec<usize>,
        /// Numbers of clients that commit
        #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
        writers: Vec<usize>,
        /// Commits only
        #[arg(long)]
        no_loads: bool,
    },
    /// A node that was away while so much was written, against cp
    CatchUp {
        /// What it missed
        #[arg(long, default_value_t = 1000)]
        megabytes: usize,
    },
    /// Nodes whose copy is an old one, and partly another one
    Resync {
        /// The size of the database
        #[arg(long, default_value_t = 5000)]
        megabytes: usize,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    program::end("cluster", run(&options).map(|()| ExitCode::SUCCESS))
}

fn run(options: &Options) -> Result<(), Failure> {
    let work = match &options.work {
        Some(work) => vec![work.clone()],
        None => vec![
            Work::Failover {
                kills: 20,
                transfers: 20,
                restarts: 3,
            },
            Work::Throughput {
                rounds: 5,
                seconds: 2.0,
                objects: 10_000,
                nodes: vec![1, 3, 5],
                writers: vec![1, 8, 64],
                no_loads: false,
            },
            Work::CatchUp { megabytes: 1000 },
            Work::Resync { megabytes: 5000 },
        ],
    };
    for work in work {
        let directory = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(options.common.directory())?;
        match work {
            Work::Failover {
                kills,
                transfers,
                restarts,
            } => failover::run(directory.path(), kills, transfers, restarts)?,
            Work::Throughput {
                rounds,
                seconds,
                objects,
                nodes,
                writers,
                no_loads,
            } => {
                let plan = throughput::Plan {
                    rounds,
                    period: Duration::from_secs_f64(seconds),
                    objects,
                    nodes,
                    writers,
                    loads: !no_loads,
                };
                throughput::run(directory.path(), &plan)?;
            }
            Work::CatchUp { megabytes } => catch_up::missed(directory.path(), megabytes)?,
            Work::Resync { megabytes } => catch_up::resync(directory.path(), megabytes)?,
        }
    }
    Ok(())
}
