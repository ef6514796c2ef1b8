//! torch's zip container (torch 1.6 and newer), as `torch.save` writes it (`torch/serialization.py`, `_save`).
//!
//! `.format_version` and `.storage_alignment` are left out: they promise torch's exact layout of a file.

use crate::checkpoint::resave::NewStorage;
use crate::error::Result;
use crate::limits::Limits;
use crate::pickle::{Graph, Scan, encode};
use crate::progress::Progress;
use crate::source::Window;
use crate::write::atomic::{Output, Target};
use crate::write::content::Content;
use crate::write::zip_writer::{Summed, ZipWriter};

/// A storage as it goes into a torch file.
#[derive(Debug)]
pub struct TorchStorage {
    /// Its key in the persistent ids.
    pub key: String,
    /// How many elements its class counts.
    pub numel: u64,
    /// Its bytes.
    pub content: Content,
}

/// Writes the archive; gives the complete output and the number of overflows.
pub fn write(
    target: &Target,
    graph: &Graph,
    scan: &Scan,
    storages: &[TorchStorage],
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Output, u64)> {
    let mut zip = ZipWriter::create(target)?;
    zip.member("archive/data.pkl", scan.max_bytes(), |out| {
        let mut summed = Summed::new(out);
        encode(graph, scan, &mut summed)?;
        Ok(summed.crc())
    })?;
    zip.bytes("archive/byteorder", b"little")?;
    let mut overflows = 0;
    for storage in storages {
        let bytes = storage.content.bytes(limits)?;
        zip.member(&format!("archive/data/{}", storage.key), bytes, |out| {
            let written = storage.content.write(out, true, limits, progress)?;
            overflows += written.overflows;
            Ok(written.crc)
        })?;
    }
    zip.bytes("archive/version", b"3\n")?;
    Ok((zip.finish()?, overflows))
}

impl TorchStorage {
    /// A storage that a checkpoint was found to need, copied as it lies there where that is possible.
    pub fn new(storage: NewStorage) -> Result<Self> {
        let NewStorage { key, numel, elements, cast, crc } = storage;
        let content = if cast.is_none() && elements.is_plain() && elements.is_contiguous() {
            let size = u64::from(elements.dtype.size().unwrap_or(1));
            let len = elements.shape.iter().product::<u64>().saturating_mul(size);
            let source = Window::shared(&elements.source, elements.offset.saturating_mul(size), len)?;
            Content::Raw { source, crc }
        } else {
            Content::Elements { elements, cast }
        };
        Ok(TorchStorage { key, numel, content })
    }
}
