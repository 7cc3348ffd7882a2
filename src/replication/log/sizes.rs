use std::collections::VecDeque;

/// So many bytes of entries share a mark.
const STEP_BYTES: u64 = 256 * 1024;

/// How many bytes the entries of a log have, from any index on; in steps.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// First index, and the bytes from there to the next mark or to the end.
    marks: VecDeque<(u64, u64)>,
}

impl Sizes {
    /// The next entry has `bytes`.
    pub fn push(&mut self, index: u64, bytes: u64) {
        match self.marks.back_mut() {
            Some((_, sum)) if *sum < STEP_BYTES => *sum += bytes,
            _ => self.marks.push_back((index, bytes)),
        }
    }

    /// Entries from `index` on are gone. What is left of the last step counts whole.
    pub fn cut_end(&mut self, index: u64) {
        while self
            .marks
            .pop_back_if(|(first, _)| *first >= index)
            .is_some()
        {}
    }

    /// Entries before `index` are gone. What is left of the first step counts whole.
    pub fn cut_beginning(&mut self, index: u64) {
        while self.marks.get(1).is_some_and(|(first, _)| *first <= index) {
            self.marks.pop_front();
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.marks.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The first index to be kept so that no more than `bytes` are, but the last step at
    /// least. None: all can be kept.
    pub fn keeping(&self, bytes: u64) -> Option<u64> {
        let mut kept = 0;
        let mut from = self.marks.back().map(|&(first, _)| first);
        for &(first, size) in self.marks.iter().rev() {
            kept += size;
            if kept > bytes {
                return from;
            }
            from = Some(first);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> Sizes {
        let mut sizes = Sizes::default();
        (0..100).for_each(|index| sizes.push(index, STEP_BYTES / 2));
        sizes
    }

    #[test]
    fn so_much_is_kept() {
        let sizes = sizes();
        assert_eq!(sizes.total(), 50 * STEP_BYTES);
        assert_eq!(sizes.keeping(50 * STEP_BYTES), None);
        assert_eq!(sizes.keeping(10 * STEP_BYTES), Some(80));
        assert_eq!(sizes.keeping(0), Some(98));
        assert_eq!(Sizes::default().keeping(10), None);
    }

    #[test]
    fn what_is_cut_does_not_count() {
        let mut sizes = sizes();
        sizes.cut_beginning(50);
        sizes.cut_end(80);
        assert_eq!(sizes.total(), 15 * STEP_BYTES);
        sizes.cut_beginning(1000);
        sizes.cut_end(0);
        assert_eq!(sizes.total(), 0);
    }
}
