use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::ask::Nodes;
use super::{Done, Failure, OwnNode, Say, Server};
use crate::replication::admin::ClusterStatus;
use crate::replication::log;
use crate::replication::marker::{BOOTSTRAP, Bootstrap, Membership};
use crate::server::{Identity, Owner};

/// A server that runs looks each second whether it is to begin a cluster; then
/// it takes part in an election.
const BEGIN_PATIENCE: Duration = Duration::from_secs(30);

/// `zeod cluster init`
#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub own: OwnNode,

    /// The other nodes are gone for good, and this one, which was a node of their cluster and is
    /// stopped, goes on alone with its log and its storages. Never start the others again with their
    /// old data
    #[arg(long)]
    survivor: bool,
}

impl Init {
    pub fn run(&self, server: &Server, nodes: &Nodes, say: Say<'_>) -> Done {
        if self.survivor {
            return survive(server, nodes, say);
        }
        check_peers(server, nodes)?;
        let running = server
            .address()
            .ok()
            .and_then(|address| nodes.glance(&address).ok());
        if running.as_ref().is_some_and(belongs) {
            return Err(belongs_already(server));
        }
        write_first(server)?;
        let directory = server.section.directory.display();
        if running.is_none() {
            say(format!(
                "node {} begins a cluster when zeod is started the next time: {directory}/{BOOTSTRAP} \
                 says so",
                server.id()
            ));
            return Ok(());
        }
        let address = server.address()?;
        let deadline = Instant::now() + BEGIN_PATIENCE;
        loop {
            let status = nodes.glance(&address);
            if status.as_ref().is_ok_and(belongs) {
                say(format!(
                    "node {} is a cluster now, with {}; other nodes can join",
                    server.id(),
                    storages(server)
                ));
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!(
                    "node {} has not begun a cluster within {} s; its log may say why",
                    server.id(),
                    BEGIN_PATIENCE.as_secs()
                )));
            }
            nodes.wait();
        }
    }
}

fn belongs(status: &ClusterStatus) -> bool {
    status.node(status.node).is_some_and(|own| own.in_cluster)
}

fn storages(server: &Server) -> String {
    match server.storages().as_slice() {
        [one] => format!("storage {one}"),
        several => format!("the storages {}", several.join(", ")),
    }
}

fn belongs_already(server: &Server) -> Failure {
    let directory = server.section.directory.display();
    Failure::Failed(format!(
        "{directory} belongs to a cluster already, and nothing was changed. If its other nodes are \
         lost for good, stop zeod, and \"zeod cluster init --survivor\" has this one go on alone, with \
         the transactions that are in its log: see \"The quorum is lost\" in docs/redundancy.md. Do not \
         move {directory} away: transactions that were acknowledged may be only there"
    ))
}

/// What the other nodes would have known is lost, and what this one has stays.
fn survive(server: &Server, nodes: &Nodes, say: Say<'_>) -> Done {
    let directory = &server.section.directory;
    let failed = |error: &dyn ToString| Failure::Failed(error.to_string());
    if server.section.apply_delay != Duration::ZERO {
        return Err(Failure::Usage(format!(
            "{}: apply-delay is set, and a lone node must not be late: each commit would take so \
             long. Take the key out. What is in the log is applied then, all of it",
            server.config.source.display()
        )));
    }
    if log::is_in_use(directory).map_err(|error| failed(&error))? {
        return Err(Failure::Failed(format!(
            "zeod runs with {}; look at \"zeod cluster status\" once more, and stop it first",
            directory.display()
        )));
    }
    let Some(member) = Membership::read(directory).map_err(|error| failed(&error))? else {
        return Err(Failure::Failed(format!(
            "{} is not the log of a node that belonged to a cluster, so there is nothing to go on with. \
             Without --survivor this server becomes the first node of a new cluster, with the storages \
             that it has",
            directory.display()
        )));
    };
    check_own(server, &member)?;
    for peer in &server.section.peers {
        let status = nodes.glance(&peer.address.to_string());
        if status.is_ok_and(|status| belongs(&status)) {
            return Err(Failure::Failed(format!(
                "node {} at {} is not gone: it answers, and is in the cluster. If this node and those that \
                 are left are no quorum, stop all but the one that is to go on alone; the others join it \
                 anew, with new numbers and without their logs. Nothing was changed",
                peer.node_id, peer.address
            )));
        }
    }
    write(server, owner(server)?, true)?;
    say(format!(
        "node {} goes on alone when zeod is started the next time, with all that is in its log: \
         {}/{BOOTSTRAP} says so",
        server.id(),
        directory.display()
    ));
    say("the other nodes must never be started again with their old data. To take this back remove that file"
        .to_owned());
    Ok(())
}

/// Two clusters with the same nodes would each take changes.
fn check_peers(server: &Server, nodes: &Nodes) -> Done {
    for peer in &server.section.peers {
        let status = nodes.glance(&peer.address.to_string());
        if status.is_ok_and(|status| belongs(&status)) {
            return Err(Failure::Failed(format!(
                "node {} at {} is in a cluster already, and a second one would not know of it. Use \
                 \"zeod cluster join\" here; or take that node out of this configuration",
                peer.node_id, peer.address
            )));
        }
    }
    Ok(())
}

fn write_first(server: &Server) -> Done {
    let failed = |error: &dyn ToString| Failure::Failed(error.to_string());
    let directory = &server.section.directory;
    let owner = owner(server)?;
    make(directory, owner).map_err(|error| failed(&format!("{}: {error}", directory.display())))?;
    if let Some(member) = Membership::read(directory).map_err(|error| failed(&error))? {
        check_own(server, &member)?;
        return Err(belongs_already(server));
    }
    write(server, owner, false)
}

/// A log is one node's.
fn check_own(server: &Server, member: &Membership) -> Done {
    if member.node == server.id() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} belongs to node {}, and the configuration says that this is node {}; correct \
         \"node-id\", or move the directory away",
        server.section.directory.display(),
        member.node,
        server.id()
    )))
}

fn write(server: &Server, owner: Option<Owner>, survivor: bool) -> Done {
    let failed = |error: &dyn ToString| Failure::Failed(error.to_string());
    let directory = &server.section.directory;
    let bootstrap = Bootstrap {
        node: server.id(),
        address: server.section.address.to_string(),
        storages: server.storages(),
        survivor,
    };
    bootstrap.write(directory).map_err(|error| failed(&error))?;
    give(&directory.join(BOOTSTRAP), owner).map_err(|error| failed(&error))
}

/// To whom files are given that root makes for the server.
fn owner(server: &Server) -> Result<Option<Owner>, Failure> {
    let Some(user) = &server.config.zeod.user else {
        return Ok(None);
    };
    let usage = |error: &dyn ToString| Failure::Usage(error.to_string());
    let identity = Identity::resolve(user).map_err(|error| usage(&error))?;
    identity.check().map_err(|error| usage(&error))?;
    Ok((!identity.is_own()).then(|| identity.owner()))
}

fn make(directory: &Path, owner: Option<Owner>) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            if let Some(parent) = directory.parent().filter(|parent| *parent != Path::new("")) {
                fs::File::open(parent)?.sync_all()?;
            }
            give(directory, owner)
        }
    }
}

fn give(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}
