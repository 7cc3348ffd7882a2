//! What is told of replication, but for `/status.json`, which has all of
//! `stats::replication`: words for health and readiness, and metrics.

use super::Snapshot;
use super::exposition::{Exposition, Kind, Label, Number, Unit};
use crate::stats::replication::{GroupCounts, GroupRole, GroupStatus, MemberStatus, NodeStatus};

use Kind::{Counter, Gauge};

/// A line for each storage that takes no part because of an error.
pub fn failed(snapshot: &Snapshot) -> String {
    lines(snapshot, |group| {
        let why = group.failed.as_ref()?;
        Some(format!(
            "replication does not go on because of an error: {why}. Mend that, and if it does not \
             go on then, restart the server"
        ))
    })
}

/// A line for each reason why nobody is to be sent here, not even to read.
pub fn not_of_use(snapshot: &Snapshot) -> String {
    let node = snapshot.replication.as_ref();
    if let Some(why) = node.and_then(NodeStatus::outside) {
        return format!("{why}\n");
    }
    lines(snapshot, |group| {
        if group.role == GroupRole::Outside {
            return Some("this node is no member of the cluster any more".to_owned());
        }
        if let Some(why) = &group.held_up {
            return Some(format!("this node applies nothing for now: {why}"));
        }
        let own = group.member(group.node)?;
        let catch_up = own.catch_up.as_ref()?;
        let percent = catch_up.percent().map(|percent| format!(", {percent} %"));
        Some(format!(
            "this node is catching up: {}{}",
            catch_up.doing,
            percent.unwrap_or_default()
        ))
    })
}

/// A line for each storage that takes no changes because too few nodes are there.
pub fn without_quorum(snapshot: &Snapshot) -> String {
    lines(snapshot, |group| {
        let seconds = group.without_quorum_seconds?;
        group.turns_writers_away.then(|| {
            format!(
                "no quorum for {seconds:.0} s, clients that write are turned away; those that only \
                 read are served"
            )
        })
    })
}

fn lines(snapshot: &Snapshot, line: impl Fn(&GroupStatus) -> Option<String>) -> String {
    let storages = snapshot.storages.iter();
    let lines = storages.filter_map(|storage| {
        let said = line(storage.replication.as_ref()?)?;
        Some(format!("storage {}: {said}\n", storage.name))
    });
    lines.collect()
}

/// The families of replication; none where the server is alone.
pub fn metrics(out: &mut Exposition, snapshot: &Snapshot) {
    if let Some(node) = &snapshot.replication {
        let id = node.node.to_string();
        let help = "The node's id and address; 1 where it belongs to a cluster.";
        out.family("zeod_replication_node", Gauge, help);
        let labels = [("node", id.as_str()), ("address", &node.address)];
        out.sample(&labels, node.in_cluster);
        let help = "What the log takes on the disk.";
        out.family("zeod_replication_log_bytes", Gauge, help);
        out.sample(&[], node.log_bytes);
    }
    let storages = snapshot.storages.iter();
    let groups: Vec<&GroupStatus> = storages
        .filter_map(|storage| storage.replication.as_ref())
        .collect();
    if groups.is_empty() {
        return;
    }
    let mut groups = Groups { out, groups };
    groups.leadership();
    groups.log();
    groups.members();
    groups.counts();
}

/// Writes families that have samples of each group.
struct Groups<'s, 'o> {
    out: &'o mut Exposition,
    groups: Vec<&'s GroupStatus>,
}

impl Groups<'_, '_> {
    fn each<N: Into<Number>>(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        value: impl Fn(&GroupStatus) -> N,
    ) {
        self.out.family(name, kind, help);
        for group in &self.groups {
            let labels = [("storage", group.storage.as_str())];
            self.out.sample(&labels, value(group));
        }
    }

