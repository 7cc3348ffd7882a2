//! Is the end of a log file as an ordinary crash leaves it, or damaged?
//!
//! raft-engine's own ways are too coarse: strict, it refuses what every
//! `kill -9` leaves (it allocates ahead, so the file ends with zeros); tolerant, it
//! cuts off acknowledged entries without a word.
//!
//! A file, numbers big-endian where not said otherwise (source: raft-engine,
//! `file_pipe_log/format.rs` and `log_batch.rs`):
//!
//! ```text
//! file    magic, version u64 = 2, alignment u64 = 0 | records | zeros, allocated ahead
//! record  length u56, compression u8 = 0, offset of the items u64
//!         | entries, their CRC-32 (little-endian) | items, their CRC-32 xor number of the file (LE)
//! ```
//!
//! # The rule
//!
//! The log syncs each record before it writes the next, and never writes over
//! used room, so what a write that was torn leaves is: one record at the very end,
//! some sectors of which are zero still. Everything else that does not
//! check out is [`End::Damaged`]: acknowledged entries may be gone.
//!
//! Wrongly taken for damage is a write torn by a power cut on a file system that
//! cannot allocate ahead, and rewritten files of which a power cut has torn more
//! than one record. Wrongly taken for torn is damage to the last record of all that
//! zeroes a sector of it, or if one of its payload's is zero anyway. Not seen is
//! a file that was cut right behind a record; `load` sees it if what is gone was applied.

/// What a file ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The records end at this offset, in order; what follows was never acknowledged.
    At(usize),
    /// The file was about to be made: it has no record, and not even a header.
    Unborn,
    /// Records up to `good` are in order, the one there is not.
    Damaged {
        /// The offset; 0: the header itself is broken.
        good: usize,
        /// In words.
        why: &'static str,
    },
}

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const FILE_HEADER_SIZE: usize = MAGIC.len() + 16;
const RECORD_HEADER_SIZE: usize = 16;
const CRC_SIZE: usize = 4;
/// What a disk writes as one.
const SECTOR_SIZE: usize = 512;
/// Fewer zeros than this are in every record: the upper bytes of its numbers.
const LEAST_ZEROS: usize = 8;

/// Looks at all records of the file with the number `number`.
pub(super) fn scan(file: &[u8], number: u64) -> End {
    if !is_file_header(file) {
        // The header is there, and durable, before the first record.
        return if is_unborn(file) {
            End::Unborn
        } else {
            End::Damaged {
                good: 0,
                why: "its header is broken",
            }
        };
    }
    let mut at = FILE_HEADER_SIZE;
    while let Some(length) = record(file, at, number) {
        at += length;
    }
    let rest = file.get(at..).unwrap_or_default();
    if is_zero(rest) {
        return End::At(at);
    }
    let damaged = |why| End::Damaged { good: at, why };
    if (at + 1..file.len()).any(|later| record(file, later, number).is_some()) {
        return damaged("a record is broken, and records follow");
    }
    if is_torn(file, at) {
        End::At(at)
    } else {
        damaged("the last record is broken")
    }
}

fn is_file_header(file: &[u8]) -> bool {
    file.get(..FILE_HEADER_SIZE)
        .is_some_and(|header| header == file_header())
}

/// Whether there is nothing but a part of a header.
fn is_unborn(file: &[u8]) -> bool {
    let end = file.iter().rposition(|&byte| byte != 0);
    let written = end.and_then(|end| file.get(..=end)).unwrap_or_default();
    file_header().starts_with(written)
}

