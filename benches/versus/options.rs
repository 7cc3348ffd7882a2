//! The command line.

use clap::Parser;
use regex_lite::Regex;

use crate::program::Common;
use crate::rows::{ROWS, Row};
use crate::servers::Kind;

/// Compare zeod with Python's ZEO server and with the limit, side by side.
#[derive(Debug, Clone, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
#[command(name = "versus")]
pub struct Options {
    /// Only rows whose key or title matches
    #[arg(long, value_name = "REGEX")]
    pub rows: Option<Regex>,
    /// The servers to measure
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [Kind::Zeod, Kind::Python, Kind::Limit]
    )]
    pub servers: Vec<Kind>,
    /// How often each row is measured at each server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Objects in each database
    #[arg(long, default_value_t = 10_000)]
    pub objects: usize,
    /// One round of a third of a second, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// Exit with 1 and name the rows that miss the goals
    #[arg(long)]
    pub assert: bool,
    /// Also run Python's own client against zeod and Python
    #[arg(long)]
    pub stock: bool,
    /// Print the rows' keys and leave
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub common: Common,
}

/// Enough for 64 writers with ten objects each, and for two shares.
const FEWEST_OBJECTS: usize = 1_000;

impl Options {
    /// Parses the command line and applies `--quick`.
    pub fn from_command_line() -> Self {
        let mut options = Self::parse();
        if options.quick {
            options.rounds = 1;
            options.seconds = options.seconds.min(0.33);
        }
        options.objects = options.objects.max(FEWEST_OBJECTS);
        options.servers.sort_unstable();
        options.servers.dedup();
        options
    }

    /// The rows to measure.
    pub fn chosen_rows(&self) -> Vec<Row> {
        let chosen = |row: &&Row| {
            self.rows
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(row.key) || pattern.is_match(row.title))
        };
        ROWS.iter().filter(chosen).copied().collect()
    }
}
