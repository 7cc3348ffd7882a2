//! What is not well in a cluster.

use super::table::time;
use crate::replication::admin::ClusterStatus;
use crate::replication::types::NodeId;
use crate::stats::replication::{GroupStatus, MemberStatus, NodeStandstill, NodeStatus};

/// A node that is further behind is not well. Entries are applied within
/// milliseconds; a slow disk or a pack may take a moment.
const BEHIND_SECONDS: f64 = 10.0;

/// A sentence for each problem, none where all is well.
pub fn of(status: &ClusterStatus) -> Vec<String> {
    let own = status.node(status.node);
    // A node that has just begun notes it a moment later.
    let leads = status.storages.iter().any(|group| group.leader.is_some());
    if !leads && let Some(why) = own.and_then(NodeStatus::outside) {
        return vec![why];
    }
    let mut problems = Vec::new();
    for group in &status.storages {
        let of_group = group_problems(status, group);
        problems.extend(
            of_group
                .into_iter()
                .map(|problem| format!("storage {}: {problem}", group.storage)),
        );
    }
    problems
}

fn group_problems(status: &ClusterStatus, group: &GroupStatus) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(standstills(status, group));
    if let Some(why) = &group.held_up {
        problems.push(format!(
            "node {} applies nothing for now: {why}; it goes on by itself",
            group.node
        ));
    }
    match (group.leader, group.without_quorum_seconds) {
        (Some(_), None) => {}
        (_, Some(seconds)) => problems.push(format!(
            "no leader with a quorum for {}; nothing can be written",
            time(seconds)
        )),
        (None, None) => problems.push("no leader; nothing can be written".to_owned()),
    }
    let own = status.own_view(&group.storage);
    let own = own.filter(|own| own.node != group.node);
    match own {
        Some(own) if group.member(own.node).is_none() => {
            problems.push(format!("node {}, which was asked, is no member", own.node));
        }
        Some(own) if !own.has_quorum() => {
            problems.push(format!("node {} does not hear the leader", own.node));
        }
        _ => {}
    }
    if group.is_changing {
        problems.push(
            "a change of the nodes is not complete; if it does not go on, give the command again"
                .to_owned(),
        );
    }
    let members = group.members.iter();
    problems.extend(members.filter_map(|member| member_problem(status, group, member)));
    problems
}

/// Each node tells its own; one of an earlier zeod only where it leads.
fn standstills(status: &ClusterStatus, group: &GroupStatus) -> Vec<String> {
    let of_node = |node: &NodeStatus| {
        let mut all = node.standstills.iter();
        let own = all.find(|standstill| standstill.storage == group.storage)?;
        Some((node.node, own.clone()))
    };
    let mut found: Vec<_> = status.nodes.iter().filter_map(of_node).collect();
    if let Some(why) = &group.failed
        && !found.iter().any(|(node, _)| *node == group.node)
    {
        let why = why.clone();
        let standstill = NodeStandstill {
            why,
            ..NodeStandstill::default()
        };
        found.insert(0, (group.node, standstill));
    }
    let in_words = |(node, standstill): (NodeId, NodeStandstill)| {
        let NodeStandstill { why, is_lost, .. } = standstill;
        if is_lost {
            format!(
                "node {node} cannot go on: {why}; a restart does not help: remove the node and let \
                 it join with a new node-id (\"A disk is lost\" in docs/redundancy.md)"
            )
        } else {
            format!(
                "node {node} does not go on because of an error: {why}; mend that, and if it does \
                 not go on then, restart zeod there"
            )
        }
    };
    found.into_iter().map(in_words).collect()
}

fn member_problem(
    status: &ClusterStatus,
    group: &GroupStatus,
    member: &MemberStatus,
) -> Option<String> {
    let node = member.node;
    if !is_reached(status, group, member) {
        return Some(format!("node {node} at {} does not answer", member.address));
    }
    if member.catch_up.is_some() {
        return Some(format!("node {node} is catching up"));
    }
    let behind = member.lag.map_or(0.0, |lag| lag.seconds) - delay(status, member);
    (behind > BEHIND_SECONDS).then(|| format!("node {node} is {} behind", time(behind)))
}

/// How late the member is on purpose, in seconds; its own node tells.
pub fn delay(status: &ClusterStatus, member: &MemberStatus) -> f64 {
    let own = status.node(member.node);
    own.map_or(0.0, |own| own.apply_delay_seconds)
}

