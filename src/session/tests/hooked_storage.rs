//! A MappingStorage that lets a test act in the middle of its calls.

use std::fmt;
use std::sync::OnceLock;

use crate::disk::Access;
use crate::storage::{
    Committing, Condition, CurrentRecord, CurrentSerial, Description, HistoryEntry, MappingStorage,
    Reservation, Result, Revision, Staged, Storage, TransactionIterator,
};
use crate::types::{Oid, Tid};

type Hook = OnceLock<Box<dyn Fn() + Send + Sync>>;

pub struct HookedStorage {
    inner: MappingStorage,
    /// Runs before and after what was appended is made seen.
    pub around_publish: Hook,
}

impl HookedStorage {
    pub fn new() -> Self {
        Self {
            inner: MappingStorage::new("hooked"),
            around_publish: Hook::new(),
        }
    }
}

fn run(hook: &Hook) {
    if let Some(hook) = hook.get() {
        hook();
    }
}

impl fmt::Debug for HookedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedStorage").finish_non_exhaustive()
    }
}

impl Storage for HookedStorage {
    fn description(&self) -> &Description {
        self.inner.description()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn last_tid(&self) -> Tid {
        self.inner.last_tid()
    }

    fn object_count(&self) -> u64 {
        self.inner.object_count()
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn load_before(
        &self,
        oid: Oid,
        before: Tid,
        access: Access,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Revision>> {
        self.inner.load_before(oid, before, access, buffer)
    }

    fn load_serial(&self, oid: Oid, serial: Tid, access: Access) -> Result<Vec<u8>> {
        self.inner.load_serial(oid, serial, access)
    }

    fn current_serial(&self, oid: Oid, access: Access) -> Result<Option<CurrentSerial>> {
        self.inner.current_serial(oid, access)
    }

    fn history(&self, oid: Oid, size: u64) -> Result<Vec<HistoryEntry>> {
        self.inner.history(oid, size)
    }

    fn next_record(&self, from: Option<Oid>) -> Result<Option<CurrentRecord>> {
        self.inner.next_record(from)
    }

    fn iterate(
        &self,
        start: Option<Tid>,
        stop: Option<Tid>,
    ) -> Result<Box<dyn TransactionIterator>> {
        self.inner.iterate(start, stop)
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<(Tid, Vec<Oid>)>> {
        self.inner.last_invalidations(count)
    }

    fn new_oids(&self, count: usize) -> Result<Vec<Oid>> {
        self.inner.new_oids(count)
    }

    fn prepare(&self, staged: &Staged) -> Result<Box<dyn Reservation>> {
        self.inner.prepare(staged)
    }

    fn append(&self, batch: &mut [Committing]) -> Result<()> {
        self.inner.append(batch)
    }

    fn publish(&self, batch: &[Committing]) {
        run(&self.around_publish);
        self.inner.publish(batch);
        run(&self.around_publish);
    }

    fn condition(&self) -> Condition {
        self.inner.condition()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
