//! The rules that the sources are held to, enforced: sizes, the import table,
//! banned calls. Every finding is printed with its file and line.

#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a panic in a helper is a failed test"
)]

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/rules.rs"]
mod rules;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use code::{Code, word_at};
use rules::{Finding, MAX_FILE_LINES, MAX_FUNCTION_LINES, check};

#[test]
fn the_sources_keep_to_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "only {} files found", files.len());
    let tests = test_modules(&files);
    let mut findings = Vec::new();
    for (path, source) in &files {
        let below = path.strip_prefix(&root).expect("files are below the root");
        let is_test = path
            .ancestors()
            .any(|path| tests.contains(&path.with_extension("")));
        findings.extend(check(below, source, is_test));
    }
    for Finding {
        path,
        line,
        problem,
    } in &findings
    {
        eprintln!("{path}:{line}: {problem}");
    }
    assert!(
        findings.is_empty(),
        "{} findings, see above",
        findings.len()
    );
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("the file can be read");
            files.push((path, source));
        }
    }
}

/// Files, without `.rs`, and directories that are compiled for tests only.
fn test_modules(files: &[(PathBuf, String)]) -> HashSet<PathBuf> {
    let mut modules = HashSet::new();
    for (path, source) in files {
        let code = Code::of(source);
        let without_tests = Code::of(source).without_tests();
        let only_for_tests = |&at: &usize| without_tests.bytes()[at] == b' ';
        for at in code.words("mod").filter(only_for_tests) {
            let name = word_at(code.bytes(), at + 4);
            modules.insert(directory_of_children(path).join(name));
            // As with `#[path = "frame_tests.rs"] mod tests;`.
            if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
                modules.insert(path.with_file_name(format!("{stem}_{name}")));
            }
        }
    }
    modules
}

fn directory_of_children(path: &Path) -> PathBuf {
    let is_root = ["mod.rs", "lib.rs", "main.rs"]
        .iter()
        .any(|name| path.ends_with(name));
    if is_root {
        path.with_file_name("")
    } else {
        path.with_extension("")
    }
}

/// The problems of one file, as `LINE: PROBLEM`.
fn problems(path: &str, source: &str) -> Vec<String> {
    let findings = check(Path::new(path), source, false);
    findings
        .into_iter()
        .map(|finding| format!("{}: {}", finding.line, finding.problem))
        .collect()
}

#[test]
fn a_long_file_is_found_in_tests_too() {
    let long = "//\n".repeat(MAX_FILE_LINES + 1);
    assert_eq!(problems("wire/a.rs", &long).len(), 1);
    assert_eq!(check(Path::new("wire/tests.rs"), &long, true).len(), 1);
    assert_eq!(
        problems("wire/a.rs", &"//\n".repeat(MAX_FILE_LINES)).len(),
        0
    );
}

#[test]
fn a_long_function_is_found_where_it_begins() {
    let function = |lines| {
        format!(
            "\npub fn long(a: [u8; 4]) -> u8 {{\n{}}}\n",
            "a;\n".repeat(lines)
        )
    };
    let found = problems("wire/a.rs", &function(MAX_FUNCTION_LINES));
    assert_eq!(found, ["2: fn long: 72 lines, 70 at most"]);
    assert_eq!(
        problems("wire/a.rs", &function(MAX_FUNCTION_LINES - 2)).len(),
        0
    );
    let in_tests = format!(
        "#[cfg(test)]\nmod tests {{{}}}",
        function(MAX_FUNCTION_LINES)
    );
    assert_eq!(problems("wire/a.rs", &in_tests).len(), 0);
}

#[test]
fn a_brace_in_a_text_or_a_comment_does_not_count() {
    let source = r##"fn a() { "}{{\"{"; '{'; '\''; b'{'; r#"{"#; /* { /* { */ */ } // {
        fn b<'a>(c: &'a u8) -> u8 { c.unwrap() }"##;
    assert_eq!(
        problems("wire/a.rs", source),
        ["2: .unwrap() outside tests"]
    );
}

#[test]
fn imports_to_the_right_are_found_however_they_are_written() {
    let found = |path: &str, source: &str| problems(path, source).len();
    assert_eq!(found("wire/a.rs", "use crate::storage::Storage;"), 1);
    assert_eq!(found("wire/a.rs", "use crate::types::{Oid, Tid};"), 0);
    assert_eq!(found("storage/a.rs", "fn a() { crate::wire::b() }"), 1);
    assert_eq!(
        found(
            "storage/a.rs",
            "use crate::{\n disk::{self, wire},\n wire,\n};"
        ),
        1
    );
    assert_eq!(
        found("storage/file/a.rs", "use super::super::super::wire;"),
        1
    );
    assert_eq!(found("storage/file/a.rs", "use super::super::wire;"), 0);
    assert_eq!(found("config/a.rs", "use crate::types::Oid;"), 1);
    assert_eq!(found("config/a.rs", "use crate::config::b;"), 0);
    assert_eq!(found("session/a.rs", "use crate::server::b;"), 1);
    assert_eq!(found("session/a.rs", "use crate::replication::b;"), 1);
    assert_eq!(found("replication/a.rs", "use crate::session::b;"), 1);
    assert_eq!(found("replication/a.rs", "use crate::client::b;"), 0);
    assert_eq!(found("status/a.rs", "use crate::session::b;"), 0);
    assert_eq!(found("elsewhere/a.rs", ""), 1, "an unknown module");
    assert_eq!(
        found(
            "wire/a.rs",
            "// crate::storage\nfn a() { \"crate::storage\"; }"
        ),
        0
    );
}

#[test]
fn a_runtime_is_found_where_none_belongs() {
    assert_eq!(
        problems("transaction/a.rs", "\nuse tokio::sync::mpsc;").len(),
        1
    );
    assert_eq!(problems("server/a.rs", "use tokio::sync::mpsc;").len(), 0);
    assert_eq!(problems("session/a.rs", "fn tokio_free() {}").len(), 0);
}

#[test]
fn banned_calls_are_found_outside_tests() {
    let source = "fn a() {\n b.expect(\"c\");\n todo!();\n eprintln!();\n unsafe { d() }\n}
        #[cfg(test)]\nuse a::{b};\n#[cfg(test)]\nmod tests { fn e() { f.unwrap(); } }";
    let found = problems("wire/a.rs", source);
    let lines: Vec<_> = found.iter().map(|problem| &problem[..1]).collect();
    assert_eq!(lines, ["2", "3", "4", "5"], "{found:?}");
    assert_eq!(problems("cli/a.rs", "fn a() { println!(); }").len(), 0);
    assert_eq!(
        problems("wire/a.rs", "fn a() { b.unwrap_or_default(); }").len(),
        0
    );
}

#[test]
fn a_module_without_a_word_about_itself_is_found() {
    assert_eq!(problems("wire/mod.rs", "mod a;").len(), 1);
    assert_eq!(problems("wire/a.rs", "mod b;").len(), 1);
    assert_eq!(problems("main.rs", "fn main() {}").len(), 1);
    assert_eq!(problems("wire/mod.rs", "//! About it.\nmod a;").len(), 0);
    assert_eq!(problems("wire/a.rs", "fn b() {}").len(), 0);
}
