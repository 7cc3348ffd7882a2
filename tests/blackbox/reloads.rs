//! SIGHUP: what is applied, what is only named, and what a mistake does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::raw_client::PATIENCE;
use crate::server_process::{ServerProcess, Zeod};
use crate::site::{NEW, await_vote, commit, send_vote, status, value};
use crate::waiting::{await_text, wait_until};

struct Reloaded {
    server: ServerProcess,
    conf: PathBuf,
    directory: TempDir,
}

impl Reloaded {
    fn start(zeo: &str, rest: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("zeo.conf");
        write(&conf, zeo, rest);
        let arguments = ["-C", conf.to_str().unwrap()];
        let server = Zeod::start_in(directory.path(), &arguments).unwrap();
        Self {
            server,
            conf,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn reload(&self, zeo: &str, rest: &str) {
        write(&self.conf, zeo, rest);
        self.server.signal(Signal::HUP).unwrap();
    }

    /// Waits until `text` stands in the log.
    fn await_log(&self, name: &str, text: &str) -> String {
        await_text(&self.path(name), text)
    }

    fn client(&self) -> crate::raw_client::RawClient {
        crate::raw_client::RawClient::open(self.server.address(), "1", false).unwrap()
    }
}

/// The address and the storage are given on the command line, and stay.
fn write(conf: &Path, zeo: &str, rest: &str) {
    let text = format!(
        "<zeo>\n  address 127.0.0.1:0\n{zeo}\n</zeo>\n<mappingstorage 1>\n</mappingstorage>\n{rest}\n"
    );
    fs::write(conf, text).unwrap();
}

#[test]
fn a_transaction_timeout_holds_for_the_next_transactions() {
    let site = Reloaded::start("  transaction-timeout 600", "");
    let mut holder = site.client();
    site.reload("  transaction-timeout 1", "");
    site.await_log(
        "stderr.log",
        "configuration reloaded: changed transaction-timeout",
    );
    let vote = send_vote(&mut holder, 1, NEW, b"held");
    await_vote(&mut holder, vote);
    assert!(holder.is_closed_within(PATIENCE));
    site.await_log("stderr.log", "Transaction timeout after 1 seconds");
    // Without the key the default holds again.
    site.reload("", "");
    wait_until("the second reload", || {
        let log = fs::read_to_string(site.path("stderr.log")).ok()?;
        let reloads = log.matches("changed transaction-timeout").count();
        (reloads == 2).then_some(())
    });
    let mut client = site.client();
    commit(&mut client, 1, NEW, b"data");
    status(&mut client);
}

#[test]
fn the_log_goes_where_the_new_configuration_says() {
    let site = Reloaded::start("", "");
    let eventlog = |level: &str, name: &str| {
        format!(
            "<eventlog>\n  level {level}\n  <logfile>\n    path {}\n  </logfile>\n</eventlog>",
            site.path(name).display()
        )
    };
    site.reload("", &eventlog("info", "one.log"));
    site.await_log("one.log", "configuration reloaded: changed <eventlog>");
    // Another level: what was not let through before is now.
    site.reload("", &eventlog("debug", "two.log"));
    site.await_log("two.log", "configuration reloaded");
    let mut client = site.client();
    value(&mut client, "getInvalidations", &invalidations());
    site.await_log("two.log", "DEBUG");
    // A file that cannot be opened: the former log stays, and all else.
    let before = fs::read_to_string(site.path("one.log")).unwrap();
    site.reload(
        "  transaction-timeout 1",
        &eventlog("info", "missing/three.log"),
    );
    let log = site.await_log("two.log", "nothing was reloaded: cannot log to");
    assert!(!log.contains("transaction-timeout"), "{log}");
    assert_eq!(fs::read_to_string(site.path("one.log")).unwrap(), before);
    // And back to standard error.
    site.reload("", "");
    site.await_log("stderr.log", "configuration reloaded: changed <eventlog>");
}

/// getInvalidations(tid 0)
fn invalidations() -> Vec<u8> {
    crate::site::tuple(&[&crate::site::bytes(&NEW)])
}

#[test]
fn what_needs_a_restart_is_named_and_not_applied() {
    let site = Reloaded::start("", "<zeod>\n  max-connections 10\n</zeod>");
    site.reload(
        "  invalidation-queue-size 7\n  pid-filename elsewhere.pid",
        "<zeod>\n  max-connections 20\n  shutdown-time 7s\n</zeod>",
    );
    let log = site.await_log(
        "stderr.log",
        "configuration reloaded: changed shutdown-time",
    );
    for key in ["invalidation-queue-size", "pid-filename", "max-connections"] {
        let line = format!("{key} was changed in the configuration, which needs a restart");
        assert!(log.contains(&line), "{log}");
    }
    assert!(!log.contains("address was changed"), "{log}");
    assert!(!log.contains("storage 1 was changed"), "{log}");
    assert!(!site.path("elsewhere.pid").exists());
    // As at the start again: nothing left to say.
    site.reload(
        "",
        "<zeod>\n  max-connections 10\n  shutdown-time 7s\n</zeod>",
    );
    let log = site.await_log("stderr.log", "configuration reloaded\n");
    assert_eq!(log.matches("which needs a restart").count(), 3, "{log}");
}

#[test]
fn a_mistake_changes_nothing_and_is_named_with_its_line() {
    let mut site = Reloaded::start("  transaction-timeout 600", "");
    site.reload("  transaction-timeout 1\n  no-such-key 1", "");
    let log = site.await_log(
        "stderr.log",
        "nothing was reloaded, the configuration is wrong",
    );
    assert!(log.contains("zeo.conf:4"), "{log}");
    assert!(log.contains("no-such-key"), "{log}");
    let mut client = site.client();
    commit(&mut client, 1, NEW, b"data");
    assert!(
        site.server.wait(Duration::from_millis(10)).is_err(),
        "it has ended"
    );
}

#[test]
fn without_a_configuration_file_there_is_nothing_to_reload() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Zeod::start_in(directory.path(), &[]).unwrap();
    server.signal(Signal::HUP).unwrap();
    assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
}
