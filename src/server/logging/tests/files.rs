use std::path::Path;

use super::*;
use crate::config::{Rotation, RotationTime};

const HOUR_S: i64 = 3600;

#[test]
fn a_file_is_reopened_after_a_rename() {
    let fixture = Fixture::new();
    fixture.run_file(fixture.logfile("%(message)s"), |logging| {
        tracing::info!("one");
        fs::rename(fixture.path("zeo.log"), fixture.path("old")).unwrap();
        tracing::info!("two");
        assert!(logging.reopen().is_empty());
        tracing::info!("three");
    });
    assert_eq!(fixture.read("old"), "one\ntwo\n");
    assert_eq!(fixture.read("zeo.log"), "three\n");
}

#[test]
fn the_former_file_stays_in_use_if_there_can_be_no_new_one() {
    let fixture = Fixture::new();
    fixture.run_file(fixture.logfile("%(message)s"), |logging| {
        fs::rename(fixture.path("zeo.log"), fixture.path("old")).unwrap();
        fs::create_dir(fixture.path("zeo.log")).unwrap();
        let errors = logging.reopen();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("zeo.log"), "{}", errors[0]);
        tracing::info!("still here");
        assert_eq!(logging.lost_lines(), 0);
    });
    assert_eq!(fixture.read("old"), "still here\n");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let fixture = Fixture::new();
    let mut section = fixture.logfile("%(message)s");
    section.path = LogTarget::File(fixture.path("missing/zeo.log"));
    let eventlog = |section: LogFile| EventLog {
        level: LogLevel::Info,
        handlers: vec![LogHandler::File(section)],
    };
    let error = fixture.build(&eventlog(section.clone())).err().unwrap();
    assert!(error.to_string().contains("missing/zeo.log"), "{error}");
    // Delayed, it is found out line by line, and heals by itself.
    section.delay = true;
    fixture.run_file(section, |logging| {
        tracing::info!("lost");
        tracing::info!("lost too");
        assert_eq!(logging.lost_lines(), 2);
        fs::create_dir(fixture.path("missing")).unwrap();
        tracing::info!("kept");
        assert_eq!(logging.lost_lines(), 2);
    });
    assert_eq!(fixture.read("missing/zeo.log"), "kept\n");
    let section = fixture.logfile("%(message)q");
    let error = fixture.build(&eventlog(section)).err().unwrap();
    assert!(error.to_string().contains("%(message)q"), "{error}");
}

#[test]
fn a_delayed_file_appears_with_the_first_line() {
    let fixture = Fixture::new();
    let mut section = fixture.logfile("%(message)s");
    section.delay = true;
    fixture.run_file(section, |logging| {
        assert!(logging.reopen().is_empty());
        assert!(fixture.names().is_empty());
        tracing::info!("here");
    });
    assert_eq!(fixture.read("zeo.log"), "here\n");
}

fn by_size(fixture: &Fixture, old_files: u64) -> LogFile {
    let mut section = fixture.logfile("%(message)s");
    section.rotation = Some(Rotation::Size {
        max_size_bytes: 10,
        old_files,
    });
    section
}

#[test]
fn files_are_rotated_by_size() {
    let fixture = Fixture::new();
    fixture.run_file(by_size(&fixture, 2), |_| {
        for text in ["aaaa", "bbb", "c", "longer than allowed", "dddd", "e"] {
            tracing::info!("{text}");
        }
    });
    // "aaaa\nbbb\n" has 9 bytes; 10 would be too many already, as in Python.
    assert_eq!(fixture.names(), ["zeo.log", "zeo.log.1", "zeo.log.2"]);
    assert_eq!(fixture.read("zeo.log"), "dddd\ne\n");
    assert_eq!(fixture.read("zeo.log.1"), "longer than allowed\n");
    assert_eq!(fixture.read("zeo.log.2"), "c\n");
}

