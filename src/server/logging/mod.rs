//! Placeholder until the real one is merged.
use crate::config::EventLog;
/// None.
#[derive(Debug, thiserror::Error)]
#[error("none")]
pub struct LoggingError;
/// None.
#[derive(Debug)]
pub struct Logging;
impl Logging {
    /// None.
    pub fn reopen(&self) {}
}
/// None.
pub fn init(_eventlog: Option<&EventLog>) -> Result<Logging, LoggingError> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    Ok(Logging)
}
