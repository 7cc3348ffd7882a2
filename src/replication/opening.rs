//! One storage of a node, opened: file, log, group, and what serves clients.

use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftLogStorage, StorageHelper};
use openraft::{LogId, MembershipState};
use tokio::runtime::Handle;

use super::applier::Applier;
use super::catch_up::RateLimit;
use super::consensus::{CatchUp, Group, GroupOptions};
use super::files::{self, Files};
use super::log::{GroupLog, Log, LogCondition, LogError};
use super::machine::Machine;
use super::marker::Membership;
use super::node::{NodeError, NodeOptions, Served, StorageOptions};
use super::note::Note;
use super::peers::Peers;
use super::receiving;
use super::replica::{Replica, SharedReplica};
use super::sending::Sending;
use super::staging::Staging;
use super::survivor::Survivor;
use super::types::{Member, NodeId};
use crate::disk::RealDisk;
use crate::storage::file::{Durability, FileOptions, FileStorage, Ledger};
use crate::storage::{Storage, StorageError};
use crate::transaction::{Authority, Database, DatabaseOptions};

/// Opens a storage, and begins to take part in its group; as the only one that votes in it if this node is
/// the `survivor`.
pub async fn open(
    options: &NodeOptions,
    storage: StorageOptions,
    log: &Log,
    peers: &Arc<dyn Peers>,
    survivor: Option<&Survivor>,
) -> Result<Served, NodeError> {
    let StorageOptions {
        name,
        file,
        database,
    } = storage;
    let pack_gc = file.pack_gc;
    let has_log = log.has_group(&name);
    let applier = tokio::task::block_in_place(|| open_file(&name, options, file, peers, has_log))?;
    let replica = Arc::new(Replica::new(
        name.clone(),
        Arc::clone(&applier),
        options.patience,
        pack_gc,
        Handle::current(),
    ));
    let shared = Arc::new(SharedReplica(Arc::clone(&replica)));
    let database = serve(&replica, &shared, database)?;
    let mut group_log = tokio::task::block_in_place(|| log.group(&name, applier.applied().0))?;
    check_beginning(&name, &applier, &mut group_log).await?;
    if let Some(survivor) = survivor {
        survivor.end(&name, &applier, &mut group_log).await?;
    }
    let reader = group_log.reader();
    let group_options = GroupOptions {
        abstains: must_abstain(&name, options, &applier, &mut group_log).await?,
        name: name.clone(),
        node: options.node,
        timers: options.timers,
        seed: seed(options.node),
        durable: reader.durable(),
    };
    let rate = RateLimit::new(options.catch_up_bytes_per_second.unwrap_or(0));
    let sending = Sending::new(name, Arc::clone(peers), &applier, rate);
    let sending = Arc::new(sending);
    let group = Group::start(
        group_options,
        group_log,
        Machine(Arc::clone(&applier)),
        Arc::clone(peers),
        Arc::clone(&sending) as Arc<dyn CatchUp>,
    )
    .await?;
    group.set_services(shared);
    applier.join(group.clone());
    replica.join(group.clone());
    let served = Served {
        replica,
        database,
        group,
        log: reader,
        sending,
    };
    let source = Arc::new(served.clone());
    served.database.stats.set_group(source);
    Ok(served)
}

/// Opens `Data.fs` as far as its note goes; what is behind that comes from the log. Without a log,
/// `Data.fs` is taken as it is: the note tells of one that was lost, or of another cluster.
fn open_file(
    name: &str,
    options: &NodeOptions,
    mut file: FileOptions,
    peers: &Arc<dyn Peers>,
    has_log: bool,
) -> Result<Arc<Applier>, NodeError> {
    let failed = |source: StorageError| NodeError::Storage {
        name: name.to_owned(),
        source,
    };
    let data_path = file.path.clone();
    let note_path = Note::path_of(&data_path);
    let own = has_log.then(|| read_note(name, &data_path, &note_path));
    let noted = own
        .as_ref()
        .and_then(|own| own.as_ref().ok()?.as_ref()?.applied);
    let resumed = receiving::resume(&data_path, noted).map_err(failed)?;
    let note = match (&resumed, own) {
        (Some(note), Some(_)) => Some(note.clone()),
        (None, Some(own)) => own?,
        (_, None) => {
            warn_of_note(name, &note_path);
            None
        }
    };
    file.durability = Durability::Logged {
        synced_bytes: note.as_ref().map(|note| note.mark.length),
    };
    let storage = FileStorage::open(Arc::new(RealDisk), file).map_err(|source| match source {
        StorageError::Corrupt { .. } => NodeError::Damaged {
            name: name.to_owned(),
            source,
        },
        _ => failed(source),
    })?;
    if let Some(note) = &resumed {
        receiving::resumed(note, &data_path).map_err(failed)?;
    }
    let storage = Arc::new(storage);
    let area = files::open_area(&storage).map_err(failed)?;
    let blobs = storage.blobs().cloned();
    let staging = Staging::new(name, Arc::clone(peers), area, blobs);
    let is_unknown = note.is_none();
    let applier = Arc::new(Applier::new(
        options.node,
        Arc::clone(&storage),
        Files::new(staging, Arc::clone(&storage)),
        note.unwrap_or_default(),
        note_path,
        options.apply_delay,
    ));
    if is_unknown {
        // From now on what is written is not durable by itself.
        applier.save().map_err(|source| NodeError::Save {
            name: name.to_owned(),
            source,
        })?;
    }
    storage.keep_ledger(Arc::clone(&applier) as Arc<dyn Ledger>);
    Ok(applier)
}

