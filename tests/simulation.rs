//! Consensus in simulation: groups of nodes over a network, a log and a state machine in
//! memory, on one thread and a paused clock. The faults follow from a seed.
//!
//! `cargo test --test simulation` runs a few seeds; `ZEOD_SIMULATION_SEEDS=1000 cargo test
//! --release --test simulation` so many; `ZEOD_SIMULATION_SEED=17 cargo test --test
//! simulation random` that one alone, and with `ZEOD_SIMULATION_SEEDS=20` besides so often. The
//! same run to the last message, each time, takes `RUSTFLAGS='--cfg tokio_unstable'`.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a panic in a helper is a failed test"
)]

use zeod::replication;

#[path = "simulation/backlog.rs"]
mod backlog;
#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/damage.rs"]
mod damage;
#[path = "simulation/log.rs"]
mod log;
#[path = "simulation/machine.rs"]
mod machine;
#[path = "simulation/membership.rs"]
mod membership;
#[path = "../src/replication/net/memory.rs"]
mod memory;
#[path = "simulation/scenarios.rs"]
mod scenarios;
