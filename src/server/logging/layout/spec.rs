//! Turns a value into text as Python's `%` operator and `format()` do.

use std::fmt::Write as _;

/// The greatest width and precision that a layout may ask for; it bounds what
/// one placeholder can add to a line.
pub const MAX_WIDTH: usize = 1000;

/// What stands in a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Align {
    /// Text to the left, numbers to the right.
    #[default]
    Natural,
    Left,
    Right,
    Center,
    /// Padding between the sign and the digits.
    AfterSign,
}

/// What a value is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Whatever suits the value.
    #[default]
    Natural,
    Text,
    Repr,
    Ascii,
    Decimal,
    Octal,
    Binary,
    Hex,
    Char,
    Fixed,
    Exponent,
    General,
    Percent,
}

/// How a value is written: the part of a placeholder behind the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub fill: char,
    pub align: Align,
    /// What stands before numbers that are not negative.
    pub sign: Option<char>,
    /// The flag `#`.
    pub alternate: bool,
    pub width: usize,
    /// What separates thousands.
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Kind,
    /// Digits, exponents and prefixes in capitals.
    pub upper: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: Align::Natural,
            sign: None,
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: Kind::Natural,
            upper: false,
        }
    }
}

impl Spec {
    pub fn write(&self, value: Value<'_>, out: &mut String) {
        match (value, self.kind) {
            (Value::Text(text), Kind::Repr | Kind::Ascii) => {
                self.write_text(&repr(text, self.kind == Kind::Ascii), out);
            }
            (Value::Text(text), _) => self.write_text(text, out),
            (Value::Int(number), Kind::Text | Kind::Repr | Kind::Ascii) => {
                self.write_text(&number.to_string(), out);
            }
            (Value::Float(number), Kind::Text | Kind::Repr | Kind::Ascii) => {
                self.write_text(&float_repr(number), out);
            }
            (Value::Int(number), Kind::Char) => {
                let letter = u32::try_from(number).ok().and_then(char::from_u32);
                self.write_text(letter.unwrap_or('\u{fffd}').encode_utf8(&mut [0; 4]), out);
            }
            (
                Value::Int(number),
                Kind::Natural | Kind::Decimal | Kind::Octal | Kind::Binary | Kind::Hex,
            ) => self.write_integer(number, out),
            (
                Value::Float(number),
                Kind::Decimal | Kind::Octal | Kind::Binary | Kind::Hex | Kind::Char,
            ) => {
                #[expect(clippy::cast_possible_truncation, reason = "as Python's int()")]
                self.write_integer(number as i64, out);
            }
            #[expect(clippy::cast_precision_loss, reason = "as Python's float()")]
            (Value::Int(number), _) => self.write_float(number as f64, out),
            (Value::Float(number), _) => self.write_float(number, out),
        }
    }

    fn write_text(&self, text: &str, out: &mut String) {
        let end = self
            .precision
            .and_then(|limit| text.char_indices().nth(limit))
            .map_or(text.len(), |(end, _)| end);
        let text = text.get(..end).unwrap_or(text);
        self.pad(Align::Left, "", text, out);
    }

    fn write_integer(&self, number: i64, out: &mut String) {
        let magnitude = number.unsigned_abs();
        let (prefix, mut digits) = match self.kind {
            Kind::Hex if self.upper => ("0X", format!("{magnitude:X}")),
            Kind::Hex => ("0x", format!("{magnitude:x}")),
            Kind::Octal => ("0o", format!("{magnitude:o}")),
            Kind::Binary => ("0b", format!("{magnitude:b}")),
            _ => ("", magnitude.to_string()),
        };
        if let Some(least) = self.precision {
            digits = format!("{digits:0>least$}");
        }
        let mut head = self.sign_of(number < 0);
        if self.alternate {
            head.push_str(prefix);
        }
        self.pad(Align::Right, &head, &self.grouped(&digits), out);
    }

