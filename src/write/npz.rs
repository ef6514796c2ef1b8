//! numpy's `.npz`: a zip of `.npy` members, stored. Header version 1.0, padded to 64 bytes (`numpy/lib/format.py`).

use std::io::Write;

use crate::container::zip::check_name;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::write::atomic::{Output, Target};
use crate::write::content::Overflow;
use crate::write::safetensors::NamedTensor;
use crate::write::zip_writer::ZipWriter;

/// What stands before the elements of an array in row-major order. An `Unsupported` error for types numpy does not have.
pub(crate) fn npy_header(dtype: &DType, shape: &[u64]) -> Result<Vec<u8>> {
    let code = dtype.numpy().ok_or_else(|| Error::unsupported(format!("numpy has no {dtype}")))?;
    let order = if dtype.size() == Some(1) { '|' } else { '<' };
    let mut extents: String = shape.iter().map(|size| format!("{size}, ")).collect();
    extents.truncate(extents.len().saturating_sub(if shape.len() == 1 { 1 } else { 2 }));
    let mut text = format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let before = 10;
    let padded = (before + text.len() + 1).next_multiple_of(64) - before;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let len = u16::try_from(text.len()).map_err(|_| Error::limit("too many dimensions"))?;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(len.to_le_bytes());
    header.extend(text.as_bytes());
    Ok(header)
}

/// Writes the archive; gives the complete output and what overflowed.
pub(crate) fn write(
    target: &Target,
    tensors: &[NamedTensor],
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Output, Vec<Overflow>)> {
    let mut zip = ZipWriter::create(target)?;
    let mut overflows = Vec::new();
    for (place, tensor) in tensors.iter().enumerate() {
        tensor.check_shape()?;
        let name = format!("{}.npy", tensor.name);
        check_name(&name)?;
        let header = npy_header(tensor.dtype(), &tensor.elements.shape)?;
        let content = tensor.content();
        let bytes = content.bytes(limits)?;
        zip.member(&name, header.len() as u64 + bytes, |out| {
            out.write_all(&header)?;
            let written = content.write(out, true, limits, progress)?;
            Overflow::note(&mut overflows, place, written.overflows);
            let mut crc = crc32fast::Hasher::new_with_initial_len(0, 0);
            crc.update(&header);
            crc.combine(&crc32fast::Hasher::new_with_initial_len(written.crc, bytes));
            Ok(crc.finalize())
        })?;
    }
    Ok((zip.finish()?, overflows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Known;

    #[test]
    fn headers_as_numpy_writes_them() {
        let text = |shape: &[u64]| {
            String::from_utf8_lossy(&npy_header(&Known::Float32.into(), shape).unwrap()[10..]).trim_end().to_owned()
        };
        assert_eq!(text(&[2, 3]), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
        assert_eq!(text(&[2]), "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }");
        assert_eq!(text(&[]), "{'descr': '<f4', 'fortran_order': False, 'shape': (), }");
        assert_eq!(npy_header(&Known::Bool.into(), &[70]).unwrap().len() % 64, 0);
        assert!(npy_header(&Known::BFloat16.into(), &[]).is_err());
    }
}
