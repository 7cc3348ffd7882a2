//! A server's life as an administrator leads it: `zeod init`, then `zeoctl` and its actions.

#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test")]

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use waiting::await_text;

/// An instance whose server is killed with the test.
struct Instance {
    directory: TempDir,
}

impl Instance {
    fn init(arguments: &[&str]) -> Self {
        let instance = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let socket = instance.path("var/zeo.sock");
        let output = Command::new(env!("CARGO_BIN_EXE_zeod"))
            .arg("init")
            .arg(instance.path(""))
            .arg("--address")
            .arg(socket)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        instance
    }

    fn path(&self, name: &str) -> PathBuf {
        let home = self.directory.path().join("instance");
        if name.is_empty() {
            home
        } else {
            home.join(name)
        }
    }

    /// The exit code, and what was said to both streams.
    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(self.path("bin/zeoctl"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn assert_ctl(&self, arguments: &[&str], code: i32, text: &str) -> String {
        let (ended, said) = self.ctl(arguments);
        assert!(
            ended == Some(code) && said.contains(text),
            "{arguments:?}: {ended:?} {said}"
        );
        said
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path("var/ZEO.pid")).ok()?;
        text.trim().parse().ok().and_then(Pid::from_raw)
    }

    fn await_log(&self, text: &str) {
        await_text(&self.path("log/zeo.log"), text);
    }

    fn replace(&self, old: &str, new: &str) {
        let conf = self.path("etc/zeo.conf");
        let text = fs::read_to_string(&conf).unwrap();
        assert!(text.contains(old), "{text}");
        fs::write(&conf, text.replace(old, new)).unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let (_, said) = self.ctl(&["status"]);
        // Only what is a running zeod: after a clean stop the number may be another's.
        if let Some(pid) = self.pid().filter(|_| said.starts_with("runs")) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn listed(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_instance_lives_from_init_to_stop() {
    let instance = Instance::init(&[]);
    assert_eq!(listed(&instance.path("")), ["bin", "etc", "log", "var"]);
    instance.assert_ctl(&["status"], 3, "does not run");
    instance.assert_ctl(&["reload"], 7, "does not run");
    instance.assert_ctl(&["logreopen"], 7, "does not run");
    instance.assert_ctl(&["stop"], 0, "does not run");
    let said = instance.assert_ctl(&["start"], 0, "started, pid");
    assert!(said.contains("serving on"), "{said}");
    let pid = instance.pid().unwrap();
    assert!(said.contains(&format!("pid {pid},")), "{said}");
    instance.assert_ctl(&["start"], 0, &format!("runs already, pid {pid}"));
    let said = instance.assert_ctl(&["status"], 0, &format!("runs, pid {pid}, since 20"));
    assert!(
        said.contains("\n  storage 1: 0 connections, 0 commits"),
        "{said}"
    );

    let socket = instance.path("var/zeo.sock");
    let cache = instance.directory.path().join("client-blobs");
    let arguments = [&socket, &cache];
    python_script::run("instance/commit.py", &arguments, Duration::from_mins(1));
    // A stock client is optional on this machine; where it ran, it is counted.
    if python_env::python().is_some() {
        instance.assert_ctl(&["status"], 0, "2 commits");
        assert!(!listed(&instance.path("var/blobs")).is_empty());
    }

    let log = instance.path("log/zeo.log");
    fs::rename(&log, instance.path("log/zeo.log.1")).unwrap();
    instance.assert_ctl(&["logreopen"], 0, "opens its log files anew");
    instance.await_log("log files reopened");

    instance.replace("# transaction-timeout 300", "transaction-timeout 100");
    instance.assert_ctl(&["reload"], 0, "reads its configuration anew");
    instance.await_log("configuration reloaded: changed transaction-timeout");

    instance.assert_ctl(&["wait", "--timeout", "0"], 1, "still runs");
    instance.assert_ctl(&["stop"], 0, &format!("stopped, pid was {pid}"));
    instance.assert_ctl(&["status"], 3, "does not run");
    instance.assert_ctl(&["wait"], 0, "does not run");
    assert!(!instance.path("var/ZEO.pid").exists());
    assert_eq!(
        fs::read_to_string(instance.path("var/ZEO.out")).unwrap(),
        ""
    );
}

#[test]
fn a_killed_server_is_told_from_one_that_stopped() {
    let instance = Instance::init(&["--no-blobs"]);
    instance.assert_ctl(&["start"], 0, "started");
    let pid = instance.pid().unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    instance.assert_ctl(&["wait"], 0, "");
    let left = format!("ZEO.pid was left by pid {pid}, which has ended without a clean stop");
    instance.assert_ctl(&["status"], 1, &left);
    // A start says so, and goes on; so does a restart, without a server or with one.
    let said = instance.assert_ctl(&["start"], 0, "started");
    assert!(said.contains(&left), "{said}");
    let before = instance.pid().unwrap();
    let said = instance.assert_ctl(&["restart"], 0, "started");
    assert!(
        said.contains(&format!("stopped, pid was {before}")),
        "{said}"
    );
    assert_ne!(instance.pid().unwrap(), before);
    instance.assert_ctl(&["stop"], 0, "stopped");
    instance.assert_ctl(&["restart"], 0, "started");
    instance.assert_ctl(&["stop"], 0, "stopped");
}

#[test]
fn a_start_that_fails_says_why() {
    let instance = Instance::init(&[]);
    // A mistake in the file is found before anything is started.
    instance.replace("<zeo>", "<zeo>\n  no-such-key 1");
    instance.assert_ctl(&["start"], 6, "no-such-key");
    instance.replace("  no-such-key 1\n", "");
    instance.assert_ctl(&["start"], 0, "started");
    // And one that came later neither stops a server nor keeps it from being stopped.
    instance.replace("<zeo>", "<zeo>\n  no-such-key 1");
    instance.assert_ctl(&["reload"], 6, "no-such-key");
    instance.assert_ctl(&["restart"], 6, "no-such-key");
    instance.assert_ctl(&["stop"], 6, "--pid-file");
    let pid_file = instance.path("var/ZEO.pid");
    let by_file = ["--pid-file", pid_file.to_str().unwrap()];
    instance.assert_ctl(&[&by_file[..], &["status"]].concat(), 0, "no-such-key");
    instance.assert_ctl(&[&by_file[..], &["stop"]].concat(), 0, "stopped");
    instance.replace("  no-such-key 1\n", "");
    // What only the server finds is shown.
    let data = instance.path("var/Data.fs");
    fs::write(&data, "this is no database").unwrap();
    let said = instance.assert_ctl(&["start"], 1, "the server did not start (exit status: 1)");
    assert!(said.contains("Data.fs"), "{said}");
    instance.assert_ctl(&["status"], 3, "does not run");
    fs::remove_file(&data).unwrap();
    instance.replace("  pid-filename", "  # pid-filename");
    instance.assert_ctl(&["status"], 6, "there is no pid-filename in <zeo>");
    instance.assert_ctl(&[&by_file[..], &["start"]].concat(), 0, "started");
    instance.assert_ctl(&[&by_file[..], &["stop"]].concat(), 0, "stopped");
}
