//! The command line. Without a subcommand it takes the place of Python's
//! `runzeo`.

mod cluster;
mod config;
mod ctl;
mod generate;
mod init;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    #[command(flatten)]
    serve: serve::ServeArguments,

    /// Without a command: serve
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check, convert or show a configuration
    Config(config::ConfigArguments),
    /// Start and stop a server in the background, ask for it, and tell it things
    Ctl(ctl::Ctl),
    /// Make the directory of a new server: configuration, scripts, a systemd unit
    Init(init::Init),
    /// Make several servers with the same storages one cluster, change it, say how it is
    Cluster(cluster::ClusterArguments),
    /// Write completions for a shell
    Completions(generate::Completions),
    /// Write manual pages
    Man(generate::Man),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        None => serve::run(&arguments.serve),
        Some(Command::Config(config)) => config::run(config),
        Some(Command::Ctl(ctl)) => ctl.run(),
        Some(Command::Init(init)) => init.run(),
        Some(Command::Cluster(cluster)) => cluster::run(cluster),
        Some(Command::Completions(completions)) => completions.run(Arguments::command()),
        Some(Command::Man(man)) => man.run(Arguments::command()),
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
    fn serving_needs_no_subcommand() {
        let arguments = Arguments::parse_from(["zeod", "-C", "zeo.conf"]);
        assert!(arguments.command.is_none());
        let arguments = Arguments::parse_from(["zeod", "config", "check", "zeo.conf"]);
        assert!(arguments.command.is_some());
    }
}
