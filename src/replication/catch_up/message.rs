//! What the two sides of a transfer say to each other, here and in `staging`.
//!
//! ```text
//! frame    length of the rest (4), kind (1), the fields of the kind
//! ```
//!
//! Numbers are big-endian. The receiver asks, the sender answers; so neither
//! waits for the other to read.

use super::{Result, fields};
use crate::replication::types::StateMark;
use crate::storage::file::transfer::content::Digest;
use crate::storage::staging::FileDigest;
use crate::types::{Oid, Tid};

/// What the receiver says first, so that nothing else is taken for it.
pub(super) const VERSION: u64 = 0x7a65_6f64_2d63_0001;
/// No frame is longer.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// What the receiver has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// How many packs its file has seen; None: not known.
    pub packs: Option<u64>,
    /// Its file's length.
    pub length: u64,
    /// The last transaction in it.
    pub last_tid: Tid,
    /// [`crate::storage::file::transfer::HeldFile::probe`] of it.
    pub probe: u32,
    /// What it has received behind that before: bytes, and their CRC-32.
    pub tail: (u64, u32),
}

/// What the sender has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its state.
    pub mark: StateMark,
    /// The first bytes of its file.
    pub magic: [u8; 4],
    /// The receiver's file is the beginning of it, and so is what it has
    /// received behind that, up to here.
    pub tail: Option<u64>,
}

/// A run of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its last transaction.
    pub last: Tid,
    /// Of the digests of its transactions.
    pub digest: Digest,
    /// The status of each, with how many in a row have it.
    pub statuses: Vec<(u16, u8)>,
}

/// A transaction of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub tid: Tid,
    /// Its status.
    pub status: u8,
    /// Of its content.
    pub digest: Digest,
}

/// What the receiver lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// All transactions of the runs from the one to the other.
    Runs(u32, u32),
    /// One transaction.
    Transaction {
        /// The run that it is in.
        run: u32,
        /// Its id.
        tid: Tid,
        /// Digests of the data of the records that the receiver has under this
        /// id; None for those without data.
        have: Vec<Option<Digest>>,
    },
}

/// A blob that a record needs, and the length of the file that the receiver
/// has of it ([`NO_BLOB`]: none).
pub type BlobNeed = (Oid, Tid, u64);
/// See [`BlobNeed`].
pub const NO_BLOB: u64 = u64::MAX;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Receiver: what it has. Answer: [`Message::Offer`].
    Hello(Hello),
    /// Sender.
    Offer(Offer),
    /// Receiver: send the file's bytes from there. Answer: data.
    SendRaw(u64),
    /// Receiver: answer: [`Message::Runs`]…, then [`Message::RunsEnd`] or
    /// [`Message::NotComparable`].
    SendRuns,
    /// Sender: the next runs, and how far it has read its file.
    Runs(u64, Vec<Run>),
    /// Sender: these were all; the CRC-32 of its file.
    RunsEnd(u32),
    /// Sender: its file cannot be compared; why.
    NotComparable(String),
    /// Receiver: which transactions are in these runs? Answer: [`Message::Entries`] for each.
    List(Vec<u32>),
    /// Sender.
    Entries(Vec<Entry>),
    /// Receiver: what it lacks; more follows.
    Get(Vec<Item>),
    /// Receiver: that was all. Answer: the transactions in this order, as data.
    GetEnd,
    /// Receiver: these are needed. Answer: for each that it lacks
    /// [`Message::Blob`] and data, or [`Message::NoBlob`]; then [`Message::BlobsEnd`].
    NeedBlobs(Vec<BlobNeed>),
    /// Sender: the blob with this number among those needed, and its length.
    Blob(u32, u64),
    /// Sender: there is no such blob.
    NoBlob(u32),
    /// Sender.
    BlobsEnd,
    /// Staging: these files are to be stored. Answer: [`Message::Lacking`].
    Stage(Vec<FileDigest>),
    /// Staging: of these, those with these numbers are not here. Each is to
    /// come as [`Message::File`] and data; then the answer is [`Message::Stored`].
    Lacking(Vec<u32>),
    /// Staging: the file with this number follows as data.
    File(u32),
    /// Staging: all are here, durably.
    Stored,
    /// Fetching: this file is wanted, which is a blob's where that is said.
    /// Answer: [`Message::File`] and data, or [`Message::NotHere`].
    Fetch(FileDigest, Option<(Oid, Tid)>),
    /// Fetching.
    NotHere,
    /// Either, at any time: it works and will say more.
    StillHere,
    /// A piece of what was asked for.
    Data(Vec<u8>),
    /// That was all of it.
    DataEnd,
    /// Receiver: it has all. Answer: [`Message::Goodbye`].
    Finished,
    /// Sender: nothing follows.
    Goodbye,
    /// Either: it gives up, and why.
    Failed(String),
}

