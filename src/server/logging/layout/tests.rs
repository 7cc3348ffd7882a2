//! The expected lines are those of Python 3.11's logging with ZConfig 4.3.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::server::logging::record::Severity;

/// Berlin's rule, spelled out so that no time zone database is needed.
fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn record() -> Record<'static> {
    let created = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    Record {
        severity: Severity::Info,
        logger: "ZEO.StorageServer",
        message: "it's a message",
        fields: " oid=0x17",
        ranges: &OWN,
        created,
        started: Timestamp::from_microsecond(1_699_999_998_623_206).unwrap(),
        pathname: "/src/zeod/session/load.rs",
        line: 42,
        module_path: "zeod::session::load",
    }
}

static OWN: [(&str, std::ops::Range<usize>); 1] = [("oid", 5..9)];

fn compiled(format: Option<&str>, style: LogStyle, date: Option<&str>) -> Result<Layout, String> {
    Layout::new(format, "%(name)s %(message)s", style, date, zone())
}

fn line(format: &str, style: LogStyle) -> String {
    let mut line = String::new();
    let layout = compiled(Some(format), style, None).unwrap();
    layout.write(&record(), &mut line);
    line
}

fn check(style: LogStyle, lines: &[(&str, &str)]) {
    for (format, expected) in lines {
        assert_eq!(&line(format, style), expected, "{format}");
    }
}

#[test]
fn classic_lines_are_those_of_python() {
    check(
        LogStyle::Classic,
        &[
            (
                "------\n%(asctime)s %(levelname)s %(name)s %(message)s",
                "------\n2023-11-14T23:13:20 INFO ZEO.StorageServer it's a message",
            ),
            (
                "%(levelname)-8s|%(levelname)8s|%(levelname).2s|",
                "INFO    |    INFO|IN|",
            ),
            ("%(levelno)03d %(levelno)+d %(levelno) d", "020 +20  20"),
            (
                "%(created)s %(created)f %(created).3f %(created)d",
                "1700000000.123456 1700000000.123456 1700000000.123 1700000000",
            ),
            (
                "%(msecs)03d %(msecs)s %(msecs)07.2f %(msecs)-8.1f|",
                "123 123.0 0123.00 123.0   |",
            ),
            (
                "%(relativeCreated)d %(relativeCreated)s %(relativeCreated)g %(relativeCreated)e %(relativeCreated).2G",
                "1500 1500.25 1500.25 1.500250e+03 1.5E+03",
            ),
            (
                "%(message)r %(message)a %(name)20s %(name)-20s|",
                "\"it's a message\" \"it's a message\"    ZEO.StorageServer ZEO.StorageServer   |",
            ),
            (
                "%(filename)s:%(lineno)d %(module)s %(pathname)s %(lineno)x %(lineno)#X %(lineno)#o %(lineno)c %(lineno).5d %(lineno)5s|%(lineno)05s|",
                "load.rs:42 load /src/zeod/session/load.rs 2a 0X2A 0o52 * 00042    42|   42|",
            ),
            (
                "100%% %(processName)s %(created)g %(created).12g %(lineno)5.1f|%(lineno)-05d|%(lineno)+06d %(lineno)e",
                "100% MainProcess 1.7e+09 1700000000.12  42.0|42   |+00042 4.200000e+01",
            ),
        ],
    );
}

#[test]
fn brace_lines_are_those_of_python() {
    check(
        LogStyle::Format,
        &[
            (
                "{asctime} {levelname:<8}|{levelname:>8}|{levelname:^8}|{levelname:*^9}|{levelname:.3}|",
                "2023-11-14T23:13:20 INFO    |    INFO|  INFO  |**INFO***|INF|",
            ),
            (
                "{levelno:05} {levelno:+d} {levelno:x} {levelno:#b} {levelno:#x} {lineno:08.3f}",
                "00020 +20 14 0b10100 0x14 0042.000",
            ),
            (
                "{{{message}}} {message!r} {message!r:>20} {message!a:.4}",
                "{it's a message} \"it's a message\"     \"it's a message\" \"it'",
            ),
            (
                "{created} {created:.3f} {created:,.2f} {lineno:_} {created:e} {created:.15g} {created:g}",
                "1700000000.123456 1700000000.123 1,700,000,000.12 42 1.700000e+09 1700000000.12346 1.7e+09",
            ),
            (
                "{msecs:03.0f} {msecs:06.2f} {msecs} {msecs:>8} {msecs:<8}|{relativeCreated:%} {relativeCreated:.1%}",
                "123 123.00 123.0    123.0 123.0   |150025.000000% 150025.0%",
            ),
            (
                "{levelname:08}|{lineno:>5}|{lineno:<5}|{lineno:^5}|{lineno:=+5}|{lineno:c}|{asctime:>25}",
                "INFO0000|   42|42   | 42  |+  42|*|      2023-11-14T23:13:20",
            ),
        ],
    );
}

#[test]
fn template_lines_are_those_of_python() {
    check(
        LogStyle::Template,
        &[
            (
                "$asctime ${levelname} $$5 $name: $message",
                "2023-11-14T23:13:20 INFO $5 ZEO.StorageServer: it's a message",
            ),
            ("${message}x$levelno.", "it's a messagex20."),
        ],
    );
}

