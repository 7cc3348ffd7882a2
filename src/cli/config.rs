//! `zeod config`: checks, converts and shows configurations.

mod summary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::serve::{self, Configuration, environment};
use super::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::{ConfigError, Loaded, Overrides};

#[derive(Debug, Args)]
pub struct ConfigArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file, and print what would be served
    Check {
        /// The file: zeo.conf, or TOML if its name ends in .toml
        file: PathBuf,
    },
    /// Convert zeo.conf to TOML
    Convert {
        /// The file
        file: PathBuf,

        /// Write here; not given: to the standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the configuration that the file, the environment and the arguments make together, in TOML
    Show(Configuration),
}

/// Why a subcommand failed.
enum Failure {
    /// The configuration is wrong.
    Configuration(String),
    /// The result cannot be written.
    Output(String),
}

/// Runs the subcommand.
pub fn run(arguments: &ConfigArguments) -> ExitCode {
    let done = match &arguments.command {
        Command::Check { file } => check(file),
        Command::Convert { file, output } => convert(file, output.as_deref()),
        Command::Show(configuration) => show(configuration),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problem)) => {
            eprintln!("zeod: {problem}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Output(problem)) => {
            eprintln!("zeod: {problem}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    let loaded = serve::load_file(file).map_err(|error| refused(&error))?;
    let text = format!(
        "{} is valid. It serves:\n\n{}",
        file.display(),
        summary::of(&loaded.config)
    );
    print(&text)
}

fn convert(file: &Path, output: Option<&Path>) -> Result<(), Failure> {
    // The file alone: what the environment says is not written into another.
    let loaded =
        Loaded::file(file, &Overrides::default(), &environment).map_err(|error| refused(&error))?;
    let title = format!(
        "Converted from {} by zeod {}.",
        file.display(),
        env!("CARGO_PKG_VERSION")
    );
    let text = loaded.to_toml(&title);
    let Some(output) = output else {
        return print(&text);
    };
    // A file that is there may be in use.
    let written =
        std::fs::File::create_new(output).and_then(|mut target| target.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Output(format!(
            "{} exists already; name another file, or remove it first",
            output.display()
        )),
        _ => Failure::Output(format!("{} cannot be written: {error}", output.display())),
    })
}

fn show(configuration: &Configuration) -> Result<(), Failure> {
    let loaded = configuration.load().map_err(Failure::Configuration)?;
    for warning in &loaded.config.warnings {
        eprintln!("zeod: {warning}");
    }
    print(&loaded.to_toml("What is not here has its default."))
}

fn refused(error: &ConfigError) -> Failure {
    Failure::Configuration(error.to_string())
}

fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::Output(format!("standard output: {error}"))),
    }
}
