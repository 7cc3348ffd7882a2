//! Finds the objects that a record refers to, without building anything.
//!
//! A record is two pickles. Of all that they hold only the persistent ids
//! matter, so this follows the pickle machine's stack with values of a few
//! bytes: "some object", "a text that is an oid", "a tuple that begins with
//! one", "a list". What counts is what ZODB's `referencesf` counts: an oid, or
//! a tuple that begins with an oid, keeps the object alive; a list (weak
//! references, references into other databases) does not.

use thiserror::Error;

use super::text::{self, Text};
use crate::types::Oid;

/// A record whose references cannot be told. A pack stops at it: what cannot
/// be followed must not be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{problem} at byte {at} of the record")]
pub struct ReferenceError {
    /// Offset in the record.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

type Result<T> = std::result::Result<T, ReferenceError>;

/// A stack or memo that grew beyond so many values is given back after its record.
const KEPT_VALUES: usize = 1 << 16;

/// What is known of a value on the pickle machine's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Anything that is no persistent id.
    Other,
    /// A text or bytes that is no oid.
    Text,
    /// 8 bytes, or a text of 8 ASCII characters.
    Oid(Oid),
    /// A text whose 8 characters would be these bytes in Latin-1.
    Latin(Oid),
    /// `_codecs.encode`: how bytes are written where the protocol knows none.
    Encode,
    /// A tuple that begins with no oid, or an empty one.
    Tuple,
    TupleOfOid(Oid),
    TupleOfLatin(Oid),
    List,
}

/// The pickle machine. Kept from record to record, so that nothing is
/// allocated for one.
#[derive(Debug, Default)]
pub struct Scanner {
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Memo,
}

impl Scanner {
    /// Calls `visit` with each reference of `record` that keeps an object
    /// alive, as often as it occurs.
    pub fn for_each_reference(&mut self, record: &[u8], mut visit: impl FnMut(Oid)) -> Result<()> {
        self.memo.clear();
        let mut input = Input {
            bytes: record,
            at: 0,
        };
        // The second pickle may name what the first put into the memo.
        let result = self
            .pickle(&mut input, &mut visit)
            .and_then(|()| self.pickle(&mut input, &mut visit));
        self.stack.shrink_to(KEPT_VALUES);
        self.marks.shrink_to(KEPT_VALUES);
        self.memo.dense.shrink_to(KEPT_VALUES);
        result
    }

    fn pickle(&mut self, input: &mut Input<'_>, visit: &mut impl FnMut(Oid)) -> Result<()> {
        self.stack.clear();
        self.marks.clear();
        self.memo.next = 0;
        loop {
            match input.byte()? {
                b'.' => return self.pop(input).map(|_| ()),
                b'Q' => {
                    let pid = self.pop(input)?;
                    persistent(pid, input, visit)?;
                    self.push(Value::Other);
                }
                b'P' => {
                    let pid = text::line(input.line()?);
                    persistent(pid.into(), input, visit)?;
                    self.push(Value::Other);
                }
                opcode => self.step(opcode, input)?,
            }
        }
    }

    /// Carries out one opcode that is neither the end nor a persistent id.
    fn step(&mut self, opcode: u8, input: &mut Input<'_>) -> Result<()> {
        match opcode {
            // None, the booleans, empty dict and set, a buffer from elsewhere
            b'N' | 0x88 | 0x89 | b'}' | 0x8f | 0x97 => self.push(Value::Other),
            b')' => self.push(Value::Tuple),
            b']' => self.push(Value::List),
            b'K' | 0x82 => self.skip(input, 1)?,
            b'M' | 0x83 => self.skip(input, 2)?,
            b'J' | 0x84 => self.skip(input, 4)?,
            b'G' => self.skip(input, 8)?,
            b'I' | b'L' | b'F' => {
                input.line()?;
                self.push(Value::Other);
            }
            0x8a => {
                let length = input.length::<1>()?;
                self.skip(input, length)?;
            }
            0x8b => {
                let length = input.length::<4>()?;
                self.skip(input, length)?;
            }
            0x96 => {
                let length = input.length::<8>()?;
                self.skip(input, length)?;
            }
            b'C' | b'U' | 0x8c | b'B' | b'T' | b'X' | 0x8e | 0x8d | b'S' | b'V' => {
                let value = text_value(opcode, input)?;
                self.push(value);
            }
            b'c' => {
                let is_encode = input.line()? == b"_codecs";
                let is_encode = input.line()? == b"encode" && is_encode;
                self.push(if is_encode {
                    Value::Encode
                } else {
                    Value::Other
                });
            }
            // protocol, frame: they change nothing here
            0x80 => input.take(1).map(|_| ())?,
            0x95 => input.take(8).map(|_| ())?,
            _ => self.combine(opcode, input)?,
        }
        Ok(())
    }

