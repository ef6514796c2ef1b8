//! torch's zip container (torch 1.6 and newer), as `torch.save` writes it (`torch/serialization.py`, `_save`).
//!
//! `.format_version` and `.storage_alignment` are left out: they promise torch's exact layout of a file.

use crate::checkpoint::resave::NewStorage;
use crate::error::Result;
use crate::limits::Limits;
use crate::pickle::{Census, Graph, encode};
use crate::progress::Progress;
use crate::write::atomic::{Output, Target};
use crate::write::content::{Content, Overflow};
use crate::write::zip_writer::{Summed, ZipWriter};

/// Writes the archive; gives the complete output and what overflowed.
pub(crate) fn write(
    target: &Target,
    graph: &Graph,
    scan: &Census,
    storages: &[NewStorage],
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Output, Vec<Overflow>)> {
    let mut zip = ZipWriter::create(target)?;
    zip.member("archive/data.pkl", scan.max_bytes(), |out| {
        let mut summed = Summed::new(out);
        encode(graph, scan, &mut summed)?;
        Ok(summed.crc())
    })?;
    zip.bytes("archive/byteorder", b"little")?;
    let mut overflows = Vec::new();
    for (key, storage) in storages.iter().enumerate() {
        let content = Content::of_storage(storage)?;
        let bytes = content.bytes(limits)?;
        zip.member(&format!("archive/data/{key}"), bytes, |out| {
            let written = content.write(out, true, limits, progress)?;
            Overflow::note(&mut overflows, key, written.overflows);
            Ok(written.crc)
        })?;
    }
    zip.bytes("archive/version", b"3\n")?;
    Ok((zip.finish()?, overflows))
}
