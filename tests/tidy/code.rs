//! Rust source with everything blanked out that is no code: comments, the
//! insides of strings and characters, and what is compiled for tests only.
//! Line ends stay, so positions still tell the line.

/// Source text whose comments, literals and test items are blanks.
pub struct Code {
    text: Vec<u8>,
}

impl Code {
    /// Comments and literals blanked.
    pub fn of(source: &str) -> Self {
        let mut blanker = Blanker {
            text: source.as_bytes().to_vec(),
            at: 0,
        };
        blanker.run();
        Self { text: blanker.text }
    }

    /// Items under `#[cfg(test)]` blanked too.
    pub fn without_tests(mut self) -> Self {
        const MARK: &[u8] = b"#[cfg(test)]";
        while let Some(start) = find(&self.text, MARK, 0) {
            let end = self.item_end(start + MARK.len());
            blank(&mut self.text[start..end]);
        }
        self
    }

    /// The bytes, to look at and to count in.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// The number of the line that position `at` is on, from 1.
    pub fn line(&self, at: usize) -> usize {
        let before = String::from_utf8_lossy(&self.text[..at]);
        before.matches('\n').count() + 1
    }

    /// Positions of `word` where it stands alone.
    pub fn words<'c>(&'c self, word: &'c str) -> impl Iterator<Item = usize> + 'c {
        self.all(word).filter(move |&at| {
            let before = at.checked_sub(1).map(|before| self.text[before]);
            let after = self.text.get(at + word.len()).copied();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    }

    /// Positions of `piece`.
    pub fn all<'c>(&'c self, piece: &'c str) -> impl Iterator<Item = usize> + 'c {
        let mut from = 0;
        std::iter::from_fn(move || {
            let at = find(&self.text, piece.as_bytes(), from)?;
            from = at + 1;
            Some(at)
        })
    }

    /// The position behind the bracket that closes the one at `open`.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (at, byte) in self.text.iter().enumerate().skip(open) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                b'}' | b')' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.text.len()
    }

    /// The body of the item that begins at `from`: its braces' positions.
    /// None: it ends with a semicolon.
    pub fn body(&self, from: usize) -> Option<std::ops::Range<usize>> {
        let mut at = from;
        while at < self.text.len() {
            match self.text[at] {
                b'{' => return Some(at..self.closing(at)),
                b';' => return None,
                b'(' | b'[' => at = self.closing(at),
                _ => at += 1,
            }
        }
        None
    }

    fn item_end(&self, from: usize) -> usize {
        match self.body(from) {
            // A `use` of several names goes on behind its braces.
            Some(body) => body.end,
            None => find(&self.text, b";", from).map_or(self.text.len(), |at| at + 1),
        }
    }
}

/// The word that begins at `at`; empty where none does.
pub fn word_at(text: &[u8], at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let length = rest.iter().take_while(|&&byte| is_word(byte)).count();
    std::str::from_utf8(&rest[..length]).unwrap_or_default()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn find(text: &[u8], piece: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(piece.len())
        .position(|window| window == piece)
        .map(|at| from + at)
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

struct Blanker {
    text: Vec<u8>,
    at: usize,
}

impl Blanker {
    fn run(&mut self) {
        while self.at < self.text.len() {
            let end = match &self.text[self.at..] {
                [b'/', b'/', ..] => self.until(b"\n", self.at),
                [b'/', b'*', ..] => self.comment_end(),
                [b'"', ..] => self.string_end(),
                [b'r', b'"' | b'#', ..] if self.begins_a_word() => self.raw_string_end(),
                [b'b', b'r', b'"' | b'#', ..] => self.raw_string_end(),
                [b'\'', b'\\', ..] => self.until(b"'", self.at + 3) + 1,
                [b'\'', _, b'\'', ..] => self.at + 3,
                _ => {
                    self.at += 1;
                    continue;
                }
            };
            let end = end.min(self.text.len());
            blank(&mut self.text[self.at..end]);
            self.at = end;
        }
    }

    fn begins_a_word(&self) -> bool {
        !self
            .at
            .checked_sub(1)
            .is_some_and(|at| is_word(self.text[at]))
    }

    fn until(&self, piece: &[u8], from: usize) -> usize {
        find(&self.text, piece, from).unwrap_or(self.text.len())
    }

    fn comment_end(&self) -> usize {
        let mut depth = 0_usize;
        let mut at = self.at;
        while at < self.text.len() {
            match &self.text[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        at
    }

    fn string_end(&self) -> usize {
        let mut at = self.at + 1;
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'\\' => at += 2,
                b'"' => return at + 1,
                _ => at += 1,
            }
        }
        at
    }

    fn raw_string_end(&self) -> usize {
        let hashes_start = self.until(b"r", self.at) + 1;
        let rest = &self.text[hashes_start..];
        let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
        if rest.get(hashes) != Some(&b'"') {
            // A raw identifier.
            return self.at + 1;
        }
        let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
        self.until(&end, hashes_start + hashes + 1) + end.len()
    }
}
