//! `$name`, `${name}`, `$(ENVIRONMENT)` and `$$` in values (source: ZConfig
//! substitution.py).

use std::collections::BTreeMap;

use crate::config::tree::excerpt;
use crate::config::{Environment, Fault};

/// Definitions by name in lower case.
pub type Defines = BTreeMap<String, String>;

/// What a value may grow to. Definitions can double at every line, so that a
/// short file could ask for any amount of memory.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// One `$…`: what it stands for, and what follows it.
struct Reference<'a> {
    source: Source<'a>,
    rest: &'a str,
}

enum Source<'a> {
    Dollar,
    Define(&'a str),
    Environment(&'a str),
}

/// Replaces every `$…` in `text`. What is put in is not looked at again.
pub fn substitute(
    text: &str,
    defines: &Defines,
    environment: &Environment<'_>,
) -> Result<String, Fault> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let reference = read_reference(after).map_err(|reason| Fault::Substitution {
            text: excerpt(text),
            reason,
        })?;
        match reference.source {
            Source::Dollar => result.push('$'),
            Source::Define(name) => result.push_str(defined(name, defines)?),
            Source::Environment(name) => {
                result.push_str(&environment(name).ok_or_else(|| Fault::UndefinedVariable {
                    name: name.to_owned(),
                })?);
            }
        }
        if result.len() > MAX_VALUE_BYTES {
            return Err(Fault::ValueTooLong {
                limit: MAX_VALUE_BYTES,
            });
        }
        rest = reference.rest;
    }
    result.push_str(rest);
    Ok(result)
}

/// Whether `text` can be defined: a letter or `_`, then those and digits.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && name_length(text) == text.len()
}

fn defined<'a>(name: &str, defines: &'a Defines) -> Result<&'a str, Fault> {
    match defines.get(&name.to_lowercase()) {
        Some(value) => Ok(value),
        None => Err(Fault::UndefinedName {
            name: name.to_owned(),
            defined: if defines.is_empty() {
                "nothing".to_owned()
            } else {
                defines.keys().cloned().collect::<Vec<_>>().join(", ")
            },
        }),
    }
}

/// Reads what stands behind a `$`.
fn read_reference(text: &str) -> Result<Reference<'_>, &'static str> {
    if let Some(rest) = text.strip_prefix('$') {
        return Ok(Reference {
            source: Source::Dollar,
            rest,
        });
    }
    if let Some(inner) = text.strip_prefix('{') {
        let (name, after) = split_name(inner).ok_or("'${' is not followed by a name")?;
        let rest = after.strip_prefix('}').ok_or("'}' is missing")?;
        return Ok(Reference {
            source: Source::Define(name),
            rest,
        });
    }
    if let Some(inner) = text.strip_prefix('(') {
        let (name, after) = split_name(inner).ok_or("'$(' is not followed by a name")?;
        let rest = after.strip_prefix(')').ok_or("')' is missing")?;
        return Ok(Reference {
            source: Source::Environment(name),
            rest,
        });
    }
    let (name, rest) = split_name(text).ok_or("'$' is not followed by a name")?;
    Ok(Reference {
        source: Source::Define(name),
        rest,
    })
}

fn split_name(text: &str) -> Option<(&str, &str)> {
    let length = name_length(text);
    (length > 0).then(|| text.split_at(length))
}

/// The length in bytes of the name at the start of `text`; 0 if there is none.
fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(text: &str) -> Result<String, String> {
        let defines = Defines::from([
            ("name".to_owned(), "value".to_owned()),
            ("dollar".to_owned(), "$name".to_owned()),
            ("_x1".to_owned(), String::new()),
        ]);
        let environment = |name: &str| (name == "Home").then(|| "/home".to_owned());
        substitute(text, &defines, &environment).map_err(|fault| fault.to_string())
    }

    #[test]
    fn replaces_every_form() {
        for (text, result) in [
            ("", ""),
            ("plain", "plain"),
            ("$name", "value"),
            ("$NAME/x", "value/x"),
            ("a${Name}b", "avalueb"),
            ("$$name", "$name"),
            ("$$$name$$", "$value$"),
            ("$(Home)/x", "/home/x"),
            ("$dollar", "$name"),
            ("[$_x1]", "[]"),
            ("$name-x.y", "value-x.y"),
        ] {
            assert_eq!(replace(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("$", "'$' is not followed by a name"),
            ("$1", "'$' is not followed by a name"),
            ("$ name", "'$' is not followed by a name"),
            ("${}", "'${' is not followed by a name"),
            ("${name", "'}' is missing"),
            ("$()", "'$(' is not followed by a name"),
            ("$(Home", "')' is missing"),
            (
                "$other",
                "\"other\" is not defined; write %define other VALUE above, or $$ for a '$'; \
                 defined here: _x1, dollar, name",
            ),
            ("$(HOME)", "environment variable \"HOME\" is not set"),
        ] {
            let message = replace(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn values_do_not_grow_without_limit() {
        let defines = Defines::from([("x".to_owned(), "x".repeat(MAX_VALUE_BYTES))]);
        let fault = substitute("$x$x", &defines, &|_| None).unwrap_err();
        assert!(matches!(fault, Fault::ValueTooLong { .. }));
    }
}
