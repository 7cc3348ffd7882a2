use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a configuration file. Displayed as `FILE`, `FILE:LINE`, or
/// `FILE:LINE:COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, named as the command line or the `%include` led to it. What is
    /// from no file has here, in words, where it is from.
    pub file: Arc<Path>,
    /// The line, counted from 1. `None`: the file as a whole.
    pub line: Option<usize>,
    /// The letter in the line, counted from 1. `None`: the line as a whole.
    pub column: Option<usize>,
}

impl Location {
    /// A line of a file.
    pub(super) fn line(file: &Arc<Path>, line: usize) -> Self {
        Self {
            line: Some(line),
            ..Self::whole(Arc::clone(file))
        }
    }

    /// A file as a whole.
    pub(super) fn whole(file: Arc<Path>) -> Self {
        Self {
            file,
            line: None,
            column: None,
        }
    }

    /// An environment variable.
    pub(super) fn variable(name: &str) -> Self {
        Self::whole(Path::new(&format!("environment variable {name}")).into())
    }

    /// The arguments of the program.
    pub(super) fn command_line() -> Self {
        Self::whole(Path::new("command line").into())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.column {
            Some(column) => write!(f, ":{column}"),
            None => Ok(()),
        }
    }
}

/// Something that is accepted and that the operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub location: Location,
    /// What it is, one sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// Why a configuration is refused, and where.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {fault}")]
pub struct ConfigError {
    /// The line at fault.
    pub location: Location,
    /// What is wrong with it.
    pub fault: Box<Fault>,
}

impl ConfigError {
    pub(super) fn new(location: &Location, fault: Fault) -> Self {
        Self {
            location: location.clone(),
            fault: Box::new(fault),
        }
    }
}

