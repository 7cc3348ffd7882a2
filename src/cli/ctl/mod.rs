//! `zeod ctl`: what `zeoctl` does with zdaemon, without a second process that
//! stays. The server is found by its PID file.
//!
//! The exit codes are those of the Linux Standard Base for such scripts.

mod ask;
mod process;
mod start;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use rustix::process::Signal;

use crate::config::Config;
use process::{Found, Server};

/// How long a start or a stop may take; zdaemon's defaults.
const PATIENCE_SECONDS: u64 = 300;

/// Did as it was told, or there was nothing to do.
const EXIT_DONE: u8 = 0;
/// Could not do it. For `status`: not running, and has left its PID file.
const EXIT_FAILED: u8 = 1;
/// For `status`: not running.
const EXIT_STOPPED: u8 = 3;
/// For `status`: nobody knows, for the PID file cannot be read.
const EXIT_UNKNOWN: u8 = 4;
/// The configuration is wrong, or names no PID file.
const EXIT_NOT_CONFIGURED: u8 = 6;
/// For what only a running server can be told.
const EXIT_NOT_RUNNING: u8 = 7;

/// The command.
#[derive(Debug, Args)]
pub struct Ctl {
    /// The server's configuration file; it has to name a pid-filename
    #[arg(short = 'C', long = "configure", value_name = "FILE")]
    configure: PathBuf,

    /// Wait no longer than this for a start or a stop (default 300), or with `wait`
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Find the server by this PID file, even where the configuration is wrong
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,

    /// What to do
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Start it in the background and wait until clients can connect
    Start,
    /// Stop it and wait for its end
    Stop,
    /// Stop it if it runs, then start it
    Restart,
    /// Say whether it runs: exit code 0, 3 if not, 1 if it left its PID file
    Status,
    /// Have it read its configuration anew (SIGHUP)
    Reload,
    /// Have it open its log files anew, after they were moved away (SIGUSR2)
    Logreopen,
    /// Wait until it has ended
    Wait,
}

/// What to say, and the exit code.
type Done = Result<String, (String, u8)>;

impl Ctl {
    /// Does it.
    pub fn run(&self) -> ExitCode {
        match self.act() {
            Ok(text) => {
                println!("{text}");
                ExitCode::from(EXIT_DONE)
            }
            Err((text, code)) => {
                eprintln!("zeod: {text}");
                ExitCode::from(code)
            }
        }
    }

    fn act(&self) -> Done {
        let config = super::serve::load_file(&self.configure)
            .map(|loaded| loaded.config)
            .map_err(|error| error.to_string());
        let pid_file = self
            .pid_file_of(config.as_ref())
            .map_err(|text| (text, EXIT_NOT_CONFIGURED))?;
        let unknown = if self.action == Action::Status {
            EXIT_UNKNOWN
        } else {
            EXIT_FAILED
        };
        let found = process::find(&pid_file).map_err(|text| (text, unknown))?;
        // Nothing is begun with a configuration that has a mistake.
        let config = match (config, self.action) {
            (Err(text), Action::Start | Action::Restart | Action::Reload) => {
                return Err((text, EXIT_NOT_CONFIGURED));
            }
            (config, _) => config,
        };
        let patience = Duration::from_secs(self.timeout.unwrap_or(PATIENCE_SECONDS));
        match (self.action, found) {
            (Action::Start, Found::Running(server)) => {
                Ok(format!("runs already, pid {}", server.pid()))
            }
            (Action::Stop, Found::Running(server)) => stop(&server, patience),
            (Action::Wait, Found::Running(server)) => self.wait(&server),
            (Action::Stop | Action::Wait, found) => Ok(found.to_string()),
            (Action::Restart, Found::Running(server)) => {
                println!("{}", stop(&server, patience)?);
                self.start(&pid_file, &Found::Nothing, patience)
            }
            (Action::Start | Action::Restart, found) => self.start(&pid_file, &found, patience),
            (Action::Status, Found::Running(server)) => Ok(status(config, &pid_file, &server)),
            (Action::Status, found @ Found::Stale(_)) => Err((found.to_string(), EXIT_FAILED)),
            (Action::Status, found) => Err((found.to_string(), EXIT_STOPPED)),
            (Action::Reload, Found::Running(server)) => tell(
                &server,
                Signal::HUP,
                "reads its configuration anew; its log says what changed",
            ),
            (Action::Logreopen, Found::Running(server)) => {
                tell(&server, Signal::USR2, "opens its log files anew")
            }
            (Action::Reload | Action::Logreopen, found) => {
                Err((found.to_string(), EXIT_NOT_RUNNING))
            }
        }
    }

