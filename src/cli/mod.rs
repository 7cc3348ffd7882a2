//! The command line. It takes the place of Python's `runzeo`.

mod ctl;
mod init;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::{self, Address, Config, Overrides};
use crate::server;

/// The command line, or the configuration, is wrong.
const EXIT_USAGE: u8 = 2;
/// The server could not start, or did not stop cleanly.
const EXIT_FAILURE: u8 = 1;

/// Serves ZODB databases to ZEO clients.
#[derive(Debug, Parser)]
#[command(
    name = "zeod",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    /// Without a command: serve
    #[command(subcommand)]
    command: Option<Command>,

    /// Configuration file (zeo.conf)
    #[arg(short = 'C', long = "configure", value_name = "FILE")]
    configure: Option<PathBuf>,

    /// Listen here: PORT, HOST:PORT, or the path of a unix socket (with a slash)
    #[arg(short, long, value_name = "ADDRESS")]
    address: Option<Address>,

    /// Serve this FileStorage; the first is storage 1, the second 2, …
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,

    /// Cut clients off that hold their locks for longer than this
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Write the process id to this file
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,

    /// Once clients can connect, write a line "zeo ADDRESS" for each address to this file
    #[arg(long, value_name = "PATH")]
    address_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start and stop a server in the background, ask for it, and tell it things
    Ctl(ctl::Ctl),
    /// Make the directory of a new server: configuration, scripts, a systemd unit
    Init(init::Init),
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Ctl(ctl)) => ctl.run(),
        Some(Command::Init(init)) => init.run(),
        None => serve(&arguments),
    }
}

fn serve(arguments: &Arguments) -> ExitCode {
    let config = match configuration(arguments) {
        Ok(config) => config,
        Err(problem) => {
            eprintln!("zeod: {problem}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let reread = || configuration(arguments);
    match server::run(&config, arguments.address_file.as_deref(), &reread) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zeod: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn configuration(arguments: &Arguments) -> Result<Config, String> {
    let environment = |name: &str| std::env::var(name).ok();
    let overrides = Overrides {
        address: arguments.address.clone(),
        files: arguments.filename.clone(),
        transaction_timeout: arguments.timeout,
        pid_filename: arguments.pid_file.clone(),
    };
    match (&arguments.configure, &arguments.address) {
        (Some(path), _) => {
            config::load_with(path, &overrides, &environment).map_err(|error| error.to_string())
        }
        (None, None) => Err("no address to listen on; use -a or -C (see --help)".to_owned()),
        (None, Some(_)) if arguments.filename.is_empty() => {
            Err("no storage to serve; use -f or -C (see --help)".to_owned())
        }
        (None, Some(address)) => Ok(config::from_arguments(
            address.clone(),
            &arguments.filename,
            &overrides,
            &environment,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn what_is_missing_is_named() {
        let problem = |line: &[&str]| configuration(&Arguments::parse_from(line)).unwrap_err();
        assert!(problem(&["zeod"]).contains("-a"));
        assert!(problem(&["zeod", "-a", "8100"]).contains("-f"));
    }

    #[test]
    fn files_are_numbered_storages() {
        let line = [
            "zeod",
            "-a",
            "localhost:0",
            "-f",
            "a.fs",
            "-f",
            "b.fs",
            "-t",
            "1.5",
        ];
        let config = configuration(&Arguments::parse_from(line)).unwrap();
        let names: Vec<_> = config
            .storages
            .iter()
            .map(|storage| storage.name.as_str())
            .collect();
        assert_eq!(names, ["1", "2"]);
        assert_eq!(
            config.zeo.transaction_timeout,
            Some(Duration::from_millis(1500))
        );
    }
}
