//! The style of `string.Template`: `$levelname` and `${levelname}`.

use super::spec::Spec;
use super::{Field, Piece};

/// Splits a layout. `safe`: what is not understood stays as it is; otherwise it
/// is an error that says what is wrong.
pub fn parse(format: &str, safe: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((literal, placeholder)) = rest.split_once('$') {
        pieces.push(Piece::Literal(literal.to_owned()));
        if let Some(after) = placeholder.strip_prefix('$') {
            pieces.push(Piece::Literal("$".to_owned()));
            rest = after;
        } else if let Some((name, after)) = name_of(placeholder) {
            let length = placeholder.len() - after.len();
            let source = placeholder.get(..length).unwrap_or_default();
            pieces.push(Piece::Field {
                field: Field::named(name),
                spec: Spec::default(),
                fallback: if safe {
                    format!("${source}")
                } else {
                    super::ABSENT.to_owned()
                },
            });
            rest = after;
        } else if safe {
            pieces.push(Piece::Literal("$".to_owned()));
            rest = placeholder;
        } else {
            return Err("a '$' is not followed by a name, {name}, or another '$'".to_owned());
        }
    }
    pieces.push(Piece::Literal(rest.to_owned()));
    Ok(pieces)
}

/// Reads `name` or `{name}`; returns it and what follows.
fn name_of(text: &str) -> Option<(&str, &str)> {
    let (braced, inner) = match text.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    if !inner.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) {
        return None;
    }
    let after = inner.trim_start_matches(|c: char| c == '_' || c.is_ascii_alphanumeric());
    let name = inner.strip_suffix(after)?;
    let after = if braced {
        after.strip_prefix('}')?
    } else {
        after
    };
    Some((name, after))
}
