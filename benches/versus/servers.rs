//! The servers that are compared: how each is found, started and filled.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::commits;
use crate::generator::Failure;
use crate::limit;
use crate::server_process::ServerProcess;
use crate::wire::Object;

/// Names another zeod program than the one that cargo has built.
const ZEOD_VARIABLE: &str = "ZEOD_BENCH_BINARY";
/// Names a Python with ZEO and uvloop.
const PYTHON_VARIABLE: &str = "ZEOD_BENCH_PYTHON";

const HELPERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/versus");

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// This project's server.
    Zeod,
    /// Python's ZEO with uvloop.
    Python,
    /// The canned answers of `limit.rs`.
    Limit,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Zeod => "zeod",
            Kind::Python => "python",
            Kind::Limit => "limit",
        })
    }
}

/// A running server and what its database holds.
pub struct Server {
    pub kind: Kind,
    pub objects: Vec<Object>,
    process: ServerProcess,
}

impl Server {
    /// Starts a server on a new file in `directory`, without objects.
    pub fn start(kind: Kind, directory: &Path) -> Result<Self, Failure> {
        let data = directory.join(format!("{kind}.fs"));
        let address_file = directory.join(format!("{kind}.address"));
        let stderr = directory.join(format!("{kind}.log"));
        let command = command(kind, &data, &address_file)?;
        let process = ServerProcess::start(command, &address_file, &stderr)
            .map_err(|error| Failure::Setup(format!("starting {kind}: {error}")))?;
        Ok(Self {
            kind,
            objects: Vec::new(),
            process,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// Writes the objects that all rows work on.
    pub fn populate(&mut self, count: usize) -> Result<(), Failure> {
        self.objects = commits::populate(self.address(), count)?;
        Ok(())
    }

    /// The end of what the server logged, to explain a failure.
    pub fn last_words(&self) -> String {
        const LINES: usize = 30;
        let log = self.process.stderr();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

fn command(kind: Kind, data: &Path, address_file: &Path) -> Result<Command, Failure> {
    let mut command = match kind {
        Kind::Zeod => {
            let mut command = Command::new(zeod());
            command.args(["-a", "127.0.0.1:0", "-f"]).arg(data);
            command.arg("--address-file");
            command
        }
        Kind::Python => {
            let mut command = Command::new(python()?);
            command.arg(helper("zeo_server.py")).arg(data);
            // These would change the server that is compared.
            command
                .env_remove("ZEO_MSGPACK")
                .env_remove("ZEO_SERVER_PROTOCOL");
            command
        }
        Kind::Limit => {
            let mut command = Command::new(env::current_exe()?);
            command.arg(limit::SUBCOMMAND).arg(data);
            command
        }
    };
    command.arg(address_file);
    Ok(command)
}

/// A file beside this one.
pub fn helper(name: &str) -> PathBuf {
    Path::new(HELPERS).join(name)
}

fn zeod() -> OsString {
    env::var_os(ZEOD_VARIABLE).unwrap_or_else(|| env!("CARGO_BIN_EXE_zeod").into())
}

/// A Python that has ZEO and uvloop: the named one, or the one that the project's
/// tests have set up under `target/`.
pub fn python() -> Result<PathBuf, Failure> {
    if let Some(path) = env::var_os(PYTHON_VARIABLE) {
        let path = PathBuf::from(path);
        return if usable(&path) {
            Ok(path)
        } else {
            Err(no_python(&format!(
                "{} lacks ZEO or uvloop",
                path.display()
            )))
        };
    }
    let environments = target_directory().join("python-env");
    fs::read_dir(&environments)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/python"))
        .find(|path| usable(path))
        .ok_or_else(|| no_python("no usable target/python-env/*/bin/python"))
}

fn usable(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", "import ZEO, uvloop"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn no_python(reason: &str) -> Failure {
    Failure::Setup(format!(
        "no Python with ZEO and uvloop: {reason}.\n\
         The tests that need Python set one up there (cargo test); or do it by hand:\n\
         \x20   python3 -m venv target/python-env/bench\n\
         \x20   target/python-env/bench/bin/pip install ZEO==6.2 ZODB==6.4 uvloop msgpack\n\
         or name one in {PYTHON_VARIABLE}; or leave it out with --servers zeod,limit"
    ))
}

/// Where cargo builds: the parent of the directory it gives benches for their files.
pub fn target_directory() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().unwrap_or(scratch).to_owned()
}
