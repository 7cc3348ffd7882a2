use std::env;
use std::io;

use rustix::fs::fstat;

/// Where systemd says which stream is its journal, as DEVICE:INODE.
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";

/// Is standard error systemd's journal? The variable alone says nothing: a
/// child that is started with another standard error inherits it, too.
pub fn is_standard_error() -> bool {
    let Ok(stream) = env::var(STREAM_VARIABLE) else {
        return false;
    };
    let Ok(own) = fstat(io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", own.st_dev, own.st_ino)
}
