//! Numbers, strings and bytes as opcodes.

use std::borrow::Cow;
use std::io::Write;

use crate::error::{Error, Result};
use crate::pickle::graph::{Graph, Node, NodeId, TextId};
use crate::pickle::opcode as op;
use crate::pickle::text::{Encoding, big_integer};

/// Texts up to this many stored bytes pass through memory, and may change their spelling; longer ones are copied as they
/// are stored.
const IN_MEMORY: u64 = 1 << 20;
/// Decimal digits beyond this stay decimal digits: turning them into bytes is not linear.
const MAX_DIGITS: u64 = 4096;
const BLOCK_BYTES: u64 = 1 << 20;

/// The content of a `str` or `bytes` node.
pub(super) fn content(graph: &Graph, node: NodeId) -> Result<Cow<'_, [u8]>> {
    match graph.node(node) {
        Node::Str(text) | Node::Bytes(text) => graph.text(*text),
        _ => Err(Error::malformed("a name is no string")),
    }
}

/// A bound on the bytes that a node's text takes.
pub(super) fn max_text_bytes(graph: &Graph, node: NodeId) -> u64 {
    match graph.node(node) {
        Node::Str(text) | Node::Bytes(text) | Node::ByteArray(text) | Node::Long(text) => {
            graph.stored_len(*text).saturating_mul(2)
        }
        Node::Global { module, name } => [*module, *name].iter().map(|part| max_text_bytes(graph, *part)).sum(),
        _ => 0,
    }
}

/// Writes a value that consists of nothing else.
pub(super) fn write(graph: &Graph, node: NodeId, out: &mut dyn Write) -> Result<()> {
    match graph.node(node) {
        Node::None => out.write_all(&[op::NONE])?,
        Node::Bool(value) => out.write_all(&[if *value { op::NEWTRUE } else { op::NEWFALSE }])?,
        Node::Int(value) => integer(*value, out)?,
        Node::Float(value) => {
            out.write_all(&[op::BINFLOAT])?;
            out.write_all(&value.to_be_bytes())?;
        }
        Node::Long(text) => long(graph, *text, out)?,
        Node::Str(text) => string(graph, *text, out)?,
        Node::Bytes(text) => bytes(graph, *text, out)?,
        Node::ByteArray(text) => {
            out.write_all(&[op::BYTEARRAY8])?;
            out.write_all(&graph.stored_len(*text).to_le_bytes())?;
            copy(graph, *text, out)?;
        }
        Node::Extension(code) => extension(*code, out)?,
        Node::Buffer => out.write_all(&[op::NEXT_BUFFER])?,
        _ => return Err(Error::unsupported("a value that no pickle can describe")),
    }
    Ok(())
}

fn integer(value: i64, out: &mut dyn Write) -> Result<()> {
    if let Ok(small) = u8::try_from(value) {
        out.write_all(&[op::BININT1, small])?;
    } else if let Ok(small) = u16::try_from(value) {
        out.write_all(&[op::BININT2])?;
        out.write_all(&small.to_le_bytes())?;
    } else if let Ok(value) = i32::try_from(value) {
        out.write_all(&[op::BININT])?;
        out.write_all(&value.to_le_bytes())?;
    } else {
        let bytes = value.to_le_bytes();
        twos_complement(shortest(&bytes), out)?;
    }
    Ok(())
}

/// Drops bytes that only repeat the sign.
fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., before, last] = bytes {
        if !matches!((*last, *before >> 7), (0, 0) | (0xff, 1)) {
            break;
        }
        bytes = bytes.get(..rest.len() + 1).unwrap_or_default();
    }
    bytes
}

fn twos_complement(bytes: &[u8], out: &mut dyn Write) -> Result<()> {
    long_header(bytes.len() as u64, out)?;
    Ok(out.write_all(bytes)?)
}

fn long_header(len: u64, out: &mut dyn Write) -> Result<()> {
    match u8::try_from(len) {
        Ok(len) => out.write_all(&[op::LONG1, len])?,
        Err(_) => {
            let len = i32::try_from(len).map_err(|_| Error::limit("an integer of more than 2 GiB"))?;
            out.write_all(&[op::LONG4])?;
            out.write_all(&len.to_le_bytes())?;
        }
    }
    Ok(())
}

