//! The opcodes that in Python import and call things. Here they know a few
//! names and what plain value each call stands for; nothing is executed.

use std::borrow::Cow;

use super::fault::PickleFault;
use super::machine::{Machine, Node, NodeId, Step};
use super::text;
use crate::wire::value::Value;

/// The globals that stand for plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `bytes`, `bytearray` and `zodbpickle.binary`.
    Bytes,
    /// `set` and `frozenset`.
    Set,
    /// `dict`, of pairs; so a dict of a class of its own can be sent.
    Dict,
    /// `_codecs.encode`, always with Latin-1.
    Encode,
    /// `ZopeUndo.Prefix.Prefix`.
    Prefix,
    /// `object`, where it is named as a base.
    Object,
    /// `copyreg._reconstructor`.
    Reconstructor,
}

/// So much of a refused name is shown.
const SHOWN_CHARS: usize = 80;

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        let builtin = matches!(module, "builtins" | "__builtin__");
        match (module, name) {
            ("zodbpickle", "binary") => Some(Self::Bytes),
            ("ZopeUndo.Prefix", "Prefix") => Some(Self::Prefix),
            ("_codecs", "encode") => Some(Self::Encode),
            ("copy_reg" | "copyreg", "_reconstructor") => Some(Self::Reconstructor),
            (_, "bytes" | "bytearray") if builtin => Some(Self::Bytes),
            (_, "set" | "frozenset") if builtin => Some(Self::Set),
            (_, "dict") if builtin => Some(Self::Dict),
            (_, "object") if builtin => Some(Self::Object),
            _ => None,
        }
    }
}

/// One step of such an opcode.
pub(super) fn step(machine: &mut Machine<'_>, opcode: u8) -> Step<()> {
    match opcode {
        b'c' => {
            let node = global_from_lines(machine)?;
            machine.push_new(node)
        }
        0x93 => {
            let name = machine.pop(opcode)?;
            let module = machine.pop(opcode)?;
            let node = match (leaf_text(machine, module), leaf_text(machine, name)) {
                (Some(module), Some(name)) => global(machine.lenient, module, name)?,
                _ => return Err(PickleFault::Stack(opcode)),
            };
            machine.push_new(node)
        }
        b'R' | 0x81 | 0x92 => {
            if opcode == 0x92 {
                // Keyword arguments; nothing plain takes any.
                machine.pop(opcode)?;
            }
            let arguments = machine.pop(opcode)?;
            let callable = machine.pop(opcode)?;
            let node = call(machine, callable, arguments)?;
            // Each call copies at most the pickle, so one is made before the
            // account says no.
            machine.charge_copy(copied_bytes(&node))?;
            machine.push_new(node)
        }
        b'b' => build(machine),
        b'i' => {
            let class = global_from_lines(machine)?;
            machine.pop_to_mark(opcode)?;
            instance(machine, matches!(class, Node::Global(Global::Prefix)))
        }
        b'o' => {
            let items = machine.pop_to_mark(opcode)?;
            let class = items.first().and_then(|&class| machine.nodes.get(class));
            let is_prefix = matches!(class, Some(Node::Global(Global::Prefix)));
            instance(machine, is_prefix)
        }
        _ => reference(machine, opcode),
    }
}

/// Persistent references and extension codes: never plain data.
fn reference(machine: &mut Machine<'_>, opcode: u8) -> Step<()> {
    if !machine.lenient {
        return Err(PickleFault::Opcode(opcode));
    }
    match opcode {
        b'P' => machine.line().map(drop)?,
        b'Q' => machine.pop(opcode).map(drop)?,
        0x82 => machine.take(1).map(drop)?,
        0x83 => machine.take(2).map(drop)?,
        _ => machine.take(4).map(drop)?,
    }
    machine.push_new(Node::Opaque)
}

fn global_from_lines<'a>(machine: &mut Machine<'a>) -> Step<Node<'a>> {
    let module = text::utf8(machine.line()?, machine.lenient)?;
    let name = text::utf8(machine.line()?, machine.lenient)?;
    global(machine.lenient, &module, &name)
}

fn global<'a>(lenient: bool, module: &str, name: &str) -> Step<Node<'a>> {
    match Global::find(module, name) {
        Some(global) => Ok(Node::Global(global)),
        None if lenient => Ok(Node::Opaque),
        None => {
            let shown = module.chars().chain(['.']).chain(name.chars());
            let shown = shown.take(SHOWN_CHARS).flat_map(char::escape_debug);
            Err(PickleFault::Global(shown.collect()))
        }
    }
}

