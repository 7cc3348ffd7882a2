//! Python's own zeoctl (zdaemon) runs zeod in the place of runzeo.

#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test")]

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use waiting::{await_text, wait_until};

/// An instance, and the manager that was started for it.
struct Managed {
    directory: TempDir,
    zeoctl: PathBuf,
    manager: Option<Pid>,
}

impl Managed {
    fn new(python: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("i");
        let made = Command::new(env!("CARGO_BIN_EXE_zeod"))
            .arg("init")
            .arg(&home)
            .arg("--address")
            .arg(home.join("var/zeo.sock"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self {
            directory,
            zeoctl: python.with_file_name("zeoctl"),
            manager: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("i").join(name)
    }

    fn zeoctl(&self, action: &[&str]) -> String {
        let output = Command::new(&self.zeoctl)
            .arg("-C")
            .arg(self.path("etc/zeo.conf"))
            .args(action)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The server that answers, other than `former`.
    fn await_server(&self, former: Option<Pid>) -> Pid {
        wait_until("a server answers", || {
            let pid = pid_in(&self.path("var/ZEO.pid")).filter(|pid| Some(*pid) != former)?;
            let mut greeting = [0; 6];
            let mut stream = UnixStream::connect(self.path("var/zeo.sock")).ok()?;
            stream.read_exact(&mut greeting).ok()?;
            assert_eq!(&greeting, b"\0\0\0\x02Z5");
            Some(pid)
        })
    }

    fn await_log(&self, text: &str) {
        await_text(&self.path("log/zeo.log"), text);
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // The manager first, or else it starts another server.
        let server = pid_in(&self.path("var/ZEO.pid"));
        for pid in self.manager.into_iter().chain(server) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn pid_in(pid_file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file).ok()?;
    text.trim().parse().ok().and_then(Pid::from_raw)
}

fn parent_of(pid: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Pid::from_raw(parent.unwrap().trim().parse().unwrap()).unwrap()
}

#[test]
fn zdaemon_starts_restarts_and_stops_zeod() {
    let Some(python) = python_env::python() else {
        return;
    };
    let mut site = Managed::new(&python);
    let said = site.zeoctl(&["start"]);
    let server = site.await_server(None);
    assert!(
        said.contains(&format!("daemon process started, pid={server}")),
        "{said}"
    );
    let manager = parent_of(server);
    site.manager = Some(manager);
    let said = site.zeoctl(&["status"]);
    assert!(
        said.contains(&format!("program running; pid={server}")),
        "{said}"
    );

    // A crash: the manager starts the next one, which replaces socket and PID file.
    kill_process(server, Signal::KILL).unwrap();
    let next = site.await_server(Some(server));
    assert_eq!(parent_of(next), manager);

    fs::rename(site.path("log/zeo.log"), site.path("log/zeo.log.1")).unwrap();
    site.zeoctl(&["logreopen"]);
    site.await_log("log files reopened");

    // zdaemon itself never sends SIGHUP; who does has the configuration reloaded.
    site.zeoctl(&["kill", "SIGHUP"]);
    site.await_log("configuration reloaded");
    assert_eq!(site.await_server(None), next);

    site.zeoctl(&["restart"]);
    let last = site.await_server(Some(next));
    assert_eq!(parent_of(last), manager);

    let said = site.zeoctl(&["stop"]);
    assert!(said.contains("daemon process stopped"), "{said}");
    assert!(!site.path("var/ZEO.pid").exists());
    site.await_log("stopped");
    // Exit code 0 means for zdaemon, too, that no other server is wanted.
    wait_until("the manager ends", || {
        test_kill_process(manager).is_err().then_some(())
    });
    site.manager = None;
}
