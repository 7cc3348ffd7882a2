//! Where the password of the private key comes from.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use crate::config::{SslSection, ZeodSection};
use crate::server::limits::PASSWORD_TIME;

/// The longest password.
const MAX_BYTES: u64 = 4 << 10;
/// So much of what a failing program said is shown.
const SHOWN_BYTES: usize = 500;
const POLL: Duration = Duration::from_millis(5);

/// Calls the function that its argument names, as Python's server would, and
/// writes what it returns. What the function itself prints goes to stderr.
const CALL: &str = "\
import os, sys
out = os.fdopen(os.dup(1), 'wb')
os.dup2(2, 1)
if sys.path and sys.path[0] == '':
    del sys.path[0]
import importlib
module, _, name = sys.argv[1].rpartition('.')
password = getattr(importlib.import_module(module), name)()
out.write(password.encode() if isinstance(password, str) else bytes(password))
out.close()
";

/// Who knows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// Nobody: the key is not encrypted.
    None,
    /// The first line of a file.
    File(PathBuf),
    /// The first line that a command writes.
    Command(String),
    /// A function in Python, by its dotted name.
    Function(String),
}

impl Password {
    /// The source that the configuration names.
    pub fn of(section: &SslSection, zeod: &ZeodSection) -> Self {
        match (Self::of_keys(zeod), &section.password_function) {
            (Self::None, Some(function)) => Self::Function(function.clone()),
            (of_keys, _) => of_keys,
        }
    }

    /// The source for keys that have none of their own.
    pub fn of_keys(zeod: &ZeodSection) -> Self {
        let file = zeod.key_password_file.clone().map(Self::File);
        let command = || zeod.key_password_command.clone().map(Self::Command);
        file.or_else(command).unwrap_or(Self::None)
    }

    /// Asks for it; waits for at most [`PASSWORD_TIME`].
    pub fn get(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Self::None => Err("nothing says where it stands".to_owned()),
            Self::File(path) => first_line_of(path)
                .map_err(|error| format!("key-password-file {}: {error}", path.display())),
            Self::Command(command) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", command]);
                let said = output(shell, PASSWORD_TIME)
                    .map_err(|error| format!("key-password-command {command:?}: {error}"))?;
                Ok(first_line(said))
            }
            Self::Function(name) => {
                let mut python = Command::new("python3");
                python.args(["-c", CALL, name]);
                output(python, PASSWORD_TIME).map_err(|error| called(name, &error))
            }
        }
    }
}

fn called(name: &str, error: &Failed) -> String {
    if let Failed::Start(io) = error
        && io.kind() == io::ErrorKind::NotFound
    {
        return format!(
            "there is no python3 to call the password-function {name}; use key-password-file or \
             key-password-command in <zeod> instead"
        );
    }
    format!("password-function {name}: {error}")
}

fn first_line_of(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    File::open(path)?
        .take(MAX_BYTES)
        .read_to_end(&mut content)?;
    Ok(first_line(content))
}

fn first_line(mut text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        text.truncate(end);
    }
    text
}

/// Why a program did not tell.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it cannot be started: {0}")]
    Start(io::Error),
    #[error("it did not end within {} s", .0.as_secs())]
    Late(Duration),
    #[error("it ended with {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status { status: ExitStatus, said: String },
    #[error("{0}")]
    Wait(io::Error),
}

/// What a program writes. It is killed, with what it started, when it takes
/// longer than `patience`.
fn output(mut command: Command, patience: Duration) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let deadline = Instant::now() + patience;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(Failed::Start)?;
    let output = read_beside(child.stdout.take());
    let errors = read_beside(child.stderr.take());
    let left = || deadline.saturating_duration_since(Instant::now());
    let output = output.recv_timeout(left());
    let (Ok(output), Some(status)) = (output, wait(&mut child, deadline)?) else {
        kill(&mut child)?;
        return Err(Failed::Late(patience));
    };
    if status.success() {
        return Ok(output);
    }
    let errors = errors.recv_timeout(left()).unwrap_or_default();
    Err(Failed::Status {
        status,
        said: shown(&errors),
    })
}

/// Reads in a thread of its own, as a program may write to two pipes at once.
fn read_beside(pipe: Option<impl Read + Send + 'static>) -> Receiver<Zeroizing<Vec<u8>>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut content = Zeroizing::new(Vec::new());
        // What was read before an error is good enough.
        if let Some(pipe) = pipe {
            let _ = pipe.take(MAX_BYTES).read_to_end(&mut content);
        }
        let _ = send.send(content);
    });
    receive
}

fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>, Failed> {
    loop {
        let status = child.try_wait().map_err(Failed::Wait)?;
        if status.is_some() || Instant::now() > deadline {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
}

fn kill(child: &mut Child) -> Result<(), Failed> {
    let group = Pid::from_child(child);
    kill_process_group(group, Signal::KILL).map_err(|error| Failed::Wait(error.into()))?;
    child.wait().map_err(Failed::Wait)?;
    Ok(())
}

/// The end of what a program said, on one line.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let last = text.trim_end().lines().last().unwrap_or_default();
    let last: String = last.chars().filter(|c| !c.is_control()).collect();
    last.chars().take(SHOWN_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Result<String, String> {
        let password = Password::Command(text.to_owned()).get()?;
        Ok(String::from_utf8(password.to_vec()).unwrap())
    }

    #[test]
    fn a_command_tells_in_its_first_line() {
        assert_eq!(
            command("echo ' sé cret'; echo more"),
            Ok(" sé cret".to_owned())
        );
        assert_eq!(command("printf no-newline"), Ok("no-newline".to_owned()));
        // No password is cut off in silence.
        assert!(command("head -c 1000000 /dev/zero | tr '\\0' a").is_err());
    }

    #[test]
    fn a_command_that_fails_is_shown_with_what_it_said() {
        let error = command("echo one >&2; echo two >&2; exit 3").unwrap_err();
        assert!(error.contains("exit status: 3: two"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_started() {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "sleep 1000 & sleep 1000"]);
        let started = Instant::now();
        let error = output(shell, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, Failed::Late(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Password::File("/nowhere/password".into())
            .get()
            .unwrap_err();
        assert!(
            error.contains("key-password-file /nowhere/password: No such"),
            "{error}"
        );
    }
}
