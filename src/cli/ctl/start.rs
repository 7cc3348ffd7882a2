//! A start in the background.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How often it is looked whether the server has ended.
const POLL: Duration = Duration::from_millis(50);
/// So many lines of what a server said that did not start are shown.
const SHOWN_LINES: usize = 20;
/// What a service manager meant for this process, and not for the server.
const NOT_FOR_THE_SERVER: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// Starts the server and waits until clients can connect. What it writes to
/// standard error stands beside the PID file, in a file with the ending `.out`.
pub fn in_background(
    arguments: &[&OsStr],
    pid_file: &Path,
    patience: Duration,
) -> Result<String, String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    let output = pid_file.with_extension("out");
    let stderr = made_anew(&output).map_err(failed(&output.display().to_string()))?;
    let ear = Ear::open().map_err(failed("a socket for the server's word that it is ready"))?;
    let program = std::env::current_exe().map_err(failed("this program's path"))?;
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env("NOTIFY_SOCKET", &ear.path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        // What is typed at this terminal is not meant for it.
        .process_group(0);
    for variable in NOT_FOR_THE_SERVER {
        command.env_remove(variable);
    }
    let mut server = command
        .spawn()
        .map_err(failed(&program.display().to_string()))?;
    let ready = wait_until_ready(&mut server, &ear, patience, &output)?;
    Ok(format!("started, pid {}, {ready}", server.id()))
}

fn wait_until_ready(
    server: &mut Child,
    ear: &Ear,
    patience: Duration,
    output: &Path,
) -> Result<String, String> {
    let deadline = Instant::now() + patience;
    let mut status = String::new();
    loop {
        let heard = ear.hear();
        if let Some(said) = value_of(&heard, "STATUS") {
            said.clone_into(&mut status);
        }
        if value_of(&heard, "READY") == Some("1") {
            return Ok(status);
        }
        let ended = server.try_wait().map_err(|error| error.to_string())?;
        if let Some(ended) = ended {
            return Err(format!(
                "the server did not start ({ended}):\n{}",
                last_lines(output)
            ));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "pid {} is not ready after {} s ({status}); it goes on starting",
                server.id(),
                patience.as_secs()
            ));
        }
    }
}

/// Where the server says that it is ready, as to systemd.
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
}

impl Ear {
    fn open() -> io::Result<Self> {
        // Others can pass and not look: the server may run as another user.
        let directory = tempfile::Builder::new()
            .prefix("zeod-ctl-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()?;
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        socket.set_read_timeout(Some(POLL))?;
        Ok(Self {
            socket,
            path,
            _directory: directory,
        })
    }

    /// The next message; empty if there is none for a while.
    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let count = self.socket.recv(&mut message).unwrap_or(0);
        String::from_utf8_lossy(message.get(..count).unwrap_or_default()).into_owned()
    }
}

fn value_of<'m>(message: &'m str, name: &str) -> Option<&'m str> {
    message
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// A new file: root must not be led to another one, in a directory of the
/// server's user.
fn made_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().append(true).create_new(true).open(path)
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let start = lines.len().saturating_sub(SHOWN_LINES);
    lines.get(start..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_a_message() {
        let message = "READY=1\nSTATUS=serving on [::1]:8100\n";
        assert_eq!(value_of(message, "READY"), Some("1"));
        assert_eq!(value_of(message, "STATUS"), Some("serving on [::1]:8100"));
        assert_eq!(value_of(message, "READ"), None);
        assert_eq!(value_of("", "READY"), None);
    }

    #[test]
    fn a_file_is_made_anew_and_its_end_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("out"), directory.path().join("other"));
        fs::write(&other, "not to be touched").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        made_anew(&path).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "not to be touched");
        let lines: Vec<_> = (0..30).map(|line| line.to_string()).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        assert_eq!(last_lines(&path), lines[10..].join("\n"));
    }
}
