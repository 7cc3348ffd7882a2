//! When to stand for election, when to beat and when to give a leadership up:
//! decides, and does nothing. Who won is openraft's alone.
//!
//! openraft 0.9 has timers of its own, which are switched off: it draws its time-out
//! once per process, knows no pre-vote and no check of the quorum, and takes one
//! interval for heartbeats and for the patience with a call.
//!
//! Time is what has passed since the group was started.

use std::time::Duration;

/// How patient a group is. Failover takes about `election_timeout` and a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSettings {
    /// A leader beats so often.
    pub heartbeat_interval: Duration,
    /// Silence of the leader for so long, or up to twice as long (drawn anew each
    /// time), makes a voter stand for election; one that has heard of a leader
    /// within this time votes for nobody else.
    pub election_timeout: Duration,
}

impl Default for TimerSettings {
    /// Six heartbeats may get lost, or the machine be busy for that time, before
    /// anybody moves; writes are back about a second after a leader's death.
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(600),
        }
    }
}

impl TimerSettings {
    /// A leader that no quorum has answered for so long gives up; a follower that
    /// has heard nothing for so long knows no leader.
    pub fn loss_bound(&self) -> Duration {
        self.election_timeout * 2
    }

    /// The pace of further attempts, once an election is on.
    fn retry_pace(&self) -> Duration {
        self.election_timeout / 4
    }
}

/// What this node is in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It has a vote, and does not lead.
    Voter,
    /// It has no vote, or is in no group yet.
    #[default]
    Onlooker,
}

/// What the timers have to know of Raft's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What this node is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// It stands for election in that term.
    pub stands: bool,
    /// No other node has a vote.
    pub alone: bool,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The leader beats.
    Heartbeat,
    /// Ask the other voters whether they would vote for this node; tell the outcome
    /// by [`Timers::pre_vote_over`], with the number of the attempt.
    PreVote {
        /// Which attempt it is.
        attempt: u64,
    },
    /// Stand for election.
    Elect,
    /// This leader has lost its quorum: its leadership ends.
    GiveUp,
}

/// The timers of one group.
#[derive(Debug)]
pub struct Timers {
    settings: TimerSettings,
    chance: Chance,
    view: View,
    /// When a leader of the present term was last heard.
    contact: Option<Duration>,
    /// Terms up to this one were ended on purpose.
    ended: u64,
    /// When this node will do something against the silence.
    stand_at: Duration,
    /// It was put off once already, as this process had slept.
    postponed: bool,
    /// The pre-vote that is under way, and when it is given up.
    asking: Option<(u64, Duration)>,
    attempts: u64,
    /// The leader's next heartbeat.
    beat_at: Duration,
    /// The last moment of which it is known that a quorum followed this leader.
    quorum_at: Duration,
}

impl Timers {
    /// Timers of a node that has just started; `seed` decides what they draw.
    pub fn new(settings: TimerSettings, seed: u64, now: Duration) -> Self {
        let mut timers = Self {
            settings,
            chance: Chance(seed),
            view: View::default(),
            contact: None,
            ended: 0,
            stand_at: now,
            postponed: false,
            asking: None,
            attempts: 0,
            beat_at: now,
            quorum_at: now,
        };
        timers.wait_anew(now);
        timers
    }

    /// What can be seen of Raft's state.
    pub fn observe(&mut self, now: Duration, view: View) {
        if view == self.view {
            return;
        }
        let before = std::mem::replace(&mut self.view, view);
        if view.role == Role::Leader && (before.role != Role::Leader || before.term != view.term) {
            self.beat_at = now;
            self.quorum_at = now;
        }
        let is_new = before.role == Role::Leader || before.term != view.term;
        if view.role != Role::Leader && is_new && !view.stands {
            // Another leads, or has this node's vote: it gets its time.
            self.wait_anew(now);
        }
        if view.alone && view.role == Role::Voter && !before.alone {
            self.stand_at = now;
        }
    }

    /// A leader of the present term has spoken. What it said before it gave that term up
    /// may arrive behind [`Self::let_go`]: it must not take the place of its successor.
    pub fn contact(&mut self, now: Duration, term: u64) {
        if term <= self.ended {
            return;
        }
        self.contact = Some(now);
        self.wait_anew(now);
    }

    /// The leadership of `term` was ended on purpose: votes are free, and the node that is
    /// meant to lead next gets its time.
    pub fn let_go(&mut self, now: Duration, term: u64) {
        self.ended = self.ended.max(term);
        self.contact = None;
        self.quorum_at = self.quorum_at.min(now);
        self.wait_anew(now);
    }

    /// The leader has handed over to this node.
    pub fn stand(&mut self, now: Duration) -> Option<Action> {
        let stands = self.view.role == Role::Voter;
        stands.then(|| self.elect(now))
    }

