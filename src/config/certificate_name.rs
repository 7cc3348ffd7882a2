//! How access lists name certificates.

use std::fmt::{self, Write as _};

use thiserror::Error;

/// A name of a certificate, as an `<access>` section has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// `sha256:` and the hash of the whole certificate in hex, with or without
    /// colons; also as `openssl x509 -fingerprint -sha256` prints it.
    Fingerprint([u8; FINGERPRINT_BYTES]),
    /// The whole subject: `CN=zope1,O=Example`, or as openssl prints it.
    Subject(Subject),
    /// The subject's common name, where it has exactly one.
    CommonName(String),
}

/// Bytes of a SHA-256.
pub const FINGERPRINT_BYTES: usize = 32;

/// Whom a certificate is for: attributes and their values, such as `CN` and
/// `zope1`. Two are equal whichever end they are written from.
#[derive(Debug, Clone, Default)]
pub struct Subject(Vec<(String, String)>);

/// Why a text names no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{text}\" names no certificate: {why}")]
pub struct CertificateNameError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Attributes: the name that is shown, others that mean the same, the OID
/// (source: RFC 4519, RFC 2985, and the names that openssl prints).
const ATTRIBUTES: &[(&str, &[&str], &str)] = &[
    ("CN", &["commonName"], "2.5.4.3"),
    ("O", &["organizationName"], "2.5.4.10"),
    ("OU", &["organizationalUnitName"], "2.5.4.11"),
    ("C", &["countryName"], "2.5.4.6"),
    ("ST", &["S", "stateOrProvinceName"], "2.5.4.8"),
    ("L", &["localityName"], "2.5.4.7"),
    ("STREET", &["streetAddress"], "2.5.4.9"),
    ("DC", &["domainComponent"], "0.9.2342.19200300.100.1.25"),
    ("UID", &["userId"], "0.9.2342.19200300.100.1.1"),
    ("emailAddress", &["E", "Email"], "1.2.840.113549.1.9.1"),
    ("serialNumber", &[], "2.5.4.5"),
    ("SN", &["surname"], "2.5.4.4"),
    ("GN", &["givenName"], "2.5.4.42"),
    ("title", &[], "2.5.4.12"),
];

impl CertificateName {
    /// Reads an entry of an access list.
    pub fn parse(text: &str) -> Result<Self, CertificateNameError> {
        let text = text.trim();
        let failed = |why| CertificateNameError {
            text: text.to_owned(),
            why,
        };
        if let Some(hex) = after(text, "sha256:").or_else(|| after(text, "sha256 Fingerprint=")) {
            return fingerprint(hex)
                .map(Self::Fingerprint)
                .ok_or_else(|| failed("a SHA-256 fingerprint has 64 hex digits"));
        }
        let subject = after(text, "subject=").unwrap_or(text).trim();
        if subject.contains('=') {
            return Subject::parse(subject).map(Self::Subject).map_err(failed);
        }
        if subject.is_empty() {
            return Err(failed("it is empty"));
        }
        Ok(Self::CommonName(subject.to_owned()))
    }
}

/// What stands behind `prefix`, however that is capitalised.
fn after<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn fingerprint(hex: &str) -> Option<[u8; FINGERPRINT_BYTES]> {
    let digits: String = hex
        .chars()
        .filter(|c| *c != ':' && !c.is_whitespace())
        .collect();
    let mut bytes = [0; FINGERPRINT_BYTES];
    if !digits.is_ascii() || digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = hex_byte(pair)?;
    }
    Some(bytes)
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let &[high, low] = pair else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

impl Subject {
    /// A subject of attributes (names or OIDs) and values, the most general
    /// first, as certificates have them.
    pub fn new<A: AsRef<str>>(attributes: impl IntoIterator<Item = (A, String)>) -> Self {
        let known = |(name, value): (A, String)| (canonical(name.as_ref()), value);
        Self(attributes.into_iter().map(known).collect())
    }

    /// The common name. A certificate with several has none, as nobody can
    /// tell which of them was meant.
    pub fn common_name(&self) -> Option<&str> {
        let mut names = self.0.iter().filter(|(attribute, _)| attribute == "CN");
        let (_, name) = names.next()?;
        names.next().is_none().then_some(name)
    }

    /// `CN=zope1,O=Example`, `O = Example, CN = zope1` or `/O=Example/CN=zope1`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let parts = if text.starts_with('/') {
            slash_parts(text)
        } else {
            comma_parts(text)?
        };
        let mut attributes = Vec::with_capacity(parts.len());
        for part in &parts {
            let (name, value) = part.split_once('=').ok_or("a part of it has no \"=\"")?;
            let (name, value) = (name.trim(), value.trim());
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            if name.is_empty() || !name.chars().all(is_name) {
                return Err("what stands before a \"=\" is no attribute's name");
            }
            if value.is_empty() {
                return Err("an attribute of it has no value");
            }
            let value = if text.starts_with('/') {
                value.to_owned()
            } else {
                unescaped(value)?
            };
            attributes.push((name, value));
        }
        Ok(Self::new(attributes))
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.0.iter().eq(other.0.iter().rev())
    }
}

impl Eq for Subject {}

/// An attribute's name as it is shown and compared.
fn canonical(name: &str) -> String {
    let oid = after(name, "OID.").unwrap_or(name);
    let is_it = |(shown, others, known): &&(&str, &[&str], &str)| {
        *known == oid
            || shown.eq_ignore_ascii_case(name)
            || others.iter().any(|other| other.eq_ignore_ascii_case(name))
    };
    match ATTRIBUTES.iter().find(is_it) {
        Some((shown, ..)) => (*shown).to_owned(),
        None => oid.to_ascii_uppercase(),
    }
}

