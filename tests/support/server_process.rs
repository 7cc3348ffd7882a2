//! A server in a process of its own, stopped when its guard is dropped.

#![allow(
    dead_code,
    reason = "each test and bench that includes this module uses a part of it"
)]

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take until it listens, and until it has stopped.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// A running server: killed on drop, so that no test leaves one behind.
pub struct ServerProcess {
    child: Child,
    /// As the address file names it.
    listening: String,
    stderr: PathBuf,
}

impl ServerProcess {
    /// Starts `command` with its stderr in a file and waits until it has
    /// written a line `zeo ADDRESS` into `address_file`.
    pub fn start(mut command: Command, address_file: &Path, stderr: &Path) -> io::Result<Self> {
        // The pipe's other end closes when this process dies, however it
        // dies: a server that watches its stdin then stops too.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(stderr)?)
            .spawn()?;
        // The guard exists before the wait, so that a failed start is killed.
        let mut server = Self {
            child,
            listening: String::new(),
            stderr: stderr.to_owned(),
        };
        server.listening = server.wait_for_address(address_file)?;
        Ok(server)
    }

    fn wait_for_address(&mut self, address_file: &Path) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = listening_at(address_file) {
                return Ok(address);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let state = ended.map_or("does not listen".to_owned(), |status| status.to_string());
                let log = self.stderr();
                return Err(io::Error::other(format!(
                    "the server {state}; it said:\n{log}"
                )));
            }
            sleep(POLL);
        }
    }

    /// Where it listens.
    ///
    /// # Panics
    ///
    /// Where that is no TCP address.
    pub fn address(&self) -> SocketAddr {
        match self.listening.parse() {
            Ok(address) => address,
            Err(error) => panic!("{}: {error}", self.listening),
        }
    }

    /// Where it listens: `HOST:PORT`, or the path of a unix socket.
    pub fn listening(&self) -> &str {
        &self.listening
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        fs::read(&self.stderr)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `text` stands in what it has written to stderr; all of that.
    pub fn await_stderr(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.stderr();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{log}");
            sleep(POLL);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits until the process has ended, at most `patience`.
    pub fn wait(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(POLL);
        }
    }

    /// SIGTERM, then waits for the clean stop.
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(PATIENCE)
    }

    /// SIGKILL, as a crash would.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The zeod program in a temporary directory of its own.
pub struct Zeod {
    pub process: ServerProcess,
    pub directory: TempDir,
}

impl Zeod {
    /// Starts `zeod -a 127.0.0.1:0 -f Data.fs` and the given arguments.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let process = Self::start_in(directory.path(), arguments)?;
        Ok(Self { process, directory })
    }

    /// Starts `zeod -C zeo.conf`, with these lines in its `<zeod>` section.
    pub fn start_configured(section: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let configuration = directory.path().join("zeo.conf");
        let database = directory.path().join("Data.fs");
        let text = format!(
            "<zeo>\n  address 127.0.0.1:0\n</zeo>\n<zeod>\n{section}\n</zeod>\n\
             <filestorage 1>\n  path {}\n</filestorage>\n",
            database.display()
        );
        fs::write(&configuration, text)?;
        let address_file = directory.path().join("address");
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
        command
            .arg("-C")
            .arg(&configuration)
            .arg("--address-file")
            .arg(&address_file)
            .current_dir(directory.path());
        let stderr = directory.path().join("stderr.log");
        let process = ServerProcess::start(command, &address_file, &stderr)?;
        Ok(Self { process, directory })
    }

    /// As [`Self::start`] in a directory that outlives the server, for restarts.
    pub fn start_in(directory: &Path, arguments: &[&str]) -> io::Result<ServerProcess> {
        let address_file = directory.join("address");
        // One left by an earlier start would be believed.
        match fs::remove_file(&address_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeod"));
        command
            .args(["-a", "127.0.0.1:0", "-f"])
            .arg(directory.join("Data.fs"))
            .arg("--address-file")
            .arg(&address_file)
            .args(arguments)
            .current_dir(directory);
        ServerProcess::start(command, &address_file, &directory.join("stderr.log"))
    }
}

/// The address in a complete line `zeo ADDRESS` of the file.
fn listening_at(address_file: &Path) -> Option<String> {
    let text = fs::read_to_string(address_file).ok()?;
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .find_map(|line| Some(line.strip_prefix("zeo ")?.trim().to_owned()))
}
