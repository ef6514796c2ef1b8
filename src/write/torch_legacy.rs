//! The legacy stream that torch 1.5 and older read (`torch/serialization.py`, `_legacy_save`).

use std::io::Write;

use crate::checkpoint::resave::NewStorage;
use crate::error::Result;
use crate::limits::Limits;
use crate::pickle::{Census, Graph, Node, encode};
use crate::progress::Progress;
use crate::write::atomic::{Output, Target};
use crate::write::content::{Content, Overflow};

/// The pickles of the magic number, of protocol version 1001 and of `sys_info`, as torch writes them.
const HEAD: &[&[u8]] = &[
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    b"\x80\x02M\xe9\x03.",
    b"\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\r\x00\x00\x00little_endianq\x02\x88\
      X\n\x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04\
      X\x04\x00\x00\x00longq\x07K\x04uu.",
];

/// Writes the stream; gives the complete output and what overflowed.
pub(crate) fn write(
    target: &Target,
    graph: &Graph,
    scan: &Census,
    storages: &[NewStorage],
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Output, Vec<Overflow>)> {
    let mut out = target.create()?;
    HEAD.iter().try_for_each(|part| out.write_all(part))?;
    encode(graph, scan, &mut out)?;
    let mut keys = Graph::new();
    let list = (0..storages.len()).map(|key| keys.push_str(&key.to_string())).collect::<Result<Vec<_>>>()?;
    let list = keys.push(Node::List(Box::new(list)))?;
    encode(&keys, &Census::new(&keys, list)?, &mut out)?;
    let mut overflows = Vec::new();
    for (place, storage) in storages.iter().enumerate() {
        out.write_all(&storage.numel.to_le_bytes())?;
        let written = Content::of_storage(storage)?.write(&mut out, false, limits, progress)?;
        Overflow::note(&mut overflows, place, written.overflows);
    }
    Ok((out, overflows))
}