impl Message {
    /// Does the other side say nothing after it?
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished | Self::Goodbye | Self::Failed(_))
    }

    /// The frame, with its length.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut out = Out(vec![0; 4]);
        self.put(&mut out);
        let mut frame = out.0;
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        if let Some(place) = frame.first_chunk_mut() {
            *place = length.to_be_bytes();
        }
        frame
    }

    fn put(&self, out: &mut Out) {
        match self {
            Self::Hello(hello) => {
                out.kind(1).number(VERSION);
                out.number(u64::from(hello.packs.is_some()));
                out.number(hello.packs.unwrap_or(0)).number(hello.length);
                out.bytes(&hello.last_tid.0).short(hello.probe);
                out.number(hello.tail.0).short(hello.tail.1);
            }
            Self::Offer(offer) => {
                let mark = &offer.mark;
                out.kind(2).bytes(&mark.last_tid.0).number(mark.length);
                out.number(mark.packs).number(mark.reserved_oid);
                out.bytes(&offer.magic).number(offer.tail.unwrap_or(0));
            }
            Self::SendRaw(from) => {
                out.kind(3).number(*from);
            }
            Self::SendRuns => {
                out.kind(4);
            }
            Self::Runs(position, runs) => {
                out.kind(5).number(*position);
                for run in runs {
                    out.run(run);
                }
            }
            Self::RunsEnd(crc) => {
                out.kind(6).short(*crc);
            }
            Self::NotComparable(why) => {
                out.kind(7).bytes(why.as_bytes());
            }
            Self::List(runs) => {
                out.kind(8);
                for run in runs {
                    out.short(*run);
                }
            }
            Self::Entries(entries) => {
                out.kind(9);
                for entry in entries {
                    out.bytes(&entry.tid.0).bytes(&[entry.status]);
                    out.bytes(&entry.digest.0);
                }
            }
            Self::Get(items) => {
                out.kind(10);
                for item in items {
                    out.item(item);
                }
            }
            Self::GetEnd => _ = out.kind(11),
            Self::Data(piece) => {
                let crc = crc32fast::hash(piece);
                out.kind(16).short(crc).bytes(piece);
            }
            Self::DataEnd => _ = out.kind(17),
            Self::Finished => _ = out.kind(18),
            Self::Goodbye => _ = out.kind(19),
            Self::Failed(why) => _ = out.kind(20).bytes(why.as_bytes()),
            other => other.put_of_files(out),
        }
    }

    fn put_of_files(&self, out: &mut Out) {
        match self {
            Self::NeedBlobs(needs) => {
                out.kind(12);
                for (oid, tid, length) in needs {
                    out.bytes(&oid.0).bytes(&tid.0).number(*length);
                }
            }
            Self::Blob(number, length) => _ = out.kind(13).short(*number).number(*length),
            Self::NoBlob(number) => _ = out.kind(14).short(*number),
            Self::BlobsEnd => _ = out.kind(15),
            Self::Stage(files) => {
                out.kind(21);
                for file in files {
                    out.bytes(&file.sha256).number(file.length);
                }
            }
            Self::Lacking(numbers) => {
                out.kind(22);
                for number in numbers {
                    out.short(*number);
                }
            }
            Self::File(number) => _ = out.kind(23).short(*number),
            Self::Stored => _ = out.kind(24),
            Self::Fetch(file, blob) => {
                out.kind(25).bytes(&file.sha256).number(file.length);
                if let Some((oid, tid)) = blob {
                    out.bytes(&oid.0).bytes(&tid.0);
                }
            }
            Self::NotHere => _ = out.kind(26),
            Self::StillHere => _ = out.kind(27),
            _ => {}
        }
    }

    /// Reads a frame without its length.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        fields::parse(frame)
    }
}

struct Out(Vec<u8>);

impl Out {
    fn kind(&mut self, kind: u8) -> &mut Self {
        self.bytes(&[kind])
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn short(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn run(&mut self, run: &Run) {
        self.bytes(&run.last.0).bytes(&run.digest.0);
        self.bytes(&[u8::try_from(run.statuses.len()).unwrap_or(u8::MAX)]);
        for (count, status) in &run.statuses {
            self.bytes(&count.to_be_bytes()).bytes(&[*status]);
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Runs(first, last) => _ = self.bytes(&[0]).short(*first).short(*last),
            Item::Transaction { run, tid, have } => {
                self.bytes(&[1]).short(*run).bytes(&tid.0);
                self.short(u32::try_from(have.len()).unwrap_or(u32::MAX));
                for digest in have {
                    match digest {
                        Some(digest) => self.bytes(&[1]).bytes(&digest.0),
                        None => self.bytes(&[0]),
                    };
                }
            }
        }
    }
}