#[test]
fn an_endless_number_of_old_files_takes_no_endless_time() {
    let fixture = Fixture::new();
    fixture.run_file(by_size(&fixture, u64::MAX), |_| {
        for _ in 0..4 {
            tracing::info!("123456789");
        }
    });
    assert_eq!(fixture.names().len(), 4);
}

#[test]
fn reopening_puts_a_rotated_file_aside() {
    let fixture = Fixture::new();
    fixture.run_file(by_size(&fixture, 3), |logging| {
        tracing::info!("one");
        assert!(logging.reopen().is_empty());
        tracing::info!("two");
        fs::rename(fixture.path("zeo.log"), fixture.path("moved")).unwrap();
        assert!(logging.reopen().is_empty());
        tracing::info!("three");
    });
    assert_eq!(fixture.names(), ["moved", "zeo.log", "zeo.log.1"]);
    assert_eq!(fixture.read("zeo.log.1"), "one\n");
    assert_eq!(fixture.read("zeo.log"), "three\n");
}

#[test]
fn a_rotation_that_fails_loses_no_line() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("zeo.log.1/full")).unwrap();
    fixture.run_file(by_size(&fixture, 1), |logging| {
        tracing::info!("12345678");
        tracing::info!("next");
        tracing::info!("third");
        // Reported and counted once; then it waits before the next attempt.
        assert_eq!(logging.lost_lines(), 1);
        fs::remove_dir_all(fixture.path("zeo.log.1")).unwrap();
        fixture.pass(60);
        tracing::info!("new");
    });
    assert_eq!(fixture.read("zeo.log.1"), "12345678\nnext\nthird\n");
    assert_eq!(fixture.read("zeo.log"), "new\n");
}

fn by_time(fixture: &Fixture, when: RotationTime, interval: u64, old_files: u64) -> LogFile {
    let mut section = fixture.logfile("%(message)s");
    section.rotation = Some(Rotation::Time {
        when,
        interval,
        old_files,
    });
    section
}

/// The names that are there after a line at the start and one after `seconds`.
fn names_after(when: RotationTime, interval: u64, seconds: i64) -> Vec<String> {
    let fixture = Fixture::new();
    fixture.run_file(by_time(&fixture, when, interval, 5), |_| {
        tracing::info!("one");
        fixture.pass(seconds - 1);
        tracing::info!("two");
        assert_eq!(fixture.names(), ["zeo.log"], "{when:?}");
        fixture.pass(1);
        tracing::info!("three");
    });
    assert_eq!(fixture.read("zeo.log"), "three\n");
    fixture.names()
}

#[test]
fn files_are_rotated_by_time() {
    let to_midnight = 46 * 60 + 40;
    for (when, interval, seconds, suffix) in [
        (RotationTime::Seconds, 5, 5, "2023-11-14_23-13-20"),
        (RotationTime::Minutes, 2, 120, "2023-11-14_23-13"),
        (RotationTime::Hours, 1, HOUR_S, "2023-11-14_23"),
        (RotationTime::Days, 1, 24 * HOUR_S, "2023-11-14"),
        (RotationTime::Midnight, 1, to_midnight, "2023-11-14"),
        // The end of this Tuesday, of which the week began a week before.
        (RotationTime::Weekday(1), 1, to_midnight, "2023-11-08"),
        (
            RotationTime::Weekday(2),
            1,
            to_midnight + 24 * HOUR_S,
            "2023-11-09",
        ),
        (
            RotationTime::Weekday(0),
            1,
            to_midnight + 6 * 24 * HOUR_S,
            "2023-11-14",
        ),
    ] {
        let names = names_after(when, interval, seconds);
        assert_eq!(
            names,
            ["zeo.log".to_owned(), format!("zeo.log.{suffix}")],
            "{when:?}"
        );
    }
}