#[test]
fn safe_templates_keep_what_they_do_not_know() {
    check(
        LogStyle::SafeTemplate,
        &[(
            "$message $unknown ${unknown} $ $5 ${mess age} $$",
            "it's a message $unknown ${unknown} $ $5 ${mess age} $",
        )],
    );
}

#[test]
fn times_are_those_of_python() {
    for (pattern, expected) in [
        ("%a", "Tue"),
        ("%A", "Tuesday"),
        ("%b", "Nov"),
        ("%B", "November"),
        ("%C", "20"),
        ("%c", "Tue Nov 14 23:13:20 2023"),
        ("%d", "14"),
        ("%D", "11/14/23"),
        ("%e", "14"),
        ("%F", "2023-11-14"),
        ("%g", "23"),
        ("%G", "2023"),
        ("%h", "Nov"),
        ("%H", "23"),
        ("%I", "11"),
        ("%j", "318"),
        ("%k", "23"),
        ("%l", "11"),
        ("%m", "11"),
        ("%M", "13"),
        ("%n", "\n"),
        ("%p", "PM"),
        ("%P", "pm"),
        ("%r", "11:13:20 PM"),
        ("%R", "23:13"),
        ("%s", "1700000000"),
        ("%S", "20"),
        ("%t", "\t"),
        ("%T", "23:13:20"),
        ("%u", "2"),
        ("%U", "46"),
        ("%V", "46"),
        ("%w", "2"),
        ("%W", "46"),
        ("%x", "11/14/23"),
        ("%X", "23:13:20"),
        ("%y", "23"),
        ("%Y", "2023"),
        ("%z", "+0100"),
        ("%Z", "CET"),
        ("%%", "%"),
        ("%-d", "14"),
        ("%_d", "14"),
        ("%^a", "TUE"),
        ("%#Z", "cet"),
        ("%Ey", "23"),
        ("%Od", "14"),
        ("%f", "%f"),
        ("%N", "%N"),
        ("%Q", "%Q"),
        ("%E", "%E"),
        ("%q", "%q"),
        ("%05d", "00014"),
        ("%K", "%K"),
        ("%3Y", "2023"),
        ("%_H", "23"),
        ("%-I", "11"),
        ("%v", "%v"),
        ("%L", "%L"),
        ("%+", "%+"),
        ("%i", "%i"),
        ("", "2023-11-14 23:13:20,123"),
        ("[%H:%M] 5%", "[23:13] 5%"),
        ("%d.%m.%Y %H:%M:%S %%", "14.11.2023 23:13:20 %"),
    ] {
        let layout = compiled(Some("%(asctime)s"), LogStyle::Classic, Some(pattern)).unwrap();
        let mut line = String::new();
        layout.write(&record(), &mut line);
        assert_eq!(line, expected, "{pattern}");
    }
}

#[test]
fn no_format_and_an_empty_one_are_different() {
    let mut line = String::new();
    compiled(None, LogStyle::Format, None)
        .unwrap()
        .write(&record(), &mut line);
    assert_eq!(line, "ZEO.StorageServer it's a message");
    check(LogStyle::Classic, &[("", "it's a message")]);
    check(LogStyle::Format, &[("", "it's a message")]);
}

#[test]
fn what_python_refuses_is_refused() {
    for (style, formats) in [
        (
            LogStyle::Format,
            &[
                "{}",
                "{0}",
                "{message",
                "message}",
                "{message:d}",
                "{message!x}",
                "{name:=5}",
                "{lineno:.2d}",
                "{created:d}",
                "{lineno:s}",
                "{message:+}",
                "{message.x}",
                "{message:99999}",
                "{message:{lineno}}",
            ][..],
        ),
        (LogStyle::Template, &["$message $", "$message $5", "${x"]),
        (
            LogStyle::Classic,
            &[
                "50%",
                "%s",
                "%(message)d",
                "%(message",
                "%(name)q",
                "%(name)99999s",
            ],
        ),
    ] {
        for format in formats {
            assert!(compiled(Some(format), style, None).is_err(), "{format}");
        }
    }
}

#[test]
fn fields_of_the_event_can_be_named() {
    check(
        LogStyle::Classic,
        &[("%(oid)s %(oid)6s %(other)s", "0x17   0x17 -")],
    );
    check(LogStyle::Format, &[("{oid!r} {other}", "'0x17' -")]);
    check(LogStyle::SafeTemplate, &[("$oid $other", "0x17 $other")]);
    let layout = compiled(Some("%(oid)s %(name)s"), LogStyle::Classic, None).unwrap();
    assert_eq!(layout.unknown_fields().collect::<Vec<_>>(), ["oid"]);
}

#[test]
fn thread_and_process_are_there() {
    let text = line("%(process)d", LogStyle::Classic);
    assert_eq!(text, std::process::id().to_string());
    let named = thread::Builder::new().name("worker".to_owned());
    let text = named.spawn(|| line("%(threadName)s", LogStyle::Classic));
    assert_eq!(text.unwrap().join().unwrap(), "worker");
    let text = thread::spawn(|| line("%(threadName)s %(thread)d", LogStyle::Classic));
    let text = text.join().unwrap();
    let (name, number) = text.split_once(' ').unwrap();
    assert_eq!(name, format!("Thread-{number}"));
}
