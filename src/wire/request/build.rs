//! From a method's name and arguments to the typed request.

use super::Request;
use super::arguments::{Arguments, Mismatch};

/// What is wrong with a call whose frame is well-formed.
pub(super) enum BuildError {
    UnknownMethod,
    BadArguments {
        method: &'static str,
        mismatch: Mismatch,
    },
}

/// Reads the arguments of one method.
type Builder = for<'a> fn(&mut Arguments<'a>) -> Result<Request<'a>, Mismatch>;

pub(super) fn build<'a>(
    method: &str,
    arguments: &mut Arguments<'a>,
) -> Result<Request<'a>, BuildError> {
    let Some((method, builder)) = find(method) else {
        return Err(BuildError::UnknownMethod);
    };
    builder(arguments)
        .and_then(|request| arguments.finish().map(|()| request))
        .map_err(|mismatch| BuildError::BadArguments { method, mismatch })
}

/// The name as a constant, and the builder of a method.
pub(super) fn find(method: &str) -> Option<(&'static str, Builder)> {
    METHODS.iter().find(|(name, _)| *name == method).copied()
}

/// The methods, the frequent ones first.
pub(super) const METHODS: [(&str, Builder); 36] = [
    ("loadBefore", |a| {
        let (oid, tid) = (a.oid("oid")?, a.tid("tid")?);
        Ok(Request::LoadBefore { oid, tid })
    }),
    ("storea", |a| {
        Ok(Request::Store {
            oid: a.oid("oid")?,
            serial: a.serial("serial")?,
            data: a.bytes("data")?,
            transaction: a.transaction()?,
        })
    }),
    ("vote", |a| {
        Ok(Request::Vote {
            transaction: a.transaction()?,
        })
    }),
    ("tpc_finish", |a| {
        Ok(Request::TpcFinish {
            transaction: a.transaction()?,
        })
    }),
    ("tpc_begin", |a| {
        Ok(Request::TpcBegin {
            transaction: a.transaction()?,
            user: a.text_bytes("user")?,
            description: a.text_bytes("description")?,
            extension: a.extension("ext")?,
            tid: a.optional_tid("tid")?,
            status: a.status("status")?,
        })
    }),
    ("ping", |_| Ok(Request::Ping)),
    ("lastTransaction", |_| Ok(Request::LastTransaction)),
    ("checkCurrentSerialInTransaction", |a| {
        Ok(Request::CheckCurrentSerial {
            oid: a.oid("oid")?,
            serial: a.serial("serial")?,
            transaction: a.transaction()?,
        })
    }),
    ("new_oids", |a| {
        Ok(Request::NewOids {
            count: a.count_or("n", 100)?,
        })
    }),
    ("storeBlobChunk", |a| {
        Ok(Request::StoreBlobChunk {
            chunk: a.bytes("chunk")?,
        })
    }),
    ("restorea", |a| {
        Ok(Request::Restore {
            oid: a.oid("oid")?,
            serial: a.serial("serial")?,
            data: a.bytes_or_none("data")?,
            previous: a.tid_or_none("prev_txn")?,
            transaction: a.transaction()?,
        })
    }),
    ("tpc_abort", |a| {
        Ok(Request::TpcAbort {
            transaction: a.transaction()?,
        })
    }),
    ("register", |a| {
        Ok(Request::Register {
            storage: a.text("storage_id")?,
            read_only: a.bool("read_only")?,
        })
    }),
    ("get_info", |_| Ok(Request::GetInfo)),
    ("getInvalidations", |a| {
        Ok(Request::GetInvalidations { tid: a.tid("tid")? })
    }),
    ("new_oid", |_| Ok(Request::NewOid)),
    ("pack", |a| {
        Ok(Request::Pack {
            time: a.float("time")?,
            wait: a.bool_or(true),
        })
    }),
    ("loadSerial", |a| {
        Ok(Request::LoadSerial {
            oid: a.oid("oid")?,
            serial: a.tid("serial")?,
        })
    }),
    ("getTid", |a| Ok(Request::GetTid { oid: a.oid("oid")? })),
    ("history", |a| {
        Ok(Request::History {
            oid: a.oid("oid")?,
            size: a.count_or("size", 1)?,
        })
    }),
    ("record_iternext", |a| {
        Ok(Request::RecordIternext {
            next: a.optional_oid("next")?,
        })
    }),
    ("deleteObject", |a| {
        Ok(Request::DeleteObject {
            oid: a.oid("oid")?,
            serial: a.serial("serial")?,
            transaction: a.transaction()?,
        })
    }),
    ("undoa", |a| {
        Ok(Request::Undo {
            undone: a.text_bytes("trans_id")?,
            transaction: a.transaction()?,
        })
    }),
    ("undoLog", |a| {
        Ok(Request::UndoLog {
            first: a.int("first")?,
            last: a.int("last")?,
        })
    }),
    ("undoInfo", |a| {
        Ok(Request::UndoInfo {
            first: a.int_or("first", 0)?,
            last: a.int_or("last", -20)?,
            specification: a.value_or_none(),
        })
    }),
    ("storeBlobStart", |_| Ok(Request::StoreBlobStart)),
    ("storeBlobEnd", |a| {
        Ok(Request::StoreBlobEnd {
            oid: a.oid("oid")?,
            serial: a.serial("serial")?,
            data: a.bytes("data")?,
            transaction: a.transaction()?,
        })
    }),
    ("storeBlobShared", |a| {
        Ok(Request::StoreBlobShared {
            oid: a.oid("oid")?,
            serial: a.serial("serial")?,
            data: a.bytes("data")?,
            filename: a.text("filename")?,
            transaction: a.transaction()?,
        })
    }),
    ("sendBlob", |a| {
        Ok(Request::SendBlob {
            oid: a.oid("oid")?,
            serial: a.tid("serial")?,
        })
    }),
    ("iterator_start", |a| {
        Ok(Request::IteratorStart {
            start: a.optional_tid("start")?,
            stop: a.optional_tid("stop")?,
        })
    }),
    ("iterator_next", |a| {
        Ok(Request::IteratorNext {
            iterator: a.iterator("iid")?,
        })
    }),
    ("iterator_record_start", |a| {
        Ok(Request::IteratorRecordStart {
            iterator: a.iterator("txn_iid")?,
            tid: a.tid("tid")?,
        })
    }),
    ("iterator_record_next", |a| {
        Ok(Request::IteratorRecordNext {
            iterator: a.iterator("iid")?,
        })
    }),
    ("iterator_gc", |a| {
        Ok(Request::IteratorGc {
            iterators: a.iterators("iids")?,
        })
    }),
    ("server_status", |_| Ok(Request::ServerStatus)),
    ("set_client_label", |a| {
        Ok(Request::SetClientLabel {
            label: a.text("label")?,
        })
    }),
];
