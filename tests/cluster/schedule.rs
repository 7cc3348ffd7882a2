//! Faults by chance: the same seed gives the same ones.

use std::fmt;
use std::time::Duration;

use crate::cluster::chance::Chance;

/// What is done to a cluster. Targets are indices of nodes, or the leader of that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; it is started again after the time.
    Kill(Target, Duration),
    KillAll,
    /// kill -9, and what was not synced is lost; of all nodes at once where it is told so.
    CutPower(Target),
    CutAllPower,
    Pause(Target, Duration),
    /// From the nodes, not from the clients.
    Part(Target, Duration),
    /// From all.
    Isolate(Target, Duration),
    /// One way, from the one to the other.
    OneWay(usize, usize, Duration),
    Flap(usize, u32),
    /// The link of a node is so slow, in kbit/s.
    Slow(usize, u64, Duration),
    Clock(Target, i64),
    FailSyncs(Target, Duration),
    FullDisk(Duration),
    Restart(usize),
    RestartAll,
    Transfer,
    /// What is in the log is given up, so that who is behind needs the files.
    Snapshot,
    /// A host is lost for good, and another one comes in its place.
    Replace(usize),
    /// A node is away while the logs are given up.
    MissALot(usize, Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Leader,
    /// The node whose disk can be full.
    SmallDisk,
    Node(usize),
}

impl Fault {
    /// Whom it strikes; of faults that strike all, or two, one of them.
    pub fn target(self) -> Target {
        match self {
            Self::Kill(target, _)
            | Self::CutPower(target)
            | Self::Pause(target, _)
            | Self::Part(target, _)
            | Self::Isolate(target, _)
            | Self::Clock(target, _)
            | Self::FailSyncs(target, _) => target,
            Self::OneWay(index, ..)
            | Self::Flap(index, _)
            | Self::Slow(index, ..)
            | Self::Restart(index)
            | Self::Replace(index)
            | Self::MissALot(index, _) => Target::Node(index),
            Self::FullDisk(_) => Target::SmallDisk,
            Self::KillAll
            | Self::CutAllPower
            | Self::RestartAll
            | Self::Transfer
            | Self::Snapshot => Target::Leader,
        }
    }
}

/// One fault, and how long all is well before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub pause: Duration,
    pub fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "after {:?}: {:?}", self.pause, self.fault)
    }
}

/// Steps without an end.
pub struct Schedule {
    chance: Chance,
    nodes: usize,
}

impl Schedule {
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self {
            chance: Chance(seed),
            nodes,
        }
    }

    fn target(&mut self) -> Target {
        // Half of all hit where it hurts most.
        if self.chance.below(2) == 0 {
            Target::Leader
        } else {
            Target::Node(self.node())
        }
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.chance.below(self.nodes as u64)).unwrap()
    }

    fn time(&mut self, most_ms: u64) -> Duration {
        Duration::from_millis(50 + self.chance.below(most_ms))
    }

    fn fault(&mut self) -> Fault {
        match self.chance.below(27) {
            0..4 => Fault::Kill(self.target(), self.time(4000)),
            4 => Fault::KillAll,
            5..8 => Fault::Pause(self.target(), self.time(5000)),
            8..10 => Fault::Part(self.target(), self.time(6000)),
            10 => Fault::Isolate(self.target(), self.time(5000)),
            11..13 => {
                let from = self.node();
                let by = 1 + usize::try_from(self.chance.below(self.nodes as u64 - 1)).unwrap();
                Fault::OneWay(from, (from + by) % self.nodes, self.time(6000))
            }
            13 => Fault::Flap(
                self.node(),
                1 + u32::try_from(self.chance.below(6)).unwrap(),
            ),
            14 => {
                let hours = i64::try_from(self.chance.below(5)).unwrap() - 2;
                Fault::Clock(self.target(), hours * 3600)
            }
            15 => Fault::FailSyncs(self.target(), self.time(2000)),
            16 => Fault::FullDisk(self.time(3000)),
            17 => Fault::Restart(self.node()),
            18 => Fault::RestartAll,
            19 => Fault::Transfer,
            20 => Fault::Snapshot,
            21 => Fault::CutAllPower,
            22..24 => Fault::CutPower(self.target()),
            24 => {
                let rate = 200 << self.chance.below(6);
                Fault::Slow(self.node(), rate, self.time(5000))
            }
            25 => Fault::Replace(self.node()),
            _ => Fault::MissALot(self.node(), self.time(4000)),
        }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let pause = self.time(2500);
        let fault = self.fault();
        Some(Step { pause, fault })
    }
}

#[test]
fn a_schedule_can_be_repeated() {
    let steps = |seed| Schedule::new(seed, 3).take(200).collect::<Vec<_>>();
    assert_eq!(steps(7), steps(7));
    assert_ne!(steps(7), steps(8));
}