fn long(graph: &Graph, text: TextId, out: &mut dyn Write) -> Result<()> {
    match graph.encoding(text) {
        Encoding::TwosComplement => {
            long_header(graph.stored_len(text), out)?;
            copy(graph, text, out)
        }
        encoding if graph.stored_len(text) <= MAX_DIGITS => {
            let value = big_integer(&graph.raw_text(text)?, encoding);
            let value = value.ok_or_else(|| Error::malformed("an integer without digits"))?;
            twos_complement(&value.to_signed_bytes_le(), out)
        }
        _ => {
            out.write_all(&[op::LONG])?;
            copy(graph, text, out)?;
            Ok(out.write_all(b"L\n")?)
        }
    }
}

fn string(graph: &Graph, text: TextId, out: &mut dyn Write) -> Result<()> {
    let long = graph.stored_len(text) > IN_MEMORY;
    match graph.encoding(text) {
        Encoding::Python2 | Encoding::Raw => {
            let len = graph.stored_len(text);
            python2_header(len, out)?;
            copy(graph, text, out)
        }
        Encoding::Python2Escaped if long => {
            // what is between the first and the last quote is the literal, whatever quotes are in it
            out.write_all(&[op::STRING, b'\''])?;
            copy(graph, text, out)?;
            Ok(out.write_all(b"'\n")?)
        }
        Encoding::RawUnicodeEscape if long => {
            out.write_all(&[op::UNICODE])?;
            copy(graph, text, out)?;
            Ok(out.write_all(b"\n")?)
        }
        Encoding::Python2Escaped => {
            let content = graph.text(text)?;
            python2_header(content.len() as u64, out)?;
            Ok(out.write_all(&content)?)
        }
        Encoding::RawUnicodeEscape => {
            let content = graph.text(text)?;
            sized(content.len() as u64, None, op::BINUNICODE, op::BINUNICODE8, out)?;
            Ok(out.write_all(&content)?)
        }
        _ => {
            sized(graph.stored_len(text), None, op::BINUNICODE, op::BINUNICODE8, out)?;
            copy(graph, text, out)
        }
    }
}

fn python2_header(len: u64, out: &mut dyn Write) -> Result<()> {
    match u8::try_from(len) {
        Ok(len) => out.write_all(&[op::SHORT_BINSTRING, len])?,
        Err(_) => {
            let len = i32::try_from(len).map_err(|_| Error::limit("a string of Python 2 of more than 2 GiB"))?;
            out.write_all(&[op::BINSTRING])?;
            out.write_all(&len.to_le_bytes())?;
        }
    }
    Ok(())
}

fn bytes(graph: &Graph, text: TextId, out: &mut dyn Write) -> Result<()> {
    sized(graph.stored_len(text), Some(op::SHORT_BINBYTES), op::BINBYTES, op::BINBYTES8, out)?;
    copy(graph, text, out)
}

fn sized(len: u64, short: Option<u8>, medium: u8, long: u8, out: &mut dyn Write) -> Result<()> {
    match (short, u8::try_from(len), u32::try_from(len)) {
        (Some(short), Ok(len), _) => out.write_all(&[short, len])?,
        (_, _, Ok(len)) => {
            out.write_all(&[medium])?;
            out.write_all(&len.to_le_bytes())?;
        }
        _ => {
            out.write_all(&[long])?;
            out.write_all(&len.to_le_bytes())?;
        }
    }
    Ok(())
}

fn extension(code: u32, out: &mut dyn Write) -> Result<()> {
    if let Ok(code) = u8::try_from(code) {
        out.write_all(&[op::EXT1, code])?;
    } else if let Ok(code) = u16::try_from(code) {
        out.write_all(&[op::EXT2])?;
        out.write_all(&code.to_le_bytes())?;
    } else {
        out.write_all(&[op::EXT4])?;
        out.write_all(&code.to_le_bytes())?;
    }
    Ok(())
}

/// Copies a text as it is stored.
fn copy(graph: &Graph, text: TextId, out: &mut dyn Write) -> Result<()> {
    let Some((stream, at, len)) = graph.place(text).filter(|place| place.2 > IN_MEMORY) else {
        return Ok(out.write_all(&graph.raw_text(text)?)?);
    };
    let source = graph.stream(stream).ok_or_else(|| Error::malformed("no such stream"))?;
    let mut done = 0;
    while done < len {
        let take = (len - done).min(BLOCK_BYTES);
        out.write_all(&crate::source::read_vec(source.as_ref(), at + done, take)?)?;
        done += take;
    }
    Ok(())
}
