//! The elements of one tensor, read in bounded memory.
//!
//! [`Elements`] says where they lie; [`gather`] streams them in row-major order, little-endian, whatever the strides.

use crate::dtype::{ByteOrder, DType};
use crate::source::SharedSource;

/// Where the elements of one strided tensor lie. Sizes and strides are in elements.
#[derive(Debug, Clone)]
pub struct Elements {
    /// The storage's bytes.
    pub source: SharedSource,
    /// The type of an element; its size must be known.
    pub dtype: DType,
    /// Extent of each dimension.
    pub shape: Vec<u64>,
    /// Step of each dimension, never negative.
    pub stride: Vec<u64>,
    /// The first element.
    pub offset: u64,
    /// In which order the bytes of an element lie in the storage.
    pub byte_order: ByteOrder,
    /// The elements stand for their complex conjugates (`torch.conj`).
    pub conj: bool,
    /// The elements stand for their negatives (`Tensor._neg_view`).
    pub neg: bool,
}
