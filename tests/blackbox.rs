//! The real program over a real socket: what bad clients send or leave unread,
//! and what operators do to it. Nobody else may notice, the log says why, and
//! memory stays bounded.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic in a helper is a failed test"
)]

#[path = "blackbox/bad_input.rs"]
mod bad_input;
#[path = "blackbox/lifecycle.rs"]
mod lifecycle;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "blackbox/reloads.rs"]
mod reloads;
#[path = "support/server_process.rs"]
mod server_process;
#[path = "support/site.rs"]
mod site;
#[path = "blackbox/stops.rs"]
mod stops;
#[path = "blackbox/unread.rs"]
mod unread;
#[path = "blackbox/votes.rs"]
mod votes;
#[path = "support/waiting.rs"]
mod waiting;
