//! Which file an `%include` means (source: ZConfig url.py, loader.py).

use std::path::{Component, Path, PathBuf};

use crate::config::Fault;

/// The file that `target`, written in the file `including`, means: a path
/// relative to the including file, an absolute path, or a `file:` URL. As in a
/// URL, `%20` is a space.
pub fn resolve(including: &Path, target: &str) -> Result<PathBuf, Fault> {
    let fault = |reason| Fault::IncludeTarget {
        target: target.to_owned(),
        reason,
    };
    if target.contains('#') {
        return Err(fault("a '#' is not supported"));
    }
    if let Some(path) = file_url_path(target) {
        return Ok(without_dots(&path));
    }
    if let Some(scheme) = scheme(target) {
        return Err(fault(if scheme.eq_ignore_ascii_case("package") {
            "there are no Python packages to read from"
        } else {
            "only files of this machine are read"
        }));
    }
    let directory = including.parent().unwrap_or(Path::new(""));
    Ok(without_dots(&directory.join(unquote(target))))
}

/// As URLs are joined: `sub/../x` is `x`, whether there is a `sub` or not.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match (part, plain.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                plain.pop();
            }
            (Component::ParentDir, Some(Component::RootDir)) | (Component::CurDir, _) => {}
            _ => plain.push(part),
        }
    }
    plain
}

/// The path of a `file:` URL, `None` for anything else.
pub fn file_url_path(text: &str) -> Option<PathBuf> {
    let (scheme, rest) = text.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let path = rest
        .strip_prefix("//localhost/")
        .map(|path| format!("/{path}"))
        .or_else(|| rest.strip_prefix("//").map(str::to_owned))
        .unwrap_or_else(|| rest.to_owned());
    Some(unquote(&path).into())
}

/// The scheme of a URL. A single letter is none: it could be a drive.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let legal = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    legal.then_some(scheme)
}

/// Replaces `%XX`; a `%` without two hex digits stays.
fn unquote(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).filter(|digits| !digits.starts_with('+'));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(b'%');
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_including_file() {
        let including = Path::new("/etc/zeo/zeo.conf");
        for (target, path) in [
            ("more.conf", "/etc/zeo/more.conf"),
            ("/srv/more.conf", "/srv/more.conf"),
            ("../more.conf", "/etc/more.conf"),
            ("none/.././../../../more.conf", "/more.conf"),
            ("file:///srv/a%20b.conf", "/srv/a b.conf"),
            ("FILE:/srv/more.conf", "/srv/more.conf"),
            ("file://localhost/srv/more.conf", "/srv/more.conf"),
            ("a%20b%zz%", "/etc/zeo/a b%zz%"),
        ] {
            assert_eq!(resolve(including, target).unwrap(), Path::new(path));
        }
        assert_eq!(resolve(Path::new("zeo.conf"), "x").unwrap(), Path::new("x"));
    }

    #[test]
    fn other_urls_are_refused() {
        for target in ["http://example.org/x", "package:ZEO:x.conf", "x#y"] {
            assert!(resolve(Path::new("zeo.conf"), target).is_err());
        }
    }
}
