//! Several zeod, one database, stock clients, and everything that can go wrong; see `cluster/`.
//!
//! `ZEOD_CLUSTER_MINUTES=30 ZEOD_CLUSTER_SEED=7 cargo test --release --test cluster -- --ignored randomised`
//! runs faults by chance; the same seed gives the same ones again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic there is a failed test"
)]

#[path = "support/cluster/mod.rs"]
mod cluster;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/partitions.rs"]
mod partitions;
#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;
#[path = "cluster/randomised.rs"]
mod randomised;
#[path = "cluster/run.rs"]
mod run;
#[path = "cluster/schedule.rs"]
mod schedule;
#[path = "support/server_process.rs"]
mod server_process;
#[path = "cluster/survivor.rs"]
mod survivor;
#[path = "support/waiting.rs"]
mod waiting;
