//! What all benchmarks are as programs: where their files go, and how they end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::generator::Failure;

/// What each of them is told.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Where the databases go (default: below target/); the disk decides the commits
    #[arg(long, global = true)]
    directory: Option<PathBuf>,
    /// What cargo bench passes
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

impl Common {
    /// Where the databases go.
    pub fn directory(&self) -> PathBuf {
        let chosen = self.directory.clone();
        chosen.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")))
    }
}

/// The end of the benchmark `name`: a failure is said, and is no success.
pub fn end(name: &str, ran: Result<ExitCode, Failure>) -> ExitCode {
    ran.unwrap_or_else(|failure| {
        eprintln!("{name}: {failure}");
        ExitCode::FAILURE
    })
}
