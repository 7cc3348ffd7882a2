use crate::config::Location;

/// A section as it was read, before anything is known about its type. The whole
/// file is a section with an empty type name.
#[derive(Debug)]
pub struct Section {
    /// The type in lower case.
    pub kind: String,
    /// The name in lower case.
    pub name: Option<String>,
    /// Where it starts.
    pub location: Location,
    /// Its keys in reading order.
    pub entries: Vec<Entry>,
    /// The sections in it in reading order.
    pub children: Vec<Section>,
}

/// A line `KEY VALUE`.
#[derive(Debug)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// The value after substitution; empty if there is none.
    pub value: String,
    /// Where it stands.
    pub location: Location,
}

impl Section {
    /// A section without contents.
    pub fn new(kind: String, name: Option<String>, location: Location) -> Self {
        Self {
            kind,
            name,
            location,
            entries: Vec::new(),
            children: Vec::new(),
        }
    }

    /// The header as a person would write it.
    pub fn title(&self) -> String {
        title(&self.kind, self.name.as_deref())
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
pub fn title(kind: &str, name: Option<&str>) -> String {
    match name {
        _ if kind.is_empty() => "the file".to_owned(),
        Some(name) => format!("<{} {}>", excerpt(kind), excerpt(name)),
        None => format!("<{}>", excerpt(kind)),
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
