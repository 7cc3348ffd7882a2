//! Checks the layout of log records as the Python server does when it starts.

mod braces;

use super::LogStyle;

/// What a record's field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Text,
    Integer,
    Float,
}

/// What can stand in a layout.
const FIELDS: [(&str, Field); 23] = [
    ("args", Field::Text),
    ("asctime", Field::Text),
    ("created", Field::Float),
    ("exc_info", Field::Text),
    ("exc_text", Field::Text),
    ("filename", Field::Text),
    ("funcName", Field::Text),
    ("levelname", Field::Text),
    ("levelno", Field::Integer),
    ("lineno", Field::Integer),
    ("message", Field::Text),
    ("module", Field::Text),
    ("msecs", Field::Float),
    ("msg", Field::Text),
    ("name", Field::Text),
    ("pathname", Field::Text),
    ("process", Field::Integer),
    ("processName", Field::Text),
    ("relativeCreated", Field::Float),
    ("stack_info", Field::Text),
    ("taskName", Field::Text),
    ("thread", Field::Integer),
    ("threadName", Field::Text),
];

/// What a layout may contain, for messages.
pub const fn allowed(style: LogStyle) -> &'static str {
    match style {
        LogStyle::Classic => ALLOWED,
        LogStyle::Format => {
            "text with {asctime}, {levelname}, {name}, {message}, {process}, {threadName} and \
             Python's other record fields; {{ for '{' and }} for '}'"
        }
        LogStyle::Template | LogStyle::SafeTemplate => {
            "text with ${asctime}, ${levelname}, ${name}, ${message}, ${process}, ${threadName} \
             and Python's other record fields; $$ for '$' (in zeo.conf each '$' is written twice)"
        }
    }
}

/// What a layout of the classic style may contain.
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
/// `arbitrary-fields`.
pub fn check(format: &str, style: LogStyle, any_field: bool) -> Result<(), String> {
    match style {
        LogStyle::Classic => check_classic(format, any_field),
        LogStyle::Format => braces::check(format, any_field),
        LogStyle::Template => check_template(format, any_field),
        // What it does not know it leaves as it is.
        LogStyle::SafeTemplate => Ok(()),
    }
}

/// `$name` and `${name}` (source: Python's string.Template).
fn check_template(format: &str, any_field: bool) -> Result<(), String> {
    let mut rest = format;
    while let Some((_, placeholder)) = rest.split_once('$') {
        if let Some(after) = placeholder.strip_prefix('$') {
            rest = after;
            continue;
        }
        let inner = placeholder.strip_prefix('{');
        let text = inner.unwrap_or(placeholder);
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let end = text.find(|letter| !is_letter(letter)).unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("a '$' is not followed by a name or another '$'".to_owned());
        }
        field(name, any_field)?;
        rest = match inner {
            Some(_) => after
                .strip_prefix('}')
                .ok_or("a '${' is not followed by name}")?,
            None => after,
        };
    }
    Ok(())
}

fn check_classic(format: &str, any_field: bool) -> Result<(), String> {
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
    let field = field(name, any_field)?;
    match letter {
        Some('s' | 'r' | 'a') => {}
        Some('d' | 'i' | 'u' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => {
            if field == Field::Text {
                return Err(format!("%({name}) is not a number"));
            }
        }
        Some('o' | 'x' | 'X' | 'c') => {
            if field != Field::Integer {
                return Err(format!("%({name}) is not a whole number"));
            }
        }
        _ => {
            return Err(format!(
                "%({name}) is not followed by a conversion such as 's'"
            ));
        }
    }
    Ok(conversion.get(1..).unwrap_or_default())
}

/// What the field `name` holds; one that is not known is taken for a number.
fn field(name: &str, any_field: bool) -> Result<Field, String> {
    match FIELDS.iter().find(|(field, _)| *field == name) {
        Some((_, field)) => Ok(*field),
        None if any_field => Ok(Field::Integer),
        None => Err(format!("{name:?} is not a field of a log record")),
    }
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
        let template = "$asctime ${message} $$mine $message.x";
        assert_eq!(check(template, LogStyle::Template, false), Ok(()));
        assert_eq!(check("$mine $", LogStyle::SafeTemplate, false), Ok(()));
    }

    #[test]
    fn other_names_in_templates_are_refused() {
        for format in ["$mine", "$", "$1", "${}", "${message", "${message x}", "$é"] {
            assert!(
                check(format, LogStyle::Template, false).is_err(),
                "{format}"
            );
        }
    }

    #[test]
    fn other_placeholders_are_refused() {
        for format in [
            "%(mine)s",
            "%s",
            "50%",
            "%(message)d",
            "%(msecs)x",
            "%(message",
            "%(name)",
            "%(name)q",
        ] {
            assert!(check(format, LogStyle::Classic, false).is_err(), "{format}");
        }
    }
}