fn file_header() -> Vec<u8> {
    [MAGIC, &2_u64.to_be_bytes(), &0_u64.to_be_bytes()].concat()
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// What the header of a record says: its length, and where its items begin.
fn extent(file: &[u8], at: usize) -> Option<(usize, usize)> {
    let header = file.get(at..)?.first_chunk::<RECORD_HEADER_SIZE>()?;
    let (length, items) = header.split_first_chunk::<8>()?;
    let length = u64::from_be_bytes(*length);
    let items = usize::try_from(u64::from_be_bytes(*items.first_chunk()?)).ok()?;
    let [.., compression] = length.to_be_bytes();
    let is_plain = compression == 0;
    let length = usize::try_from(length >> 8).ok()?;
    let fits = items >= RECORD_HEADER_SIZE && items + CRC_SIZE < length;
    (is_plain && fits && length <= file.len() - at).then_some((length, items))
}

/// The length of the record at `at`, if it is in order.
fn record(file: &[u8], at: usize, number: u64) -> Option<usize> {
    let (length, items) = extent(file, at)?;
    let record = file.get(at..at + length)?;
    let (entries, items) = record
        .get(RECORD_HEADER_SIZE..)?
        .split_at_checked(items - RECORD_HEADER_SIZE)?;
    // raft-engine takes the lower half of the number as well.
    let signature = u32::try_from(number & u64::from(u32::MAX)).ok()?;
    let is_whole = checks(items, signature) && (entries.is_empty() || checks(entries, 0));
    is_whole.then_some(length)
}

fn checks(bytes: &[u8], signature: u32) -> bool {
    bytes
        .split_last_chunk::<CRC_SIZE>()
        .is_some_and(|(bytes, crc)| {
            !bytes.is_empty() && crc32fast::hash(bytes) == u32::from_le_bytes(*crc) ^ signature
        })
}

/// Whether a piece of the broken record at `at` was never written.
fn is_torn(file: &[u8], at: usize) -> bool {
    // A header that says nothing sensible must itself be torn.
    let length = extent(file, at).map_or(RECORD_HEADER_SIZE, |(length, _)| length);
    let end = file.len().min(at.saturating_add(length));
    let mut from = at;
    while from < end {
        let to = end.min((from / SECTOR_SIZE + 1) * SECTOR_SIZE);
        if to - from >= LEAST_ZEROS && file.get(from..to).is_some_and(is_zero) {
            return true;
        }
        from = to;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As raft-engine writes them.
    fn record_of(payload: &[u8], number: u32) -> Vec<u8> {
        let with_crc = |bytes: &[u8], signature: u32| {
            let crc = crc32fast::hash(bytes) ^ signature;
            [bytes, &crc.to_le_bytes()].concat()
        };
        let entries = if payload.is_empty() {
            Vec::new()
        } else {
            with_crc(payload, 0)
        };
        let items = with_crc(b"items", number);
        let offset = RECORD_HEADER_SIZE + entries.len();
        let length = (offset + items.len()) as u64;
        [
            &(length << 8).to_be_bytes()[..],
            &(offset as u64).to_be_bytes(),
            &entries,
            &items,
        ]
        .concat()
    }

    fn file_of(payloads: &[&[u8]]) -> Vec<u8> {
        let records = payloads.iter().map(|payload| record_of(payload, 3));
        std::iter::once(file_header())
            .chain(records)
            .flatten()
            .collect()
    }

    #[test]
    fn whole_files_end_where_their_records_do() {
        let file = file_of(&[b"one", b"", &[7; 3000]]);
        assert_eq!(scan(&file, 3), End::At(file.len()));
        let allocated = [&file[..], &[0; 5000]].concat();
        assert_eq!(scan(&allocated, 3), End::At(file.len()));
        assert_eq!(scan(&file_of(&[]), 3), End::At(FILE_HEADER_SIZE));
    }

    #[test]
    fn a_file_that_was_being_made_is_no_damage() {
        let part = file_header()[..20].to_vec();
        let allocated = [&part[..], &[0; 49]].concat();
        for file in [vec![], vec![0; 4096], part, allocated] {
            assert_eq!(scan(&file, 3), End::Unborn);
        }
        let broken = [&file_header()[1..], &[1; 100]].concat();
        assert!(matches!(scan(&broken, 3), End::Damaged { good: 0, .. }));
    }

    #[test]
    fn a_record_that_is_only_there_in_part_is_torn() {
        let before = file_of(&[&[7; 100]]).len();
        let mut file = file_of(&[&[7; 100], &[9; 6000]]);
        file.extend([0; 8192]);
        let end = file.len();
        for sector in (before / SECTOR_SIZE)..((before + 6000) / SECTOR_SIZE) {
            let mut torn = file.clone();
            let from = before.max(sector * SECTOR_SIZE);
            torn[from..(sector + 1) * SECTOR_SIZE].fill(0);
            assert_eq!(scan(&torn, 3), End::At(before), "sector {sector}");
            torn[from..end].fill(0);
            assert_eq!(scan(&torn, 3), End::At(before), "from sector {sector}");
        }
    }

    #[test]
    fn every_changed_byte_is_damage() {
        let file = [file_of(&[b"one", b"", &[5; 600], b"four"]), vec![0; 1000]].concat();
        let end = file.len() - 1000;
        for at in FILE_HEADER_SIZE..end {
            let mut changed = file.clone();
            changed[at] ^= 0x10;
            let found = scan(&changed, 3);
            assert!(matches!(found, End::Damaged { .. }), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn a_file_that_was_cut_inside_a_record_is_damaged() {
        let file = file_of(&[b"one", b"two"]);
        let first = file_of(&[b"one"]).len();
        // Before that, only zeros are left of it.
        for length in first + 7..file.len() {
            let found = scan(&file[..length], 3);
            assert!(
                matches!(found, End::Damaged { good, .. } if good == first),
                "cut to {length}: {found:?}"
            );
        }
    }

    #[test]
    fn records_of_another_file_do_not_count() {
        let file = [file_of(&[b"one"]), record_of(b"two", 4)].concat();
        let good = file_of(&[b"one"]).len();
        assert!(matches!(scan(&file, 3), End::Damaged { good: at, .. } if at == good));
    }
}
