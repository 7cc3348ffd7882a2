//! Which files beside the log the other members of a group may still need, as far as that is
//! known.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::node::Served;
use super::service::{Answer, Question};
use super::types::{Member, NodeId};

/// A member gets so long to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was heard of the others.
#[derive(Debug, Default)]
pub struct Needs(BTreeMap<NodeId, Need>);

/// What one may need.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// The files of entries from here on. None: it has not told yet.
    from: Option<u64>,
    /// When it told that, or was first asked for it.
    at: Instant,
}

/// What came of asking a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It needs files of entries from here on.
    From(u64),
    /// It is there, and does not tell: an earlier zeod.
    Nothing,
    /// It is not reached.
    Silent,
}

impl Needs {
    /// Asks all other members of a group.
    pub async fn ask(&mut self, served: &Served) {
        let others = served.replica.applier.others();
        self.0
            .retain(|node, _| others.iter().any(|(other, _)| other == node));
        let mut asked = JoinSet::new();
        for (node, member) in others {
            let served = served.clone();
            asked.spawn(async move { (node, ask(&served, node, &member).await) });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok((node, told)) = answer {
                self.note(node, told);
            }
        }
    }

    /// One that is silent counts with what it told last; with everything, if it has told nothing
    /// since this node's start. One that never tells counts with nothing.
    fn note(&mut self, node: NodeId, told: Told) {
        let at = Instant::now();
        match told {
            Told::From(from) => {
                let from = Some(from);
                self.0.insert(node, Need { from, at });
            }
            Told::Nothing => {
                if self.0.get(&node).is_some_and(|need| need.from.is_none()) {
                    self.0.remove(&node);
                }
            }
            Told::Silent => {
                self.0.entry(node).or_insert(Need { from: None, at });
            }
        }
    }

    /// The first entry whose files a member may need. One that was not heard of for
    /// `absent_after` is not waited for. None: nobody may need any.
    pub fn from(&self, absent_after: Duration) -> Option<u64> {
        let living = self.0.values();
        let living = living.filter(|need| need.at.elapsed() < absent_after);
        living.map(|need| need.from.unwrap_or(0)).min()
    }
}

async fn ask(served: &Served, node: NodeId, member: &Member) -> Told {
    let question = Question::Files.encode();
    let asked = served.group.ask_member(node, member, question, PATIENCE);
    match asked.await {
        Ok(Some(answer)) => match Answer::decode(answer) {
            Ok(Answer::Files { needed_from }) => Told::From(needed_from),
            _ => Told::Nothing,
        },
        Ok(None) => Told::Nothing,
        Err(_) => Told::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_counts_with_what_it_told_last_and_not_for_ever() {
        let mut needs = Needs::default();
        assert_eq!(needs.from(ABSENT), None);
        needs.note(2, Told::From(8));
        needs.note(3, Told::From(5));
        assert_eq!(needs.from(ABSENT), Some(5));
        tokio::time::advance(ABSENT / 2).await;
        needs.note(2, Told::From(9));
        needs.note(3, Told::Silent);
        assert_eq!(needs.from(ABSENT), Some(5));
        tokio::time::advance(ABSENT / 2).await;
        needs.note(3, Told::Silent);
        assert_eq!(needs.from(ABSENT), Some(9));
        needs.note(3, Told::From(6));
        assert_eq!(needs.from(ABSENT), Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_not_heard_of_yet_may_need_everything() {
        let mut needs = Needs::default();
        needs.note(2, Told::From(8));
        needs.note(3, Told::Silent);
        assert_eq!(needs.from(ABSENT), Some(0));
        tokio::time::advance(ABSENT / 2).await;
        needs.note(2, Told::From(9));
        needs.note(3, Told::Silent);
        tokio::time::advance(ABSENT / 2).await;
        assert_eq!(needs.from(ABSENT), Some(9));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_zeod_is_not_waited_for() {
        let mut needs = Needs::default();
        needs.note(2, Told::Nothing);
        assert_eq!(needs.from(ABSENT), None);
        needs.note(2, Told::Silent);
        assert_eq!(needs.from(ABSENT), Some(0));
        needs.note(2, Told::Nothing);
        assert_eq!(needs.from(ABSENT), None);
        // It is just starting: it told before what it needs.
        needs.note(2, Told::From(7));
        needs.note(2, Told::Nothing);
        assert_eq!(needs.from(ABSENT), Some(7));
    }
}
