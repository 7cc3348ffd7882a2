use clap::Args;
use serde::Serialize;

use super::ask::Nodes;
use super::table::{count, size, table, time};
use super::{AskedNode, Done, Failure, Say, Server, problems};
use crate::replication::admin::ClusterStatus;
use crate::stats::replication::{CatchUp, GroupStatus, Lag, MemberStatus};

/// The command.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub asked: AskedNode,

    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'s> {
    healthy: bool,
    problems: &'s [String],
    #[serde(flatten)]
    status: &'s ClusterStatus,
}

impl Status {
    pub fn run(&self, server: &Server, nodes: &Nodes, say: Say<'_>) -> Done {
        let status = self.ask(server, nodes, say)?;
        let problems = problems::of(&status);
        if self.json {
            let json = Json {
                healthy: problems.is_empty(),
                problems: &problems,
                status: &status,
            };
            let text = serde_json::to_string_pretty(&json);
            say(text.map_err(|error| Failure::Failed(error.to_string()))?);
        } else {
            for line in lines(&status, &problems) {
                say(line);
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Failure::Unhealthy)
        }
    }
}

impl Status {
    /// Where this server's own node is not there, another one tells.
    fn ask(&self, server: &Server, nodes: &Nodes, say: Say<'_>) -> Result<ClusterStatus, Failure> {
        let problem = match nodes.status(&self.asked.of(server)?) {
            Ok(status) => return Ok(status),
            Err(problem) => problem,
        };
        let peers = server.section.peers.iter();
        let mut others = peers
            .filter(|_| self.asked.node.is_none())
            .filter_map(|peer| {
                let status = nodes.status(&peer.address.to_string());
                Some((peer, status.ok()?))
            });
        let Some((peer, status)) = others.next() else {
            return Err(Failure::Failed(problem));
        };
        if !self.json {
            say(format!(
                "this server does not answer ({problem}); node {} tells:",
                peer.node_id
            ));
            say(String::new());
        }
        Ok(status)
    }
}

/// The status for people.
pub fn lines(status: &ClusterStatus, problems: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for group in &status.storages {
        lines.push(headline(group));
        lines.extend(
            table(&members(status, group))
                .iter()
                .map(|line| format!("  {line}")),
        );
        lines.push(String::new());
    }
    lines.extend(table(&nodes(status)));
    lines.push(String::new());
    if problems.is_empty() {
        lines.push("all is well".to_owned());
    }
    lines.extend(problems.iter().map(|problem| format!("PROBLEM {problem}")));
    lines
}

fn headline(group: &GroupStatus) -> String {
    let leader = match group.leader {
        Some(leader) => format!("node {leader} leads, term {}", group.term),
        None => "nobody leads".to_owned(),
    };
    let voters = group.voters().count();
    let learners = match group.members.len() - voters {
        0 => String::new(),
        learners => format!(", {}", count(learners as u64, "learner")),
    };
    let last = group.last_transaction.as_deref().unwrap_or("none");
    format!(
        "storage {}: {leader}; {}{learners}; {}, last transaction {last}",
        group.storage,
        count(voters as u64, "voter"),
        size(group.size_bytes),
    )
}

fn members(status: &ClusterStatus, group: &GroupStatus) -> Vec<Vec<String>> {
    // Without a leader nobody knows who is behind; who is left is compared by this.
    let last = match group.leader {
        Some(_) => "BEHIND",
        None => "LOG ENDS AT",
    };
    let title = ["NODE", "ADDRESS", "ROLE", "ANSWERS", last];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    for member in &group.members {
        let role = match (group.leader, member.is_voter) {
            (Some(leader), _) if leader == member.node => "leader",
            (_, true) => "voter",
            (_, false) => "learner",
        };
        let is_reached = problems::is_reached(status, group, member);
        let answers = if is_reached { "yes" } else { "no" };
        rows.push(vec![
            member.node.to_string(),
            member.address.clone(),
            role.to_owned(),
            answers.to_owned(),
            match (group.leader, member.log_end) {
                (None, Some(end)) => end.to_string(),
                _ => behind(member, problems::delay(status, member)),
            },
        ]);
    }
    rows
}

fn behind(member: &MemberStatus, delay: f64) -> String {
    let mut text = match (&member.catch_up, member.lag) {
        (Some(catch_up), _) => progress(catch_up),
        (None, Some(lag)) => self::lag(lag),
        (None, None) => "not known".to_owned(),
    };
    if delay > 0.0 {
        text = format!("{text} ({} on purpose)", time(delay));
    }
    text
}

/// What a member lacks.
pub fn lag(lag: Lag) -> String {
    match lag.transactions {
        0 => "nothing".to_owned(),
        transactions => format!(
            "{}, {}, {}",
            count(transactions, "transaction"),
            size(lag.bytes),
            time(lag.seconds)
        ),
    }
}

/// How far giving a node what it lacks is.
pub fn progress(catch_up: &CatchUp) -> String {
    match catch_up.percent() {
        Some(percent) => format!(
            "{}: {percent} % of {}",
            catch_up.doing,
            size(catch_up.total_bytes)
        ),
        None => catch_up.doing.clone(),
    }
}

fn nodes(status: &ClusterStatus) -> Vec<Vec<String>> {
    let title = ["NODE", "ZEOD", "LOG"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    for node in &status.nodes {
        rows.push(vec![
            node.node.to_string(),
            node.version.clone(),
            format!("{} of {}", size(node.log_bytes), size(node.log_limit_bytes)),
        ]);
    }
    rows
}
