//! Configurations by chance: zeod's verdict and values beside those of Python's ZConfig with ZEO's schema.
//! `ZEOD_CONFIG_CASES` says how many, `ZEOD_CONFIG_SEED` which ones.
//!
//! Where the two differ on purpose a rule below says why; each case that falls under one is counted. Every
//! configuration that zeod accepts is converted to TOML, too, and must mean the same then.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a helper is a failed test"
)]

#[path = "config/model.rs"]
mod model;
#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use zeod::config::{Config, ConfigError, Fault, Loaded, Overrides, load};

const DEFAULT_CASES: u32 = 400;
const CASE_LIMIT: Duration = Duration::from_millis(100);
const MARGIN: Duration = Duration::from_mins(1);
/// So many disagreements are shown before the test gives up.
const MAX_SHOWN: usize = 10;

type Environment = BTreeMap<String, String>;

/// What Python refuses and zeod accepts, by the names of `corpus.py`, which takes it out and tries again.
const ACCEPTED_ON_PURPOSE: [(&str, &str); 4] = [
    ("runner", "<runner> is zdaemon's and not looked into"),
    ("monitor-address", "a key of older ZEO"),
    (
        "close-with-name",
        "</filestorage 2> can only mean one thing; it is warned about",
    ),
    (
        "formatter",
        "there is no Python to import a formatter; it is warned about",
    ),
];

#[test]
fn verdicts_and_values_are_those_of_zconfig() {
    let cases = python_script::number("ZEOD_CONFIG_CASES", DEFAULT_CASES);
    let seed = python_script::number("ZEOD_CONFIG_SEED", 1);
    if python_env::python().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        directory.path().display().to_string(),
        seed.to_string(),
        cases.to_string(),
    ];
    python_script::run("config/corpus.py", &arguments, CASE_LIMIT * cases + MARGIN);
    let results = fs::read_to_string(directory.path().join("results.jsonl")).unwrap();
    let mut lines = results.lines();
    let head: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let environment: Environment = serde_json::from_value(head["environment"].clone()).unwrap();
    let mut tally = Tally::default();
    for (number, line) in lines.enumerate() {
        let python: Value = serde_json::from_str(line).unwrap();
        let path = directory.path().join(number.to_string()).join("zeo.conf");
        tally.compare(number, &path, &python, &environment);
    }
    tally.report(seed);
    assert_eq!(tally.cases(), cases as usize);
    assert!(
        tally.accepted * 5 > tally.cases(),
        "hardly anything valid was made"
    );
    assert!(
        tally.refused * 10 > tally.cases(),
        "hardly anything invalid was made"
    );
}

#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
    /// Cases that fell under a rule, by the rule's reason.
    rules: BTreeMap<String, usize>,
    /// Values in what both accept that differ on purpose, by the reason.
    differences: BTreeMap<&'static str, usize>,
    problems: Vec<String>,
}

impl Tally {
    fn cases(&self) -> usize {
        self.accepted + self.refused + self.rules.values().sum::<usize>() + self.problems.len()
    }

    fn compare(&mut self, number: usize, path: &Path, python: &Value, environment: &Environment) {
        let lookup = |name: &str| environment.get(name).cloned();
        let ours = Loaded::file(path, &Overrides::default(), &lookup);
        let relaxed = python["relaxed"].as_array().unwrap();
        match &ours {
            Ok(loaded) => {
                let problem = survives_conversion(loaded, path, environment)
                    .or_else(|| self.compare_values(&loaded.config, python, relaxed));
                self.problems
                    .extend(problem.map(|problem| described(number, path, &problem)));
            }
            Err(_) if python["values"].is_null() || !relaxed.is_empty() => self.refused += 1,
            Err(error) => {
                if let Some(reason) = refused_on_purpose(error) {
                    self.count(format!("refused: {reason}"));
                } else {
                    let problem = format!("Python accepts it, zeod refuses it: {error}");
                    self.problems.push(described(number, path, &problem));
                }
            }
        }
    }

    /// Counts a case that fell under a rule.
    fn count(&mut self, rule: String) {
        *self.rules.entry(rule).or_default() += 1;
    }

