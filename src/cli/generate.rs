//! `zeod completions` and `zeod man`: what packages install beside the program.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::EXIT_FAILURE;

/// What `zeod completions` is told.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which
    shell: Shell,
}

/// What `zeod man` is told.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory; made where it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    /// Writes them for `command`.
    pub fn run(&self, mut command: Command) -> ExitCode {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "zeod", &mut text);
        match io::stdout().write_all(&text) {
            // A reader that has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            written => exit_code("writing the completions", &written),
        }
    }
}

impl Man {
    /// Writes them for `command`.
    pub fn run(&self, command: Command) -> ExitCode {
        let command = command.disable_help_subcommand(true);
        let written = fs::create_dir_all(&self.directory)
            .and_then(|()| clap_mangen::generate_to(command, &self.directory));
        exit_code(&self.directory.display().to_string(), &written)
    }
}

fn exit_code(what: &str, result: &io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zeod: {what}: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn every_command_gets_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let man = Man {
            directory: directory.path().join("man"),
        };
        assert_eq!(man.run(Arguments::command()), ExitCode::SUCCESS);
        for (page, expected) in [
            ("zeod", "configure"),
            ("zeod-config-check", "FILE"),
            ("zeod-ctl", "logreopen"),
            ("zeod-init", "DIR"),
            ("zeod-cluster-transfer-leader", "storage"),
        ] {
            let path = directory.path().join("man").join(format!("{page}.1"));
            let text = fs::read_to_string(path).unwrap();
            assert!(text.starts_with(".ie"), "no manual page: {text}");
            assert!(text.contains(expected), "{page}: {text}");
        }
    }

    #[test]
    fn every_shell_can_be_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "zeod", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["convert", "completions", "address-file", "transfer-leader"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