    fn write_float(&self, number: f64, out: &mut String) {
        let magnitude = number.abs();
        let precision = self.precision.unwrap_or(6);
        let mut body = match self.kind {
            Kind::Fixed => format!("{magnitude:.precision$}"),
            Kind::Percent => format!("{:.precision$}%", magnitude * 100.0),
            Kind::Exponent => exponent(magnitude, precision),
            Kind::General => general(magnitude, precision, self.alternate),
            _ if self.precision.is_some() => general(magnitude, precision, true),
            _ => float_repr(magnitude),
        };
        if self.upper {
            body.make_ascii_uppercase();
        }
        let head = self.sign_of(number.is_sign_negative());
        self.pad(Align::Right, &head, &self.grouped(&body), out);
    }

    fn sign_of(&self, negative: bool) -> String {
        let sign = if negative { Some('-') } else { self.sign };
        sign.map(String::from).unwrap_or_default()
    }

    /// Separates the thousands before the decimal point.
    fn grouped(&self, number: &str) -> String {
        let Some(separator) = self.grouping else {
            return number.to_owned();
        };
        let end = number
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(number.len());
        let (whole, rest) = number.split_at(end);
        let size = match self.kind {
            Kind::Hex | Kind::Octal | Kind::Binary => 4,
            _ => 3,
        };
        let mut text = String::with_capacity(number.len() * 2);
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (end - at).is_multiple_of(size) {
                text.push(separator);
            }
            text.push(digit);
        }
        text + rest
    }

    fn pad(&self, natural: Align, head: &str, body: &str, out: &mut String) {
        let length = head.chars().count() + body.chars().count();
        let missing = self.width.saturating_sub(length);
        let align = match self.align {
            Align::Natural => natural,
            align => align,
        };
        let (before, between, after) = match align {
            Align::Left => (0, 0, missing),
            Align::Center => (missing / 2, 0, missing - missing / 2),
            Align::AfterSign => (0, missing, 0),
            Align::Natural | Align::Right => (missing, 0, 0),
        };
        out.extend(std::iter::repeat_n(self.fill, before));
        out.push_str(head);
        out.extend(std::iter::repeat_n(self.fill, between));
        out.push_str(body);
        out.extend(std::iter::repeat_n(self.fill, after));
    }
}

/// Python's `repr()` of a float that is neither tiny nor huge.
fn float_repr(number: f64) -> String {
    format!("{number:?}")
}

/// `1.5e+03`; Rust writes the exponent without sign and padding.
fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// C's `%g`.
fn general(number: f64, precision: usize, keep_zeros: bool) -> String {
    let precision = precision.max(1);
    let scientific = exponent(number, precision - 1);
    let power: i32 = scientific
        .split_once('e')
        .and_then(|(_, power)| power.parse().ok())
        .unwrap_or_default();
    let limit = i32::try_from(precision).unwrap_or(i32::MAX);
    if !(-4..limit).contains(&power) {
        let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
        let mantissa = if keep_zeros {
            mantissa
        } else {
            trimmed(mantissa)
        };
        return format!("{mantissa}e{power}");
    }
    let decimals = usize::try_from(limit - 1 - power).unwrap_or_default();
    let text = format!("{number:.decimals$}");
    if keep_zeros {
        text
    } else {
        trimmed(&text).to_owned()
    }
}

fn trimmed(number: &str) -> &str {
    if number.contains('.') {
        return number.trim_end_matches('0').trim_end_matches('.');
    }
    number
}

/// Python's `repr()` or `ascii()` of a string.
fn repr(text: &str, ascii: bool) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for letter in text.chars() {
        match letter {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            _ if letter == quote => quoted.extend(['\\', quote]),
            _ if letter.is_control() || (ascii && !letter.is_ascii()) => {
                push_escape(letter, &mut quoted);
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push(quote);
    quoted
}

fn push_escape(letter: char, out: &mut String) {
    let code = u32::from(letter);
    // Writing to a String cannot fail.
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}
