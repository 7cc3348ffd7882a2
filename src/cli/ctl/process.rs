//! The server's process, by its PID file.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The program's name where nothing else is known.
const PROGRAM: &str = "zeod";
/// So much of a name the kernel keeps for a process.
const COMM_BYTES: usize = 15;

/// What a PID file leads to.
#[derive(Debug)]
pub enum Found {
    /// A server.
    Running(Server),
    /// The file was left behind; why that is so.
    Stale(String),
    /// There is no file, or an empty one.
    Nothing,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(server) => write!(f, "runs, pid {}", server.pid()),
            Self::Stale(why) => write!(f, "does not run; {why}"),
            Self::Nothing => write!(f, "does not run"),
        }
    }
}

/// A running server. The number of a process that has ended can be given to
/// another one; the descriptor cannot.
#[derive(Debug)]
pub struct Server {
    pid: Pid,
    process: OwnedFd,
}

/// Looks which process the file names, and whether it is a zeod.
pub fn find(pid_file: &Path) -> Result<Found, String> {
    let shown = pid_file.display();
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(Found::Nothing);
    }
    let Some(pid) = text.parse().ok().and_then(Pid::from_raw) else {
        return Err(format!(
            "{shown} is no PID file: it says {text:?}; look what it is, or remove it"
        ));
    };
    let left = |why: &str| Found::Stale(format!("{shown} was left by pid {pid}, {why}"));
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH | Errno::INVAL) => return Ok(left("which has ended without a clean stop")),
        Err(error) => return Err(format!("pid {pid}: {error}")),
    };
    let server = Server { pid, process };
    let name = program_of(pid);
    // Looked at last: the name that was read is then this process's.
    if server.ends_within(Some(Duration::ZERO)) {
        return Ok(left("which has ended without a clean stop"));
    }
    if name.is_some_and(|name| is_zeod(&name)) {
        Ok(Found::Running(server))
    } else {
        Ok(left("whose number another program has now"))
    }
}

/// The name of the program that a process runs.
fn program_of(pid: Pid) -> Option<String> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let program = fs::read_link(directory.join("exe"));
    let name = program.ok().and_then(|path| name_of(&path));
    // Another user's program is shown to root only, its short name to all.
    name.or_else(|| fs::read_to_string(directory.join("comm")).ok())
}

fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    Some(name.to_owned())
}

fn is_zeod(name: &str) -> bool {
    // What was replaced by an upgrade is still a zeod.
    let name = name.trim_end().trim_end_matches(" (deleted)");
    let own = std::env::current_exe().ok().and_then(|path| name_of(&path));
    let own = own.as_deref().unwrap_or(PROGRAM);
    [own, PROGRAM]
        .iter()
        .any(|known| name == *known || name == short(known))
}

fn short(name: &str) -> &str {
    name.get(..name.floor_char_boundary(COMM_BYTES))
        .unwrap_or(name)
}

impl Server {
    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        pidfd_send_signal(&self.process, signal).map_err(|error| match error {
            Errno::PERM => format!(
                "pid {} belongs to another user; run this as that user or as root",
                self.pid
            ),
            error => format!("pid {}: {error}", self.pid),
        })
    }

    /// Waits for its end; without a limit, for ever.
    pub fn ends_within(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
            match poll(&mut ended, timeout.as_ref()) {
                Ok(count) => return count > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn found(text: &str) -> Result<Found, String> {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("zeod.pid");
        fs::write(&pid_file, text).unwrap();
        find(&pid_file)
    }

    #[test]
    fn no_file_and_an_empty_one_are_no_server() {
        let directory = tempfile::tempdir().unwrap();
        let missing = find(&directory.path().join("zeod.pid"));
        assert!(matches!(missing, Ok(Found::Nothing)));
        assert!(matches!(found(""), Ok(Found::Nothing)));
        assert!(found("Data.fs").unwrap_err().contains("is no PID file"));
        assert!(found("0").unwrap_err().contains("is no PID file"));
    }

    #[test]
    fn a_process_with_this_program_s_name_is_a_server() {
        // The test program has another name than zeod, and is its own.
        let own = found(&format!("{}\n", std::process::id())).unwrap();
        let Found::Running(server) = own else {
            panic!("{own}");
        };
        assert!(!server.ends_within(Some(Duration::from_millis(1))));
    }

    #[test]
    fn another_program_and_one_that_has_ended_are_told_apart() {
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let text = other.id().to_string();
        let taken = found(&text).unwrap().to_string();
        other.kill().unwrap();
        // Dead, but not yet waited for: its number is still its own.
        let deadline = Instant::now() + Duration::from_secs(10);
        let dead = loop {
            let dead = found(&text).unwrap().to_string();
            if dead.contains("ended") || Instant::now() > deadline {
                break dead;
            }
        };
        other.wait().unwrap();
        let gone = found(&text).unwrap().to_string();
        assert!(taken.contains("another program has now"), "{taken}");
        assert!(dead.contains("ended without a clean stop"), "{dead}");
        assert!(gone.contains("ended without a clean stop"), "{gone}");
    }

    #[test]
    fn names_of_programs_are_compared_as_the_kernel_shows_them() {
        assert!(is_zeod("zeod"));
        assert!(is_zeod("zeod\n"));
        assert!(is_zeod("zeod (deleted)"));
        assert!(!is_zeod("sh"));
        assert!(!is_zeod(""));
        assert_eq!(short("a-name-of-20-letters"), "a-name-of-20-le");
    }
}
