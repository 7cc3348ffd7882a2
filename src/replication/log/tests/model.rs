//! Random steps, against a model: the same entries, whatever comes in between.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Append { count: u64, size: usize },
    CutEnd { keep: prop::sample::Index },
    Purge { share: prop::sample::Index },
    TakeOver { ahead: u64 },
    Vote,
    Reopen,
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        6 => (1..20_u64, 0..6000_usize).prop_map(|(count, size)| Act::Append { count, size }),
        2 => any::<prop::sample::Index>().prop_map(|keep| Act::CutEnd { keep }),
        3 => any::<prop::sample::Index>().prop_map(|share| Act::Purge { share }),
        1 => (0..30_u64).prop_map(|ahead| Act::TakeOver { ahead }),
        1 => Just(Act::Vote),
        1 => Just(Act::Reopen),
        1 => Just(Act::Kill),
    ];
    prop::collection::vec((0..2_usize, act), 1..60)
}

#[derive(Default)]
struct Model {
    entries: Vec<Entry<Types>>,
    purged: Option<LogId<NodeId>>,
    term: u64,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.last().map(|entry| entry.log_id);
        last.or(self.purged).map_or(0, |last| last.index + 1)
    }

    async fn act(&mut self, act: &Act, group: &mut GroupLog) {
        match *act {
            Act::Append { count, size } => {
                let next = self.next();
                append(group, self.term, next..next + count, size)
                    .await
                    .unwrap();
                let new = (next..next + count).map(|index| entry(self.term, index, size));
                self.entries.extend(new);
            }
            Act::CutEnd { ref keep } if !self.entries.is_empty() => {
                let keep = keep.index(self.entries.len());
                group.truncate(self.entries[keep].log_id).await.unwrap();
                self.entries.truncate(keep);
                self.term += 1;
            }
            Act::Purge { ref share } if !self.entries.is_empty() => {
                let last = share.index(self.entries.len());
                self.purged = Some(self.entries[last].log_id);
                group.purge(self.entries[last].log_id).await.unwrap();
                self.entries.drain(..=last);
            }
            Act::TakeOver { ahead } => {
                let upto = log_id(self.term, self.next() + ahead);
                group.purge(upto).await.unwrap();
                self.purged = Some(upto);
                self.entries.clear();
            }
            Act::Vote => {
                self.term += 1;
                group.save_vote(&Vote::new(self.term, 1)).await.unwrap();
            }
            _ => {}
        }
    }

    async fn check(&self, group: &mut GroupLog) {
        assert_eq!(entries(group).await, self.entries);
        let state = group.get_log_state().await.unwrap();
        let last = self.entries.last().map(|entry| entry.log_id);
        assert_eq!(state.last_log_id, last.or(self.purged));
        assert_eq!(state.last_purged_log_id, self.purged);
        assert_eq!(group.reader().condition(), LogCondition::Whole);
    }
}

async fn run(acts: Vec<(usize, Act)>) {
    let mut directory = tempfile::tempdir().unwrap();
    let mut models = [Model::default(), Model::default()];
    let open_both = |directory: &Path| {
        let (log, condition) = open(directory, small());
        assert_eq!(condition, LogCondition::Whole);
        let groups = ["one", "two"].map(|name| log.group(name, None).unwrap());
        (log, groups)
    };
    let (mut log, mut groups) = open_both(directory.path());
    for (model, group) in models.iter_mut().zip(&mut groups) {
        model.term = 1;
        group.save_vote(&Vote::new(1, 1)).await.unwrap();
    }
    for (which, act) in acts {
        match act {
            Act::Reopen => {
                log.close();
                (log, groups) = open_both(directory.path());
            }
            Act::Kill => {
                // What is lazy would be lost.
                for (model, group) in models.iter().zip(&mut groups) {
                    group.save_vote(&Vote::new(model.term, 1)).await.unwrap();
                }
                let copy = killed(directory.path());
                log.close();
                directory = copy;
                (log, groups) = open_both(directory.path());
            }
            act => models[which].act(&act, &mut groups[which]).await,
        }
        for (model, group) in models.iter().zip(&mut groups) {
            model.check(group).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_as_its_model(acts in acts()) {
        runtime().block_on(run(acts));
    }
}
