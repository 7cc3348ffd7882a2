//! Commands against nodes that answer as each test wants.

mod host;
mod network;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::replication::admin::{AdminReply, AdminRequest, Outcome};
use crate::replication::marker::{BOOTSTRAP, Bootstrap, MEMBER, Membership};
use crate::stats::replication::{CatchUp, Lag, LogEnd};
use host::{Host, alone};
pub use host::{group, status};

fn failure(done: Done) -> String {
    match done {
        Err(Failure::Failed(problem) | Failure::Usage(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

fn done(storage: &str, said: &str) -> AdminReply {
    let storages = vec![Outcome::done(storage, said)];
    AdminReply::Done { storages }
}

#[test]
fn status_is_a_table_and_an_exit_code() {
    let answer = |address: &str, request| {
        assert_eq!(request, AdminRequest::Status { only_here: false });
        assert_eq!(address, "db3:8101");
        Some(AdminReply::Status(status()))
    };
    let (said, ended) = Host::new().run(&["status"], answer);
    assert_eq!(ended, Ok(()));
    assert_eq!(
        said.join("\n"),
        "storage 1: node 1 leads, term 4; 3 voters; 3.0 MB, last transaction 03f0000000000001\n\
         \u{20} NODE  ADDRESS   ROLE    ANSWERS  BEHIND\n\
         \u{20} 1     db1:8101  leader  yes      nothing\n\
         \u{20} 2     db2:8101  voter   yes      nothing\n\
         \u{20} 3     db3:8101  voter   yes      nothing\n\
         \n\
         NODE  ZEOD   LOG\n\
         1     0.1.0  5.0 MB of 1.0 GB\n\
         2     0.1.0  5.0 MB of 1.0 GB\n\
         3     0.1.0  5.0 MB of 1.0 GB\n\
         \n\
         all is well"
    );
}

#[test]
fn status_names_problems_and_fails() {
    let answer = |_: &str, _| {
        let mut status = status();
        let members = &mut status.storages[0].members;
        members[1].is_reached = Some(false);
        members[1].lag = Some(Lag {
            transactions: 1204,
            bytes: 4_300_000,
            seconds: 61.0,
        });
        members[2].is_voter = false;
        members[2].catch_up = Some(CatchUp {
            doing: "the tail of Data.fs".to_owned(),
            done_bytes: 34,
            total_bytes: 100,
        });
        Some(AdminReply::Status(status))
    };
    let (said, ended) = Host::new().run(&["status", "--node", "db2:8101"], answer);
    assert_eq!(ended, Err(Failure::Unhealthy));
    let text = said.join("\n");
    for line in [
        "2     db2:8101  voter    no       1204 transactions, 4.1 MB, 1 min 1 s",
        "3     db3:8101  learner  yes      the tail of Data.fs: 34 % of 100 bytes",
        "PROBLEM storage 1: node 2 at db2:8101 does not answer",
        "PROBLEM storage 1: node 3 is catching up",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (said, ended) = Host::new().run(&["status", "--json"], answer);
    assert_eq!(ended, Err(Failure::Unhealthy));
    let json: serde_json::Value = serde_json::from_str(&said.concat()).unwrap();
    assert_eq!(json["healthy"], false);
    assert_eq!(json["problems"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["storages"][0]["members"][1]["lag"]["transactions"],
        1204
    );
}

#[test]
fn without_a_leader_status_says_where_logs_end() {
    let answer = |_: &str, _| {
        let mut status = status();
        status.nodes.truncate(2);
        let group = &mut status.storages[0];
        group.leader = None;
        group.without_quorum_seconds = Some(9.0);
        group.members[2].lag = None;
        for (member, index) in group.members.iter_mut().zip([1234, 1300]) {
            let (term, leader) = (5, 2);
            member.log_end = Some(LogEnd {
                term,
                leader,
                index,
            });
        }
        Some(AdminReply::Status(status))
    };
    let (said, ended) = Host::new().run(&["status"], answer);
    assert_eq!(ended, Err(Failure::Unhealthy));
    assert_eq!(
        said[..5].join("\n"),
        "storage 1: nobody leads; 3 voters; 3.0 MB, last transaction 03f0000000000001\n\
         \u{20} NODE  ADDRESS   ROLE   ANSWERS  LOG ENDS AT\n\
         \u{20} 1     db1:8101  voter  yes      term 5 of node 2, entry 1234\n\
         \u{20} 2     db2:8101  voter  yes      term 5 of node 2, entry 1300\n\
         \u{20} 3     db3:8101  voter  no       not known"
    );
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let (_, ended) = Host::new().run(&["status"], |_, _| None);
    assert_eq!(failure(ended), "db3:8101: connection refused");
    let only_node_2 =
        |address: &str, _| (address == "db2:8101").then(|| AdminReply::Status(status()));
    let (said, ended) = Host::new().run(&["status"], only_node_2);
    assert_eq!(ended, Ok(()));
    assert_eq!(
        said[0],
        "this server does not answer (db3:8101: connection refused); node 2 tells:"
    );
    let (_, ended) = Host::new().run(&["status", "--node", "db1:8101"], only_node_2);
    assert_eq!(failure(ended), "db1:8101: connection refused");
}

#[test]
fn init_writes_what_a_server_begins_with() {
    let host = Host::new();
    let (said, ended) = host.run(&["init"], |_, _| None);
    assert_eq!(ended, Ok(()));
    assert!(said[0].contains("when zeod is started"), "{said:?}");
    let bootstrap = Bootstrap {
        node: 3,
        address: "db3:8101".to_owned(),
        storages: vec!["1".to_owned()],
        survivor: false,
    };
    assert_eq!(Bootstrap::read(&host.log()).unwrap(), Some(bootstrap));
    // Again is no error.
    assert_eq!(host.run(&["init"], |_, _| None).1, Ok(()));
}

#[test]
fn init_waits_for_a_server_that_runs() {
    let host = Host::new();
    let directory = host.log();
    let answer = move |address: &str, _| {
        let mut own = alone(3);
        own.nodes[0].in_cluster = directory.join(BOOTSTRAP).exists();
        (address == "db3:8101").then_some(AdminReply::Status(own))
    };
    let (said, ended) = host.run(&["init"], answer);
    assert_eq!(ended, Ok(()));
    let words = "node 3 is a cluster now, with storage 1; other nodes can join";
    assert_eq!(said, [words]);
}

#[test]
fn init_makes_no_second_cluster() {
    let host = Host::new();
    let running = |_: &str, _| Some(AdminReply::Status(status()));
    let (_, ended) = host.run(&["init"], running);
    let problem = failure(ended);
    assert!(
        problem.contains("node 1 at db1:8101 is in a cluster"),
        "{problem}"
    );
    assert!(!host.log().exists());

    std::fs::create_dir(host.log()).unwrap();
    Membership::new(3).write(&host.log()).unwrap();
    let problem = failure(host.run(&["init"], |_, _| None).1);
    assert!(
        problem.contains("belongs to a cluster already"),
        "{problem}"
    );
    assert!(problem.contains("init --survivor"), "{problem}");
    Membership::new(5).write(&host.log()).unwrap();
    let problem = failure(host.run(&["init"], |_, _| None).1);
    assert!(problem.contains("belongs to node 5"), "{problem}");
    std::fs::write(host.log().join(MEMBER), "?").unwrap();
    assert!(failure(host.run(&["init"], |_, _| None).1).contains("move it away"));
    assert!(!host.log().join(BOOTSTRAP).exists());
}

#[test]
fn a_node_goes_on_alone_only_where_it_is_stopped_and_the_last_one() {
    let gone = |_: &str, _| None;
    let survive = ["init", "--survivor"];
    let host = Host::new();
    let problem = failure(host.run(&survive, gone).1);
    assert!(problem.contains("Without --survivor"), "{problem}");
    assert!(!host.log().exists());

    std::fs::create_dir(host.log()).unwrap();
    Membership::new(5).write(&host.log()).unwrap();
    let problem = failure(host.run(&survive, gone).1);
    assert!(problem.contains("belongs to node 5"), "{problem}");
    Membership::new(3).write(&host.log()).unwrap();
    let node_2 = |address: &str, _| (address == "db2:8101").then(|| AdminReply::Status(status()));
    let problem = failure(host.run(&survive, node_2).1);
    assert!(problem.contains("node 2 at db2:8101 is not"), "{problem}");
    let options = crate::replication::log::Options::default();
    let running = crate::replication::log::Log::open(&host.log(), 3, options).unwrap();
    let problem = failure(host.run(&survive, gone).1);
    assert!(problem.contains("stop it first"), "{problem}");
    running.0.close();
    assert_eq!(Bootstrap::read(&host.log()).unwrap(), None);

    let (said, ended) = host.run(&survive, gone);
    assert_eq!(ended, Ok(()));
    assert!(said[0].contains("node 3 goes on alone when"), "{said:?}");
    let asked = Bootstrap::read(&host.log()).unwrap().unwrap();
    assert!(asked.survivor);

    let late = Host::with("apply-delay 1h\n");
    std::fs::create_dir(late.log()).unwrap();
    Membership::new(3).write(&late.log()).unwrap();
    let problem = failure(late.run(&survive, gone).1);
    assert!(problem.contains("apply-delay is set"), "{problem}");
    assert_eq!(Bootstrap::read(&late.log()).unwrap(), None);
}

/// A cluster of nodes 1 and 2 that node 3 joins: node 1 is away, node 2 lets it
/// in; it has caught up when it was asked for three times, and applied all of that the next time.
fn joining(
    mut note: impl FnMut(AdminRequest) + Send,
) -> impl FnMut(&str, AdminRequest) -> Option<AdminReply> + Send {
    let mut asked = 0;
    let mut joined = false;
    move |address, request| {
        if let AdminRequest::Status { only_here } = request {
            if address == "db3:8101" {
                assert!(only_here);
                return Some(AdminReply::Status(alone(3)));
            }
            let mut status = status();
            let member = &mut status.storages[0].members[2];
            member.is_voter = false;
            if !joined {
                status.storages[0].members.truncate(2);
                return Some(AdminReply::Status(status));
            }
            asked += 1;
            (member.catch_up, member.lag) = match asked {
                1 => (None, None),
                2 => (
                    Some(CatchUp {
                        doing: "the tail of Data.fs".to_owned(),
                        done_bytes: 1,
                        total_bytes: 2,
                    }),
                    None,
                ),
                _ => (None, Some(Lag::default())),
            };
            status.nodes[2].abstains = asked <= 3;
            return Some(AdminReply::Status(status));
        }
        if address == "db1:8101" {
            return None;
        }
        assert_eq!(address, "db2:8101");
        let said = match &request {
            AdminRequest::Join { .. } => {
                joined = true;
                "node 3 is a learner"
            }
            AdminRequest::Promote { node: 3 } => "node 3 votes",
            other => panic!("{other:?}"),
        };
        note(request);
        Some(done("1", said))
    }
}

#[test]
fn a_node_joins_waits_and_votes() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let answer = joining(move |request| noted.lock().push(request));
    let (said, ended) = Host::new().run(&["join"], answer);
    assert_eq!(ended, Ok(()));
    assert_eq!(
        said,
        [
            "storage 1: node 3 is a learner",
            "storage 1: not heard of yet",
            "storage 1: the tail of Data.fs: 50 % of 2 bytes",
            "what it got is not yet in its storages",
            "storage 1: node 3 votes",
        ]
    );
    let join = AdminRequest::Join {
        node: 3,
        address: "db3:8101".to_owned(),
        storages: vec!["1".to_owned()],
    };
    assert_eq!(*asked.lock(), [join, AdminRequest::Promote { node: 3 }]);
}

#[test]
fn a_learner_does_not_vote() {
    let host = Host::with("apply-delay 1h\n");
    let problem = failure(host.run(&["join"], |_, _| None).1);
    assert!(problem.contains("add --learner"), "{problem}");
    let answer = joining(|request| assert!(matches!(request, AdminRequest::Join { .. })));
    let (said, ended) = host.run(&["join", "--learner"], answer);
    assert_eq!(ended, Ok(()));
    assert_eq!(said.last().unwrap(), "node 3 is a learner");
}

#[test]
fn data_that_are_there_are_not_replaced_unasked() {
    let answer = |replace: bool| {
        let mut others = joining(|_| {});
        move |address: &str, request: AdminRequest| {
            if address == "db3:8101" {
                let mut own = alone(3);
                own.storages[0].last_transaction = Some("03f0".to_owned());
                return Some(AdminReply::Status(own));
            }
            assert!(replace, "{request:?}");
            others(address, request)
        }
    };
    let problem = failure(Host::new().run(&["join"], answer(false)).1);
    assert!(problem.contains("Add --replace"), "{problem}");
    let (_, ended) = Host::new().run(&["join", "--replace"], answer(true));
    assert_eq!(ended, Ok(()));
}

#[test]
fn a_voter_that_has_lost_its_log_does_not_come_back_by_its_number() {
    let answer = |address: &str, request| {
        assert!(matches!(request, AdminRequest::Status { .. }));
        Some(AdminReply::Status(match address {
            "db3:8101" => alone(3),
            _ => status(),
        }))
    };
    let problem = failure(Host::new().run(&["join"], answer).1);
    assert!(problem.contains("zeod cluster remove 3"), "{problem}");
}

#[test]
fn who_cannot_join_is_told_why() {
    let problem = failure(Host::new().run(&["join"], |_, _| None).1);
    assert!(problem.contains("start it first"), "{problem}");
    let (_, ended) = Host::new().run(&["join"], |_, _| Some(AdminReply::Status(alone(7))));
    let problem = failure(ended);
    assert!(problem.contains("is node 7"), "{problem}");
    let refusing = |address: &str, _| {
        Some(match address {
            "db3:8101" => AdminReply::Status(alone(3)),
            _ => AdminReply::Refused {
                why: "it has other storages".to_owned(),
            },
        })
    };
    let problem = failure(Host::new().run(&["join"], refusing).1);
    assert_eq!(
        problem,
        "no node lets this one in:\n  db1:8101: it has other storages\n  db2:8101: it has other \
         storages"
    );
}

#[test]
fn waiting_ends() {
    let answer = |_: &str, _| {
        let mut status = status();
        let member = &mut status.storages[0].members[1];
        member.is_voter = false;
        member.lag = Some(Lag {
            transactions: 5000,
            bytes: 1 << 20,
            seconds: 60.0,
        });
        Some(AdminReply::Status(status))
    };
    let (_, ended) = Host::new().run(&["promote", "2", "--timeout", "0"], answer);
    let problem = failure(ended);
    assert!(problem.contains("zeod cluster promote 2"), "{problem}");
    assert!(problem.contains("5000 transactions"), "{problem}");
    let (_, ended) = Host::new().run(&["promote", "9"], answer);
    assert!(failure(ended).contains("node 9 is no member"));
}

#[test]
fn nodes_are_taken_out() {
    let answer = |expected: NodeId| {
        move |_: &str, request| match request {
            AdminRequest::Status { .. } => Some(AdminReply::Status(status())),
            AdminRequest::Remove { node } => {
                assert_eq!(node, expected);
                Some(done("1", "removed"))
            }
            other => panic!("{other:?}"),
        }
    };
    let (said, ended) = Host::new().run(&["remove", "2"], answer(2));
    assert_eq!(ended, Ok(()));
    assert_eq!(said[0], "storage 1: removed");
    assert!(
        said[1].starts_with("2 nodes are left that vote."),
        "{said:?}"
    );
    let (said, ended) = Host::new().run(&["remove", "9"], answer(9));
    assert_eq!(
        (said, ended),
        (vec!["node 9 is no member".to_owned()], Ok(()))
    );
    let (said, ended) = Host::new().run(&["leave"], answer(3));
    assert_eq!(ended, Ok(()));
    assert!(said[2].starts_with("node 3 has left"), "{said:?}");
}

#[test]
fn the_last_voter_stays() {
    let answer = |_: &str, request| {
        assert_eq!(request, AdminRequest::Status { only_here: false });
        let mut status = status();
        for member in &mut status.storages[0].members[..2] {
            member.is_voter = false;
        }
        Some(AdminReply::Status(status))
    };
    let problem = failure(Host::new().run(&["leave"], answer).1);
    assert!(problem.contains("take <replication> out"), "{problem}");
}

#[test]
fn what_failed_for_one_storage_is_told_after_the_others() {
    let answer = |_: &str, request| {
        let wanted = AdminRequest::Transfer {
            storage: None,
            to: Some(2),
        };
        assert_eq!(request, wanted);
        let storages = vec![
            Outcome::failed("1", "node 2 is far behind"),
            Outcome::done("main", "node 2 leads"),
        ];
        Some(AdminReply::Done { storages })
    };
    let (said, ended) = Host::new().run(&["transfer-leader", "2"], answer);
    assert_eq!(said, ["storage main: node 2 leads"]);
    assert_eq!(failure(ended), "storage 1: node 2 is far behind");
    let answer = |_: &str, request| {
        let storage = Some("main".to_owned());
        assert_eq!(request, AdminRequest::Snapshot { storage });
        Some(done("main", "noted"))
    };
    let (said, ended) = Host::new().run(&["snapshot", "--storage", "main"], answer);
    assert_eq!(
        (said, ended),
        (vec!["storage main: noted".to_owned()], Ok(()))
    );
}

#[test]
fn a_server_alone_has_no_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeo.conf");
    std::fs::write(&path, "<zeo>\n address 1\n</zeo>\n<mappingstorage/>\n").unwrap();
    let own = OwnNode {
        configure: Path::new(&path).to_owned(),
    };
    match own.load() {
        Err(Failure::Usage(problem)) => assert!(problem.contains("no <replication>"), "{problem}"),
        _ => panic!("it is alone"),
    }
}
