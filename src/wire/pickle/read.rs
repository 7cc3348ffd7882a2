use std::borrow::Cow;

use super::fault::{PickleError, PickleFault};
use super::machine::{MAX_VALUES, Machine, Node, NodeId, Step};
use crate::wire::value::Value;

/// Containers may nest this deeply.
pub(super) const MAX_DEPTH: usize = 64;

/// Reads a pickle that ends with its `STOP`.
pub fn read_value(bytes: &[u8]) -> Result<Value<'_>, PickleError> {
    let (value, length) = read_prefix(bytes)?;
    if length == bytes.len() {
        Ok(value)
    } else {
        Err(PickleError {
            offset: length,
            fault: PickleFault::TrailingData,
        })
    }
}

/// Reads the pickle at the start of `bytes`; also returns its length in bytes.
pub fn read_prefix(bytes: &[u8]) -> Result<(Value<'_>, usize), PickleError> {
    let mut machine = Machine::new(bytes, false);
    let root = machine.run()?;
    let length = machine.offset();
    let mut tree = Tree::new(machine);
    let value = tree.value(root, 0).map_err(|fault| PickleError {
        offset: length,
        fault,
    })?;
    Ok((value, length))
}

/// Reads a pickle of a server, which may be larger than a client's: it lists
/// the objects of a transaction. What is not plain data (an argument of an
/// exception, say) is read as the text [`NOT_PLAIN`]; nothing is executed.
pub(in crate::wire) fn read_servers_value(
    bytes: &[u8],
    max_values: usize,
) -> Result<Value<'_>, PickleError> {
    let mut machine = Machine::with_max_values(bytes, true, max_values);
    let root = machine.run()?;
    let length = machine.offset();
    let mut tree = Tree {
        values_left: max_values,
        opaque: Some(NOT_PLAIN),
        machine,
    };
    let fault = if length == bytes.len() {
        match tree.value(root, 0) {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        }
    } else {
        PickleFault::TrailingData
    };
    Err(PickleError {
        offset: length,
        fault,
    })
}

/// Stands for what a server sent and is no plain data.
const NOT_PLAIN: &str = "(a Python object)";

/// Reads extension metadata as a storage holds it. Entries that are not plain
/// data (instances of classes, say) are left out; what cannot be read at all,
/// and what is no dict, gives an empty dict.
pub fn read_dict_lenient(bytes: &[u8]) -> Value<'_> {
    let mut machine = Machine::new(bytes, true);
    let Ok(root) = machine.run() else {
        return Value::Dict(Vec::new());
    };
    let mut tree = Tree::new(machine);
    let entries = match tree.machine.nodes.get_mut(root) {
        Some(Node::Dict(entries)) => std::mem::take(entries),
        _ => Vec::new(),
    };
    let mut dict = Vec::new();
    for (key, value) in entries {
        if let (Ok(key), Ok(value)) = (tree.value(key, 1), tree.value(value, 1)) {
            dict.push((key, value));
        }
    }
    Value::Dict(dict)
}

/// Makes a tree of an arena. What is named twice is copied, so the account of
/// values and bytes goes on here; cycles end at the depth limit.
struct Tree<'a> {
    machine: Machine<'a>,
    values_left: usize,
    /// What stands for values that are not plain data. None: they are an error.
    opaque: Option<&'static str>,
}

impl<'a> Tree<'a> {
    fn new(machine: Machine<'a>) -> Self {
        Self {
            machine,
            values_left: MAX_VALUES,
            opaque: None,
        }
    }

    fn value(&mut self, id: NodeId, depth: usize) -> Step<Value<'a>> {
        if depth > MAX_DEPTH {
            return Err(PickleFault::TooDeep);
        }
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or(PickleFault::TooMany)?;
        let node = self.machine.nodes.get(id);
        Ok(match node.ok_or(PickleFault::Truncated)? {
            Node::Leaf(leaf) => {
                let leaf = leaf.clone();
                self.machine.charge_copy(owned_bytes(&leaf))?;
                leaf
            }
            Node::Tuple(items) => {
                let items = items.clone();
                Value::Tuple(self.values(&items, depth)?)
            }
            Node::List(items) => {
                let items = items.clone();
                Value::List(self.values(&items, depth)?)
            }
            Node::Set(items) => {
                let items = items.clone();
                Value::Set(self.values(&items, depth)?)
            }
            Node::Dict(entries) => {
                let entries = entries.clone();
                Value::Dict(self.entries(&entries, depth)?)
            }
            Node::Prefix(state) => {
                let state = state.ok_or(PickleFault::Misuse("a Prefix has no path"))?;
                prefix(self.value(state, depth + 1)?)?
            }
            Node::Global(_) | Node::Opaque => match self.opaque {
                Some(text) => Value::Str(text.into()),
                None => return Err(PickleFault::Misuse("a class is no plain value")),
            },
        })
    }

    fn values(&mut self, ids: &[NodeId], depth: usize) -> Step<Vec<Value<'a>>> {
        ids.iter().map(|&id| self.value(id, depth + 1)).collect()
    }

    fn entries(
        &mut self,
        ids: &[(NodeId, NodeId)],
        depth: usize,
    ) -> Step<Vec<(Value<'a>, Value<'a>)>> {
        ids.iter()
            .map(|&(key, value)| Ok((self.value(key, depth + 1)?, self.value(value, depth + 1)?)))
            .collect()
    }
}

/// What a value holds besides borrowed bytes.
fn owned_bytes(leaf: &Value<'_>) -> usize {
    match leaf {
        Value::BigInt(bytes)
        | Value::Bytes(Cow::Owned(bytes))
        | Value::ByteString(Cow::Owned(bytes)) => bytes.len(),
        Value::Str(Cow::Owned(text)) => text.len(),
        _ => 0,
    }
}

/// A Prefix from the dict of its attributes.
fn prefix(state: Value<'_>) -> Step<Value<'_>> {
    let fault = PickleFault::Misuse("a Prefix has no path");
    let Value::Dict(entries) = state else {
        return Err(fault);
    };
    let path = entries
        .into_iter()
        .rev()
        .find_map(|(key, value)| (key.as_str() == Some("path")).then_some(value));
    let Some(Value::List(path) | Value::Tuple(path)) = path else {
        return Err(fault);
    };
    let path: Option<Vec<_>> = path.into_iter().map(Value::into_text).collect();
    path.map(|path| Value::Prefix { path }).ok_or(fault)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
