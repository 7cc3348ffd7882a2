//! What the timers say, and when.

use super::*;

const MS: Duration = Duration::from_millis(1);
const SETTINGS: TimerSettings = TimerSettings {
    heartbeat_interval: Duration::from_millis(100),
    election_timeout: Duration::from_millis(600),
};
const VOTER: View = View {
    role: Role::Voter,
    term: 1,
    stands: false,
    alone: false,
};
const LEADER: View = View {
    role: Role::Leader,
    ..VOTER
};

fn timers(view: View, seed: u64) -> Timers {
    let mut timers = Timers::new(SETTINGS, seed, Duration::ZERO);
    timers.observe(Duration::ZERO, view);
    timers
}

/// Sleeps as the task does, and returns the first thing that is to be done.
fn next(timers: &mut Timers, now: &mut Duration, until: Duration) -> Option<Action> {
    loop {
        if let Some(action) = timers.tick(*now) {
            return Some(action);
        }
        let wake = timers.wake_at(*now);
        assert!(wake > *now, "asleep for ever, or never");
        if wake > until {
            *now = until;
            return None;
        }
        *now = wake;
    }
}

#[test]
fn a_voter_asks_after_one_to_two_timeouts_of_silence() {
    let mut drawn = Vec::new();
    for seed in 0..100 {
        let mut timers = timers(VOTER, seed);
        let mut now = 1000 * MS;
        timers.contact(now, 1);
        let action = next(&mut timers, &mut now, 10_000 * MS);
        assert_eq!(action, Some(Action::PreVote { attempt: 1 }));
        drawn.push(now);
    }
    assert!(drawn.iter().all(|at| (1600 * MS..2200 * MS).contains(at)));
    drawn.sort();
    drawn.dedup();
    assert!(drawn.len() > 90, "drawn anew for each seed");
}

#[test]
fn a_leader_that_is_heard_keeps_voters_quiet_and_true() {
    let mut timers = timers(VOTER, 1);
    let mut now = Duration::ZERO;
    for beat in 1..1000 {
        timers.contact(now, 1);
        assert!(!timers.may_vote(now));
        assert!(timers.hears_leader(now));
        assert_eq!(next(&mut timers, &mut now, 100 * MS * beat), None);
    }
    assert!(timers.may_vote(now + 600 * MS));
    assert!(!timers.hears_leader(now + 1200 * MS));
}

#[test]
fn a_pre_vote_that_is_won_leads_to_an_election_and_one_that_is_lost_to_another() {
    let mut timers = timers(VOTER, 2);
    let mut now = Duration::ZERO;
    let first = next(&mut timers, &mut now, 10_000 * MS);
    assert_eq!(first, Some(Action::PreVote { attempt: 1 }));
    assert_eq!(timers.pre_vote_over(now, 1, false), None);
    let lost = now;
    let second = next(&mut timers, &mut now, 10_000 * MS);
    assert_eq!(second, Some(Action::PreVote { attempt: 2 }));
    assert!((150 * MS..300 * MS).contains(&now.saturating_sub(lost)));
    assert_eq!(timers.pre_vote_over(now, 1, true), None, "an old one");
    assert_eq!(timers.pre_vote_over(now, 2, true), Some(Action::Elect));
    // Its own candidacy does not make it wait longer.
    let elected = now;
    let view = View {
        term: 2,
        stands: true,
        ..VOTER
    };
    timers.observe(now, view);
    let third = next(&mut timers, &mut now, 10_000 * MS);
    assert_eq!(third, Some(Action::PreVote { attempt: 3 }));
    assert!((300 * MS..600 * MS).contains(&now.saturating_sub(elected)));
}

#[test]
fn a_pre_vote_that_nobody_answers_is_repeated() {
    let mut timers = timers(VOTER, 3);
    let mut now = Duration::ZERO;
    for attempt in 1..20 {
        let action = next(&mut timers, &mut now, 60_000 * MS);
        assert_eq!(action, Some(Action::PreVote { attempt }));
    }
    assert!(now < 15_000 * MS);
}

#[test]
fn a_word_of_a_leader_ends_a_pre_vote() {
    let mut timers = timers(VOTER, 4);
    let mut now = Duration::ZERO;
    next(&mut timers, &mut now, 10_000 * MS);
    timers.contact(now, 1);
    assert_eq!(timers.pre_vote_over(now, 1, true), None);
}

#[test]
fn who_has_voted_for_another_waits() {
    let mut timers = timers(VOTER, 5);
    let mut now = 500 * MS;
    timers.observe(now, View { term: 2, ..VOTER });
    let action = next(&mut timers, &mut now, 10_000 * MS);
    assert!(action.is_some() && now >= 1100 * MS);
}

