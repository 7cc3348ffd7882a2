/// Why a pickle is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at byte {offset} of the pickle)")]
pub struct PickleError {
    /// How many bytes had been read.
    pub offset: usize,
    /// What is wrong.
    pub fault: PickleFault,
}

/// What can be wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleFault {
    /// It ends too early.
    #[error("the pickle is cut short")]
    Truncated,
    /// It goes on after its end.
    #[error("there is data after the pickle")]
    TrailingData,
    /// An opcode that no plain data needs.
    #[error("opcode 0x{0:02x} is not allowed")]
    Opcode(u8),
    /// A global that is not on the list.
    #[error("global {0} is not allowed")]
    Global(String),
    /// An allowed global, used in a way that gives no plain value.
    #[error("{0}")]
    Misuse(&'static str),
    /// An opcode found nothing, or the wrong thing, on the stack.
    #[error("the stack does not hold what opcode 0x{0:02x} needs")]
    Stack(u8),
    /// A memo entry that was never set.
    #[error("memo entry {0} is not set")]
    Memo(u32),
    /// A number or text that is not written as one.
    #[error("{0}")]
    Text(&'static str),
    /// Containers nest too deeply, or contain themselves.
    #[error("values nest too deeply")]
    TooDeep,
    /// More values, or more bytes, than a message may hold.
    #[error("the pickle holds too many values")]
    TooMany,
}
