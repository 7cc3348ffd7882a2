use super::Location;
use super::schema::Raw;

/// The languages of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// zeo.conf
    ZConfig,
    /// zeod.toml
    Toml,
    /// Variables such as `ZEOD_ZEO_ADDRESS`
    Environment,
}

/// A section as it was read, before anything is known about its type. The whole
/// file is a section with an empty type name.
#[derive(Debug)]
pub struct Section {
    /// The type in lower case.
    pub kind: String,
    /// The name in lower case.
    pub name: Option<String>,
    /// The table's dotted path, if TOML has it; empty for the whole file.
    pub table: Option<String>,
    /// Where it starts.
    pub location: Location,
    /// Its keys in reading order.
    pub entries: Vec<Entry>,
    /// The sections in it in reading order.
    pub children: Vec<Section>,
}

/// A key and its value.
#[derive(Debug)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// The value after substitution; empty if there is none.
    pub value: Raw,
    /// Where it stands.
    pub location: Location,
}

impl Section {
    /// A section without contents.
    pub fn new(kind: String, name: Option<String>, location: Location) -> Self {
        Self {
            kind,
            name,
            table: None,
            location,
            entries: Vec::new(),
            children: Vec::new(),
        }
    }

    /// The header as a person would write it.
    pub fn title(&self) -> String {
        title(&self.kind, self.name.as_deref(), self.table.as_deref())
    }

    /// The language of the file that it is from.
    pub fn syntax(&self) -> Syntax {
        match self.table {
            Some(_) => Syntax::Toml,
            None => Syntax::ZConfig,
        }
    }

    /// Where something stands that stands in this section.
    pub fn place(&self) -> String {
        if self.kind.is_empty() {
            return "at the top of the file".to_owned();
        }
        format!("in {}", self.title())
    }
}

/// A section's header as a person would write it.
pub fn title(kind: &str, name: Option<&str>, table: Option<&str>) -> String {
    match (table, name) {
        _ if kind.is_empty() => "the file".to_owned(),
        (Some(table), _) => format!("[{}]", excerpt(table)),
        (None, Some(name)) => format!("<{} {}>", excerpt(kind), excerpt(name)),
        (None, None) => format!("<{}>", excerpt(kind)),
    }
}

/// How many letters of a faulty text a message repeats.
const EXCERPT_LETTERS: usize = 60;

/// The beginning of some text, short enough for a message.
pub fn excerpt(text: &str) -> String {
    if text.chars().count() <= EXCERPT_LETTERS {
        return text.to_owned();
    }
    let start: String = text.chars().take(EXCERPT_LETTERS).collect();
    format!("{start}…")
}
