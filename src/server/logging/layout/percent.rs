//! The classic style: `%(levelname)-8s`.

use super::spec::{Align, Kind, MAX_WIDTH, Spec};
use super::{Field, Piece};

/// Splits a layout. The error says what is wrong with it.
pub fn parse(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((literal, placeholder)) = rest.split_once('%') {
        pieces.push(Piece::Literal(literal.to_owned()));
        if let Some(after) = placeholder.strip_prefix('%') {
            pieces.push(Piece::Literal("%".to_owned()));
            rest = after;
            continue;
        }
        let (name, after) = placeholder
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
            .ok_or("a '%' is not followed by (name) or another '%'")?;
        let field = Field::named(name);
        let (spec, after) = parse_spec(after, &field)?;
        pieces.push(Piece::field(field, spec));
        rest = after;
    }
    pieces.push(Piece::Literal(rest.to_owned()));
    Ok(pieces)
}

/// Reads flags, width, precision and conversion; returns what follows.
fn parse_spec<'a>(text: &'a str, field: &Field) -> Result<(Spec, &'a str), String> {
    let after = text.trim_start_matches(['#', '-', '+', ' ', '0']);
    let flags = text.strip_suffix(after).unwrap_or_default();
    let (width, after) = number(after)?;
    let (precision, after) = match after.strip_prefix('.') {
        Some(after) => {
            let (precision, after) = number(after)?;
            (Some(precision), after)
        }
        None => (None, after),
    };
    let after = after.trim_start_matches(['l', 'L', 'h']);
    let mut letters = after.chars();
    let kind = match letters.next() {
        Some('s') => Kind::Text,
        Some('r') => Kind::Repr,
        Some('a') => Kind::Ascii,
        Some('d' | 'i' | 'u') => Kind::Decimal,
        Some('o') => Kind::Octal,
        Some('x' | 'X') => Kind::Hex,
        Some('c') => Kind::Char,
        Some('e' | 'E') => Kind::Exponent,
        Some('f' | 'F') => Kind::Fixed,
        Some('g' | 'G') => Kind::General,
        _ => {
            return Err(format!(
                "%({}) is not followed by a conversion such as 's'",
                field.name()
            ));
        }
    };
    let is_text = matches!(kind, Kind::Text | Kind::Repr | Kind::Ascii);
    if !is_text && field.is_text() {
        return Err(format!("%({}) is not a number", field.name()));
    }
    let zero = flags.contains('0') && !is_text && kind != Kind::Char;
    let align = match () {
        () if flags.contains('-') => Align::Left,
        () if zero => Align::AfterSign,
        () => Align::Right,
    };
    let spec = Spec {
        fill: if align == Align::AfterSign { '0' } else { ' ' },
        align,
        sign: ['+', ' '].into_iter().find(|sign| flags.contains(*sign)),
        alternate: flags.contains('#'),
        width,
        grouping: None,
        precision,
        kind,
        upper: after.starts_with(['X', 'E', 'F', 'G']),
    };
    Ok((spec, letters.as_str()))
}

/// Reads a number, 0 if there is none; returns what follows.
pub fn number(text: &str) -> Result<(usize, &str), String> {
    let after = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(after).unwrap_or_default();
    if digits.is_empty() {
        return Ok((0, after));
    }
    match digits.parse() {
        Ok(number) if number <= MAX_WIDTH => Ok((number, after)),
        _ => Err(format!("{digits} is more than {MAX_WIDTH} characters")),
    }
}
