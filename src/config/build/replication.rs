use std::collections::HashMap;
use std::time::Duration;

use super::contradiction;
use crate::config::check::Checked;
use crate::config::replication::is_loopback;
use crate::config::{
    Address, ConfigError, Context, DEFAULT_ELECTION_TIMEOUT, DEFAULT_HEARTBEAT_INTERVAL,
    DEFAULT_LOG_SIZE_BYTES, DEFAULT_QUORUM_WAIT, DEFAULT_REGISTER_WAIT, Fault,
    HEARTBEATS_PER_ELECTION, Location, MAX_NODE_ID, NamedStorage, Peer, ReplicationSection,
    ReplicationTls, StorageConfig,
};

/// A leader's heartbeats cost every node work, and the timers' own precision is
/// some milliseconds.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(10);
/// A site that stands still for longer than that needs no redundancy.
const MAX_ELECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// Clients have given up long before.
const MAX_WAIT: Duration = Duration::from_mins(5);
/// Less would end in copying files for every short absence.
const MIN_LOG_SIZE_BYTES: u64 = 64 << 20;
/// With less a node never catches up with a site at work.
const MIN_CATCH_UP_RATE: u64 = 64 << 10;

/// The section; `others` are the server's other addresses.
pub fn replication(
    section: &Checked,
    others: &[Option<&Address>],
    context: &Context<'_>,
) -> Result<ReplicationSection, ConfigError> {
    let missing = |key: &str| contradiction(section, format!("there is no {key}"));
    let time = |key: &str, unset| section.duration(key).unwrap_or(unset);
    let rate = section.count("catch-up-rate").unwrap_or(0);
    let built = ReplicationSection {
        node_id: section.count("node-id").ok_or_else(|| missing("node-id"))?,
        address: section
            .address("address")
            .ok_or_else(|| missing("address"))?,
        directory: section
            .path("directory")
            .ok_or_else(|| missing("directory"))?,
        peers: Vec::new(),
        tls: tls(section)?,
        heartbeat_interval: time("heartbeat-interval", DEFAULT_HEARTBEAT_INTERVAL),
        election_timeout: time("election-timeout", DEFAULT_ELECTION_TIMEOUT),
        register_wait: time("register-wait", DEFAULT_REGISTER_WAIT),
        quorum_wait: time("quorum-wait", DEFAULT_QUORUM_WAIT),
        catch_up_bytes_per_second: (rate != 0).then_some(rate),
        log_size_bytes: section.count("log-size").unwrap_or(DEFAULT_LOG_SIZE_BYTES),
        apply_delay: time("apply-delay", Duration::ZERO),
    };
    let at = |key: &str| section.location_of(key).clone();
    let refused = |location: &Location, message: String| {
        let section = section.title();
        ConfigError::new(location, Fault::Contradiction { section, message })
    };
    check_id(built.node_id).map_err(|problem| refused(&at("node-id"), problem))?;
    check_address(&built.address, others).map_err(|problem| refused(&at("address"), problem))?;
    check_times(&built).map_err(|(key, problem)| refused(&at(key), problem))?;
    check_sizes(&built).map_err(|(key, problem)| refused(&at(key), problem))?;
    let built = ReplicationSection {
        peers: peers(section, built.node_id, &built.address)
            .map_err(|(location, problem)| refused(location, problem))?,
        ..built
    };
    warn(section, &built, context);
    Ok(built)
}

fn tls(section: &Checked) -> Result<Option<ReplicationTls>, ConfigError> {
    let keys = ["certificate", "key", "authority"];
    match keys.map(|key| section.path(key)) {
        [None, None, None] => Ok(None),
        [Some(certificate), Some(key), Some(authority)] => Ok(Some(ReplicationTls {
            certificate,
            key,
            authority,
        })),
        paths => {
            let there = keys.iter().zip(&paths).filter(|(_, path)| path.is_some());
            let missing = keys.iter().zip(&paths).filter(|(_, path)| path.is_none());
            let listed = |keys: Vec<&str>| {
                let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
                keys.join(" and ")
            };
            Err(contradiction(
                section,
                format!(
                    "there is {} and no {}; nodes show each other certificates in both \
                     directions, so all three are needed, or none for no encryption",
                    listed(there.map(|(key, _)| *key).collect()),
                    listed(missing.map(|(key, _)| *key).collect()),
                ),
            ))
        }
    }
}

fn check_id(id: u64) -> Result<(), String> {
    if (1..=MAX_NODE_ID).contains(&id) {
        return Ok(());
    }
    Err(format!(
        "the node id {id} is not allowed; choose a number from 1 to {MAX_NODE_ID} that no other \
         node has or had"
    ))
}

/// Clients, observers and nodes speak differently, so each needs its own port.
fn check_address(own: &Address, others: &[Option<&Address>]) -> Result<(), String> {
    let is_same = |other: &&&Address| match (own, other) {
        (
            Address::Tcp { host, port },
            Address::Tcp {
                host: other_host,
                port: other_port,
            },
        ) => *port != 0 && port == other_port && (other_host.is_none() || other_host == host),
        _ => false,
    };
    match others.iter().flatten().find(is_same) {
        None => Ok(()),
        Some(other) => Err(format!(
            "nodes cannot reach this one at {own}, as the server has {other} for others already; \
             choose another port"
        )),
    }
}

