//! zeod serves ZODB databases to ZEO clients. This crate is the whole house;
//! `src/main.rs` only turns its verdict into an exit code.
//!
//! ```text
//! types, stats <- wire, disk, config <- storage <- transaction <- client <- session, replication
//!              <- status <- server <- cli <- main
//! ```
//!
//! Imports point left only; `storage` and `wire` never meet, and `storage`
//! knows no runtime. ARCHITECTURE.md tells the way of a request.

pub mod cli;
pub mod client;
pub mod config;
pub mod disk;
pub mod replication;
pub mod server;
pub mod session;
pub mod stats;
pub mod status;
pub mod storage;
pub mod transaction;
pub mod types;
pub mod wire;
