//! Text to a tree of sections (source: ZConfig cfgparser.py).

use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::include;
use super::substitute::{self, Defines};
use crate::config::schema::{self, Raw};
use crate::config::tree::{Entry, Section, excerpt};
use crate::config::{ConfigError, Context, Fault, Location, python};

/// No configuration is that large; a wrong path, such as a Data.fs, may be.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// How deep sections may be nested; the steps after this one recurse.
const MAX_DEPTH: usize = 64;
/// How many `%include` are followed in all: files that include each other
/// twice would double the work at every level.
const MAX_INCLUDES: usize = 256;
/// What all values together may grow to by substitution.
const MAX_VALUES_BYTES: usize = 64 << 20;

/// Reads the file at `path` and all that it includes into one section without
/// a type.
pub fn parse_file(path: &Path, context: &Context<'_>) -> Result<Section, ConfigError> {
    let file: Arc<Path> = path.into();
    let whole = Location::whole(file);
    let mut parser = Parser {
        context,
        defines: Defines::new(),
        current: Section::new(String::new(), None, whole.clone()),
        parents: Vec::new(),
        reading: Vec::new(),
        includes: 0,
        value_bytes: 0,
    };
    parser.file(path, &whole)?;
    Ok(parser.current)
}

struct Parser<'a> {
    context: &'a Context<'a>,
    /// Shared by all files: what an included file defines stays defined.
    defines: Defines,
    /// The innermost open section.
    current: Section,
    /// The open sections around it, outermost first.
    parents: Vec<Section>,
    /// The files that are being read, as the system knows them.
    reading: Vec<PathBuf>,
    includes: usize,
    /// The length of all values and definitions so far.
    value_bytes: usize,
}

/// The arguments that a directive takes, for messages.
const USAGES: [(&str, &str); 3] = [
    ("define", "%define NAME VALUE"),
    ("import", "%import PACKAGE"),
    ("include", "%include FILE"),
];