/// An instance of an old-style class.
fn instance(machine: &mut Machine<'_>, is_prefix: bool) -> Step<()> {
    match (is_prefix, machine.lenient) {
        (true, _) => machine.push_new(Node::Prefix(None)),
        (false, true) => machine.push_new(Node::Opaque),
        (false, false) => Err(PickleFault::Misuse("only a Prefix can be an instance")),
    }
}

fn build(machine: &mut Machine<'_>) -> Step<()> {
    let state = machine.pop(b'b')?;
    let object = machine.top(b'b')?;
    let lenient = machine.lenient;
    match machine.nodes.get_mut(object) {
        Some(Node::Prefix(slot)) => *slot = Some(state),
        Some(_) if lenient => {}
        _ => return Err(PickleFault::Misuse("only a Prefix can have a state")),
    }
    Ok(())
}

/// The value that a call of an allowed global stands for.
fn call<'a>(machine: &Machine<'a>, callable: NodeId, arguments: NodeId) -> Step<Node<'a>> {
    let node = |id: NodeId| machine.nodes.get(id);
    let misuse = if machine.lenient {
        Ok(Node::Opaque)
    } else {
        Err(PickleFault::Misuse("a call that gives no plain value"))
    };
    let (Some(Node::Global(global)), Some(Node::Tuple(arguments))) =
        (node(callable), node(arguments))
    else {
        return misuse;
    };
    match (global, arguments.as_slice()) {
        (Global::Bytes, []) => Ok(Node::Leaf(Value::Bytes((&[]).into()))),
        (Global::Bytes, [bytes]) => match node(*bytes) {
            Some(Node::Leaf(Value::Bytes(bytes) | Value::ByteString(bytes))) => {
                Ok(Node::Leaf(Value::Bytes(bytes.clone())))
            }
            _ => misuse,
        },
        (Global::Encode | Global::Bytes, [text, codec]) => match (node(*text), node(*codec)) {
            (Some(Node::Leaf(Value::Str(text))), Some(Node::Leaf(codec)))
                if matches!(codec.as_str(), Some("latin1" | "latin-1")) =>
            {
                text::latin1(text).map_or(misuse, |bytes| Ok(Node::Leaf(Value::Bytes(bytes))))
            }
            _ => misuse,
        },
        (Global::Set, []) => Ok(Node::Set(Vec::new())),
        (Global::Set, [items]) => match node(*items) {
            Some(Node::List(items) | Node::Tuple(items) | Node::Set(items)) => {
                Ok(Node::Set(items.clone()))
            }
            _ => misuse,
        },
        (Global::Dict, []) => Ok(Node::Dict(Vec::new())),
        (Global::Dict, [items]) => match node(*items) {
            Some(Node::Dict(entries)) => Ok(Node::Dict(entries.clone())),
            Some(Node::List(items) | Node::Tuple(items)) => {
                pairs(machine, items).map_or(misuse, |entries| Ok(Node::Dict(entries)))
            }
            _ => misuse,
        },
        (Global::Prefix, []) => Ok(Node::Prefix(None)),
        (Global::Reconstructor, [class, ..])
            if matches!(node(*class), Some(Node::Global(Global::Prefix))) =>
        {
            Ok(Node::Prefix(None))
        }
        _ => misuse,
    }
}

/// Items that are pairs, as entries of a dict.
fn pairs(machine: &Machine<'_>, items: &[NodeId]) -> Option<Vec<(NodeId, NodeId)>> {
    let pair = |&item: &NodeId| match machine.nodes.get(item)? {
        Node::List(pair) | Node::Tuple(pair) => match pair.as_slice() {
            &[key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    };
    items.iter().map(pair).collect()
}

fn copied_bytes(node: &Node<'_>) -> usize {
    match node {
        Node::Leaf(Value::Bytes(Cow::Owned(bytes))) => bytes.len(),
        Node::Set(items) => size_of_val(items.as_slice()),
        Node::Dict(entries) => size_of_val(entries.as_slice()),
        _ => 0,
    }
}

fn leaf_text<'m>(machine: &'m Machine<'_>, id: NodeId) -> Option<&'m str> {
    match machine.nodes.get(id) {
        Some(Node::Leaf(value)) => value.as_str(),
        _ => None,
    }
}
