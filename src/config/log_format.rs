//! Checks the layout of log records as the Python server does when it starts.

use super::LogStyle;

/// What can stand in a layout, and whether it is a number.
const FIELDS: [(&str, bool); 23] = [
    ("args", false),
    ("asctime", false),
    ("created", true),
    ("exc_info", false),
    ("exc_text", false),
    ("filename", false),
    ("funcName", false),
    ("levelname", false),
    ("levelno", true),
    ("lineno", true),
    ("message", false),
    ("module", false),
    ("msecs", true),
    ("msg", false),
    ("name", false),
    ("pathname", false),
    ("process", true),
    ("processName", false),
    ("relativeCreated", true),
    ("stack_info", false),
    ("taskName", false),
    ("thread", true),
    ("threadName", false),
];

/// What a layout may contain, for messages.
pub const ALLOWED: &str = "text with %(asctime)s, %(levelname)s, %(name)s, %(message)s, %(process)d, \
     %(threadName)s and Python's other record fields; %% for '%'";

/// Replaces the escapes `\n`, `\t`, `\b`, `\f`, `\r`; a backslash before
/// anything else stays.
pub fn unescape(text: &str) -> String {
    text.replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("\\b", "\u{8}")
        .replace("\\f", "\u{c}")
        .replace("\\r", "\r")
}

/// Checks that a layout names only known fields. `any_field` is the key
/// `arbitrary-fields`. Only the classic style is looked into.
pub fn check(format: &str, style: LogStyle, any_field: bool) -> Result<(), String> {
    if style != LogStyle::Classic {
        return Ok(());
    }
    let mut rest = format;
    while let Some((_, placeholder)) = rest.split_once('%') {
        rest = match placeholder.strip_prefix('%') {
            Some(after) => after,
            None => check_placeholder(placeholder, any_field)?,
        };
    }
    Ok(())
}

/// Checks `(name)flags conversion` and returns what follows.
fn check_placeholder(text: &str, any_field: bool) -> Result<&str, String> {
    let (name, after) = text
        .strip_prefix('(')
        .and_then(|inner| inner.split_once(')'))
        .ok_or("a '%' is not followed by (name) or another '%'")?;
    let conversion =
        after.trim_start_matches(|c: char| c.is_ascii_digit() || "#-+ .lLh".contains(c));
    let letter = conversion.chars().next();
    let is_number = match FIELDS.iter().find(|(field, _)| *field == name) {
        Some((_, is_number)) => *is_number,
        None if any_field => true,
        None => return Err(format!("{name:?} is not a field of a log record")),
    };
    match letter {
        Some('s' | 'r' | 'a') => {}
        Some('d' | 'i' | 'o' | 'u' | 'x' | 'X' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'c')
            if is_number => {}
        Some('d' | 'i' | 'o' | 'u' | 'x' | 'X' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'c') => {
            return Err(format!("%({name}) is not a number"));
        }
        _ => {
            return Err(format!(
                "%({name}) is not followed by a conversion such as 's'"
            ));
        }
    }
    Ok(conversion.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_replaced() {
        assert_eq!(unescape("a\\nb\\tc\\q"), "a\nb\tc\\q");
    }

    #[test]
    fn known_fields_pass() {
        for format in [
            "%(asctime)s %(message)s",
            "%(levelname)-8s 100%% %(process)05d %(msecs)03.1f",
            "",
        ] {
            assert_eq!(check(format, LogStyle::Classic, false), Ok(()), "{format}");
        }
        assert_eq!(check("%(mine)d", LogStyle::Classic, true), Ok(()));
        assert_eq!(check("{mine}", LogStyle::Format, false), Ok(()));
    }

    #[test]
    fn other_placeholders_are_refused() {
        for format in [
            "%(mine)s",
            "%s",
            "50%",
            "%(message)d",
            "%(message",
            "%(name)",
            "%(name)q",
        ] {
            assert!(check(format, LogStyle::Classic, false).is_err(), "{format}");
        }
    }
}
