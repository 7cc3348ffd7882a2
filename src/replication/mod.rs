//! Redundancy: one database on several hosts. Each named storage is a Raft
//! group; consensus is openraft's, its log is raft-engine's.

pub mod admin;
pub mod administer;
pub mod applier;
pub mod catch_up;
pub mod command;
mod command_codec;
pub mod commits;
pub mod consensus;
pub mod deputy;
pub mod entry_codec;
pub mod files;
mod fitness;
pub mod history;
pub mod log;
pub mod machine;
pub mod marker;
pub mod net;
pub mod node;
pub mod note;
pub mod oids;
mod opening;
pub mod packs;
pub mod peers;
pub mod pending;
pub mod proposer;
mod readiness;
mod receiving;
pub mod replica;
pub mod sending;
pub mod service;
mod small_file;
pub mod staging;
pub mod standstill;
pub mod status;
pub mod types;
pub mod upkeep;