    /// Compares what both accept, counts the case, and returns what is wrong.
    fn compare_values(
        &mut self,
        ours: &Config,
        python: &Value,
        relaxed: &[Value],
    ) -> Option<String> {
        let theirs = &python["values"];
        if theirs.is_null() {
            return Some(format!(
                "Python refuses it, zeod accepts it: {}",
                python["problem"]
            ));
        }
        let ours = model::values(ours);
        let mut differences = Vec::new();
        if let Some(difference) = model::difference("", &ours, theirs, &mut differences) {
            return Some(difference);
        }
        for reason in differences {
            *self.differences.entry(reason).or_default() += 1;
        }
        let purposes = ACCEPTED_ON_PURPOSE
            .iter()
            .filter(|(name, _)| relaxed.iter().any(|one| one == name));
        match purposes
            .map(|(_, reason)| *reason)
            .collect::<Vec<_>>()
            .as_slice()
        {
            [] => self.accepted += 1,
            [reason] => self.count(format!("accepted: {reason}")),
            _ => self.count("accepted: several of these".to_owned()),
        }
        None
    }

    fn report(&self, seed: u32) {
        println!(
            "{} cases (seed {seed}): {} accepted by both with the same values, {} refused by both",
            self.cases(),
            self.accepted,
            self.refused
        );
        for (rule, count) in &self.rules {
            println!("{count:6} {rule}");
        }
        for (reason, count) in &self.differences {
            println!("{count:6} value: {reason}");
        }
        for problem in self.problems.iter().take(MAX_SHOWN) {
            println!("\n{problem}");
        }
        assert!(
            self.problems.is_empty(),
            "{} cases differ",
            self.problems.len()
        );
    }
}

/// Why zeod refuses what Python's schema lets pass, if it does so on purpose (see `zeod::config`).
fn refused_on_purpose(error: &ConfigError) -> Option<&'static str> {
    let blame = match error.fault.as_ref() {
        Fault::BadValue { reason, .. } if reason.contains("negative") => "a number is negative",
        Fault::BadValue { reason, .. } if reason.contains("too great") => {
            "a number is greater than 64 bits hold"
        }
        Fault::BadValue { reason, .. } if reason.contains("is not a port number") => {
            "a number that is no port is not a host's name either"
        }
        Fault::BadValue { reason, .. } if reason.contains("is not a host name") => {
            "a host's name has no spaces"
        }
        Fault::BadValue { key: "when", .. } => "Python's log handler refuses it at the start",
        Fault::Contradiction { message, .. }
            if message.contains("\"create\" and \"read-only\"") =>
        {
            "FileStorage refuses it when it is opened"
        }
        Fault::Contradiction { message, .. } if message.contains("at most two storages") => {
            "DemoStorage refuses it when it is opened"
        }
        Fault::Contradiction { message, .. } if message.contains("names no port") => {
            "nothing can be connected to without a port"
        }
        Fault::Contradiction { message, .. } if message.contains("blob-cache-size-check") => {
            "ClientStorage refuses it when it is made"
        }
        Fault::Contradiction { message, .. } if message.contains("read-only-fallback") => {
            "one of two keys that contradict each other would be ignored"
        }
        Fault::MissingSection { section, .. } if section.starts_with("<blobstorage") => {
            "BlobStorage fails when it is opened"
        }
        Fault::NoValue { .. } => "a path that must be there is empty, and cannot be opened",
        Fault::UnsupportedStorage { .. } => "the storage is not available in this server",
        _ => return None,
    };
    Some(blame)
}

/// What is wrong with the configuration's TOML, if something is.
fn survives_conversion(loaded: &Loaded, path: &Path, environment: &Environment) -> Option<String> {
    let lookup = |name: &str| environment.get(name).cloned();
    let text = loaded.to_toml("Converted.");
    let converted = path.with_file_name("converted.toml");
    fs::write(&converted, &text).unwrap();
    let mut again = match load(&converted, &lookup) {
        Ok(config) => config,
        Err(error) => return Some(format!("its conversion is refused: {error}\n{text}")),
    };
    again.source.clone_from(&loaded.config.source);
    again.warnings.clone_from(&loaded.config.warnings);
    (again != loaded.config).then(|| {
        format!(
            "its conversion means {again:?}\nand not {:?}\n{text}",
            loaded.config
        )
    })
}

fn described(number: usize, path: &Path, problem: &str) -> String {
    let text = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&text);
    format!("case {number}: {problem}\n{text}")
}
