//! What the sources are held to.

use std::path::{Component, Path};

use crate::code::{Code, word_at};

/// A file is one role; one that is longer has several.
pub const MAX_FILE_LINES: usize = 500;
/// A function is read on one screen.
pub const MAX_FUNCTION_LINES: usize = 70;

/// The modules of the crate, from left to right: each may import what stands left of it.
const ROW: &[&str] = &[
    "types",
    "stats",
    "wire",
    "disk",
    "config",
    "storage",
    "transaction",
    "client",
    "session",
    "replication",
    "status",
    "server",
    "cli",
];
/// Those that may import less, and what.
const FEWER: &[(&str, &[&str])] = &[
    ("stats", &[]),
    ("wire", &["types"]),
    ("disk", &["types", "stats"]),
    ("config", &[]),
    ("storage", &["types", "stats", "disk", "config"]),
];
/// They stand beside each other: the second may not import the first either.
const BESIDE: (&str, &str) = ("session", "replication");

/// What a module may import; None: it has no place in the row.
fn allowed(module: &str) -> Option<&'static [&'static str]> {
    if let Some((_, fewer)) = FEWER.iter().find(|(name, _)| *name == module) {
        return Some(fewer);
    }
    let module = if module == BESIDE.1 { BESIDE.0 } else { module };
    let place = ROW.iter().position(|name| *name == module)?;
    Some(&ROW[..place])
}

/// These decide and wait for nothing, so they need no runtime.
const WITHOUT_RUNTIME: &[&str] = &["storage", "transaction", "session"];

/// A panic in the server takes everybody's connection along; the output of a
/// server is its log.
const BANNED: &[&str] = &[".unwrap()", ".expect(", "todo!", "unimplemented!", "dbg!"];
const BANNED_OUTSIDE_CLI: &[&str] = &["print!", "println!", "eprint!", "eprintln!"];

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub problem: String,
}

/// Everything that is wrong with one file, whose `path` is below `src`. Code
/// for tests only has to keep to the length of files.
pub fn check(path: &Path, source: &str, is_test: bool) -> Vec<Finding> {
    let mut checker = Checker {
        path,
        module: module_of(path),
        findings: Vec::new(),
    };
    checker.file_length(source);
    if !is_test {
        let code = Code::of(source).without_tests();
        checker.leading_doc(source, &code);
        checker.function_lengths(&code);
        checker.imports(&code);
        checker.banned(&code);
    }
    checker.findings.sort();
    checker.findings
}

/// `wire/request/decode.rs` is `["wire", "request", "decode"]`.
fn module_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> = path
        .with_extension("")
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str().map(str::to_owned),
            _ => None,
        })
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

struct Checker<'p> {
    path: &'p Path,
    module: Vec<String>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn report(&mut self, line: usize, problem: String) {
        let path = format!("src/{}", self.path.display());
        self.findings.push(Finding {
            path,
            line,
            problem,
        });
    }

    fn top(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    fn file_length(&mut self, source: &str) {
        let lines = source.lines().count();
        if lines > MAX_FILE_LINES {
            self.report(lines, format!("{lines} lines, {MAX_FILE_LINES} at most"));
        }
    }

    /// Who opens a module begins with what it is for.
    fn leading_doc(&mut self, source: &str, code: &Code) {
        let has_children = code
            .words("mod")
            .any(|at| code.body(at).is_none_or(|body| body.is_empty()));
        let is_root = self.path.file_name().is_some_and(|name| name == "mod.rs");
        let is_crate = self.module.len() == 1 && ["lib", "main"].contains(&self.top());
        if (is_root || is_crate || has_children) && !source.starts_with("//!") {
            self.report(
                1,
                "a module begins with a //! that says what it is for".into(),
            );
        }
    }

    fn function_lengths(&mut self, code: &Code) {
        for at in code.words("fn") {
            let name = word_at(code.bytes(), at + 3);
            let Some(body) = code.body(at).filter(|_| !name.is_empty()) else {
                continue;
            };
            let first = code.line(at);
            let lines = code.line(body.end) + 1 - first;
            if lines > MAX_FUNCTION_LINES {
                let problem = format!("fn {name}: {lines} lines, {MAX_FUNCTION_LINES} at most");
                self.report(first, problem);
            }
        }
    }

    fn imports(&mut self, code: &Code) {
        let Some(allowed) = allowed(self.top()) else {
            if !["lib", "main"].contains(&self.top()) {
                let problem = format!("{} has no place in the import table", self.top());
                self.report(1, problem);
            }
            return;
        };
        for (at, name) in imported(code, self.module.len()) {
            if name != self.top() && !allowed.contains(&name.as_str()) {
                let problem = format!("{} may not import {name}", self.top());
                self.report(code.line(at), problem);
            }
        }
    }

    fn banned(&mut self, code: &Code) {
        let outside_cli = if self.top() == "cli" {
            &[]
        } else {
            BANNED_OUTSIDE_CLI
        };
        for &call in BANNED.iter().chain(outside_cli) {
            let is_method = call.starts_with('.');
            for at in code.all(call) {
                let inside_word = at > 0 && !word_at(code.bytes(), at - 1).is_empty();
                if is_method || !inside_word {
                    self.report(code.line(at), format!("{call} outside tests"));
                }
            }
        }
        for at in code.words("unsafe") {
            self.report(code.line(at), "unsafe".into());
        }
        if WITHOUT_RUNTIME.contains(&self.top()) {
            for at in code.words("tokio") {
                let problem = format!("{} knows no runtime", self.top());
                self.report(code.line(at), problem);
            }
        }
    }
}

/// The crate's modules that the code names, `depth` modules below the root.
fn imported(code: &Code, depth: usize) -> Vec<(usize, String)> {
    let text = code.bytes();
    let mut found = Vec::new();
    let roots = code.words("crate").map(|at| at + "crate".len()).chain(
        code.words("super")
            .filter_map(|at| above_root(text, at, depth)),
    );
    for at in roots {
        if !text[at..].starts_with(b"::") {
            continue;
        }
        let at = at + 2;
        if text.get(at) == Some(&b'{') {
            names_in_braces(code, at, &mut found);
        } else {
            found.push((at, word_at(text, at).to_owned()));
        }
    }
    found
}

/// The position behind a chain of `super::` that begins at `at` and ends at the root.
fn above_root(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    const STEP: &[u8] = b"super";
    // Only where the chain begins.
    if at >= 2 && text[..at].ends_with(b"::") {
        return None;
    }
    let mut at = at;
    for step in 0..depth {
        if step > 0 {
            at += 2;
        }
        if !text[at..].starts_with(STEP) {
            return None;
        }
        at += STEP.len();
    }
    Some(at)
}

fn names_in_braces(code: &Code, open: usize, found: &mut Vec<(usize, String)>) {
    let text = code.bytes();
    let end = code.closing(open) - 1;
    let mut at = open + 1;
    let mut expects_name = true;
    while at < end {
        let name = word_at(text, at);
        if expects_name && !name.is_empty() {
            found.push((at, name.to_owned()));
            expects_name = false;
        }
        match text[at] {
            b',' => expects_name = true,
            b'{' => at = code.closing(at) - 1,
            _ => {}
        }
        at += name.len().max(1);
    }
}