    /// At `at` a quorum still followed this leader.
    pub fn quorum(&mut self, at: Duration) {
        self.quorum_at = self.quorum_at.max(at);
    }

    /// The pre-vote is over; says what follows.
    pub fn pre_vote_over(&mut self, now: Duration, attempt: u64, won: bool) -> Option<Action> {
        if self.asking.is_none_or(|(asked, _)| asked != attempt) {
            return None;
        }
        self.asking = None;
        if won && self.view.role == Role::Voter {
            return Some(self.elect(now));
        }
        self.retry(now);
        None
    }

    /// What is to be done now: to be called until it says nothing more, and again at
    /// [`Self::wake_at`] or after anything that was told here.
    pub fn tick(&mut self, now: Duration) -> Option<Action> {
        match self.view.role {
            Role::Leader => self.tick_of_leader(now),
            Role::Voter => self.tick_of_voter(now),
            Role::Onlooker => None,
        }
    }

    /// When to call [`Self::tick`] and to look at [`Self::hears_leader`] again, at the latest.
    pub fn wake_at(&self, now: Duration) -> Duration {
        let silent_at = self.contact.map(|at| at + self.settings.loss_bound());
        let silent_at = silent_at.filter(|&at| at > now);
        let own = match self.view.role {
            Role::Leader => self.beat_at,
            Role::Voter => self.asking.map_or(self.stand_at, |(_, until)| until),
            Role::Onlooker => now + self.settings.loss_bound(),
        };
        silent_at.map_or(own, |at| at.min(own))
    }

    /// Would this node vote for another now? Not while it has a leader, or is one
    /// that a quorum follows: a node that was away disturbs nobody.
    pub fn may_vote(&self, now: Duration) -> bool {
        let heard = match self.view.role {
            Role::Leader => Some(self.quorum_at),
            _ => self.contact,
        };
        heard.is_none_or(|at| now.saturating_sub(at) >= self.settings.election_timeout)
    }

    /// Is there a leader, as far as this node can hear?
    pub fn hears_leader(&self, now: Duration) -> bool {
        let bound = self.settings.loss_bound();
        self.contact
            .is_some_and(|at| now.saturating_sub(at) < bound)
    }

    fn tick_of_leader(&mut self, now: Duration) -> Option<Action> {
        if self.slept(now, self.beat_at) {
            // Stopped or starved: what the others said meanwhile is still unread.
            let slept = now.saturating_sub(self.beat_at);
            self.quorum_at = now.min(self.quorum_at + slept);
        }
        if !self.view.alone && now.saturating_sub(self.quorum_at) >= self.settings.loss_bound() {
            // Once, and again only if it is still leading after that time.
            self.quorum_at = now;
            return Some(Action::GiveUp);
        }
        if now < self.beat_at {
            return None;
        }
        self.beat_at = now + self.settings.heartbeat_interval;
        Some(Action::Heartbeat)
    }

    fn tick_of_voter(&mut self, now: Duration) -> Option<Action> {
        if let Some((_, until)) = self.asking {
            if now < until {
                return None;
            }
            self.asking = None;
            self.retry(now);
        }
        if now < self.stand_at {
            return None;
        }
        if self.view.alone {
            return Some(self.elect(now));
        }
        if self.slept(now, self.stand_at) && !self.postponed {
            // The leader's heartbeats may lie unread in the queue.
            self.postponed = true;
            self.stand_at = now + self.settings.heartbeat_interval * 2;
            return None;
        }
        self.attempts += 1;
        self.asking = Some((self.attempts, now + self.settings.election_timeout / 2));
        Some(Action::PreVote {
            attempt: self.attempts,
        })
    }

    /// Is it much later than it was meant to be? Then this process was stopped, or starved.
    fn slept(&self, now: Duration, meant: Duration) -> bool {
        now.saturating_sub(meant) > self.settings.heartbeat_interval * 2
    }

    fn elect(&mut self, now: Duration) -> Action {
        self.asking = None;
        // An election needs two rounds of messages and a sync on each node.
        let pace = self.settings.retry_pace() * 2;
        self.stand_at = now + pace + self.chance.below(pace);
        Action::Elect
    }

    fn retry(&mut self, now: Duration) {
        let pace = self.settings.retry_pace();
        self.stand_at = now + pace + self.chance.below(pace);
    }

    fn wait_anew(&mut self, now: Duration) {
        self.asking = None;
        self.postponed = false;
        let timeout = self.settings.election_timeout;
        self.stand_at = now + timeout + self.chance.below(timeout);
    }
}

/// Draws numbers (splitmix64): good enough to keep two nodes apart, and the same
/// ones for the same seed.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.0;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^= drawn >> 31;
        let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(drawn % bound.max(1))
    }
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
