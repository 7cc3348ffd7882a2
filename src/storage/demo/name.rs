//! How Python writes a name in a text: the reference builds a DemoStorage's
//! name with `repr`.

use std::fmt::Write as _;

/// `repr` of a str. Letters beyond ASCII stay as they are.
pub fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut written = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            _ if character == quote => written.extend(['\\', quote]),
            _ if character.is_ascii_control() => {
                // Writing to a String does not fail.
                let _ = write!(written, "\\x{:02x}", u32::from(character));
            }
            _ => written.push(character),
        }
    }
    written.push(quote);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_python_does() {
        assert_eq!(python_repr("var/Data.fs"), "'var/Data.fs'");
        assert_eq!(python_repr("Data's.fs"), "\"Data's.fs\"");
        assert_eq!(python_repr("a'b\"c"), "'a\\'b\"c'");
        assert_eq!(python_repr("Bücher\\\t\u{1}"), "'Bücher\\\\\\t\\x01'");
    }
}
