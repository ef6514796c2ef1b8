//! What is asked of a comparison of two tensors, and what it finds.

/// What counts as equal, and how much to find out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Relative tolerance: `|a - b| <= atol + rtol * |b|` is equal.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// NaN equals NaN.
    pub nan_equal: bool,
    /// Equal means the same bits (same dtypes only; others are compared as numbers); tolerances and `nan_equal` do not
    /// matter then.
    pub bitwise: bool,
    /// Only whether they differ is asked: everything but `first_difference` may cover a part of the tensor.
    pub stop_at_first: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { rtol: 0.0, atol: 0.0, nan_equal: true, bitwise: false, stop_at_first: false }
    }
}

/// What [`compare`](super::compare::compare) found. Types without arithmetic are left out of all but `total`, `differing` and
/// `first_difference`; so are pairs of two equal NaN. Where a NaN makes a difference, the other numbers are NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Elements in each tensor.
    pub total: u64,
    /// Elements that are not equal.
    pub differing: u64,
    /// Position of the first of them in the row-major sequence; [`Elements::index_of`](super::Elements::index_of) gives its indexes.
    pub first_difference: Option<u64>,
    /// Elements that differ because one of both is NaN, or both are where that is no equality.
    pub nan: u64,
    /// The largest `|a - b|`; infinite where one side is.
    pub max_abs: Option<f64>,
    /// The mean of `|a - b|` over all pairs of numbers.
    pub mean_abs: Option<f64>,
    /// The largest `|a - b| / |b|`; infinite where only `b` is zero.
    pub max_rel: Option<f64>,
    /// The cosine of the angle between the tensors as vectors (complex parts as two components each), over the pairs
    /// that are finite. `None` where one has no length, and for tensors whose bytes are the same.
    pub cosine: Option<f64>,
}

impl Comparison {
    /// True when no element differs.
    pub(crate) fn equal(&self) -> bool {
        self.first_difference.is_none()
    }
}
