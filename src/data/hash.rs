//! SHA-256 of a tensor's elements, as `--hash` shows it.

use sha2::{Digest, Sha256};

use super::{Elements, gather};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;

/// SHA-256 over the elements, contiguous, row-major, little-endian, `conj` and `neg` applied. Errors as
/// [`gather::for_each_block`].
pub(crate) fn sha256(elements: &Elements, limits: &Limits, progress: &dyn Progress) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    gather::for_each_block::<Error>(elements, limits, &mut |block| {
        hasher.update(block);
        progress.advance(block.len() as u64);
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

/// SHA-256 of bytes at hand.
pub(crate) fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The sha256 of no bytes.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Lower-case hexadecimal.
pub fn hex(digest: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::Known;
    use crate::progress::Silent;

    // hashlib.sha256(torch.arange(6, dtype=torch.int32).reshape(2, 3).t().contiguous().numpy().tobytes())
    #[test]
    fn of_a_transposed_tensor() {
        let bytes = (0..6_i32).flat_map(i32::to_le_bytes).collect();
        let t = Elements { stride: vec![1, 3], ..tensor(Known::Int32, &[3, 2], bytes) };
        let digest = sha256(&t, &Limits::default(), &Silent).unwrap();
        assert_eq!(hex(&digest), "6ab7112e1a152a45ea451a644c5906625cf2c6bd93c5fe7a3c3297c2d82a4149");
    }

    #[test]
    fn of_nothing() {
        let t = tensor(Known::Float32, &[0, 4], Vec::new());
        let digest = sha256(&t, &Limits::default(), &Silent).unwrap();
        assert_eq!(hex(&digest), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