/// Does the member answer? The node that was asked has tried; and the leader, where
/// there is one, has heard of it.
pub fn is_reached(status: &ClusterStatus, group: &GroupStatus, member: &MemberStatus) -> bool {
    let is_itself = |node: NodeId| node == member.node;
    let answered =
        is_itself(group.node) || is_itself(status.node) || status.node(member.node).is_some();
    answered && member.is_reached.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{group, status};
    use super::*;
    use crate::stats::replication::{CatchUp, Lag};

    fn with(change: impl FnOnce(&mut ClusterStatus)) -> Vec<String> {
        let mut status = status();
        change(&mut status);
        of(&status)
    }

    #[test]
    fn a_cluster_that_is_well_has_none() {
        assert_eq!(with(|_| {}), [] as [&str; 0]);
    }

    #[test]
    fn each_problem_is_named() {
        let group = |status: &mut ClusterStatus, change: fn(&mut GroupStatus)| {
            change(&mut status.storages[0]);
        };
        let lag = |seconds| {
            Some(Lag {
                transactions: 9,
                bytes: 9,
                seconds,
            })
        };
        let found = with(|status| group(status, |group| group.members[2].is_reached = Some(false)));
        assert_eq!(found, ["storage 1: node 3 at db3:8101 does not answer"]);
        let found = with(|status| status.storages[0].members[1].lag = lag(75.0));
        assert_eq!(found, ["storage 1: node 2 is 1 min 15 s behind"]);
        // Behind on purpose, and a moment.
        let found = with(|status| {
            status.nodes[2].apply_delay_seconds = 3600.0;
            status.storages[0].members[2].lag = lag(3605.0);
        });
        assert_eq!(found, [] as [&str; 0]);
        let catch_up = |status: &mut ClusterStatus| {
            status.storages[0].members[2].catch_up = Some(CatchUp::default());
        };
        assert_eq!(with(catch_up), ["storage 1: node 3 is catching up"]);
        // The leader has not noticed yet.
        let found = with(|status| status.nodes.truncate(2));
        assert_eq!(found, ["storage 1: node 3 at db3:8101 does not answer"]);
        let found = with(|status| group(status, |group| group.is_changing = true));
        assert!(found[0].contains("is not complete"), "{found:?}");
        let found = with(|status| group(status, |group| group.failed = Some("disk".to_owned())));
        assert!(found[0].contains("because of an error: disk"), "{found:?}");
        let found = with(|status| {
            status.storages[0].failed = Some("no room".to_owned());
            status.nodes[0].standstills = vec![NodeStandstill {
                storage: "1".to_owned(),
                why: "no room".to_owned(),
                is_lost: false,
            }];
            status.nodes[2].standstills = vec![NodeStandstill {
                storage: "1".to_owned(),
                why: "a file is on no node any more".to_owned(),
                is_lost: true,
            }];
        });
        let [first, second] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(first.contains("node 1 does not go on because of an error: no room;"));
        assert!(second.contains("node 3 cannot go on: a file is on no node any more; a restart"));
        assert!(second.contains("\"A disk is lost\" in docs/"), "{second}");
        let found = with(|status| group(status, |group| group.held_up = Some("a pack".to_owned())));
        assert_eq!(
            found,
            ["storage 1: node 1 applies nothing for now: a pack; it goes on by itself"]
        );
        let found = with(|status| {
            status.nodes[0].in_cluster = false;
            status.storages[0].leader = None;
        });
        assert!(found[0].contains("zeod cluster init"), "{found:?}");
        let found = with(|status| {
            (status.nodes[0].in_cluster, status.nodes[0].begins) = (false, true);
            status.storages[0].leader = None;
        });
        assert!(found[0].contains("about to begin"), "{found:?}");
    }

    #[test]
    fn without_a_leader_who_was_asked_says_who_is_there() {
        let found = with(|status| {
            let group = &mut status.storages[0];
            group.leader = None;
            group.without_quorum_seconds = Some(30.0);
            for member in &mut group.members {
                member.is_reached = None;
            }
            status.nodes.truncate(1);
        });
        assert_eq!(
            found,
            [
                "storage 1: no leader with a quorum for 30 s; nothing can be written",
                "storage 1: node 2 at db2:8101 does not answer",
                "storage 1: node 3 at db3:8101 does not answer",
            ]
        );
    }

    #[test]
    fn a_node_that_is_cut_off_says_so() {
        let found = with(|status| {
            status.node = 2;
            let mut own = group();
            own.node = 2;
            own.without_quorum_seconds = Some(3.0);
            status.own = vec![own];
        });
        assert_eq!(found, ["storage 1: node 2 does not hear the leader"]);
        let found = with(|status| {
            status.node = 9;
            let mut own = group();
            own.node = 9;
            status.own = vec![own];
        });
        let words = "storage 1: node 9, which was asked, is no member";
        assert_eq!(found, [words]);
    }
}
