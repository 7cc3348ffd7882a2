//! Key `user` of `<zeod>`: with root's rights the server gives them up, without them it says so.

#![allow(clippy::unwrap_used, reason = "a panic in a helper is a failed test")]

#[path = "support/waiting.rs"]
mod waiting;

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use waiting::{PATIENCE, await_text, wait_until};

/// The user whom every system has for those without rights, by number: names differ.
const NOBODY: u32 = 65534;
/// A group that `nobody` is not in.
const GROUP: u32 = 4242;

/// A directory where others can pass, with a copy of the program that others can run.
struct Site {
    directory: TempDir,
    program: PathBuf,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let program = directory.path().join("zeod");
        // By another process: were the copy open for writing here, a child that
        // another test's thread forks would keep it open, and it could not be run.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_zeod"))
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        fs::create_dir(directory.path().join("var")).unwrap();
        Self { directory, program }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration: the server's own things below `var`, the PID file beside it.
    fn configure(&self, user: &str) -> PathBuf {
        let top = self.directory.path().display();
        let text = format!(
            "<zeo>\n  address {top}/zeo.sock\n  pid-filename {top}/zeod.pid\n</zeo>\n\
             <zeod>\n  user {user}\n</zeod>\n\
             <filestorage 1>\n  path {top}/var/Data.fs\n  blob-dir {top}/var/blobs\n</filestorage>\n\
             <eventlog>\n  <logfile>\n    path {top}/var/zeo.log\n  </logfile>\n</eventlog>\n"
        );
        let conf = self.path("zeo.conf");
        fs::write(&conf, text).unwrap();
        conf
    }

    fn run(&self, user: &str) -> Output {
        let conf = self.configure(user);
        let mut command = Command::new(&self.program);
        command
            .arg("-C")
            .arg(conf)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata =
        fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (metadata.uid(), metadata.gid())
}

/// The numbers behind `name` in a status file of the kernel's.
fn numbers(status: &Path, name: &str) -> Vec<u32> {
    let text = fs::read_to_string(status).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    line.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

/// Ended with the test.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_unknown_user_is_refused_before_anything_is_touched() {
    let site = Site::new();
    let output = site.run("no-such-user");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("<zeod> user no-such-user: this system has no user"),
        "{text}"
    );
    for name in ["zeod.pid", "zeo.sock", "var/Data.fs", "var/zeo.log"] {
        assert!(!site.path(name).exists(), "{name}");
    }
}

#[test]
fn only_root_can_take_another_users_rights() {
    let site = Site::new();
    let conf = site.configure("root");
    let mut command = Command::new(&site.program);
    command.arg("-C").arg(conf).stdin(Stdio::null());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("<zeod> user root: only root can take"),
        "{text}"
    );
}

#[test]
fn root_gives_its_rights_up_before_the_storages_are_opened() {
    if !geteuid().is_root() {
        // There is no way to become root here; what is refused then is tested above.
        eprintln!("\n!!! SKIPPED: dropping root's rights needs root's rights\n");
        return;
    }
    let site = Site::new();
    let var = site.path("var");
    chown(&var, Some(NOBODY), Some(GROUP)).unwrap();
    fs::set_permissions(&var, Permissions::from_mode(0o700)).unwrap();
    let conf = site.configure(&format!("{NOBODY}:{GROUP}"));
    let server = Command::new(&site.program)
        .arg("-C")
        .arg(conf)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Guard(server);
    let log = site.path("var/zeo.log");
    await_text(&log, "listening on");

    for task in fs::read_dir(format!("/proc/{}/task", server.0.id())).unwrap() {
        let status = task.unwrap().path().join("status");
        assert_eq!(
            numbers(&status, "Uid:"),
            [NOBODY; 4],
            "{}",
            status.display()
        );
        assert_eq!(numbers(&status, "Gid:"), [GROUP; 4], "{}", status.display());
        let groups = numbers(&status, "Groups:");
        assert!(!groups.contains(&0), "{groups:?}");
    }
    for name in [
        "var/Data.fs",
        "var/Data.fs.lock",
        "var/blobs",
        "var/zeo.log",
        "zeo.sock",
        "zeod.pid",
    ] {
        assert_eq!(owner(&site.path(name)), (NOBODY, GROUP), "{name}");
    }
    let mut greeting = [0; 6];
    let mut stream = UnixStream::connect(site.path("zeo.sock")).unwrap();
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"\0\0\0\x02Z5");

    // Moved away by root, made anew by the server.
    fs::rename(&log, site.path("var/zeo.log.1")).unwrap();
    let pid = Pid::from_child(&server.0);
    kill_process(pid, Signal::USR2).unwrap();
    await_text(&log, "log files reopened");
    assert_eq!(owner(&log), (NOBODY, GROUP));

    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    // It may not remove what lies in root's directory; it names nobody any more.
    assert_eq!(fs::read(site.path("zeod.pid")).unwrap(), b"");
    assert!(site.path("var/Data.fs.index").exists());
    // The next start replaces what it could not remove.
    let server = Command::new(&site.program)
        .arg("-C")
        .arg(site.path("zeo.conf"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let server = Guard(server);
    wait_until("it can be connected to", || {
        UnixStream::connect(site.path("zeo.sock")).ok()
    });
    // Written once it listens.
    await_text(&site.path("zeod.pid"), &server.0.id().to_string());
}

#[test]
fn an_instance_of_another_user_is_managed_by_root() {
    if !geteuid().is_root() {
        eprintln!("\n!!! SKIPPED: giving files to another user needs root's rights\n");
        return;
    }
    let site = Site::new();
    let home = site.path("i");
    let made = Command::new(&site.program)
        .arg("init")
        .arg(&home)
        .args(["--user", &format!("{NOBODY}:{GROUP}"), "--address"])
        .arg(home.join("var/zeo.sock"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for name in ["i/var", "i/log"] {
        assert_eq!(owner(&site.path(name)), (NOBODY, GROUP), "{name}");
    }
    assert_eq!(owner(&site.path("i/etc/zeo.conf")), (0, 0));
    let zeoctl = |action: &str| {
        let mut command = Command::new(home.join("bin/zeoctl"));
        let output = command.arg(action).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), said(&output))
    };
    assert_eq!(zeoctl("start"), (Some(0), String::new()));
    let running = zeoctl("status");
    let files = ["i/var/Data.fs", "i/log/zeo.log"].map(|name| owner(&site.path(name)));
    let reloaded = zeoctl("reload");
    let log = site.path("i/log/zeo.log");
    let deadline = Instant::now() + PATIENCE;
    let is_reloaded =
        || fs::read_to_string(&log).is_ok_and(|log| log.contains("configuration reloaded"));
    while !is_reloaded() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let stopped = zeoctl("stop");
    // Nothing is checked before the server has stopped.
    assert_eq!(running.0, Some(0), "{}", running.1);
    assert_eq!(files, [(NOBODY, GROUP); 2]);
    assert_eq!(reloaded.0, Some(0), "{}", reloaded.1);
    assert_eq!(stopped.0, Some(0), "{}", stopped.1);
    assert!(!site.path("i/var/ZEO.pid").exists());
    assert!(is_reloaded());
}
