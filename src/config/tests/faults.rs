//! A table of faulty configurations, each with the whole message.

use super::Files;
use super::message_of;
use crate::config::{Loaded, Overrides};

/// Faulty files and what is said about each.
///
/// `=== FILE VARIABLE=VALUE`, the file's lines, `--- message`, the message.
const TABLE: &str = include_str!("faults.txt");
const AT_LEAST: usize = 60;

struct Case<'a> {
    file: &'a str,
    variables: Vec<(String, String)>,
    text: &'a str,
    message: &'a str,
}

fn cases() -> Vec<Case<'static>> {
    let cases = TABLE.split("=== ").skip(1).map(|case| {
        let (head, rest) = case.split_once('\n').unwrap();
        let (text, message) = rest.split_once("--- message\n").unwrap();
        let mut words = head.split(' ');
        let file = words.next().unwrap();
        let variables = words.map(|word| {
            let (name, value) = word.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Case {
            file,
            variables: variables.collect(),
            text,
            message: message.trim_end(),
        }
    });
    cases.collect()
}

fn said_about(case: &Case<'_>) -> String {
    let files = Files::new(&[(case.file, case.text)]);
    let overrides = Overrides {
        variables: case.variables.clone(),
        ..Overrides::default()
    };
    match Loaded::file(&files.path(case.file), &overrides, &files.environment()) {
        Err(error) => files.relative(&error),
        Ok(loaded) => panic!("accepted: {:?}\n{}", loaded.config, case.text),
    }
}

#[test]
fn every_fault_has_its_message() {
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let found = said_about(case);
        if found != case.message {
            wrong.push(format!(
                "{}\nexpected {}\nfound    {found}\n",
                case.text, case.message
            ));
        }
    }
    let of_toml = cases.iter().filter(|case| case.file == "zeod.toml");
    println!(
        "{} faulty configurations, {} of them TOML",
        cases.len(),
        of_toml.count()
    );
    assert!(
        wrong.is_empty(),
        "{} messages differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cases.len() >= AT_LEAST);
}

#[test]
fn every_message_says_where() {
    for case in cases() {
        let place = case.message.split(": ").next().unwrap();
        let is_file = place.starts_with(case.file);
        let is_variable = case
            .variables
            .iter()
            .any(|(name, _)| place.ends_with(name.as_str()));
        assert!(is_file || is_variable, "{}", case.message);
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    let files = Files::new(&[]);
    let error = files.load("zeo.conf").unwrap_err();
    assert!(
        files
            .relative(&error)
            .starts_with("zeo.conf: the file cannot be read: "),
        "{error}"
    );
    std::fs::write(files.path("Data.fs"), b"FS30\n\xff\xfe\n").unwrap();
    let error = files.load("Data.fs").unwrap_err();
    assert_eq!(
        files.relative(&error),
        "Data.fs:2: the line is not UTF-8 text; is it the configuration file, and is it saved as UTF-8?"
    );
    let large = std::fs::File::create(files.path("large")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    let error = files.load("large").unwrap_err();
    assert_eq!(
        files.relative(&error),
        "large: the file is larger than 16777216 bytes; is it the configuration file?"
    );
}

#[test]
fn values_are_limited() {
    let doubling: Vec<_> = (1..40)
        .map(|number| format!("%define x{} $x{number}$x{number}", number + 1))
        .collect();
    let found = message_of(&format!("%define x1 0123456789\n{}", doubling.join("\n")));
    assert!(found.ends_with("the value is longer than 1048576 bytes after substitution"));
    let many = format!("%define y $x16$x16\n{}", "k $y\n".repeat(200));
    let found = message_of(&format!(
        "%define x1 0123456789\n{}\n{many}",
        doubling[..15].join("\n")
    ));
    assert!(
        found.ends_with("the values together are longer than 67108864 bytes after substitution")
    );
}

#[test]
fn messages_repeat_only_the_beginning_of_a_long_text() {
    let found = message_of(&format!(
        "<zeo>\naddress 1\nread-only {}\n</zeo>",
        "x".repeat(1000)
    ));
    assert!(
        found.contains(&format!("bad value \"{}…\"", "x".repeat(60))),
        "{found}"
    );
}

#[test]
fn nesting_is_limited() {
    let found = message_of(&"<demostorage>\n".repeat(100));
    assert_eq!(found, "zeo.conf:65: sections are nested more than 64 deep");
}
