//! The pickle machine: a stack, marks, a memo, and an arena of nodes.
//!
//! Values are nodes that name each other by number, so that a memo entry may
//! be filled after it was stored (as pickles of lists are) and sharing costs
//! nothing here. `read.rs` turns the arena into a tree, within bounds.

use std::collections::HashMap;

use super::build;
use super::fault::{PickleError, PickleFault};
use super::text;
use crate::wire::cursor::Cursor;
use crate::wire::value::Value;

/// So many values may be pushed in one pickle, so many marks set, and so many
/// memo entries made. No legal message comes near; with some 100 bytes for
/// each it bounds what a hostile frame can make of few bytes.
pub(super) const MAX_VALUES: usize = 1 << 18;

/// Copies of what a pickle holds (by escapes, or by naming a memo entry again)
/// may be this many times as long as the pickle.
const MAX_COPIES: usize = 4;

/// The newest protocol that is read.
const MAX_PROTOCOL: u8 = 5;

/// A number in the arena.
pub(super) type NodeId = usize;

/// One value under construction.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A value without children.
    Leaf(Value<'a>),
    Tuple(Vec<NodeId>),
    List(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Set(Vec<NodeId>),
    /// A global that is allowed.
    Global(build::Global),
    /// A `ZopeUndo.Prefix.Prefix`, and its state once it is known.
    Prefix(Option<NodeId>),
    /// Something that is not plain data (lenient reading only).
    Opaque,
}

/// The state of one reading.
pub(super) struct Machine<'a> {
    cursor: Cursor<'a>,
    pub(super) nodes: Vec<Node<'a>>,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
    max_values: usize,
    pushes_left: usize,
    marks_left: usize,
    copies_left_bytes: usize,
    /// Whether what is not plain data becomes [`Node::Opaque`] instead of an error.
    pub(super) lenient: bool,
}

