//! What nodes ask the leader of a storage for: oids and packs; and each other.

use bytes::Bytes;

use super::entry_codec::{DecodeError, Layout, Reader, decode, encode, put_length, put_u64};
use crate::types::Tid;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// For so many oids that nobody else has.
    Oids {
        /// How many.
        count: u64,
    },
    /// For a pack on all nodes.
    Pack {
        /// To this time.
        stop: Tid,
    },
    /// Whether the leader has done a pack. It waits a moment for that before it answers.
    Packed {
        /// The pack's place in the log.
        log_index: u64,
    },
    /// Which files beside the log the member that is asked may still need. The only question that
    /// members answer that do not lead.
    Files,
}

/// What the leader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The last of the oids.
    Oids {
        /// The others stand before it without gaps.
        last: u64,
    },
    /// The pack's place in the log.
    Pack {
        /// Its index.
        log_index: u64,
    },
    /// The pack is not done yet.
    Packing,
    /// Files that entries name from here on; none that is named before.
    Files {
        /// The first such entry.
        needed_from: u64,
    },
    /// It will not be.
    No {
        /// In words.
        why: String,
    },
}

impl Question {
    /// As it travels.
    pub fn encode(&self) -> Bytes {
        encode(self).into()
    }

    /// The other way.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Answer {
    /// As it travels.
    pub fn encode(&self) -> Bytes {
        encode(self).into()
    }

    /// The other way.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

const OIDS: u8 = 0;
const PACK: u8 = 1;
const NO: u8 = 2;
const PACKED: u8 = 3;
const PACKING: u8 = 4;
const FILES: u8 = 5;

impl Layout for Question {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oids { count } => {
                out.push(OIDS);
                put_u64(*count, out);
            }
            Self::Pack { stop } => {
                out.push(PACK);
                put_u64(stop.to_u64(), out);
            }
            Self::Packed { log_index } => {
                out.push(PACKED);
                put_u64(*log_index, out);
            }
            Self::Files => out.push(FILES),
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.u8("a question")? {
            OIDS => Ok(Self::Oids {
                count: from.u64("a number of oids")?,
            }),
            PACK => Ok(Self::Pack {
                stop: Tid::from_u64(from.u64("a pack time")?),
            }),
            PACKED => Ok(Self::Packed {
                log_index: from.u64("a log index")?,
            }),
            FILES => Ok(Self::Files),
            other => Err(DecodeError::Value {
                what: "a question",
                value: other.into(),
            }),
        }
    }
}

impl Layout for Answer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oids { last } => {
                out.push(OIDS);
                put_u64(*last, out);
            }
            Self::Pack { log_index } => {
                out.push(PACK);
                put_u64(*log_index, out);
            }
            Self::Packing => out.push(PACKING),
            Self::Files { needed_from } => {
                out.push(FILES);
                put_u64(*needed_from, out);
            }
            Self::No { why } => {
                out.push(NO);
                put_length(why.len(), out);
                out.extend_from_slice(why.as_bytes());
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.u8("an answer")? {
            OIDS => Ok(Self::Oids {
                last: from.u64("an oid")?,
            }),
            PACK => Ok(Self::Pack {
                log_index: from.u64("a log index")?,
            }),
            PACKING => Ok(Self::Packing),
            FILES => Ok(Self::Files {
                needed_from: from.u64("a log index")?,
            }),
            NO => {
                let length = from.u64("a text's length")?;
                let why = from.bytes(length, "a text")?;
                Ok(Self::No {
                    why: String::from_utf8_lossy(&why).into_owned(),
                })
            }
            other => Err(DecodeError::Value {
                what: "an answer",
                value: other.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_come_back() {
        for question in [
            Question::Oids { count: 7 },
            Question::Pack {
                stop: Tid::from_u64(8),
            },
            Question::Packed { log_index: 5 },
            Question::Files,
        ] {
            assert_eq!(Question::decode(question.encode()).unwrap(), question);
        }
        for answer in [
            Answer::Oids { last: 9 },
            Answer::Pack { log_index: 3 },
            Answer::Packing,
            Answer::Files { needed_from: 6 },
            Answer::No {
                why: "a pack runs".to_owned(),
            },
        ] {
            assert_eq!(Answer::decode(answer.encode()).unwrap(), answer);
            let cut = answer.encode();
            assert!(Answer::decode(cut.slice(..cut.len() - 1)).is_err());
        }
    }
}
