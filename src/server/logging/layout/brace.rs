//! The style of `str.format`: `{levelname:<8}`.

use super::percent::number;
use super::spec::{Align, Kind, Spec};
use super::{Field, Piece};

/// Splits a layout. The error says what is wrong with it.
pub fn parse(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, placeholder) = rest.split_at(at);
        pieces.push(Piece::Literal(literal.to_owned()));
        if let Some(after) = placeholder.strip_prefix("{{") {
            pieces.push(Piece::Literal("{".to_owned()));
            rest = after;
        } else if let Some(after) = placeholder.strip_prefix("}}") {
            pieces.push(Piece::Literal("}".to_owned()));
            rest = after;
        } else {
            let (inner, after) = placeholder
                .strip_prefix('{')
                .ok_or("a '}' stands alone")?
                .split_once('}')
                .ok_or("a '{' is not followed by a '}'")?;
            pieces.push(placeholder_of(inner)?);
            rest = after;
        }
    }
    pieces.push(Piece::Literal(rest.to_owned()));
    Ok(pieces)
}

/// Reads `name!conversion:spec`.
fn placeholder_of(text: &str) -> Result<Piece, String> {
    let (head, spec) = text.split_once(':').unwrap_or((text, ""));
    let (name, conversion) = match head.split_once('!') {
        Some((name, conversion)) => (name, Some(conversion)),
        None => (head, None),
    };
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_numeric()) {
        return Err(format!("{{{name}}} is not the name of a record's field"));
    }
    let field = Field::named(name);
    let kind = match conversion {
        None => None,
        Some("s") => Some(Kind::Text),
        Some("r") => Some(Kind::Repr),
        Some("a") => Some(Kind::Ascii),
        Some(other) => return Err(format!("!{other} is not !s, !r or !a")),
    };
    let spec = parse_spec(spec, kind, &field)?;
    Ok(Piece::field(field, spec))
}

fn align_of(letter: char) -> Option<Align> {
    match letter {
        '<' => Some(Align::Left),
        '>' => Some(Align::Right),
        '^' => Some(Align::Center),
        '=' => Some(Align::AfterSign),
        _ => None,
    }
}

/// Reads `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
/// `converted` is what `!s`, `!r` or `!a` made of the value before.
fn parse_spec(text: &str, converted: Option<Kind>, field: &Field) -> Result<Spec, String> {
    let mut spec = Spec::default();
    let mut rest = text;
    let mut letters = text.chars();
    let (first, second) = (letters.next(), letters.next());
    if let (Some(fill), Some(align)) = (first, second.and_then(align_of)) {
        spec.fill = fill;
        spec.align = align;
        rest = letters.as_str();
    } else if let Some(align) = first.and_then(align_of) {
        spec.align = align;
        rest = text.get(1..).unwrap_or_default();
    }
    if let Some(after) = rest.strip_prefix(['+', '-', ' ']) {
        spec.sign = rest.chars().next().filter(|sign| *sign != '-');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('#') {
        spec.alternate = true;
        rest = after;
    }
    let is_text = converted.is_some() || field.is_text();
    if rest.starts_with('0') && spec.align == Align::Natural {
        spec.fill = '0';
        spec.align = if is_text {
            Align::Left
        } else {
            Align::AfterSign
        };
    }
    (spec.width, rest) = number(rest)?;
    if let Some(after) = rest.strip_prefix([',', '_']) {
        spec.grouping = rest.chars().next();
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after)?;
        spec.precision = Some(precision);
        rest = after;
    }
    spec.upper = rest.starts_with(['X', 'E', 'F', 'G']);
    let bad = || format!("{{{}:{text}}} cannot be used with that field", field.name());
    spec.kind = kind_of(rest).ok_or_else(bad)?;
    let fits = match spec.kind {
        Kind::Natural | Kind::Text if is_text => true,
        Kind::Text => false,
        Kind::Natural => spec.precision.is_none() || field.is_float(),
        Kind::Fixed | Kind::Exponent | Kind::General | Kind::Percent => !is_text,
        _ => !is_text && !field.is_float() && spec.precision.is_none(),
    };
    let number_only = spec.sign.is_some()
        || spec.alternate
        || spec.grouping.is_some()
        || spec.align == Align::AfterSign;
    if !fits || (is_text && number_only) {
        return Err(bad());
    }
    if let Some(kind) = converted {
        spec.kind = kind;
    }
    Ok(spec)
}

fn kind_of(letter: &str) -> Option<Kind> {
    Some(match letter {
        "" => Kind::Natural,
        "s" => Kind::Text,
        "d" | "n" => Kind::Decimal,
        "o" => Kind::Octal,
        "b" => Kind::Binary,
        "x" | "X" => Kind::Hex,
        "c" => Kind::Char,
        "e" | "E" => Kind::Exponent,
        "f" | "F" => Kind::Fixed,
        "g" | "G" => Kind::General,
        "%" => Kind::Percent,
        _ => return None,
    })
}