pub(super) type Step<T> = Result<T, PickleFault>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8], lenient: bool) -> Self {
        Self::with_max_values(bytes, lenient, MAX_VALUES)
    }

    /// As [`Self::new`], with another bound than [`MAX_VALUES`].
    pub(super) fn with_max_values(bytes: &'a [u8], lenient: bool, max_values: usize) -> Self {
        Self {
            max_values,
            cursor: Cursor::new(bytes),
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pushes_left: max_values,
            marks_left: max_values,
            copies_left_bytes: bytes.len().saturating_mul(MAX_COPIES),
            lenient,
        }
    }

    /// How many bytes have been read.
    pub(super) fn offset(&self) -> usize {
        self.cursor.offset()
    }

    /// Runs up to and including `STOP`; returns the root.
    pub(super) fn run(&mut self) -> Result<NodeId, PickleError> {
        loop {
            let step = match self.cursor.u8() {
                None => Err(PickleFault::Truncated),
                Some(b'.') => match (self.stack.pop(), self.stack.is_empty()) {
                    (Some(root), true) => return Ok(root),
                    _ => Err(PickleFault::Stack(b'.')),
                },
                Some(opcode) => self.step(opcode),
            };
            step.map_err(|fault| PickleError {
                offset: self.offset(),
                fault,
            })?;
        }
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            // Framing and the protocol number carry no data.
            0x80 => match self.cursor.u8() {
                Some(0..=MAX_PROTOCOL) => Ok(()),
                Some(_) => Err(PickleFault::Opcode(opcode)),
                None => Err(PickleFault::Truncated),
            },
            0x95 => self.cursor.take(8).map(drop).ok_or(PickleFault::Truncated),
            b'(' => self.mark(),
            b'0' => self.discard(),
            b'1' => self.pop_to_mark(opcode).map(drop),
            b'2' => {
                let top = self.top(opcode)?;
                self.push(top)
            }
            b'p' | b'q' | b'r' | 0x94 => self.memo_put(opcode),
            b'g' | b'h' | b'j' => self.memo_get(opcode),
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => {
                self.container(opcode)
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode),
            b'c' | 0x93 | b'R' | b'b' | b'i' | b'o' | 0x81 | 0x92 | b'P' | b'Q' | 0x82..=0x84 => {
                build::step(self, opcode)
            }
            _ => {
                let leaf = self.leaf(opcode)?;
                self.push_new(Node::Leaf(leaf))
            }
        }
    }

    /// Scalars, which have their data in the stream.
    fn leaf(&mut self, opcode: u8) -> Step<Value<'a>> {
        let cursor = &mut self.cursor;
        let bytes = |bytes: Option<&'a [u8]>| bytes.ok_or(PickleFault::Truncated);
        Ok(match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(cursor.u8().ok_or(PickleFault::Truncated)?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(
                cursor.array().ok_or(PickleFault::Truncated)?,
            ))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(
                cursor.array().ok_or(PickleFault::Truncated)?,
            ))),
            0x8a => Value::from_le_bytes(bytes(cursor.sized_u8())?),
            0x8b => Value::from_le_bytes(bytes(cursor.sized_u32_le())?),
            b'G' => Value::Float(f64::from_be_bytes(
                cursor.array().ok_or(PickleFault::Truncated)?,
            )),
            b'I' => text::decimal_or_bool(bytes(cursor.line())?)?,
            b'L' => text::decimal(bytes(cursor.line())?)?,
            b'F' => text::float(bytes(cursor.line())?)?,
            b'C' => Value::Bytes(bytes(cursor.sized_u8())?.into()),
            b'B' => Value::Bytes(bytes(cursor.sized_u32_le())?.into()),
            0x8e | 0x96 => Value::Bytes(bytes(cursor.sized_u64_le())?.into()),
            b'U' => Value::ByteString(bytes(cursor.sized_u8())?.into()),
            b'T' => Value::ByteString(bytes(cursor.sized_u32_le())?.into()),
            b'S' => Value::ByteString(text::quoted(bytes(cursor.line())?)?),
            b'V' => Value::Str(text::raw_unicode(bytes(cursor.line())?)?),
            0x8c => Value::Str(text::utf8(bytes(cursor.sized_u8())?, self.lenient)?),
            b'X' => Value::Str(text::utf8(bytes(cursor.sized_u32_le())?, self.lenient)?),
            0x8d => Value::Str(text::utf8(bytes(cursor.sized_u64_le())?, self.lenient)?),
            _ => return Err(PickleFault::Opcode(opcode)),
        })
    }

    fn container(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b')' => Node::Tuple(Vec::new()),
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.floor_checked(opcode, count)?;
                Node::Tuple(self.pop_from(start))
            }
            b't' => Node::Tuple(self.pop_to_mark(opcode)?),
            b'l' => Node::List(self.pop_to_mark(opcode)?),
            0x91 => Node::Set(self.pop_to_mark(opcode)?),
            _ => Node::Dict(pairs(&self.pop_to_mark(opcode)?, opcode)?),
        };
        self.push_new(node)
    }

    /// Adds to the list, set or dict below.
    fn fill(&mut self, opcode: u8) -> Step<()> {
        let items = match opcode {
            b'a' => vec![self.pop(opcode)?],
            b's' => {
                let start = self.floor_checked(opcode, 2)?;
                self.pop_from(start)
            }
            _ => self.pop_to_mark(opcode)?,
        };
        let target = self.top(opcode)?;
        match (self.nodes.get_mut(target), opcode) {
            (Some(Node::List(list)), b'a' | b'e') => list.extend(items),
            (Some(Node::Set(set)), 0x90) => set.extend(items),
            (Some(Node::Dict(dict)), b's' | b'u') => dict.extend(pairs(&items, opcode)?),
            (Some(Node::Opaque), _) => {}
            _ => return Err(PickleFault::Stack(opcode)),
        }
        Ok(())
    }

    fn memo_put(&mut self, opcode: u8) -> Step<()> {
        let key = match opcode {
            0x94 => u32::try_from(self.memo.len()).map_err(|_| PickleFault::TooMany)?,
            _ => self.memo_key(opcode)?,
        };
        let top = self.top(opcode)?;
        if self.memo.len() >= self.max_values {
            return Err(PickleFault::TooMany);
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn memo_get(&mut self, opcode: u8) -> Step<()> {
        let key = self.memo_key(opcode)?;
        let node = self.memo.get(&key).copied();
        self.push(node.ok_or(PickleFault::Memo(key))?)
    }

    fn memo_key(&mut self, opcode: u8) -> Step<u32> {
        match opcode {
            b'q' | b'h' => self.cursor.u8().map(u32::from),
            b'r' | b'j' => self.cursor.array().map(u32::from_le_bytes),
            _ => {
                let line = self.line()?;
                let digits = std::str::from_utf8(line).ok();
                let key = digits.and_then(|digits| digits.parse().ok());
                return key.ok_or(PickleFault::Text("a memo number is not one"));
            }
        }
        .ok_or(PickleFault::Truncated)
    }

    fn mark(&mut self) -> Step<()> {
        self.marks_left = self.marks_left.checked_sub(1).ok_or(PickleFault::TooMany)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// `POP` removes a value, or else a mark.
    fn discard(&mut self) -> Step<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop(b'0').map(drop)
    }

    /// Where the topmost `count` values start; none of them lies below a mark.
    fn floor_checked(&self, opcode: u8, count: usize) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count);
        start
            .filter(|&start| start >= floor)
            .ok_or(PickleFault::Stack(opcode))
    }

    pub(super) fn line(&mut self) -> Step<&'a [u8]> {
        self.cursor.line().ok_or(PickleFault::Truncated)
    }

    pub(super) fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        self.cursor.take(length).ok_or(PickleFault::Truncated)
    }

    pub(super) fn push(&mut self, node: NodeId) -> Step<()> {
        self.pushes_left = self
            .pushes_left
            .checked_sub(1)
            .ok_or(PickleFault::TooMany)?;
        self.stack.push(node);
        Ok(())
    }

    pub(super) fn push_new(&mut self, node: Node<'a>) -> Step<()> {
        self.push(self.nodes.len())?;
        self.nodes.push(node);
        Ok(())
    }

    pub(super) fn pop(&mut self, opcode: u8) -> Step<NodeId> {
        self.floor_checked(opcode, 1)?;
        self.stack.pop().ok_or(PickleFault::Stack(opcode))
    }

    pub(super) fn top(&self, opcode: u8) -> Step<NodeId> {
        let top = self.floor_checked(opcode, 1)?;
        let node = self.stack.get(top).copied();
        node.ok_or(PickleFault::Stack(opcode))
    }

    /// The values above the last mark, which is removed.
    pub(super) fn pop_to_mark(&mut self, opcode: u8) -> Step<Vec<NodeId>> {
        let mark = self.marks.pop().ok_or(PickleFault::Stack(opcode))?;
        Ok(self.pop_from(mark.min(self.stack.len())))
    }

    /// The values from `start` on. Not `split_off`, which hands out the whole
    /// capacity of a stack that it empties.
    fn pop_from(&mut self, start: usize) -> Vec<NodeId> {
        self.stack.drain(start..).collect()
    }

    /// Accounts for bytes that were copied instead of borrowed.
    pub(super) fn charge_copy(&mut self, length_bytes: usize) -> Step<()> {
        let left = self.copies_left_bytes.checked_sub(length_bytes);
        self.copies_left_bytes = left.ok_or(PickleFault::TooMany)?;
        Ok(())
    }
}

fn pairs(items: &[NodeId], opcode: u8) -> Step<Vec<(NodeId, NodeId)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(PickleFault::Stack(opcode));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
