//! Pack, which takes its time while everything else goes on.

use std::sync::Arc;

use super::{Outcome, Registered};
use crate::storage::file::pack::pack_time;
use crate::transaction::{Delivery, Inbox};
use crate::wire::{Exception, MessageId};

impl Registered {
    /// Packs the storage to a time in seconds since 1970. With `wait` the
    /// answer comes when it is done. It is allowed to clients that have
    /// registered to read, as in the reference, but not to those whom an
    /// access list lets read only: it removes history.
    pub(super) fn pack(
        &self,
        time: f64,
        wait: bool,
        id: &MessageId<'_>,
        inbox: &Arc<Inbox>,
    ) -> Outcome<'static> {
        if self.may_only_read {
            return Outcome::Error(Exception::ReadOnly);
        }
        let Some(stop) = pack_time(time) else {
            let message = "Invalid pack time".to_owned();
            return Outcome::Error(Exception::FileStorageError { message });
        };
        if !wait {
            return match self.database.pack(stop, Box::new(|_| {})) {
                Ok(()) => Outcome::DONE,
                Err(error) => error.into(),
            };
        }
        let request = id.clone().into_owned();
        let inbox = Arc::clone(inbox);
        let done = move |packed: Result<(), crate::storage::StorageError>| {
            let failure = packed.err().map(Exception::from);
            inbox.push(Delivery::Done { request, failure });
        };
        match self.database.pack(stop, Box::new(done)) {
            Ok(()) => Outcome::Later,
            Err(error) => error.into(),
        }
    }
}
