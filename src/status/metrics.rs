use super::Snapshot;
use super::exposition::{Exposition, Kind, Number, Unit};
use super::replication;
use super::snapshot::{RequestStatus, StorageStatus};
use crate::stats::Observed;

use Kind::{Counter, Gauge, Histogram};

/// The server in Prometheus' text format. Names keep to its conventions: base
/// units, `_total` for what only goes up; a storage's samples have its name as
/// label `storage`.
pub fn text(snapshot: &Snapshot) -> String {
    let mut out = Exposition::default();
    server(&mut out, snapshot);
    process(&mut out, snapshot);
    connections(&mut out, snapshot);
    let mut storages = Storages {
        out,
        storages: &snapshot.storages,
    };
    storages.sizes();
    storages.requests();
    storages.transactions();
    storages.commits();
    storages.packs();
    storages.blobs();
    let mut out = storages.out;
    replication::metrics(&mut out, snapshot);
    out.into_text()
}

fn server(out: &mut Exposition, snapshot: &Snapshot) {
    out.family("zeod_build_info", Gauge, "The version; always 1.");
    out.sample(&[("version", snapshot.version)], 1_u64);
    let help = "Does the server take clients? As /readyz.";
    out.family("zeod_ready", Gauge, help);
    out.sample(&[], snapshot.state == "ready");
}

fn process(out: &mut Exposition, snapshot: &Snapshot) {
    let process = &snapshot.process;
    let mut one = |name, kind, help, value: Number| {
        out.family(name, kind, help);
        out.sample(&[], value);
    };
    one(
        "process_start_time_seconds",
        Gauge,
        "When the server started, in seconds since 1970.",
        snapshot.started_seconds.into(),
    );
    one(
        "process_cpu_seconds_total",
        Counter,
        "Time of the processors that the server took.",
        process.cpu_seconds.into(),
    );
    one(
        "process_resident_memory_bytes",
        Gauge,
        "Memory that the server holds.",
        process.resident_bytes.into(),
    );
    one(
        "process_open_fds",
        Gauge,
        "Files and sockets that the server has open.",
        process.open_files.into(),
    );
    one(
        "process_max_fds",
        Gauge,
        "Files and sockets that the server may have open.",
        process.max_open_files.into(),
    );
}

fn connections(out: &mut Exposition, snapshot: &Snapshot) {
    let connections = &snapshot.connections;
    let mut one = |name, kind, help, value: u64| {
        out.family(name, kind, help);
        out.sample(&[], value);
    };
    one(
        "zeod_connections",
        Gauge,
        "Connections, also of those that have not chosen a storage.",
        connections.now,
    );
    one(
        "zeod_connections_accepted_total",
        Counter,
        "Connections that came in.",
        connections.accepted,
    );
    one(
        "zeod_connections_refused_total",
        Counter,
        "Connections that were refused because there were too many.",
        connections.refused,
    );
    one(
        "zeod_received_bytes_total",
        Counter,
        "Bytes that clients sent.",
        connections.received_bytes,
    );
    one(
        "zeod_sent_bytes_total",
        Counter,
        "Bytes that clients were sent.",
        connections.sent_bytes,
    );
    one(
        "zeod_unsent_bytes",
        Gauge,
        "Bytes that wait for clients that do not read.",
        connections.unsent_bytes,
    );
    let help = "Connections that the server ended, by reason.";
    out.family("zeod_connections_cut_off_total", Counter, help);
    for (reason, &count) in &connections.cut_off {
        out.sample(&[("reason", reason)], count);
    }
}

/// Writes families that each have a sample of each storage.
struct Storages<'s> {
    out: Exposition,
    storages: &'s [StorageStatus],
}