#[test]
fn a_lone_voter_stands_at_once() {
    let mut timers = timers(View::default(), 6);
    let alone = View {
        alone: true,
        ..VOTER
    };
    let mut now = 5 * MS;
    assert_eq!(timers.tick(now), None);
    timers.observe(now, alone);
    assert_eq!(timers.tick(now), Some(Action::Elect));
    assert_eq!(timers.tick(now), None, "it has its time");
    assert_eq!(next(&mut timers, &mut now, 1000 * MS), Some(Action::Elect));
}

#[test]
fn who_has_no_vote_does_nothing() {
    let onlooker = View {
        role: Role::Onlooker,
        ..VOTER
    };
    let mut timers = timers(onlooker, 7);
    let mut now = Duration::ZERO;
    assert_eq!(next(&mut timers, &mut now, 60_000 * MS), None);
    assert_eq!(timers.stand(now), None);
}

#[test]
fn a_leader_beats_and_gives_up_without_a_quorum() {
    let mut timers = timers(LEADER, 8);
    let mut now = Duration::ZERO;
    for beat in 0..50 {
        timers.quorum(now);
        assert_eq!(
            next(&mut timers, &mut now, 10_000 * MS),
            Some(Action::Heartbeat)
        );
        assert_eq!(now, 100 * MS * beat);
        assert!(!timers.may_vote(now));
    }
    let last = now;
    while next(&mut timers, &mut now, 10_000 * MS) == Some(Action::Heartbeat) {}
    let given_up_after = now.saturating_sub(last);
    assert!(
        (1100 * MS..=1300 * MS).contains(&given_up_after),
        "{given_up_after:?}"
    );
    assert_eq!(timers.tick(now), Some(Action::Heartbeat), "once is enough");
}

#[test]
fn a_leader_without_a_quorum_votes_for_another() {
    let mut timers = timers(LEADER, 9);
    timers.quorum(1000 * MS);
    assert!(!timers.may_vote(1599 * MS));
    assert!(timers.may_vote(1600 * MS));
}

#[test]
fn a_lone_leader_never_gives_up() {
    let alone = View {
        alone: true,
        ..LEADER
    };
    let mut timers = timers(alone, 10);
    let mut now = Duration::ZERO;
    for _ in 0..100 {
        assert_eq!(
            next(&mut timers, &mut now, 60_000 * MS),
            Some(Action::Heartbeat)
        );
    }
}

#[test]
fn who_was_stopped_reads_its_letters_first() {
    let mut follower = timers(VOTER, 11);
    follower.contact(Duration::ZERO, 1);
    let mut now = 20_000 * MS;
    assert_eq!(
        follower.tick(now),
        None,
        "its leader may have written meanwhile"
    );
    assert!(next(&mut follower, &mut now, 30_000 * MS).is_some());
    assert_eq!(now, 20_200 * MS, "but not for ever");
    let mut leader = timers(LEADER, 12);
    assert_eq!(leader.tick(Duration::ZERO), Some(Action::Heartbeat));
    now = 20_000 * MS;
    assert_eq!(
        leader.tick(now),
        Some(Action::Heartbeat),
        "asleep is not without quorum"
    );
    while next(&mut leader, &mut now, 30_000 * MS) == Some(Action::Heartbeat) {}
    assert!(
        now < 21_500 * MS,
        "it gives up in time all the same: {now:?}"
    );
}

#[test]
fn who_is_handed_the_leadership_stands_at_once_and_others_wait() {
    let mut next_leader = timers(VOTER, 13);
    next_leader.contact(1000 * MS, 1);
    next_leader.let_go(1010 * MS, 1);
    assert!(next_leader.may_vote(1010 * MS));
    assert_eq!(next_leader.stand(1011 * MS), Some(Action::Elect));
    let mut other = timers(VOTER, 14);
    other.contact(1000 * MS, 1);
    other.let_go(1010 * MS, 1);
    assert!(other.may_vote(1010 * MS));
    let mut now = 1010 * MS;
    assert_eq!(next(&mut other, &mut now, 1600 * MS), None);
}

/// A heartbeat can be under way while its sender gives up, and arrive behind the news of that.
#[test]
fn what_a_leader_said_before_it_gave_up_keeps_nobody_from_voting() {
    let mut voter = timers(VOTER, 15);
    voter.contact(1000 * MS, 1);
    voter.let_go(1010 * MS, 1);
    voter.contact(1011 * MS, 1);
    assert!(voter.may_vote(1012 * MS));
    assert_eq!(voter.stand(1012 * MS), Some(Action::Elect));
    voter.contact(1013 * MS, 2);
    assert!(!voter.may_vote(1014 * MS));
}