    /// An opcode that works on what is on the stack or in the memo.
    fn combine(&mut self, opcode: u8, input: &mut Input<'_>) -> Result<()> {
        match opcode {
            0x85..=0x87 => self.counted_tuple(opcode - 0x84, input)?,
            b't' => {
                let mark = self.mark(input)?;
                let first = self.stack.get(mark).copied();
                self.replace(mark, tuple_of(first));
            }
            b'l' => {
                let mark = self.mark(input)?;
                self.replace(mark, Value::List);
            }
            // dict, frozenset, and instances from what lies above the mark
            b'd' | 0x91 | b'o' => {
                let mark = self.mark(input)?;
                self.replace(mark, Value::Other);
            }
            b'i' => {
                input.line()?;
                input.line()?;
                let mark = self.mark(input)?;
                self.replace(mark, Value::Other);
            }
            b'R' => self.call(input)?,
            // A new instance from (class, arguments); (class, arguments, keywords);
            // a global from (module, name)
            0x81 | 0x93 => self.drop_and_push(2, input)?,
            0x92 => self.drop_and_push(3, input)?,
            // append, build; set item
            b'a' | b'b' => self.drop_values(1, input)?,
            b's' => self.drop_values(2, input)?,
            // appends, set items, add items, pop mark
            b'e' | b'u' | 0x90 | b'1' => {
                let mark = self.mark(input)?;
                self.stack.truncate(mark);
            }
            b'0' => self.pop_value_or_mark(input)?,
            b'2' => {
                let top = self.top(input)?;
                self.push(top);
            }
            b'(' => self.marks.push(self.stack.len()),
            b'p' | b'q' | b'r' | 0x94 => {
                let top = self.top(input)?;
                let place = match opcode {
                    0x94 => self.memo.next,
                    _ => memo_place(opcode, input)?,
                };
                self.memo.set(place, top);
            }
            b'g' | b'h' | b'j' => {
                let place = memo_place(opcode, input)?;
                let value = self.memo.get(place);
                self.push(value.ok_or_else(|| input.fault("nothing is memoised there"))?);
            }
            // a buffer made read-only
            0x98 => self.top(input).map(|_| ())?,
            _ => return Err(input.fault("an unknown opcode")),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn skip(&mut self, input: &mut Input<'_>, length: usize) -> Result<()> {
        input.take(length)?;
        self.push(Value::Other);
        Ok(())
    }

    fn top(&self, input: &Input<'_>) -> Result<Value> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| input.fault("the stack is empty"))
    }

    fn pop(&mut self, input: &Input<'_>) -> Result<Value> {
        self.stack
            .pop()
            .ok_or_else(|| input.fault("the stack is empty"))
    }

    /// The place on the stack of the last mark, which is taken off.
    fn mark(&mut self, input: &Input<'_>) -> Result<usize> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        mark.ok_or_else(|| input.fault("no mark"))
    }

    /// Puts one value in the place of all above `mark`.
    fn replace(&mut self, mark: usize, value: Value) {
        self.stack.truncate(mark);
        self.push(value);
    }

    fn drop_values(&mut self, count: usize, input: &Input<'_>) -> Result<()> {
        let left = self.stack.len().checked_sub(count);
        let left = left.ok_or_else(|| input.fault("the stack is too short"))?;
        self.stack.truncate(left);
        Ok(())
    }

    fn drop_and_push(&mut self, count: usize, input: &Input<'_>) -> Result<()> {
        self.drop_values(count, input)?;
        self.push(Value::Other);
        Ok(())
    }

    fn counted_tuple(&mut self, count: u8, input: &Input<'_>) -> Result<()> {
        let left = self.stack.len().checked_sub(usize::from(count));
        let left = left.ok_or_else(|| input.fault("the stack is too short"))?;
        let first = self.stack.get(left).copied();
        self.replace(left, tuple_of(first));
        Ok(())
    }

    /// A call, whose result nobody knows, but for that which makes bytes of a text.
    fn call(&mut self, input: &Input<'_>) -> Result<()> {
        let arguments = self.pop(input)?;
        let function = self.pop(input)?;
        self.push(match (function, arguments) {
            (Value::Encode, Value::TupleOfOid(oid) | Value::TupleOfLatin(oid)) => Value::Oid(oid),
            _ => Value::Other,
        });
        Ok(())
    }

    /// The opcode is also how a mark is given up that nothing lies above.
    fn pop_value_or_mark(&mut self, input: &Input<'_>) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop(input).map(|_| ())
    }
}

/// What a persistent id refers to.
fn persistent(pid: Value, input: &Input<'_>, visit: &mut impl FnMut(Oid)) -> Result<()> {
    match pid {
        Value::Oid(oid) | Value::TupleOfOid(oid) => {
            visit(oid);
            Ok(())
        }
        Value::List => Ok(()),
        _ => Err(input.fault("a reference that is no object id")),
    }
}

fn tuple_of(first: Option<Value>) -> Value {
    match first {
        Some(Value::Oid(oid)) => Value::TupleOfOid(oid),
        Some(Value::Latin(oid)) => Value::TupleOfLatin(oid),
        _ => Value::Tuple,
    }
}

/// Reads a text or bytes, and looks whether it is an oid.
fn text_value(opcode: u8, input: &mut Input<'_>) -> Result<Value> {
    let length = match opcode {
        b'S' => return Ok(text::quoted(input.line()?).into()),
        b'V' => return Ok(text::escaped(input.line()?).into()),
        b'C' | b'U' | 0x8c => input.length::<1>()?,
        b'B' | b'T' | b'X' => input.length::<4>()?,
        _ => input.length::<8>()?,
    };
    let bytes = input.take(length)?;
    let text = match opcode {
        // A Python 2 string; where it is no ASCII it is bytes all the same.
        b'C' | b'U' | b'B' | b'T' | 0x8e => text::bytes(bytes),
        _ => text::utf8(bytes),
    };
    Ok(text.into())
}

fn memo_place(opcode: u8, input: &mut Input<'_>) -> Result<usize> {
    match opcode {
        b'p' | b'g' => {
            let digits = std::str::from_utf8(input.line()?).ok();
            let place = digits.and_then(|digits| digits.trim().parse().ok());
            place.ok_or_else(|| input.fault("no number of a memo"))
        }
        b'q' | b'h' => input.length::<1>(),
        _ => input.length::<4>(),
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        match text {
            Text::Oid(oid) => Self::Oid(oid),
            Text::Latin(oid) => Self::Latin(oid),
            Text::Plain => Self::Text,
        }
    }
}

/// Values by number. Picklers number from 0 or 1 upwards without gaps; a
/// number far beyond that lies in the map, so that it cannot cost memory.
#[derive(Debug, Default)]
struct Memo {
    dense: Vec<Option<Value>>,
    far: std::collections::BTreeMap<usize, Value>,
    /// The number that the next MEMOIZE takes. It counts from 0 in each pickle:
    /// ZODB's writer empties its memo in between.
    next: usize,
}

/// So far a number may lie beyond the greatest one in use.
const MEMO_GAP: usize = 256;

impl Memo {
    fn clear(&mut self) {
        self.dense.clear();
        self.far.clear();
    }

    fn get(&self, place: usize) -> Option<Value> {
        match self.dense.get(place) {
            Some(Some(value)) => Some(*value),
            _ if self.far.is_empty() => None,
            _ => self.far.get(&place).copied(),
        }
    }

    fn set(&mut self, place: usize, value: Value) {
        self.next = self.next.max(place.saturating_add(1));
        if place > self.dense.len().saturating_add(MEMO_GAP) {
            self.far.insert(place, value);
            return;
        }
        if place >= self.dense.len() {
            self.dense.resize(place + 1, None);
        }
        if let Some(slot) = self.dense.get_mut(place) {
            *slot = Some(value);
        }
    }
}

/// The record, and how far it has been read.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn fault(&self, problem: &'static str) -> ReferenceError {
        ReferenceError {
            at: self.at,
            problem,
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.at).copied();
        let byte = byte.ok_or_else(|| self.fault("the record ends within a pickle"))?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.fault("the record ends within a value"))?;
        self.at += length;
        Ok(taken)
    }

    /// A little-endian length of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<usize> {
        let mut bytes = [0; 8];
        for (slot, byte) in bytes.iter_mut().zip(self.take(N)?) {
            *slot = *byte;
        }
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| self.fault("an impossible length"))
    }

    /// Up to the next line feed, which is taken and not given.
    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.fault("the record ends within a line"))?;
        self.at += length + 1;
        Ok(rest.get(..length).unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "references_tests.rs"]
mod tests;
