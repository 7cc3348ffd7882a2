use std::fmt;

use super::pickle::{read_value, write_value};
use super::value::Value;

/// An exception as another server sent it: its class path, and its attributes
/// as a dict or its arguments as a tuple. It can be passed on unchanged.
/// Source: ZEO asyncio/marshal.py, `reduce_exception`.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteException {
    class: String,
    /// A pickle, so that exceptions can be compared.
    state: Box<[u8]>,
}

/// So much of its arguments is shown.
const SHOWN_CHARS: usize = 300;

impl RemoteException {
    /// With attributes (a dict) or arguments (a tuple).
    pub fn new(class: impl Into<String>, state: &Value<'_>) -> Self {
        let mut pickle = Vec::new();
        if write_value(&mut pickle, state).is_err() {
            // Only 4 GiB of text get here.
            pickle = b"\x80\x03).".to_vec();
        }
        Self {
            class: class.into(),
            state: pickle.into(),
        }
    }

    /// `module.Class`.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Its attributes or arguments.
    pub fn state(&self) -> Value<'_> {
        // It was written by us.
        read_value(&self.state).unwrap_or_else(|_| Value::Tuple(Vec::new()))
    }

    /// Is it a conflict, on which clients try again?
    pub fn is_conflict(&self) -> bool {
        let name = self.class.rsplit('.').next().unwrap_or_default();
        matches!(
            name,
            "ConflictError" | "ReadConflictError" | "BTreesConflictError"
        )
    }

    /// Does it say that there is no such object, or revision?
    pub fn is_no_such_object(&self) -> bool {
        self.class == "ZODB.POSException.POSKeyError"
    }

    /// Does it say that the storage may not be written?
    pub fn is_read_only(&self) -> bool {
        self.class == "ZODB.POSException.ReadOnlyError"
    }
}

impl fmt::Display for RemoteException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.rsplit('.').next().unwrap_or_default();
        write!(f, "{class}")?;
        let state = self.state();
        let message = match &state {
            Value::Dict(_) => state
                .get("message")
                .or_else(|| state.get("_reason"))
                .map(shown),
            Value::Tuple(items) => Some(items.iter().map(shown).collect::<Vec<_>>().join(", ")),
            _ => None,
        };
        match message.filter(|message| !message.is_empty()) {
            Some(message) => {
                let short: String = message.chars().take(SHOWN_CHARS).collect();
                write!(f, ": {short}")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RemoteException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteException({} {:?})", self.class, self.state())
    }
}

/// One argument, in a line of the log.
fn shown(value: &Value<'_>) -> String {
    let text = match (value.as_str(), value.as_bytes()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(bytes)) => bytes.escape_ascii().to_string(),
        (None, None) => format!("{value:?}"),
    };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_what_was_raised() {
        let arguments = Value::Tuple(vec![Value::from("no\nroom"), Value::from(&b"\x01"[..])]);
        let exception = RemoteException::new("a.b.Full", &arguments);
        assert_eq!(exception.to_string(), "Full: no room, \\x01");
        assert_eq!(exception.state(), arguments);
        let attributes = Value::Dict(vec![("message".into(), "conflict".into())]);
        let exception = RemoteException::new("ZODB.POSException.ConflictError", &attributes);
        assert_eq!(exception.to_string(), "ConflictError: conflict");
        assert!(exception.is_conflict());
        assert!(!exception.is_no_such_object());
    }
}
