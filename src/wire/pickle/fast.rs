//! The straight line through what a stock client really sends: protocol 3,
//! no memo, arguments that are scalars (and one flat dict). It allocates
//! nothing but the entries of such a dict, and gives up (`None`) on anything
//! else, malformed or merely unusual, which the machine then judges.

use super::write::{PROTOCOL, long_length};
use crate::wire::cursor::Cursor;
use crate::wire::request::arguments::{Arguments, MAX_ARGUMENTS};
use crate::wire::value::Value;

/// A call whose arguments have not been looked at.
pub(in crate::wire) struct Call<'a> {
    /// The id as it was sent; canonical, so that the machine gives the same.
    pub id: &'a [u8],
    pub is_heartbeat: bool,
    pub one_way: bool,
    pub method: &'a str,
    pub arguments: Arguments<'a>,
}

/// Reads a whole frame, or gives up.
pub(in crate::wire) fn read_call(payload: &[u8]) -> Option<Call<'_>> {
    let mut cursor = Cursor::new(payload);
    cursor.skip(PROTOCOL)?;
    cursor.skip(b"(")?;
    let start = cursor;
    let is_heartbeat = message_id(&mut cursor)?;
    let id = start.rest().get(..cursor.offset() - start.offset())?;
    let one_way = match cursor.u8()? {
        0x88 => true,
        0x89 => false,
        b'K' => cursor.u8()? != 0,
        _ => return None,
    };
    cursor.skip(b"X")?;
    let method = std::str::from_utf8(cursor.sized_u32_le()?).ok()?;
    let arguments = arguments(&mut cursor)?;
    cursor.skip(b"t.")?;
    cursor.is_empty().then_some(Call {
        id,
        is_heartbeat,
        one_way,
        method,
        arguments,
    })
}

/// Passes over an int or an (oid, tid) pair; true where it is -1.
fn message_id(cursor: &mut Cursor<'_>) -> Option<bool> {
    match cursor.u8()? {
        b'C' => {
            cursor.skip(&[8])?;
            cursor.take(8)?;
            cursor.skip(b"C\x08")?;
            cursor.take(8)?;
            cursor.skip(&[0x86])?;
            Some(false)
        }
        opcode => int(opcode, cursor).map(|id| id == -1),
    }
}

/// An int in its shortest form.
fn int(opcode: u8, cursor: &mut Cursor<'_>) -> Option<i64> {
    match opcode {
        b'K' => Some(i64::from(cursor.u8()?)),
        b'M' => {
            let number = u16::from_le_bytes(cursor.array()?);
            (number > u16::from(u8::MAX)).then_some(i64::from(number))
        }
        b'J' => {
            let number = i32::from_le_bytes(cursor.array()?);
            u16::try_from(number).is_err().then_some(i64::from(number))
        }
        0x8a => {
            let bytes = cursor.sized_u8()?;
            let Value::Int(number) = Value::from_le_bytes(bytes) else {
                return None;
            };
            let shortest = i32::try_from(number).is_err() && bytes.len() == long_length(number);
            shortest.then_some(number)
        }
        _ => None,
    }
}

/// The tuple of arguments, up to and including the opcode that makes it.
fn arguments<'a>(cursor: &mut Cursor<'a>) -> Option<Arguments<'a>> {
    let mut stack = Stack::default();
    let marked = cursor.peek() == Some(b'(');
    if marked {
        cursor.u8()?;
    }
    loop {
        let opcode = cursor.u8()?;
        match opcode {
            b't' if marked && stack.mark.is_none() => return Some(stack.into_arguments()),
            b')' if !marked && stack.length == 0 => return Some(stack.into_arguments()),
            0x85..=0x87 => {
                let complete = !marked && stack.length == usize::from(opcode - 0x84);
                return complete.then(|| stack.into_arguments());
            }
            b'}' => stack.push(Value::Dict(Vec::new()))?,
            b'(' if stack.mark.is_none() => stack.mark = Some(stack.length),
            b's' if stack.mark.is_none() => stack.set_items(stack.length.checked_sub(2)?)?,
            b'u' => {
                let start = stack.mark.take()?;
                stack.set_items(start)?;
            }
            _ => stack.push(scalar(opcode, cursor)?)?,
        }
    }
}

fn scalar<'a>(opcode: u8, cursor: &mut Cursor<'a>) -> Option<Value<'a>> {
    Some(match opcode {
        b'C' => Value::Bytes(cursor.sized_u8()?.into()),
        b'B' => Value::Bytes(cursor.sized_u32_le()?.into()),
        b'X' => Value::Str(std::str::from_utf8(cursor.sized_u32_le()?).ok()?.into()),
        b'N' => Value::None,
        0x88 => Value::Bool(true),
        0x89 => Value::Bool(false),
        b'G' => Value::Float(f64::from_be_bytes(cursor.array()?)),
        _ => Value::Int(int(opcode, cursor)?),
    })
}

/// A dict of more entries than this has is left to the machine.
const STACK_VALUES: usize = 2 * MAX_ARGUMENTS;

/// The machine's stack, of a fixed size.
#[derive(Default)]
struct Stack<'a> {
    values: [Value<'a>; STACK_VALUES],
    length: usize,
    mark: Option<usize>,
}

impl<'a> Stack<'a> {
    fn push(&mut self, value: Value<'a>) -> Option<()> {
        *self.values.get_mut(self.length)? = value;
        self.length += 1;
        Some(())
    }

    /// Moves the pairs from `start` on into the dict below them.
    fn set_items(&mut self, start: usize) -> Option<()> {
        let (below, pairs) = self
            .values
            .get_mut(..self.length)?
            .split_at_mut_checked(start)?;
        let Value::Dict(entries) = below.last_mut()? else {
            return None;
        };
        let (pairs, rest) = pairs.as_chunks_mut::<2>();
        if !rest.is_empty() {
            return None;
        }
        let pairs = pairs.iter_mut().map(|pair| {
            let [key, value] = std::mem::take(pair);
            (key, value)
        });
        entries.extend(pairs);
        self.length = start;
        Some(())
    }

    fn into_arguments(self) -> Arguments<'a> {
        self.values.into_iter().take(self.length).collect()
    }
}
