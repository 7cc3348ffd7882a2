//! `zeod cluster`: makes several servers one cluster, changes it, and says how
//! it is. All but `init` ask a node that runs, at its replication address.

mod ask;
mod change;
mod init;
mod join;
mod problems;
mod status;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::{Address, Config, ReplicationSection};
use crate::replication::types::NodeId;
use ask::Nodes;

/// The command.
#[derive(Debug, Args)]
pub struct ClusterArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this server, with the storages that it has, the first node of a new cluster; or, with
    /// --survivor, the only node that is left of its cluster
    Init(init::Init),
    /// Make this server, which runs, a node of the cluster of which <replication> names nodes
    Join(join::Join),
    /// Take this server out of the cluster; its data stay
    Leave(change::Leave),
    /// Say how the cluster is: exit code 0 all is well, 1 something is not
    Status(status::Status),
    /// Let a learner vote, once it has caught up
    Promote(join::Promote),
    /// Take another node out of the cluster, also one that is gone for good
    Remove(change::Remove),
    /// Have another node lead, before this one is stopped for instance
    TransferLeader(change::TransferLeader),
    /// Note down durably what is in the storages, and drop the log that nobody needs
    Snapshot(change::Snapshot),
}

/// The node that a command is for.
#[derive(Debug, Args)]
struct OwnNode {
    /// The server's configuration file, with a <replication> section
    #[arg(short = 'C', long = "configure", value_name = "FILE")]
    configure: PathBuf,
}

/// The node that is asked.
#[derive(Debug, Args)]
struct AskedNode {
    #[command(flatten)]
    own: OwnNode,

    /// Ask the node at this replication address, in the place of this server's
    #[arg(long, value_name = "HOST:PORT", value_parser = node_address)]
    node: Option<Address>,
}

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// What was asked for was not done.
    Failed(String),
    /// It is told already what is not well.
    Unhealthy,
}

/// Where a command says what it does, line by line.
type Say<'a> = &'a mut dyn FnMut(String);

type Done = Result<(), Failure>;

/// Does it.
pub fn run(arguments: &ClusterArguments) -> ExitCode {
    // Whoever has read enough ends the command's output, not the command.
    let mut say = |line: String| {
        let _ = writeln!(io::stdout(), "{line}");
    };
    match arguments.command.run(&mut say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Unhealthy) => ExitCode::from(EXIT_FAILURE),
        Err(Failure::Failed(problem)) => {
            eprintln!("zeod: {problem}");
            ExitCode::from(EXIT_FAILURE)
        }
        Err(Failure::Usage(problem)) => {
            eprintln!("zeod: {problem}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

impl Command {
    fn run(&self, say: Say<'_>) -> Done {
        let server = self.own().load()?;
        let nodes = Nodes::connected(&server.config.zeod, &server.section);
        self.run_with(&server, &nodes.map_err(Failure::Usage)?, say)
    }

    fn own(&self) -> &OwnNode {
        match self {
            Self::Init(init) => &init.own,
            Self::Join(join) => &join.own,
            Self::Leave(leave) => &leave.own,
            Self::Status(status) => &status.asked.own,
            Self::Promote(promote) => &promote.asked.own,
            Self::Remove(remove) => &remove.asked.own,
            Self::TransferLeader(transfer) => &transfer.asked.own,
            Self::Snapshot(snapshot) => &snapshot.asked.own,
        }
    }

    fn run_with(&self, server: &Server, nodes: &Nodes, say: Say<'_>) -> Done {
        match self {
            Self::Init(init) => init.run(server, nodes, say),
            Self::Join(join) => join.run(server, nodes, say),
            Self::Leave(_) => change::Leave::run(server, nodes, say),
            Self::Status(status) => status.run(server, nodes, say),
            Self::Promote(promote) => promote.run(&promote.asked.of(server)?, nodes, say),
            Self::Remove(remove) => remove.run(&remove.asked.of(server)?, nodes, say),
            Self::TransferLeader(transfer) => transfer.run(&transfer.asked.of(server)?, nodes, say),
            Self::Snapshot(snapshot) => snapshot.run(&snapshot.asked.of(server)?, nodes, say),
        }
    }
}

/// A server that is configured as a node.
struct Server {
    config: Config,
    section: ReplicationSection,
}

impl OwnNode {
    fn load(&self) -> Result<Server, Failure> {
        let loaded = super::serve::load_file(&self.configure);
        let config = loaded
            .map_err(|error| Failure::Usage(error.to_string()))?
            .config;
        Server::new(config)
    }
}

impl AskedNode {
    /// Where it is.
    fn of(&self, server: &Server) -> Result<String, Failure> {
        match &self.node {
            Some(node) => Ok(node.to_string()),
            None => server.address(),
        }
    }
}

impl Server {
    fn new(config: Config) -> Result<Self, Failure> {
        match config.zeod.replication.clone() {
            Some(section) => Ok(Self { config, section }),
            None => Err(Failure::Usage(format!(
                "{}: there is no <replication> section in <zeod>, so this server is alone; see \
                 \"Redundancy\" in the README",
                config.source.display()
            ))),
        }
    }

    fn id(&self) -> NodeId {
        self.section.node_id
    }

    /// Where the other nodes reach it.
    fn address(&self) -> Result<String, Failure> {
        match &self.section.address {
            Address::Tcp { port: 0, .. } => Err(Failure::Usage(format!(
                "{}: the system chose the port of the replication address; say where the node is \
                 by --node HOST:PORT",
                self.config.source.display()
            ))),
            address => Ok(address.to_string()),
        }
    }

    fn storages(&self) -> Vec<String> {
        let storages = self.config.storages.iter();
        storages.map(|storage| storage.name.clone()).collect()
    }
}

fn node_address(text: &str) -> Result<Address, String> {
    match Address::parse_inet(text, 0).map_err(|error| error.to_string())? {
        Address::Tcp { port: 0, .. } => Err("it names no port".to_owned()),
        Address::Tcp { host: None, .. } => Err("it names no host".to_owned()),
        address => Ok(address),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds")?;
    Ok(Duration::from_secs(seconds))
}
