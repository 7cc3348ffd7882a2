//! A storage's log when it is opened: every entry is read, for raft-engine
//! finds damage in payloads only then.
//!
//! What is unreadable up to what the storage has applied is not needed any more, and is purged
//! with all before it. From the first unreadable entry above on the log is cut off, which
//! takes acknowledged entries away: damage. So does a log that ends before what was applied,
//! begins behind what was purged, or has entries and no vote.

use openraft::{LogId, Vote};

use super::LogError;
use super::engine::{EngineError, Key, Step};
use super::group::Shared;
use super::tail::size;
use crate::replication::entry_codec::{Layout, decode, encode};
use crate::replication::types::NodeId;

/// What is read at once.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// What reading it all has shown.
#[derive(Debug, Default)]
struct Findings {
    /// Unreadable, and applied: the last one.
    useless: Option<u64>,
    /// The first readable entry behind `useless`, if it is applied.
    useful: Option<LogId<NodeId>>,
    /// The first unreadable one that is not applied, and why.
    broken: Option<(u64, String)>,
}

/// Fills `shared.state` from the engine. What is wrong is put in order; the damage that
/// it means is returned, and remembered before anything is changed.
pub(super) fn load(
    shared: &Shared,
    applied: Option<LogId<NodeId>>,
) -> Result<Option<String>, LogError> {
    let id = shared.id;
    let span = shared.writer.read_now(move |engine| engine.span(id));
    let span = span.map_err(gone)?;
    let purged = value::<LogId<NodeId>>(shared, Key::Purged)?;
    let vote = value::<Vote<NodeId>>(shared, Key::RaftVote)?;
    {
        let mut state = shared.state.lock();
        state.vote = vote;
        state.committed = value(shared, Key::Committed)?;
        state.purged = purged;
        state.last = purged;
        let after_purged = purged.map_or(span.start, |purged| purged.index + 1);
        state.first = span.start.max(after_purged);
        state.next = span.end.max(state.first);
        if span.end <= state.first {
            state.first = after_purged;
            state.next = after_purged;
        }
    }
    let findings = read_all(shared, applied)?;
    let mut damage = findings
        .broken
        .as_ref()
        .map(|(index, why)| format!("log entry {index} and all behind it are lost: {why}"));
    let state = shared.state.lock();
    let expected = purged.map_or(0, |purged| purged.index + 1);
    let starts_late = state.first > expected && state.first < state.next;
    if starts_late && damage.is_none() {
        let first = state.first;
        damage = Some(format!(
            "log entries {expected} to {} are missing",
            first - 1
        ));
    }
    let end = findings
        .broken
        .as_ref()
        .map_or(state.next, |(index, _)| *index);
    if let Some(applied) = applied.filter(|applied| applied.index >= end && damage.is_none()) {
        let index = applied.index;
        damage = Some(format!(
            "log entry {index} was applied, and the log ends before it"
        ));
    }
    if vote.is_none() && end > 1 && damage.is_none() {
        damage = Some("the log has entries and no vote".into());
    }
    drop(state);
    if let Some(damage) = &damage {
        let mut identity = shared.identity.lock();
        identity.mark_damaged(Some(&shared.name), damage)?;
    }
    repair(shared, &findings, starts_late, applied)?;
    let mut state = shared.state.lock();
    state.durable = state.next;
    shared.tell_durable(&state);
    Ok(damage)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn gone(error: EngineError) -> LogError {
    LogError::Unusable(error.to_string())
}

fn value<T: Layout>(shared: &Shared, key: Key) -> Result<Option<T>, LogError> {
    let value = shared
        .writer
        .with_engine(|engine| engine.value(shared.id, key))
        .map_err(gone)?;
    let decoded = value.map(|bytes| decode(bytes.into())).transpose();
    decoded.map_err(|error| {
        let (name, what) = (&shared.name, key.name());
        LogError::Unusable(format!("storage {name}: the log's {what}: {error}"))
    })
}

/// Reads every entry; the last ones stay in memory.
fn read_all(shared: &Shared, applied: Option<LogId<NodeId>>) -> Result<Findings, LogError> {
    let is_applied = |index: u64| applied.is_some_and(|applied| index <= applied.index);
    let mut findings = Findings::default();
    let (mut at, end) = {
        let state = shared.state.lock();
        (state.first, state.next)
    };
    let mut max_bytes = CHUNK_BYTES;
    while at < end {
        match shared.read_files(at..end, max_bytes) {
            Ok(entries) => {
                let mut state = shared.state.lock();
                for entry in entries {
                    let log_id = entry.log_id;
                    if findings.useless.is_some() && is_applied(log_id.index) {
                        findings.useful = findings.useful.or(Some(log_id));
                    }
                    at = log_id.index + 1;
                    state.last = Some(log_id);
                    state.sizes.push(log_id.index, size(&entry) as u64);
                    state.tail.push(entry);
                }
                state.tail.shrink(at);
                max_bytes = CHUNK_BYTES;
            }
            Err(error @ EngineError::Dead(_)) => return Err(gone(error)),
            // Which one of them is it?
            Err(_) if max_bytes > 0 => max_bytes = 0,
            Err(_) if is_applied(at) => {
                findings.useless = Some(at);
                findings.useful = None;
                at += 1;
                shared.state.lock().tail.cut_end(0);
            }
            Err(error) => {
                findings.broken = Some((at, error.to_string()));
                break;
            }
        }
    }
    Ok(findings)
}

/// Leaves a log that can be used: without gaps, and readable from one end to the other.
fn repair(
    shared: &Shared,
    findings: &Findings,
    starts_late: bool,
    applied: Option<LogId<NodeId>>,
) -> Result<(), LogError> {
    let mut steps = Vec::new();
    let mut state = shared.state.lock();
    if let Some((index, _)) = findings.broken {
        let last = state.last.filter(|last| last.index < index);
        let purged = state.purged;
        state.cut_end(index, last.or(purged));
        steps.push(Step::CutEnd(index));
    }
    let upto = match findings.useless {
        Some(_) => findings.useful.or(applied),
        None if starts_late => applied,
        None => None,
    };
    let reaches = upto.is_some_and(|upto| upto.index + 1 >= state.first);
    if let Some(upto) = upto.filter(|_| reaches) {
        state.purge(upto);
        steps.push(Step::Put(Key::Purged, encode(&upto)));
        steps.push(Step::CutBeginning(upto.index + 1));
    } else if starts_late && state.first < state.next {
        // Nothing before it was applied either: it is of no use.
        let (first, end, purged) = (state.first, state.next, state.purged);
        state.cut_end(first, purged);
        let next = purged.map_or(0, |purged| purged.index + 1);
        (state.first, state.next) = (next, next);
        steps.push(Step::CutBeginning(end));
    }
    drop(state);
    if steps.is_empty() {
        return Ok(());
    }
    let changes = steps.into_iter().map(|step| shared.change(step));
    shared.writer.write_now(changes.collect()).map_err(gone)
}
