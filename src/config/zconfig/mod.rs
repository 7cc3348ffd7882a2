//! The ZConfig language: text to sections, keys and values.

mod include;
mod parse;
mod substitute;

use std::path::{Path, PathBuf};

pub use parse::{MAX_FILE_BYTES, parse_file, read_limited};

/// The path that a `file:` URL means; any other path is itself.
pub fn local_path(path: &Path) -> PathBuf {
    path.to_str()
        .and_then(include::file_url_path)
        .unwrap_or_else(|| path.to_owned())
}