type OfKey<T> = Result<T, (&'static str, String)>;

fn check_times(section: &ReplicationSection) -> OfKey<()> {
    let heartbeat = section.heartbeat_interval;
    let election = section.election_timeout;
    if heartbeat < MIN_HEARTBEAT_INTERVAL {
        let problem = format!(
            "\"heartbeat-interval\" is {heartbeat:?}, which timers are not fit for; {MIN_HEARTBEAT_INTERVAL:?} \
             or more"
        );
        return Err(("heartbeat-interval", problem));
    }
    let least = heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION);
    if election < least {
        let problem = format!(
            "\"election-timeout\" is {election:?} with a \"heartbeat-interval\" of {heartbeat:?}, so \
             that a heartbeat or two that are late would cost the leader its place; it must be {least:?} \
             or more ({HEARTBEATS_PER_ELECTION} heartbeats)"
        );
        return Err(("election-timeout", problem));
    }
    if election > MAX_ELECTION_TIMEOUT {
        let problem = format!(
            "\"election-timeout\" is {election:?}; nothing is written for so long when a leader \
             dies. {MAX_ELECTION_TIMEOUT:?} or less"
        );
        return Err(("election-timeout", problem));
    }
    for (key, wait) in [
        ("quorum-wait", section.quorum_wait),
        ("register-wait", section.register_wait),
    ] {
        if wait < election {
            let problem = format!(
                "{key:?} is {wait:?}, less than the \"election-timeout\" of {election:?}, so that \
                 each election would turn clients away; make it longer"
            );
            return Err((key, problem));
        }
        if wait > MAX_WAIT {
            let problem =
                format!("{key:?} is {wait:?}; clients give up earlier. {MAX_WAIT:?} or less");
            return Err((key, problem));
        }
    }
    Ok(())
}

fn check_sizes(section: &ReplicationSection) -> OfKey<()> {
    let log = section.log_size_bytes;
    if log < MIN_LOG_SIZE_BYTES {
        let problem = format!(
            "\"log-size\" is {log} bytes; a node that was away for a moment would need more. \
             {} MB or more",
            MIN_LOG_SIZE_BYTES >> 20
        );
        return Err(("log-size", problem));
    }
    match section.catch_up_bytes_per_second {
        Some(rate) if rate < MIN_CATCH_UP_RATE => {
            let problem = format!(
                "\"catch-up-rate\" is {rate} bytes per second; a node that is behind would stay so. \
                 {} KB or more, or 0 for no limit",
                MIN_CATCH_UP_RATE >> 10
            );
            Err(("catch-up-rate", problem))
        }
        _ => Ok(()),
    }
}

/// The other nodes. A list may name this one, too, so that all nodes can have
/// the same list.
fn peers<'a>(
    section: &'a Checked,
    own_id: u64,
    own: &Address,
) -> Result<Vec<Peer>, (&'a Location, String)> {
    let mut ids: HashMap<u64, &Location> = HashMap::new();
    let mut addresses: HashMap<&Address, &Location> = HashMap::new();
    let mut peers = Vec::new();
    for (peer, location) in section.peers() {
        let Peer { node_id, address } = peer;
        check_id(*node_id).map_err(|problem| (location, problem))?;
        if let Some(first) = ids.insert(*node_id, location) {
            let problem = format!(
                "two peers have the node id {node_id}, the first is at {first}; take one of the two \
                 out, or correct its id"
            );
            return Err((location, problem));
        }
        if let Some(first) = addresses.insert(address, location) {
            let problem = format!(
                "two peers have the address {address}, the first is at {first}; take one of the two \
                 out, or correct its address"
            );
            return Err((location, problem));
        }
        match (*node_id == own_id, address == own) {
            (true, true) => {}
            (false, false) => peers.push(peer.clone()),
            (true, false) => {
                let problem = format!(
                    "the peer {node_id} at {address} has this node's own id, whose address is {own}; \
                     correct \"node-id\", \"address\", or the peer"
                );
                return Err((location, problem));
            }
            (false, true) => {
                let problem = format!(
                    "the peer {node_id} has this node's own address, {address}, and this node's id is \
                     {own_id}; correct \"node-id\", or the peer"
                );
                return Err((location, problem));
            }
        }
    }
    Ok(peers)
}

fn warn(section: &Checked, built: &ReplicationSection, context: &Context<'_>) {
    if built.tls.is_none() && !built.is_on_loopback() {
        let addresses = [&built.address].into_iter();
        let mut addresses = addresses.chain(built.peers.iter().map(|peer| &peer.address));
        let outside = addresses
            .find(|address| !is_loopback(address))
            .map(ToString::to_string);
        context.warn(
            &section.location,
            format!(
                "nodes talk without encryption, and whoever reaches {} can write the database; set \
                 \"certificate\", \"key\" and \"authority\", or keep others out of that network",
                outside.unwrap_or_default()
            ),
        );
    }
}

/// Refuses storages that cannot be the same on several hosts.
pub fn check_storages(section: &Checked, storages: &[NamedStorage]) -> Result<(), ConfigError> {
    for NamedStorage { name, storage } in storages {
        if let Some(why) = why_not(storage) {
            return Err(contradiction(
                section,
                format!(
                    "storage {name:?} cannot be replicated: {why}. Only FileStorages \
                     are, also those in a blobstorage; serve {name:?} by a server of its own, \
                     or change it"
                ),
            ));
        }
    }
    Ok(())
}

fn why_not(storage: &StorageConfig) -> Option<&'static str> {
    match storage {
        StorageConfig::File(file) if file.create => Some(
            "\"create\" empties it at each start, and what is written is the other nodes', too",
        ),
        StorageConfig::File(_) => None,
        StorageConfig::Blob { base, .. } => why_not(base),
        StorageConfig::Demo { .. } => Some("a demostorage's changes are one server's alone"),
        StorageConfig::Client(_) => Some("a zeoclient's storage is another server's"),
        StorageConfig::Mapping { .. } => Some("a mappingstorage is gone when its server stops"),
    }
}
