use super::Tid;

/// The longest user name, description or extension that a transaction header
/// can hold (their lengths are 16-bit numbers on disk).
pub const MAX_METADATA_BYTES: usize = u16::MAX as usize;

/// What a transaction says about itself, beside its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionMeta {
    /// The id, where it is known or prescribed (copying from another storage).
    pub tid: Option<Tid>,
    /// One character: `b' '` for a normal transaction, `b'p'` for a packed one.
    pub status: u8,
    /// User name, as the client sent it.
    pub user: Vec<u8>,
    /// Description, as the client sent it.
    pub description: Vec<u8>,
    /// A pickled dict, or empty where there is no extension.
    pub extension: Vec<u8>,
}