/// The parts of openssl's older form. A slash in a value is one where no
/// attribute follows.
fn slash_parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for piece in text.split('/').skip(1) {
        match parts.last_mut() {
            Some(last) if !piece.contains('=') => {
                last.push('/');
                last.push_str(piece);
            }
            _ => parts.push(piece.to_owned()),
        }
    }
    parts
}

/// The parts between `,`, `;` and `+`, which may be quoted or escaped.
fn comma_parts(text: &str) -> Result<Vec<String>, &'static str> {
    let mut parts = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for character in text.chars() {
        let is_plain = !is_quoted && !is_escaped;
        if is_plain && matches!(character, ',' | ';' | '+') {
            parts.push(String::new());
            continue;
        }
        match character {
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    if is_quoted || is_escaped {
        return Err("it ends within quotes or after a backslash");
    }
    Ok(parts)
}

/// A value without its quotes and backslashes.
fn unescaped(value: &str) -> Result<String, &'static str> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => {}
            b'\\' => {
                if let Some((byte, after)) = after
                    .split_at_checked(2)
                    .and_then(|(pair, after)| Some((hex_byte(pair)?, after)))
                {
                    plain.push(byte);
                    rest = after;
                } else if let Some((&escaped, after)) = after.split_first() {
                    plain.push(escaped);
                    rest = after;
                }
            }
            _ => plain.push(byte),
        }
    }
    String::from_utf8(plain).map_err(|_| "its escaped bytes are no UTF-8")
}

/// As RFC 4514 has it, the most special first: `CN=zope1,O=Example`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (attribute, value)) in self.0.iter().rev().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{attribute}={}", escaped(value))?;
        }
        Ok(())
    }
}

/// So that a value can be read back, and forges no line of a log.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for (at, character) in value.char_indices() {
        let is_last = at + character.len_utf8() == value.len();
        match character {
            ',' | '+' | ';' | '"' | '\\' | '<' | '>' => out.extend(['\\', character]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || is_last => out.push_str("\\20"),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    // Writing to a String does not fail.
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject::new([
            ("2.5.4.6", "DE".to_owned()),
            ("2.5.4.10", "Example, Inc.".to_owned()),
            ("2.5.4.3", "zope1".to_owned()),
            ("1.2.840.113549.1.9.1", "a@b".to_owned()),
        ])
    }

    #[test]
    fn a_subject_is_recognised_however_it_is_written() {
        for text in [
            r"emailAddress=a@b,CN=zope1,O=Example\, Inc.,C=DE",
            r"C=DE, O=Example\2C Inc., CN=zope1, E=a@b",
            r#"subject=C = DE, O = "Example, Inc.", CN = zope1, emailAddress = a@b"#,
            "/C=DE/O=Example, Inc./CN=zope1/emailAddress=a@b",
            r#"countryName=DE; 2.5.4.10="Example, Inc."; cn=zope1 + OID.1.2.840.113549.1.9.1=a@b"#,
        ] {
            let name = CertificateName::parse(text);
            assert_eq!(name, Ok(CertificateName::Subject(subject())), "{text}");
        }
        for text in [
            "CN=zope1",
            "CN=zope1,C=DE",
            r"emailAddress=a@b,CN=Zope1,O=Example\, Inc.,C=DE",
            r"CN=zope1,emailAddress=a@b,O=Example\, Inc.,C=DE",
        ] {
            let name = CertificateName::parse(text).unwrap();
            assert_ne!(name, CertificateName::Subject(subject()), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back_and_forges_no_line() {
        let hostile = "#a,b+\"c\\\n\u{85}=/ ";
        let subject = Subject::new([("O", hostile.to_owned()), ("CN", " x ".to_owned())]);
        let shown = subject.to_string();
        assert!(!shown.contains(char::is_control), "{shown}");
        let read = CertificateName::parse(&shown);
        assert_eq!(read, Ok(CertificateName::Subject(subject)), "{shown}");
    }

    #[test]
    fn fingerprints_are_read_as_openssl_prints_them() {
        let expected = Ok(CertificateName::Fingerprint([0xAB; 32]));
        let colons = ["AB"; 32].join(":");
        for text in [
            format!("sha256:{}", "ab".repeat(32)),
            format!("SHA256:{colons}"),
            format!("sha256 Fingerprint={colons}"),
        ] {
            assert_eq!(CertificateName::parse(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_without_an_attribute_is_a_common_name() {
        let name = CertificateName::CommonName("zope1.example.org".to_owned());
        assert_eq!(CertificateName::parse(" zope1.example.org "), Ok(name));
        let two = Subject::new([("CN", "a".to_owned()), ("CN", "b".to_owned())]);
        assert_eq!(two.common_name(), None);
        assert_eq!(subject().common_name(), Some("zope1"));
    }

    #[test]
    fn what_names_nothing_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "it is empty"),
            ("subject=", "it is empty"),
            ("sha256:00", "64 hex digits"),
            ("sha256:é", "64 hex digits"),
            ("CN=", "no value"),
            ("CN=a,b", "no \"=\""),
            ("=a", "no attribute's name"),
            ("C N=a", "no attribute's name"),
            ("CN=\"a", "within quotes"),
            ("CN=a\\", "after a backslash"),
            (r"CN=\FF", "no UTF-8"),
        ] {
            let error = CertificateName::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
