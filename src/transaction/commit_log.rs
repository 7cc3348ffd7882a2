use std::fmt;
use std::sync::Arc;

use crate::storage::{Committing, Result, Storage};

/// What makes transactions durable: a lone server's own disk, or a quorum's.
pub trait CommitLog: Send + Sync + fmt::Debug {
    /// Makes the batch durable; nothing of it is seen yet. After an error
    /// nothing of it may ever be acknowledged.
    fn append(&self, batch: &mut [Committing]) -> Result<()>;
}

/// The disk of this server.
#[derive(Debug)]
pub struct LocalLog(pub Arc<dyn Storage>);

impl CommitLog for LocalLog {
    fn append(&self, batch: &mut [Committing]) -> Result<()> {
        self.0.append(batch)
    }
}