impl Storages<'_> {
    /// A sample for each storage that has a value.
    fn each<N: Into<Number>>(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        value: impl Fn(&StorageStatus) -> Option<N>,
    ) {
        self.out.family(name, kind, help);
        for storage in self.storages {
            if let Some(value) = value(storage) {
                self.out.sample(&[("storage", &storage.name)], value);
            }
        }
    }

    fn each_histogram(
        &mut self,
        name: &'static str,
        help: &str,
        unit: Unit,
        observed: impl Fn(&StorageStatus) -> Option<&Observed>,
    ) {
        self.out.family(name, Histogram, help);
        for storage in self.storages {
            if let Some(observed) = observed(storage) {
                let labels = [("storage", storage.name.as_str())];
                self.out.histogram(&labels, unit, observed);
            }
        }
    }

    /// A sample for each method that somebody called.
    fn each_method(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        write: impl Fn(&mut Exposition, &[(&'static str, &str)], &RequestStatus),
    ) {
        self.out.family(name, kind, help);
        for storage in self.storages {
            for (method, status) in &storage.requests {
                let labels = [("storage", storage.name.as_str()), ("method", method)];
                write(&mut self.out, &labels, status);
            }
        }
    }

    fn sizes(&mut self) {
        let help = "Does the storage take changes? 0 after an error, and where it is read-only.";
        self.each("zeod_storage_writable", Gauge, help, |storage| {
            Some(!storage.read_only && storage.stopped.is_none())
        });
        let help = "0; 1 once the storage takes no changes because of an error.";
        self.each("zeod_storage_stopped", Gauge, help, |storage| {
            Some(storage.stopped.is_some())
        });
        let help = "Size of the storage's file.";
        self.each("zeod_storage_size_bytes", Gauge, help, |storage| {
            Some(storage.size_bytes)
        });
        let help = "Objects in the storage.";
        self.each("zeod_storage_objects", Gauge, help, |storage| {
            Some(storage.objects)
        });
        let help = "Memory that the storage's index takes.";
        self.each("zeod_storage_index_bytes", Gauge, help, |storage| {
            Some(storage.index_bytes)
        });
        let help = "When the last transaction was committed, in seconds since 1970.";
        let name = "zeod_storage_last_transaction_timestamp_seconds";
        self.each(name, Gauge, help, |storage| {
            storage.last_transaction_seconds
        });
        let help = "Clients that use the storage.";
        self.each("zeod_storage_connections", Gauge, help, |storage| {
            Some(storage.connections)
        });
    }

    fn requests(&mut self) {
        let help = "Requests of clients. Methods that nobody called are left out.";
        self.each_method(
            "zeod_requests_total",
            Counter,
            help,
            |out, labels, status| {
                out.sample(labels, status.handled);
            },
        );
        let help = "Requests that came to an error.";
        let name = "zeod_requests_failed_total";
        self.each_method(name, Counter, help, |out, labels, status| {
            out.sample(labels, status.failed);
        });
        let help = "Time from a request's handling to its answer. Of loadBefore, storea and \
                    storeBlobChunk one in 16 is timed, so use zeod_requests_total for rates.";
        let name = "zeod_request_duration_seconds";
        self.each_method(name, Histogram, help, |out, labels, status| {
            if let Some(times) = &status.times {
                out.histogram(labels, Unit::Time, times);
            }
        });
    }

    fn transactions(&mut self) {
        let help = "Transactions begun and not ended.";
        self.each("zeod_transactions_active", Gauge, help, |storage| {
            Some(storage.transactions_active)
        });
        let help = "Transactions that clients gave up.";
        self.each("zeod_aborts_total", Counter, help, |storage| {
            Some(storage.aborts)
        });
        let help = "Votes with conflicts: refused, handed back to the client to resolve, or \
                    resolved here.";
        self.out.family("zeod_conflicts_total", Counter, help);
        for storage in self.storages {
            for (outcome, count) in [
                ("refused", storage.conflicts),
                ("handed_back", storage.conflicts_handed_back),
                ("resolved", storage.conflicts_resolved),
            ] {
                let labels = [("storage", storage.name.as_str()), ("outcome", outcome)];
                self.out.sample(&labels, count);
            }
        }
        let help = "Requests that failed since the disk was full.";
        self.each("zeod_full_disk_refusals_total", Counter, help, |storage| {
            Some(storage.full_disk_refusals)
        });
        let help = "Transactions that wait for locks.";
        self.each("zeod_locks_waiting", Gauge, help, |storage| {
            Some(storage.locks_waiting)
        });
        let help = "For how long the oldest holder has had its locks; 0 where nobody has any.";
        self.each("zeod_lock_held_seconds", Gauge, help, |storage| {
            Some(storage.lock_held_seconds.unwrap_or(0.0))
        });
        let help = "How long votes waited for locks, of those that had to.";
        let name = "zeod_lock_wait_seconds";
        self.each_histogram(name, help, Unit::Time, |storage| Some(&storage.lock_waits));
    }

    fn commits(&mut self) {
        let help = "Transactions committed.";
        self.each("zeod_commits_total", Counter, help, |storage| {
            Some(storage.commits)
        });
        let help = "Transactions that wait to be written.";
        self.each("zeod_commits_waiting", Gauge, help, |storage| {
            Some(storage.commits_waiting)
        });
        let help = "Transactions that were written with one sync.";
        let name = "zeod_commit_batch_transactions";
        self.each_histogram(name, help, Unit::Count, |storage| {
            Some(&storage.batch_sizes)
        });
        let help = "How long writing a batch of transactions took, with the sync.";
        let name = "zeod_commit_write_duration_seconds";
        self.each_histogram(name, help, Unit::Time, |storage| {
            Some(&storage.commit_times)
        });
        let help = "How long the disk took to sync a batch of transactions.";
        let name = "zeod_sync_duration_seconds";
        self.each_histogram(name, help, Unit::Time, |storage| {
            storage.sync_times.as_ref()
        });
    }

    fn packs(&mut self) {
        let help = "Does a pack run?";
        self.each("zeod_pack_running", Gauge, help, |storage| {
            Some(storage.pack.is_some())
        });
        let help = "How far the pack's present step is, from 0 to 1, while one runs.";
        self.each("zeod_pack_step_ratio", Gauge, help, |storage| {
            let pack = storage.pack.as_ref()?;
            let permille = pack.done.saturating_mul(1000).checked_div(pack.total)?;
            u32::try_from(permille.min(1000))
                .ok()
                .map(|p| f64::from(p) / 1000.0)
        });
        let help = "Packs that ended, and how.";
        self.out.family("zeod_packs_total", Counter, help);
        for storage in self.storages {
            for (result, count) in [("done", storage.packs), ("failed", storage.packs_failed)] {
                let labels = [("storage", storage.name.as_str()), ("result", result)];
                self.out.sample(&labels, count);
            }
        }
    }

    fn blobs(&mut self) {
        let help = "Blobs that clients sent.";
        self.each("zeod_blobs_received_total", Counter, help, |storage| {
            Some(storage.blobs_received)
        });
        let help = "Bytes of blobs that clients sent.";
        self.each("zeod_blob_received_bytes_total", Counter, help, |storage| {
            Some(storage.blob_bytes_received)
        });
        let help = "Blobs that clients were sent.";
        self.each("zeod_blobs_sent_total", Counter, help, |storage| {
            Some(storage.blobs_sent)
        });
        let help = "Bytes of blobs that clients were sent.";
        self.each("zeod_blob_sent_bytes_total", Counter, help, |storage| {
            Some(storage.blob_bytes_sent)
        });
    }
}
