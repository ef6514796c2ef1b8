//! A tensor's elements and nothing else: contiguous, row-major, little-endian.

use std::io::{self, Write};

use crate::data::Elements;
use crate::data::gather::Blocks;
use crate::limits::Limits;

/// Writes the elements' bytes. Errors are those of reading and of `out`.
pub fn write(elements: &Elements, limits: &Limits, out: &mut dyn Write) -> io::Result<()> {
    let mut blocks = Blocks::new(elements, limits)?;
    loop {
        let block = blocks.block()?;
        if block.is_empty() {
            return Ok(());
        }
        let len = block.len();
        out.write_all(block)?;
        blocks.consume(len);
    }
}
