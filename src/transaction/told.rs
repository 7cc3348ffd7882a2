//! Who is told what of a batch of transactions.

use std::sync::Arc;

use super::committer::Origin;
use super::inbox::{Delivery, Finished, Inbox};
use super::invalidation::Invalidation;
use crate::types::Tid;

/// What all connections are told of a batch.
pub struct Told<'b> {
    /// The transactions.
    pub invalidations: &'b [Arc<Invalidation>],
    /// Who asked for each.
    pub origins: &'b [Origin],
    /// Objects in the storage after it.
    pub object_count: u64,
    /// Size of the storage after it.
    pub size_bytes: u64,
}

impl Told<'_> {
    fn finished(&self, tid: Tid) -> Delivery {
        Delivery::Finished(Ok(Finished {
            tid,
            object_count: self.object_count,
            size_bytes: self.size_bytes,
        }))
    }

    /// A connection hears of others' transactions, and of the end of its own in
    /// their order.
    pub fn tell(&self, inbox: &Arc<Inbox>) {
        let delivery = |(invalidation, origin): (&Arc<Invalidation>, &Origin)| {
            let own = origin.inbox.as_ref();
            if own.is_some_and(|own| Arc::ptr_eq(own, inbox)) {
                self.finished(invalidation.tid)
            } else {
                Delivery::Invalidation(Arc::clone(invalidation))
            }
        };
        inbox.push_all(self.invalidations.iter().zip(self.origins).map(delivery));
    }

    /// Those who hear of nothing but their own.
    pub fn tell_apart(&self) {
        for (invalidation, origin) in self.invalidations.iter().zip(self.origins) {
            if let Some(inbox) = &origin.apart {
                inbox.push(self.finished(invalidation.tid));
            }
        }
    }
}
