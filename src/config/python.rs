//! Text rules of Python on which the accepted language depends.

/// Whether Python's `str.strip` and `\s` take this for white space: Rust's set
/// and the four ASCII separators.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split(None, 1)` of text that is stripped: the first word and the rest.
pub fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(is_space) {
        Some((word, rest)) => (word, rest.trim_start_matches(is_space)),
        None => (text, ""),
    }
}

/// `int(text)`: white space around, a sign, single underscores between digits.
/// `None` also where the number exceeds 128 bits.
pub fn integer(text: &str) -> Option<i128> {
    without_underscores(strip(text))?.parse().ok()
}

/// `float(text)`.
pub fn float(text: &str) -> Option<f64> {
    without_underscores(strip(text))?.parse().ok()
}

/// Drops the underscores that Python allows in numbers: one, between digits.
fn without_underscores(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut previous = ' ';
    while let Some(character) = characters.next() {
        if character == '_' {
            let next_is_digit = characters.peek().is_some_and(char::is_ascii_digit);
            if !previous.is_ascii_digit() || !next_is_digit {
                return None;
            }
        } else {
            plain.push(character);
        }
        previous = character;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_python_reads_them() {
        for (text, number) in [
            ("0", 0),
            (" 12 ", 12),
            ("+7", 7),
            ("-7", -7),
            ("007", 7),
            ("1_000", 1000),
        ] {
            assert_eq!(integer(text), Some(number), "{text:?}");
        }
        for text in ["", "1.0", "1__0", "_1", "1_", "0x10", "1 0", "+-1", "one"] {
            assert_eq!(integer(text), None, "{text:?}");
        }
    }

    #[test]
    fn floats_are_read_as_python_reads_them() {
        assert_eq!(float(" 1_0.5 "), Some(10.5));
        assert_eq!(float(".5"), Some(0.5));
        assert_eq!(float("1e3"), Some(1000.0));
        assert!(float("NaN").is_some_and(f64::is_nan));
        assert_eq!(float("1,5"), None);
    }
}