/// What is wrong. The texts name what is there and what is allowed instead.
///
/// `section` is a section's header as a person would write it, such as `<zeo>`;
/// `place` is "in `<zeo>`" or "at the top of the file".
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Fault {
    #[error("the file cannot be read: {0}; check the path and who may read it")]
    Unreadable(io::Error),
    #[error("the included file {} cannot be read: {error}; check the path and who may read it", .path.display())]
    IncludeUnreadable { path: PathBuf, error: io::Error },
    #[error("the file is larger than {limit} bytes; is it the configuration file?")]
    TooLarge { limit: u64 },
    #[error("the line is not UTF-8 text; is it the configuration file, and is it saved as UTF-8?")]
    NotUtf8,

    #[error("a line that begins with '<' is a section's start or end and must close with '>'")]
    UnfinishedTag,
    #[error(
        "malformed section start <{text}>; allowed: <type>, <type name>, <type/>, <type name/>, \
         neither with spaces nor parentheses"
    )]
    MalformedStart { text: String },
    #[error(
        "unexpected </{text}>: no section is open here; take the line out, or put <{text}> above"
    )]
    UnexpectedEnd { text: String },
    #[error("</{text}> cannot close {open} of {start}; allowed: </{kind}>")]
    UnbalancedEnd {
        text: String,
        open: String,
        kind: String,
        start: Location,
    },
    #[error("the section {section} is never closed; </{kind}> is missing")]
    Unclosed { section: String, kind: String },
    #[error("sections are nested more than {limit} deep")]
    TooDeep { limit: usize },
    #[error(
        "malformed line {text:?}; allowed: KEY VALUE, <section>, </section>, %directive, # comment"
    )]
    MalformedLine { text: String },
    #[error("unknown directive %{name}; allowed: %define, %include, %import")]
    UnknownDirective { name: String },
    #[error("%{name} needs an argument: {usage}")]
    DirectiveArgument {
        name: &'static str,
        usage: &'static str,
    },
    #[error("{name:?} cannot be defined; a name is letters, digits and '_', not a digit first")]
    DefineName { name: String },
    #[error(
        "{name:?} is already defined as {old:?}; a definition cannot be changed, so choose another name"
    )]
    Redefined { name: String, old: String },

    #[error(
        "{name:?} is not defined; write %define {name} VALUE above, or $$ for a '$'; defined here: {defined}"
    )]
    UndefinedName { name: String, defined: String },
    #[error("the environment variable {name:?} is not set; set it before the program starts")]
    UndefinedVariable { name: String },
    #[error(
        "malformed '$' in {text:?}: {reason}; allowed: $name, ${{name}}, $(ENVIRONMENT), and $$ for '$'"
    )]
    Substitution { text: String, reason: &'static str },
    #[error("the value is longer than {limit} bytes after substitution")]
    ValueTooLong { limit: usize },
    #[error("the values together are longer than {limit} bytes after substitution")]
    ValuesTooLong { limit: usize },

    #[error("%include of a file that is being read already: {chain}; take one of these lines out")]
    IncludeLoop { chain: String },
    #[error("more than {limit} files are included")]
    TooManyIncludes { limit: usize },
    #[error("cannot include {target:?}: {reason}; allowed: a path, or a file: URL")]
    IncludeTarget {
        target: String,
        reason: &'static str,
    },
    #[error("the package {name:?} in %import is not available in this server; known: {known}")]
    UnknownPackage { name: String, known: String },

    #[error("unknown section type <{kind}>; {}llowed {place}: {allowed}", did_you_mean(.suggestion.as_deref(), '<', '>'))]
    UnknownSection {
        kind: String,
        place: String,
        suggestion: Option<String>,
        allowed: String,
    },
    #[error("{section} cannot stand {place}{hint}; allowed there: {allowed}")]
    WrongPlace {
        section: String,
        place: String,
        hint: &'static str,
        allowed: String,
    },
    #[error(
        "the storage type {kind} is not available in this server: {reason}; available: {available}"
    )]
    UnsupportedStorage {
        kind: String,
        reason: &'static str,
        available: String,
    },
    #[error(
        "a second {section} {place}; only one is allowed, the first is at {first}; put the two together"
    )]
    SecondSection {
        section: String,
        place: String,
        first: Location,
    },
    #[error("the section name {name:?} is used twice {place}, first at {first}; choose another")]
    DuplicateName {
        name: String,
        place: String,
        first: Location,
    },
    #[error("{name:?} is not allowed as a section's name {place}; choose another")]
    SectionName { name: String, place: String },
    #[error("{section} needs {wanted}")]
    MissingSection { section: String, wanted: String },

    #[error(
        "{key:?} is not a key; write KEY VALUE; a key is a letter, then letters, digits, '-', '.' and '_'"
    )]
    MalformedKey { key: String },
    #[error("unknown key {key:?} {place}; {}llowed: {allowed}", did_you_mean(.suggestion.as_deref(), '"', '"'))]
    UnknownKey {
        key: String,
        place: String,
        suggestion: Option<String>,
        allowed: String,
    },
    #[error(
        "the key {key:?} is given twice in {section}, first at {first}; take one of the two out"
    )]
    DuplicateKey {
        key: &'static str,
        section: String,
        first: Location,
    },
    #[error("the key {key:?} is missing in {section}; add it with a value: {allowed}")]
    MissingKey {
        key: &'static str,
        section: String,
        allowed: &'static str,
    },
    #[error("the key {key:?} in {section} has no value; allowed: {allowed}")]
    NoValue {
        key: &'static str,
        section: String,
        allowed: &'static str,
    },
    #[error("bad value {value:?} for {key:?} in {section}: {reason}; allowed: {allowed}")]
    BadValue {
        key: &'static str,
        value: String,
        section: String,
        reason: String,
        allowed: &'static str,
    },
    #[error("malformed TOML: {message}")]
    Toml { message: String },
    #[error("{key:?} in {section} is {found}; allowed: {allowed}")]
    WrongKind {
        key: String,
        section: String,
        found: &'static str,
        allowed: String,
    },
    #[error("unknown storage type {kind:?} in {section}; {}llowed: {allowed}", did_you_mean(.suggestion.as_deref(), '"', '"'))]
    UnknownStorageType {
        kind: String,
        section: String,
        suggestion: Option<String>,
        allowed: String,
    },
    #[error("the name stands for {meanings}; set the one that is meant in the configuration file")]
    AmbiguousVariable { meanings: String },
    #[error("{section}: {message}")]
    Contradiction { section: String, message: String },

    #[error(
        "a second storage without a name, {section}, the first is at {first}; only one may be unnamed, and is then \"1\""
    )]
    SecondUnnamed { section: String, first: Location },
    #[error(
        "a storage named \"1\" and one without a name, which would be \"1\" too, at {unnamed}; give that one a name"
    )]
    UnnamedIsOne { unnamed: Location },
}

/// The question that a suggestion is, and the first letter of "allowed", which
/// begins a sentence behind it.
fn did_you_mean(suggestion: Option<&str>, open: char, close: char) -> String {
    match suggestion {
        Some(word) => format!("did you mean {open}{word}{close}? A"),
        None => "a".to_owned(),
    }
}
