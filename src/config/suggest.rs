//! What a misspelt word was meant to be.

/// Nothing that is allowed is longer; the distance costs quadratic time.
const LONGEST: usize = 64;

/// The candidate that `word` is most likely a misspelling of: at most a third
/// of its letters differ.
pub fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    closest_name(&word.to_lowercase().replace('_', "-"), candidates)
}

/// The same for names in which case and underscores count.
pub fn closest_name<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let word: Vec<char> = word.chars().collect();
    if word.len() > LONGEST {
        return None;
    }
    candidates
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many letters must be put in, taken out or replaced (Levenshtein).
fn distance(word: &[char], candidate: &str) -> usize {
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (letter, line) in candidate.chars().zip(1..) {
        let mut next = Vec::with_capacity(row.len());
        let mut left = line;
        next.push(left);
        for ((above, diagonal), other) in row.iter().skip(1).zip(&row).zip(word) {
            left = (diagonal + usize::from(*other != letter)).min(left.min(*above) + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let candidates = || ["path", "blob-dir", "read-only"].into_iter();
        assert_eq!(
            closest("read_only", candidates()).as_deref(),
            Some("read-only")
        );
        assert_eq!(
            closest("blobdir", candidates()).as_deref(),
            Some("blob-dir")
        );
        assert_eq!(closest("pth", candidates()).as_deref(), Some("path"));
        assert_eq!(closest("entirely-else", candidates()), None);
        assert_eq!(closest("", candidates()), None);
    }

    #[test]
    fn counts_edits() {
        let letters: Vec<char> = "kitten".chars().collect();
        assert_eq!(distance(&letters, "sitting"), 3);
        assert_eq!(distance(&letters, ""), 6);
        assert_eq!(distance(&[], "abc"), 3);
    }
}
