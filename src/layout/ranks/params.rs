//! `params.json`, which lies beside Meta's own files.

use serde::Deserialize;

use super::super::directory::Directory;
use crate::source::read_vec;

/// More is not what Meta writes.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Params {
    n_heads: u64,
    n_kv_heads: Option<u64>,
}

/// Attention heads, and how many there are of keys and values.
pub(super) fn heads(directory: &mut Directory) -> Option<(u64, u64)> {
    let source = directory.file("params.json").ok().filter(|source| source.len() <= MAX_BYTES)?;
    let json = read_vec(source.as_ref(), 0, source.len()).ok()?;
    let params: Params = serde_json::from_slice(&json).ok()?;
    Some((params.n_heads, params.n_kv_heads.unwrap_or(params.n_heads)))
}