/// What was purged has to be in `Data.fs`: nothing else on this node leads from there to the log, and
/// Raft would end at the first commit.
async fn check_beginning(
    name: &str,
    applier: &Applier,
    log: &mut GroupLog,
) -> Result<(), NodeError> {
    let known = log.get_log_state().await.ok();
    let purged = known.and_then(|known| known.last_purged_log_id);
    let next = |last: Option<LogId<NodeId>>| last.map_or(0, |last| last.index + 1);
    let (first_kept, first_lacking) = (next(purged), next(applier.applied().0));
    if first_kept <= first_lacking {
        return Ok(());
    }
    Err(NodeError::Gap {
        name: name.to_owned(),
        first_kept,
        first_lacking,
    })
}

/// What clients are served of it.
fn serve(
    replica: &Arc<Replica>,
    shared: &Arc<SharedReplica>,
    options: DatabaseOptions,
) -> Result<Arc<Database>, NodeError> {
    let name = replica.name();
    let authority = Arc::clone(shared) as Arc<dyn Authority>;
    let storage = Arc::clone(&replica.applier.storage) as Arc<dyn Storage>;
    let database = Database::with_authority(name, storage, options, authority);
    let database = database.map_err(|source| NodeError::Storage {
        name: name.to_owned(),
        source,
    })?;
    let database = Arc::new(database);
    replica.applier.serve(&database);
    replica.proposer().serve(&database);
    Ok(database)
}

/// A node that has never had a log, or whose log is damaged, could vote for a
/// leader that lacks what this node once acknowledged.
async fn must_abstain(
    name: &str,
    options: &NodeOptions,
    applier: &Arc<Applier>,
    log: &mut GroupLog,
) -> Result<bool, NodeError> {
    let condition = log.reader().condition();
    let known = log.get_log_state().await;
    let is_new = Membership::read(&options.directory)?.is_none()
        && applier.applied().0.is_none()
        && known.is_ok_and(|known| known.last_log_id.is_none());
    if is_new {
        // A second start, before it has all that it may have acknowledged once, must know that, too.
        tokio::task::block_in_place(|| log.reader().declare_new())?;
        return Ok(true);
    }
    let LogCondition::Damaged(why) = condition else {
        return Ok(false);
    };
    if is_alone(options.node, applier, log).await {
        tracing::error!(
            critical = true,
            "storage {name}: the log is damaged ({why}), and no other node has what it held: the last \
             transactions may be lost. The storage goes on from what is left"
        );
        return Ok(false);
    }
    tracing::error!(
        "storage {name}: the log lacks what this node may have acknowledged ({why}); it votes again \
         once it has caught up with a leader"
    );
    Ok(true)
}

/// Has nobody else a vote? Raft goes by the newest members as soon as they are in the log; the note tells of
/// those of half a minute ago.
async fn is_alone(node: NodeId, applier: &Arc<Applier>, log: &mut GroupLog) -> bool {
    match members(applier, log).await {
        Ok(members) => members.effective().voter_ids().eq([node]),
        // Raft will find the same, and say so.
        Err(_) => false,
    }
}

/// The newest members that the log and the note tell of, and those before them.
pub async fn members(
    applier: &Arc<Applier>,
    log: &mut GroupLog,
) -> Result<MembershipState<NodeId, Member>, LogError> {
    let mut machine = Machine(Arc::clone(applier));
    let found = StorageHelper::new(log, &mut machine).get_membership().await;
    found.map_err(|error| LogError::Unusable(error.to_string()))
}

fn warn_of_note(name: &str, path: &Path) {
    if path.exists() {
        tracing::warn!(
            "storage {name}: {} tells of a log that is not here; Data.fs is taken as it is, and \
             compared with the cluster's when this node joins one",
            path.display()
        );
    }
}

fn read_note(name: &str, data_path: &Path, path: &Path) -> Result<Option<Note>, NodeError> {
    let failed = |source| NodeError::Note {
        name: name.to_owned(),
        source,
    };
    let mut note = Note::read(path).map_err(failed)?;
    if let Some(note) = &mut note
        && let Ok(found) = std::fs::metadata(data_path)
    {
        note.settle_pack(found.len());
    }
    Ok(note)
}

/// On no two nodes, and at no two starts, the same.
fn seed(node: NodeId) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(0) ^ (node << 48) ^ u64::from(std::process::id())
}