    fn pid_file_of(&self, config: Result<&Config, &String>) -> Result<PathBuf, String> {
        match (&self.pid_file, config) {
            (Some(given), _) => Ok(given.clone()),
            (None, Ok(config)) => pid_file(config).map(Path::to_owned),
            (None, Err(text)) => Err(format!(
                "{text}\n(a server that runs can still be found by --pid-file)"
            )),
        }
    }

    fn start(&self, pid_file: &Path, found: &Found, patience: Duration) -> Done {
        if let Found::Stale(_) = found {
            println!("{found}");
        }
        let mut arguments = vec!["-C".as_ref(), self.configure.as_os_str()];
        if let Some(path) = &self.pid_file {
            arguments.extend(["--pid-file".as_ref(), path.as_os_str()]);
        }
        start::in_background(&arguments, pid_file, patience).map_err(|text| (text, EXIT_FAILED))
    }

    fn wait(&self, server: &Server) -> Done {
        let pid = server.pid();
        if server.ends_within(self.timeout.map(Duration::from_secs)) {
            Ok(format!("pid {pid} has ended"))
        } else {
            Err((format!("pid {pid} still runs"), EXIT_FAILED))
        }
    }
}

fn pid_file(config: &Config) -> Result<&Path, String> {
    let source = config.source.display();
    if config.zeo.read_only {
        return Err(format!(
            "{source}: a read-only server writes no PID file, as Python's does not; this command \
             cannot find it. Let systemd run it"
        ));
    }
    config.zeo.pid_filename.as_deref().ok_or_else(|| {
        format!(
            "{source}: there is no pid-filename in <zeo>, by which this command finds the server; \
             add one, such as \"pid-filename /var/lib/zeod/zeod.pid\""
        )
    })
}

fn stop(server: &Server, patience: Duration) -> Done {
    let pid = server.pid();
    server
        .signal(Signal::TERM)
        .map_err(|text| (text, EXIT_FAILED))?;
    if server.ends_within(Some(patience)) {
        return Ok(format!("stopped, pid was {pid}"));
    }
    let seconds = patience.as_secs();
    let text = format!(
        "pid {pid} was asked to stop and still runs after {seconds} s; its log says what it waits \
         for. A second \"stop\" hastens it"
    );
    Err((text, EXIT_FAILED))
}

fn tell(server: &Server, signal: Signal, what: &str) -> Done {
    server.signal(signal).map_err(|text| (text, EXIT_FAILED))?;
    Ok(format!("pid {} {what}", server.pid()))
}

fn status(config: Result<Config, String>, pid_file: &Path, server: &Server) -> String {
    let since = std::fs::metadata(pid_file)
        .and_then(|metadata| metadata.modified())
        .map(local_time)
        .unwrap_or_default();
    let answer = match config.and_then(|config| ask::storages(&config.zeo)) {
        Ok(answer) => format!(", on {answer}"),
        Err(problem) => format!("; it does not answer: {problem}"),
    };
    format!("runs, pid {}{since}{answer}", server.pid())
}

fn local_time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(
        |_| String::new(),
        |time| {
            let local = time.to_zoned(jiff::tz::TimeZone::system());
            local.strftime(", since %Y-%m-%d %H:%M:%S").to_string()
        },
    )
}