#[test]
fn midnight_is_that_of_the_clock_on_the_wall() {
    let fixture = Fixture::new();
    // Saturday, 2023-10-28 12:00 in Berlin; the next day has 25 hours.
    fixture.now_s.store(1_698_487_200, Ordering::Relaxed);
    fixture.run_file(by_time(&fixture, RotationTime::Midnight, 1, 9), |_| {
        tracing::info!("saturday");
        fixture.pass(12 * HOUR_S);
        tracing::info!("sunday");
        fixture.pass(25 * HOUR_S - 1);
        tracing::info!("sunday too");
        fixture.pass(1);
        tracing::info!("monday");
    });
    assert_eq!(fixture.read("zeo.log.2023-10-28"), "saturday\n");
    assert_eq!(fixture.read("zeo.log.2023-10-29"), "sunday\nsunday too\n");
    assert_eq!(fixture.read("zeo.log"), "monday\n");
}

#[test]
fn the_oldest_files_are_removed() {
    let fixture = Fixture::new();
    for name in [
        "zeo.log.2020-01-01",
        "zeo.log.2020-01-02.gz",
        "zeo.log.mine",
        "zeo.log.1",
    ] {
        fs::write(fixture.path(name), "").unwrap();
    }
    fixture.run_file(by_time(&fixture, RotationTime::Days, 1, 2), |_| {
        for day in 0..3 {
            tracing::info!("day {day}");
            fixture.pass(24 * HOUR_S);
        }
        tracing::info!("end");
    });
    assert_eq!(
        fixture.names(),
        [
            "zeo.log",
            "zeo.log.1",
            "zeo.log.2023-11-15",
            "zeo.log.2023-11-16",
            "zeo.log.mine"
        ]
    );
}

#[test]
fn a_file_that_is_no_regular_one_is_not_rotated() {
    let fixture = Fixture::new();
    let mut section = by_size(&fixture, 1);
    section.path = LogTarget::File(Path::new("/dev/null").to_owned());
    fixture.run_file(section, |logging| {
        tracing::info!("more than ten bytes");
        tracing::info!("more than ten bytes");
        assert_eq!(logging.lost_lines(), 0);
    });
}

#[test]
fn lines_of_many_threads_do_not_mix() {
    let fixture = Fixture::new();
    let section = fixture.logfile("%(message)s");
    let eventlog = EventLog {
        level: LogLevel::Info,
        handlers: vec![LogHandler::File(section)],
    };
    let (layer, _logging) = fixture.build(&eventlog).unwrap();
    let dispatch = tracing::Dispatch::new(registry().with(layer));
    std::thread::scope(|scope| {
        for name in ["aaaaaaaa", "bbbbbbbb", "cccccccc"] {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for _ in 0..500 {
                        tracing::info!("{name}");
                    }
                });
            });
        }
    });
    let text = fixture.read("zeo.log");
    assert_eq!(text.lines().count(), 1500);
    assert!(text.lines().all(|line| line.len() == 8));
}

#[test]
fn what_was_put_aside_by_time_is_not_overwritten() {
    let fixture = Fixture::new();
    fixture.run_file(by_time(&fixture, RotationTime::Midnight, 1, 5), |logging| {
        for text in ["one", "two", "three"] {
            tracing::info!("{text}");
            assert!(logging.reopen().is_empty());
        }
    });
    assert_eq!(fixture.read("zeo.log.2023-11-14"), "one\n");
    assert_eq!(fixture.read("zeo.log"), "two\nthree\n");
}

#[test]
fn an_old_file_that_cannot_be_removed_holds_nothing_up() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("zeo.log.2020-01-01")).unwrap();
    fixture.run_file(by_time(&fixture, RotationTime::Days, 1, 1), |logging| {
        tracing::info!("one");
        fixture.pass(24 * HOUR_S);
        tracing::info!("two");
        assert_eq!(logging.lost_lines(), 1);
        tracing::info!("three");
        assert_eq!(logging.lost_lines(), 1);
    });
    assert_eq!(fixture.read("zeo.log.2023-11-14"), "one\n");
    assert_eq!(fixture.read("zeo.log"), "two\nthree\n");
}
