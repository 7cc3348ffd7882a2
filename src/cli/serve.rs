//! `zeod` without a subcommand: serves.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::{Address, ConfigError, Loaded, Overrides, VARIABLE_PREFIX};
use crate::server;

#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Once clients can connect, write a line "zeo ADDRESS" for each address to this file
    #[arg(long, value_name = "PATH")]
    address_file: Option<PathBuf>,
}

/// What is served, and how.
#[derive(Debug, Args)]
pub struct Configuration {
    /// Configuration file: zeo.conf, or TOML if its name ends in .toml
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
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Serves until a signal ends it.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    let read = || {
        let loaded = arguments.configuration.load();
        loaded.map(|loaded| loaded.config)
    };
    let config = match read() {
        Ok(config) => config,
        Err(problem) => {
            eprintln!("zeod: {problem}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match server::run(&config, arguments.address_file.as_deref(), &read) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zeod: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// A configuration file with the environment over it.
pub fn load_file(path: &Path) -> Result<Loaded, ConfigError> {
    let overrides = Overrides {
        variables: variables(),
        ..Overrides::default()
    };
    Loaded::file(path, &overrides, &environment)
}

impl Configuration {
    /// The file, the environment and the arguments together.
    pub fn load(&self) -> Result<Loaded, String> {
        let overrides = Overrides {
            address: self.address.clone(),
            files: self.filename.clone(),
            transaction_timeout: self.timeout,
            pid_filename: self.pid_file.clone(),
            variables: variables(),
        };
        let loaded = match (&self.configure, &self.address) {
            (Some(path), _) => Loaded::file(path, &overrides, &environment),
            (None, None) => {
                return Err("no address to listen on; use -a or -C (see --help)".to_owned());
            }
            (None, Some(_)) if self.filename.is_empty() => {
                return Err("no storage to serve; use -f or -C (see --help)".to_owned());
            }
            (None, Some(address)) => {
                Loaded::arguments(address, &self.filename, &overrides, &environment)
            }
        };
        loaded.map_err(|error| error.to_string())
    }
}

/// A variable of this process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The variables that stand for keys of the configuration, by name.
fn variables() -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        })
        .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
        .collect();
    variables.sort();
    variables
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn load(line: &[&str]) -> Result<Loaded, String> {
        let arguments = super::super::Arguments::parse_from(line);
        arguments.serve.configuration.load()
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(load(&["zeod"]).unwrap_err().contains("-a"));
        assert!(load(&["zeod", "-a", "8100"]).unwrap_err().contains("-f"));
    }

    #[test]
    fn files_are_numbered_storages() {
        let config = load(&[
            "zeod",
            "-a",
            "localhost:0",
            "-f",
            "a.fs",
            "-f",
            "b.fs",
            "-t",
            "1.5",
        ])
        .unwrap()
        .config;
        let names: Vec<_> = config
            .storages
            .iter()
            .map(|storage| storage.name.as_str())
            .collect();
        assert_eq!(names, ["1", "2"]);
        assert_eq!(config.warnings, []);
        assert_eq!(
            config.zeo.transaction_timeout,
            Some(Duration::from_millis(1500))
        );
    }
}
