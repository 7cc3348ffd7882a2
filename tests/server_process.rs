//! The guard around server processes, with shell scripts for servers.

#[path = "support/server_process.rs"]
mod server_process;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, test_kill_process};
use server_process::{PATIENCE, ServerProcess};

fn start(directory: &Path, script: &str) -> std::io::Result<ServerProcess> {
    let address_file = directory.join("address");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(&address_file);
    ServerProcess::start(command, &address_file, &directory.join("stderr.log"))
}

#[test]
fn an_address_counts_when_its_line_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"printf 'status 127.0.0.1:1\nzeo 127.0.0.1:8' > "$1"
        sleep 0.2; echo 100 >> "$1"; echo ready >&2; read line"#;
    let server = start(directory.path(), script).unwrap();
    assert_eq!(server.address().port(), 8100);
    server.kill().unwrap();
}

#[test]
fn a_server_that_ends_at_once_is_reported_with_what_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let Err(error) = start(directory.path(), "echo no such storage >&2; exit 3") else {
        panic!("a server that is gone was taken for one that listens");
    };
    let text = error.to_string();
    assert!(
        text.contains("no such storage") && text.contains('3'),
        "{text}"
    );
}

#[test]
fn stop_terminates_and_gives_the_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"trap 'exit 7' TERM; echo zeo 127.0.0.1:8100 > "$1"
        while :; do sleep 0.05; done"#;
    let server = start(directory.path(), script).unwrap();
    assert_eq!(server.stop().unwrap().code(), Some(7));
}

#[test]
fn a_signal_is_sent_and_its_end_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"trap 'exit 1' HUP; echo zeo 127.0.0.1:8100 > "$1"
        while :; do sleep 0.05; done"#;
    let mut server = start(directory.path(), script).unwrap();
    assert!(server.wait(Duration::from_millis(50)).is_err());
    server.signal(Signal::HUP).unwrap();
    assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(1));
}

#[test]
fn nothing_is_left_behind_when_the_guard_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"echo zeo 127.0.0.1:8100 > "$1"; exec sleep 1000"#;
    let server = start(directory.path(), script).unwrap();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    assert!(test_kill_process(pid).is_ok());
    drop(server);
    assert!(test_kill_process(pid).is_err());
}
