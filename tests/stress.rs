//! Many stock clients on few objects. `ZEOD_STRESS_SECONDS` says how long each run is to take:
//! 10 s here, 60 s before a release.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

const DEFAULT_SECONDS: u32 = 10;

/// Starting eight clients, ending them and comparing their caches takes its time, too.
const MARGIN: Duration = Duration::from_mins(2);

fn stress(wire: &str, topology: &str) {
    let seconds = python_script::number("ZEOD_STRESS_SECONDS", DEFAULT_SECONDS);
    python_script::run(
        "stress/stress.py",
        &[wire, &seconds.to_string(), topology],
        Duration::from_secs(seconds.into()) + MARGIN,
    );
}

#[test]
fn eight_clients_lose_nothing_with_pickles() {
    stress("pickle", "alone");
}

#[test]
fn eight_clients_lose_nothing_with_msgpack() {
    stress("msgpack", "alone");
}

#[test]
fn clients_of_servers_in_front_of_another_lose_nothing_with_pickles() {
    stress("pickle", "fan-out");
}

#[test]
fn clients_of_servers_in_front_of_another_lose_nothing_with_msgpack() {
    stress("msgpack", "fan-out");
}