    /// A sample for each member of which it is known.
    fn each_member<N: Into<Number>>(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl Fn(&MemberStatus) -> Option<N>,
    ) {
        self.out.family(name, Gauge, help);
        for group in &self.groups {
            for member in &group.members {
                let Some(value) = value(member) else { continue };
                let id = member.node.to_string();
                let labels: [Label<'_>; 2] = [("storage", &group.storage), ("node", &id)];
                self.out.sample(&labels, value);
            }
        }
    }

    fn leadership(&mut self) {
        let help = "What this node is: 1 for that role, 0 for the others.";
        self.out.family("zeod_replication_role", Gauge, help);
        for group in &self.groups {
            for role in GroupRole::ALL {
                let labels = [("storage", group.storage.as_str()), ("role", role.name())];
                self.out.sample(&labels, group.role == role);
            }
        }
        let help = "The id of the node that leads; 0 where none is known.";
        self.each("zeod_replication_leader", Gauge, help, |group| {
            group.leader.unwrap_or(0)
        });
        let help = "Raft's term. It goes up with each election.";
        self.each("zeod_replication_term", Gauge, help, |group| group.term);
        let help = "Is there a leader with a quorum behind it, as far as this node knows?";
        self.each("zeod_replication_quorum", Gauge, help, |group| {
            group.has_quorum()
        });
        let help = "For how long there has been none; 0 where there is one.";
        let name = "zeod_replication_without_quorum_seconds";
        self.each(name, Gauge, help, |group| {
            group.without_quorum_seconds.unwrap_or(0.0)
        });
        let help = "1 while replication does not go on because of an error.";
        self.each("zeod_replication_failed", Gauge, help, |group| {
            group.failed.is_some()
        });
        let help = "Members that vote.";
        self.each("zeod_replication_voters", Gauge, help, |group| {
            group.voters().count() as u64
        });
    }

    fn log(&mut self) {
        let help = "The log's last entry on this node.";
        self.each("zeod_replication_log_index", Gauge, help, |group| {
            group.log_index
        });
        let help = "The last entry that this node knows to be committed.";
        self.each("zeod_replication_committed_index", Gauge, help, |group| {
            group.committed_index
        });
        let help = "The last entry that this node's storage has.";
        self.each("zeod_replication_applied_index", Gauge, help, |group| {
            group.applied_index
        });
    }

    fn members(&mut self) {
        let help = "Does the node answer? Told by the leader.";
        self.each_member("zeod_replication_reached", help, |member| member.is_reached);
        let help = "Transactions that the leader has and the node has not. Told by the leader.";
        let name = "zeod_replication_lag_transactions";
        self.each_member(name, help, |member| member.lag.map(|lag| lag.transactions));
        let help = "Bytes of these transactions.";
        self.each_member("zeod_replication_lag_bytes", help, |member| {
            member.lag.map(|lag| lag.bytes)
        });
        let help = "For how long the oldest of them has been there.";
        self.each_member("zeod_replication_lag_seconds", help, |member| {
            member.lag.map(|lag| lag.seconds)
        });
        let help =
            "How far a node is that is given what the log does not have any more, from 0 to 1.";
        self.each_member("zeod_replication_catch_up_ratio", help, |member| {
            let percent = member.catch_up.as_ref()?.percent()?;
            u32::try_from(percent).ok().map(|p| f64::from(p) / 100.0)
        });
    }

    fn counts(&mut self) {
        type Count = fn(&GroupCounts) -> u64;
        let counters: [(&'static str, &str, Count); 8] = [
            (
                "zeod_replication_elections_total",
                "Elections in which this node stood.",
                |counts| counts.elections,
            ),
            (
                "zeod_replication_leader_changes_total",
                "Changes of the leader that this node has seen.",
                |counts| counts.leader_changes,
            ),
            (
                "zeod_replication_transfers_total",
                "Leaderships that this node handed over.",
                |counts| counts.transfers,
            ),
            (
                "zeod_replication_proposals_total",
                "Entries that this node proposed.",
                |counts| counts.proposals,
            ),
            (
                "zeod_replication_proposals_refused_total",
                "Of these, those that were not committed.",
                |counts| counts.proposals_refused,
            ),
            (
                "zeod_replication_forwarded_total",
                "Transactions of this node's clients that another node decided.",
                |counts| counts.forwarded,
            ),
            (
                "zeod_replication_staged_bytes_total",
                "Payloads and blobs that came here before their entries.",
                |counts| counts.staged_bytes_total,
            ),
            (
                "zeod_replication_caught_up_bytes_total",
                "Bytes that this node was given because the log did not have them any more.",
                |counts| counts.caught_up_bytes,
            ),
        ];
        for (name, help, count) in counters {
            self.each(name, Counter, help, |group| count(&group.counts));
        }
        let help = "Payloads and blobs that lie here for entries to come.";
        self.each("zeod_replication_staged_bytes", Gauge, help, |group| {
            group.counts.staged_bytes
        });
        let help = "How long proposals took until they were committed; on the leader.";
        let name = "zeod_replication_proposal_duration_seconds";
        self.out.family(name, Kind::Histogram, help);
        for group in &self.groups {
            let labels = [("storage", group.storage.as_str())];
            let times = &group.proposal_times;
            self.out.histogram(&labels, Unit::Time, times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::StorageStatus;
    use super::super::{health, metrics};
    use super::*;
    use crate::stats::replication::{CatchUp, Lag, NodeStatus};

    fn group() -> GroupStatus {
        let member = |node| MemberStatus {
            node,
            address: format!("db{node}:8101"),
            is_voter: node < 4,
            ..MemberStatus::default()
        };
        GroupStatus {
            storage: "1".to_owned(),
            node: 1,
            role: GroupRole::Leader,
            term: 7,
            leader: Some(1),
            applied_index: 41,
            members: (1..=4).map(member).collect(),
            ..GroupStatus::default()
        }
    }

    fn snapshot(group: GroupStatus) -> Snapshot {
        Snapshot {
            state: "ready",
            replication: Some(NodeStatus {
                node: 1,
                address: "db1:8101".to_owned(),
                in_cluster: true,
                log_bytes: 5,
                ..NodeStatus::default()
            }),
            storages: vec![StorageStatus {
                name: group.storage.clone(),
                replication: Some(group),
                ..StorageStatus::default()
            }],
            ..Snapshot::default()
        }
    }

    fn ready(snapshot: &Snapshot) -> (bool, bool, bool) {
        (
            health::health(snapshot).is_good,
            health::readiness(snapshot).is_good,
            health::readiness_to_read(snapshot).is_good,
        )
    }

    #[test]
    fn a_node_with_its_quorum_is_healthy_and_ready() {
        assert_eq!(ready(&snapshot(group())), (true, true, true));
    }

    #[test]
    fn a_node_without_a_quorum_is_ready_for_readers() {
        let mut group = group();
        group.without_quorum_seconds = Some(1.2);
        // An election: clients wait for its outcome here.
        assert_eq!(ready(&snapshot(group.clone())), (true, true, true));
        group.without_quorum_seconds = Some(6.7);
        group.turns_writers_away = true;
        let snapshot = snapshot(group);
        assert_eq!(ready(&snapshot), (true, false, true));
        let words = health::readiness(&snapshot).words;
        assert_eq!(
            words,
            "storage 1: no quorum for 7 s, clients that write are turned away; those that only read \
             are served\n"
        );
    }

    #[test]
    fn a_node_that_is_held_up_is_healthy_and_not_ready() {
        let mut group = group();
        group.held_up = Some("a pack".to_owned());
        let snapshot = snapshot(group);
        assert_eq!(ready(&snapshot), (true, false, false));
        assert_eq!(
            health::readiness(&snapshot).words,
            "storage 1: this node applies nothing for now: a pack\n"
        );
    }

    #[test]
    fn a_node_that_is_no_member_is_of_no_use() {
        let mut alone = snapshot(group());
        alone.replication.as_mut().unwrap().in_cluster = false;
        assert_eq!(ready(&alone), (true, false, false));
        assert!(health::readiness(&alone).words.contains("cluster init"));
        let removed = snapshot(GroupStatus {
            role: GroupRole::Outside,
            ..group()
        });
        assert_eq!(ready(&removed), (true, false, false));
    }

    #[test]
    fn a_node_that_is_given_much_is_not_ready() {
        let mut group = group();
        group.members[0].catch_up = Some(CatchUp {
            doing: "the tail of Data.fs".to_owned(),
            done_bytes: 1,
            total_bytes: 4,
        });
        let snapshot = snapshot(group);
        assert_eq!(ready(&snapshot), (true, false, false));
        assert_eq!(
            health::readiness_to_read(&snapshot).words,
            "storage 1: this node is catching up: the tail of Data.fs, 25 %\n"
        );
    }

    #[test]
    fn a_log_that_failed_is_unhealthy() {
        let failed = snapshot(GroupStatus {
            failed: Some("syncing the log: no such device".to_owned()),
            ..group()
        });
        let verdict = health::health(&failed);
        assert!(!verdict.is_good);
        assert!(verdict.words.contains("no such device"), "{verdict:?}");
    }

    #[test]
    fn metrics_tell_of_roles_and_of_each_member() {
        let mut group = group();
        group.members[1].is_reached = Some(true);
        group.members[1].lag = Some(Lag {
            transactions: 3,
            bytes: 4096,
            seconds: 0.25,
        });
        group.members[2].is_reached = Some(false);
        group.members[3].catch_up = Some(CatchUp {
            done_bytes: 1,
            total_bytes: 4,
            ..CatchUp::default()
        });
        group.counts.transfers = 2;
        let text = metrics::text(&snapshot(group));
        for line in [
            "zeod_replication_node{node=\"1\",address=\"db1:8101\"} 1",
            "zeod_replication_log_bytes 5",
            "zeod_replication_role{storage=\"1\",role=\"leader\"} 1",
            "zeod_replication_role{storage=\"1\",role=\"follower\"} 0",
            "zeod_replication_leader{storage=\"1\"} 1",
            "zeod_replication_term{storage=\"1\"} 7",
            "zeod_replication_quorum{storage=\"1\"} 1",
            "zeod_replication_without_quorum_seconds{storage=\"1\"} 0",
            "zeod_replication_voters{storage=\"1\"} 3",
            "zeod_replication_applied_index{storage=\"1\"} 41",
            "zeod_replication_reached{storage=\"1\",node=\"2\"} 1",
            "zeod_replication_reached{storage=\"1\",node=\"3\"} 0",
            "zeod_replication_lag_transactions{storage=\"1\",node=\"2\"} 3",
            "zeod_replication_lag_bytes{storage=\"1\",node=\"2\"} 4096",
            "zeod_replication_lag_seconds{storage=\"1\",node=\"2\"} 0.25",
            "zeod_replication_catch_up_ratio{storage=\"1\",node=\"4\"} 0.25",
            "zeod_replication_transfers_total{storage=\"1\"} 2",
            "zeod_replication_staged_bytes{storage=\"1\"} 0",
            "zeod_replication_proposal_duration_seconds_count{storage=\"1\"} 0",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
        }
        assert!(!text.contains("zeod_replication_lag_bytes{storage=\"1\",node=\"1\"}"));
    }

    #[test]
    fn a_server_alone_tells_nothing_of_it() {
        let alone = Snapshot {
            state: "ready",
            ..Snapshot::default()
        };
        assert!(!metrics::text(&alone).contains("replication"));
        assert_eq!(ready(&alone), (true, true, true));
    }
}