impl Parser<'_> {
    /// Reads one file. `cause` is the place to blame if it cannot be read.
    fn file(&mut self, path: &Path, cause: &Location) -> Result<(), ConfigError> {
        let file: Arc<Path> = path.into();
        let unreadable = |error| {
            let path = path.to_owned();
            let fault = match cause.line {
                None => Fault::Unreadable(error),
                Some(_) => Fault::IncludeUnreadable { path, error },
            };
            ConfigError::new(cause, fault)
        };
        let identity = path.canonicalize().map_err(unreadable)?;
        if self.reading.contains(&identity) {
            return Err(ConfigError::new(cause, self.include_loop(&identity)));
        }
        let bytes = read_limited(path).map_err(unreadable)?;
        let whole = Location::whole(Arc::clone(&file));
        let bytes = bytes.ok_or_else(|| {
            let limit = MAX_FILE_BYTES;
            ConfigError::new(&whole, Fault::TooLarge { limit })
        })?;
        self.reading.push(identity);
        let outside = self.parents.len();
        for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
            let location = Location::line(&file, number);
            self.line(line, outside, &location)
                .map_err(|problem| problem.at(&location))?;
        }
        self.reading.pop();
        if self.parents.len() > outside {
            let section = self.current.title();
            let kind = self.current.kind.clone();
            let fault = Fault::Unclosed { section, kind };
            return Err(ConfigError::new(&self.current.location, fault));
        }
        Ok(())
    }

    /// Reads one line. `outside` sections were open when the file began; they
    /// are not the file's to close.
    fn line(&mut self, line: &[u8], outside: usize, location: &Location) -> Result<(), Problem> {
        let text = str::from_utf8(line).map_err(|_| Fault::NotUtf8)?;
        let text = python::strip(text);
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if let Some(tag) = text.strip_prefix('<') {
            return Ok(self.tag(tag, outside, location)?);
        }
        if let Some(directive) = text.strip_prefix('%') {
            return self.directive(directive, location);
        }
        let (key, value) = split_key(text).ok_or_else(|| Fault::MalformedLine {
            text: excerpt(text),
        })?;
        // `$$(` is no reference.
        if value.replace("$$", "").contains("$(") {
            let mut substituted = self.context.substituted.borrow_mut();
            substituted.push(location.clone());
        }
        let entry = Entry {
            key: key.to_owned(),
            value: Raw::Line(self.substitute(value)?),
            location: location.clone(),
        };
        self.current.entries.push(entry);
        Ok(())
    }

    fn substitute(&mut self, text: &str) -> Result<String, Fault> {
        let value = substitute::substitute(text, &self.defines, self.context.environment)?;
        self.value_bytes += value.len();
        if self.value_bytes > MAX_VALUES_BYTES {
            let limit = MAX_VALUES_BYTES;
            return Err(Fault::ValuesTooLong { limit });
        }
        Ok(value)
    }

    fn tag(&mut self, text: &str, outside: usize, location: &Location) -> Result<(), Fault> {
        if let Some(end) = text.strip_prefix('/') {
            let end = end.strip_suffix('>').ok_or(Fault::UnfinishedTag)?;
            return self.end(end, outside, location);
        }
        let start = text.strip_suffix('>').ok_or(Fault::UnfinishedTag)?;
        let (header, is_empty) = match start.strip_suffix('/') {
            Some(header) => (header, true),
            None => (start, false),
        };
        let (kind, name) = split_header(header).ok_or_else(|| Fault::MalformedStart {
            text: excerpt(start),
        })?;
        let section = Section::new(
            kind.to_lowercase(),
            name.map(str::to_lowercase),
            location.clone(),
        );
        if is_empty {
            self.current.children.push(section);
            return Ok(());
        }
        if self.parents.len() >= MAX_DEPTH {
            return Err(Fault::TooDeep { limit: MAX_DEPTH });
        }
        self.parents.push(mem::replace(&mut self.current, section));
        Ok(())
    }

    fn end(&mut self, text: &str, outside: usize, location: &Location) -> Result<(), Fault> {
        let text = text.trim_end_matches(python::is_space);
        if self.parents.len() <= outside {
            return Err(Fault::UnexpectedEnd {
                text: excerpt(text),
            });
        }
        if text.to_lowercase() != self.current.kind {
            self.end_with_name(text, location)?;
        }
        if let Some(parent) = self.parents.pop() {
            let closed = mem::replace(&mut self.current, parent);
            self.current.children.push(closed);
        }
        Ok(())
    }

    /// Accepts `</filestorage 2>` for `<filestorage 2>`, which ZConfig refuses:
    /// published examples have it, and there is only one thing it can mean.
    fn end_with_name(&self, text: &str, location: &Location) -> Result<(), Fault> {
        let (kind, name) = python::split_word(text);
        let is_name = !name.is_empty() && self.current.name == Some(name.to_lowercase());
        if kind.to_lowercase() != self.current.kind || !is_name {
            return Err(Fault::UnbalancedEnd {
                text: excerpt(text),
                open: self.current.title(),
                kind: self.current.kind.clone(),
                start: self.current.location.clone(),
            });
        }
        self.context.warn(
            location,
            format!("</{text}> should be </{kind}>: the Python server refuses a name here"),
        );
        Ok(())
    }

    fn directive(&mut self, text: &str, location: &Location) -> Result<(), Problem> {
        let (name, argument) = split_key(text).unwrap_or((text, ""));
        let Some((name, usage)) = USAGES.iter().find(|(known, _)| *known == name) else {
            let name = excerpt(name);
            return Err(Fault::UnknownDirective { name }.into());
        };
        if argument.is_empty() {
            return Err(Fault::DirectiveArgument { name, usage }.into());
        }
        match *name {
            "define" => Ok(self.define(argument)?),
            "import" => Ok(self.import(argument)?),
            _ => self.include(argument, location),
        }
    }

    fn define(&mut self, argument: &str) -> Result<(), Fault> {
        let (name, value) = python::split_word(argument);
        let name = name.to_lowercase();
        // The new text is compared with the old result, so that a definition
        // may be repeated only if nothing was substituted in it.
        if let Some(old) = self.defines.get(&name).filter(|old| *old != value) {
            let old = excerpt(old);
            return Err(Fault::Redefined { name, old });
        }
        if !substitute::is_name(&name) {
            return Err(Fault::DefineName { name });
        }
        let value = self.substitute(value)?;
        self.defines.insert(name, value);
        Ok(())
    }

    fn import(&mut self, argument: &str) -> Result<(), Fault> {
        let name = self.substitute(argument)?;
        if schema::PACKAGES.contains(&name.as_str()) {
            return Ok(());
        }
        Err(Fault::UnknownPackage {
            name,
            known: schema::PACKAGES.join(", "),
        })
    }

    fn include(&mut self, argument: &str, location: &Location) -> Result<(), Problem> {
        let target = self.substitute(argument)?;
        let path = include::resolve(&location.file, &target)?;
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            let limit = MAX_INCLUDES;
            return Err(Fault::TooManyIncludes { limit }.into());
        }
        Ok(self.file(&path, location)?)
    }

    fn include_loop(&self, identity: &Path) -> Fault {
        let chain: Vec<_> = self
            .reading
            .iter()
            .map(PathBuf::as_path)
            .skip_while(|path| *path != identity)
            .chain([identity])
            .map(|path| path.display().to_string())
            .collect();
        Fault::IncludeLoop {
            chain: chain.join(" -> "),
        }
    }
}

/// A fault of the line at hand, or an error of an included file, which has its
/// own place already.
enum Problem {
    Here(Fault),
    Elsewhere(ConfigError),
}

impl Problem {
    fn at(self, location: &Location) -> ConfigError {
        match self {
            Self::Here(fault) => ConfigError::new(location, fault),
            Self::Elsewhere(error) => error,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Here(fault)
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        Self::Elsewhere(error)
    }
}

/// The file's contents; `None` if there is more than is read.
pub fn read_limited(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    let fits = bytes.len() as u64 <= MAX_FILE_BYTES;
    Ok(fits.then_some(bytes))
}

/// Key and value of a stripped line. The key ends at white space or at a
/// parenthesis; `None` if it would be empty.
fn split_key(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|letter: char| python::is_space(letter) || "()".contains(letter))
        .unwrap_or(text.len());
    let (key, value) = text.split_at(end);
    (!key.is_empty()).then(|| (key, value.trim_start_matches(python::is_space)))
}

/// Type and name of what stands in a section's start.
fn split_header(text: &str) -> Option<(&str, Option<&str>)> {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.contains(|letter: char| python::is_space(letter) || "()".contains(letter))
    };
    let (kind, name) = python::split_word(text.trim_end_matches(python::is_space));
    let name = (!name.is_empty()).then_some(name);
    (is_word(kind) && name.is_none_or(is_word)).then_some((kind, name))
}
