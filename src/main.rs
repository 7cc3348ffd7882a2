//! The zeod program.

use std::process::ExitCode;

fn main() -> ExitCode {
    zeod::cli::main()
}
