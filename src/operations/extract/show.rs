//! What was chosen as text: tensors as torch prints them, values as Python does; or as JSON.

use std::io::{self, Write};

use serde_json::Value as Json;

use super::choose::Chosen;
use super::nested::Nested;
use super::parts::{self, Taken};
use super::{Options, cast, named};
use crate::checkpoint::{Checkpoint, Entry, Item};
use crate::error::{Error, Result};
use crate::operations::Input;
use crate::pickle::{Node, NodeId};
use crate::render::escape::escape;
use crate::render::tensor_print::{self, Contents};
use crate::report::value::Extracted;
use crate::write;

/// A string that is printed is held in memory.
const MAX_STRING_BYTES: u64 = 64 << 20;

/// How text is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Text {
    /// With every element.
    pub full: bool,
    /// With control characters escaped in a string that stands alone, too: it goes to a terminal.
    pub escaped: bool,
}

/// Prints a single entry as it is, others with their names.
pub(super) fn text(
    checkpoint: &Checkpoint,
    chosen: &Chosen,
    options: &Options,
    form: Text,
    out: &mut dyn Write,
) -> Result<()> {
    if chosen.whole && checkpoint.objects().is_of_stdlib(chosen.root.node) {
        // one thing to people, however many attributes it has
        writeln!(out, "{}", escape(&checkpoint.objects().repr(chosen.root.node, usize::MAX)))?;
        return Ok(());
    }
    let several = !chosen.single;
    for entry in chosen.without_wrappers(checkpoint) {
        if several {
            write!(out, "{}:", escape(&entry.name()))?;
        }
        if let Item::Tensor(..) = entry.item {
            if several {
                writeln!(out)?;
            }
            tensor(checkpoint, entry, options, form.full, out).map_err(|e| named(e.into(), entry, several))?;
        } else {
            if several {
                write!(out, " ")?;
            }
            let raw = !several && !form.escaped;
            let text = value_text(checkpoint, entry, several).map_err(|e| named(e, entry, several))?;
            // a terminal gets nothing that moves its cursor
            let lines = text.split('\n').map(|line| if raw { line.into() } else { escape(line) });
            writeln!(out, "{}", lines.collect::<Vec<_>>().join("\n"))?;
        }
    }
    Ok(())
}

fn tensor(
    checkpoint: &Checkpoint,
    entry: &Entry,
    options: &Options,
    full: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Item::Tensor(id, _) = entry.item else { return Ok(()) };
    let Some(tensor) = checkpoint.tensor(id) else { return Ok(()) };
    let taken = Taken { checkpoint, tensor, subscript: options.slice.as_ref() };
    taken.refuse_wrapper(&entry.name())?;
    let mut text = taken.text()?;
    if let (Contents::Strided(elements), Some(_)) = (&text.contents, &options.dtype) {
        let cast = cast(elements.clone(), options.dtype.as_ref(), &checkpoint.limits)?.0;
        text.dtype = cast.dtype.clone();
        text.contents = Contents::Strided(cast);
    }
    tensor_print::print(&text, full, &checkpoint.limits, out)
}

/// A string as it is, when it stands alone; other values as Python's `repr`.
fn value_text(checkpoint: &Checkpoint, entry: &Entry, several: bool) -> Result<String> {
    if entry.item == Item::Recursion {
        return Ok("[...]".to_owned());
    }
    let objects = checkpoint.objects();
    match checkpoint.graph.node(entry.node) {
        Node::Str(id) if !several => {
            if checkpoint.graph.stored_len(*id) > MAX_STRING_BYTES {
                return Err(Error::limit(format!("cannot print a string of more than {MAX_STRING_BYTES} bytes")));
            }
            Ok(checkpoint.graph.text_lossy(*id)?.into_owned())
        }
        _ => Ok(objects
            .value(entry.node, usize::MAX)
            .map_or_else(|| objects.repr(entry.node, usize::MAX), |value| value.repr)),
    }
}

/// A value as JSON; what JSON cannot say exactly as its Python `repr`.
pub(super) fn value_json(checkpoint: &Checkpoint, node: NodeId) -> Json {
    let objects = checkpoint.objects();
    match objects.value(node, usize::MAX) {
        Some(value) if !value.json.is_null() || *checkpoint.graph.node(node) == Node::None => value.json,
        Some(value) => Json::String(value.repr),
        None => Json::String(objects.repr(node, usize::MAX)),
    }
}

/// Writes what was chosen as one JSON value: a single entry by itself, others nested as the object is.
pub(super) fn write_json(
    checkpoint: &Checkpoint,
    chosen: &Chosen,
    options: &Options,
    out: &mut dyn Write,
) -> Result<()> {
    if let ([entry], true) = (chosen.entries.as_slice(), chosen.single) {
        return entry_json(checkpoint, entry, options, out).map_err(|e| named(e.into(), entry, false));
    }
    Nested::of(checkpoint, chosen).write(out, &mut |entry, out| {
        entry_json(checkpoint, entry, options, out).map_err(|e| named(e.into(), entry, true))
    })
}

/// Writes the line that a program reads: what `value` is, and the value. A line that an error ends is ended.
pub(super) fn write_line(input: &Input, chosen: &Chosen, options: &Options, out: &mut dyn Write) -> Result<()> {
    let head = Extracted::new(&input.name, input.name_bytes.clone(), chosen.name());
    let mut text = Vec::new();
    crate::render::json::write(&head, &mut text)?;
    // in place of the value that the head does not have
    let before = text.strip_suffix(b"null}").unwrap_or(&text);
    out.write_all(before)?;
    let written = write_json(&input.checkpoint, chosen, options, out);
    out.write_all(if written.is_ok() { b"}\n" } else { b"\n" })?;
    written
}

fn entry_json(checkpoint: &Checkpoint, entry: &Entry, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let Item::Tensor(id, _) = entry.item else {
        return serde_json::to_writer(out, &value_json(checkpoint, entry.node)).map_err(io::Error::from);
    };
    let Some(tensor) = checkpoint.tensor(id) else { return Ok(()) };
    let taken = Taken { checkpoint, tensor, subscript: options.slice.as_ref() };
    taken.refuse_wrapper(&entry.name())?;
    let parts = taken.parts()?;
    if let [("", elements)] = parts.as_slice() {
        let elements = cast(elements.clone(), options.dtype.as_ref(), &checkpoint.limits)?.0;
        return write::json::write(&elements, &checkpoint.limits, out);
    }
    for (at, (name, elements)) in parts.into_iter().enumerate() {
        write!(out, "{}\"{name}\":", if at == 0 { '{' } else { ',' })?;
        let dtype = options.dtype.as_ref().filter(|_| parts::is_cast(name));
        let elements = cast(elements, dtype, &checkpoint.limits)?.0;
        write::json::write(&elements, &checkpoint.limits, out)?;
    }
    out.write_all(b"}")
}
