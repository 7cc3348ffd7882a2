//! Many connections at once, over real sockets: idle ones cost little, busy
//! ones all get their turn, and those that do not read, or send without end,
//! keep nobody else waiting and are cut off. `ZEOD_CONNECTIONS_SECONDS` says
//! how long the busy ones work: 3 s here, 60 s before a release.

#[path = "connections/hostile.rs"]
mod hostile;
#[path = "connections/many.rs"]
mod many;
#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;
#[path = "support/raw_client.rs"]
mod raw_client;
#[path = "support/server_process.rs"]
mod server_process;
#[path = "support/site.rs"]
mod site;

/// Who holds this has the machine's cores, as far as these tests go.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    // Another's failure is no concern.
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
