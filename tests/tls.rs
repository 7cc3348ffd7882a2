//! The real program with `<ssl>`: who is let in, who is not and what the log
//! says of that, and what certificates are good for.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic in a helper is a failed test"
)]

#[path = "tls/access.rs"]
mod access;
#[path = "tls/authority.rs"]
mod authority;
#[path = "tls/client.rs"]
mod client;
#[path = "tls/keys.rs"]
mod keys;
#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "tls/refusals.rs"]
mod refusals;
#[path = "tls/reload.rs"]
mod reload;
#[path = "support/server_process.rs"]
mod server_process;
#[path = "tls/site.rs"]
mod site;
#[path = "tls/stock.rs"]
mod stock;
#[path = "tls/trust.rs"]
mod trust;
#[path = "support/waiting.rs"]
mod waiting;
