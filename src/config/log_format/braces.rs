//! `{name}` in layouts of the style `format` (source: Python's string.Formatter
//! and the format specification language).

use super::{Field, field};

/// Checks that a layout names only known fields, in a way that fits them.
pub fn check(format: &str, any_field: bool) -> Result<(), String> {
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        let (_, from) = rest.split_at(at);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            rest = after;
            continue;
        }
        let inner = from
            .strip_prefix('{')
            .ok_or("a '}' stands alone; write '}}' for it")?;
        let end =
            matching_brace(inner).ok_or("a '{' is not followed by name}; write '{{' for it")?;
        let (placeholder, after) = inner.split_at(end);
        check_placeholder(placeholder, any_field)?;
        rest = after.get(1..).unwrap_or_default();
    }
    Ok(())
}

/// Where the `}` stands that closes what `text` is inside of.
fn matching_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Checks `name`, `name!conversion` and `name:specification`.
fn check_placeholder(text: &str, any_field: bool) -> Result<(), String> {
    let (head, specification) = text.split_once(':').unwrap_or((text, ""));
    let (name, conversion) = match head.split_once('!') {
        Some((name, conversion)) => (name, Some(conversion)),
        None => (head, None),
    };
    let kind = match (field(name, any_field)?, conversion) {
        (kind, None) => kind,
        (_, Some("r" | "s" | "a")) => Field::Text,
        (_, Some(_)) => return Err(format!("{{{name}}} has a conversion other than !r, !s, !a")),
    };
    if specification.contains('{') {
        // A width that is a field itself; what it comes to is not known here.
        return check(specification, any_field);
    }
    if fits(specification, kind) {
        return Ok(());
    }
    Err(format!(
        "{specification:?} is not how {{{name}}} can be formatted"
    ))
}

/// Whether a value of this kind takes the specification
/// `[[fill]align][sign][z][#][0][width][,_][.precision][type]`.
fn fits(specification: &str, kind: Field) -> bool {
    let mut rest = specification;
    let mut letters = rest.chars();
    let (first, second) = (letters.next(), letters.next());
    let is_align = |letter: Option<char>| letter.is_some_and(|letter| "<>=^".contains(letter));
    let mut align = None;
    if is_align(second) {
        align = second;
        rest = letters.as_str();
    } else if is_align(first) {
        align = first;
        rest = rest.get(1..).unwrap_or_default();
    }
    let signed = take(&mut rest, "+- ");
    let zero = take(&mut rest, "z");
    let alternate = take(&mut rest, "#");
    let _padded = take(&mut rest, "0");
    skip_digits(&mut rest);
    let grouped = take(&mut rest, ",_");
    let precise = take(&mut rest, ".");
    if precise && !skip_digits(&mut rest) {
        return false;
    }
    let kind_letter = rest.chars().next();
    let is_one = rest.chars().count() <= 1;
    is_one
        && match (kind, kind_letter) {
            (Field::Text, None | Some('s')) => {
                !signed && !zero && !alternate && !grouped && align != Some('=')
            }
            (Field::Integer, None | Some('d')) => !precise && !zero,
            (Field::Integer, Some('b' | 'o' | 'x' | 'X' | 'n')) => !precise && !zero && !grouped,
            (Field::Integer, Some('c')) => !precise && !zero && !signed && !grouped && !alternate,
            (Field::Float, None)
            | (Field::Float | Field::Integer, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => {
                true
            }
            (Field::Float, Some('n')) => !grouped,
            _ => false,
        }
}

/// Takes one of `letters` from the front, if it is there.
fn take(rest: &mut &str, letters: &str) -> bool {
    match rest.strip_prefix(|letter| letters.contains(letter)) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn skip_digits(rest: &mut &str) -> bool {
    let after = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let skipped = after.len() < rest.len();
    *rest = after;
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_pass() {
        for format in [
            "{message}",
            "{{literal}} {asctime:>20} {message!r:.5}",
            "{lineno:05d} {msecs:.1f} {process:#x} {levelno:%} {created:,.2f}",
            "{name:{lineno}}",
            "",
        ] {
            assert_eq!(check(format, false), Ok(()), "{format}");
        }
        assert_eq!(check("{mine:>5}", true), Ok(()));
    }

    #[test]
    fn other_placeholders_are_refused() {
        for format in [
            "{mine}",
            "{}",
            "{0}",
            "{",
            "}",
            "{message",
            "{message!q}",
            "{name.x}",
            "{message:d}",
            "{lineno:.2d}",
            "{msecs:x}",
            "{name:+}",
            "{name:>x}",
            "{lineno:5.}",
        ] {
            assert!(check(format, false).is_err(), "{format}");
        }
    }
}
