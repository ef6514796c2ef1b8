//! What is known of one tensor: its facts as pickled, and where its elements lie.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::checkpoint::storage::{Storage, StorageId, Storages};
use crate::data::Elements;
use crate::data::unpack::Unpacked;
use crate::dtype::{ByteOrder, Class, DType};
use crate::error::{Error, Result};
use crate::pickle::{Moved, NodeId};
use crate::source::SharedSource;

/// A tensor's place in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub(super) u32);

impl TensorId {
    /// The same tensor, when so many have been put before it.
    pub(super) fn after(self, others: u32) -> Self {
        TensorId(self.0.saturating_add(others))
    }
}

/// What kind of object it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) enum Kind {
    /// `torch.Tensor` or a subclass.
    #[default]
    Tensor,
    /// `torch.nn.Parameter`.
    Parameter,
    /// A numpy array.
    NdArray,
}

impl Kind {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tensor => "tensor",
            Kind::Parameter => "parameter",
            Kind::NdArray => "ndarray",
        }
    }
}

/// Where a tensor's elements lie.
#[derive(Debug, Clone, Default)]
pub(crate) enum Data {
    /// In a storage, from an offset in elements on.
    Storage {
        /// Which.
        id: StorageId,
        /// The first element.
        offset: u64,
    },
    /// An array's own bytes.
    Array {
        /// The bytes, first element first.
        source: SharedSource,
        /// Their byte order.
        byte_order: ByteOrder,
    },
    /// In other tensors: a sparse one's indices and values, a nested one's buffer and sizes, what a wrapper holds.
    Parts(Vec<NodeId>),
    /// Nowhere: a meta tensor, or an object array.
    #[default]
    Nothing,
}

/// Scale and zero point of a quantized tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantizer {
    /// torch's scheme: `per_tensor_affine`, `per_channel_affine`, ….
    pub scheme: String,
    /// The arguments after the scheme: scale(s), zero point(s), axis.
    pub arguments: Vec<NodeId>,
}

/// What decides the elements of a tensor that lies in a storage: two tensors of the same view are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    storage: StorageId,
    dtype: DType,
    offset: u64,
    shape: Extents,
    stride: Option<Extents>,
    conj: bool,
    neg: bool,
}

/// Sizes or steps; those of up to two dimensions take no memory of their own.
pub(crate) type Extents = SmallVec<[i64; 2]>;

/// One tensor, as the file describes it. Sizes, strides and offsets are in elements. What few tensors have is read and
/// written as if it were here ([`Rare`]).
#[derive(Debug, Clone, Default)]
pub(crate) struct Tensor {
    /// Tensor, parameter or array.
    pub kind: Kind,
    /// The type of an element; `None` when the file does not say.
    pub dtype: Option<DType>,
    /// Extents. Negative ones are kept as the file has them, and are a [`Rare::problem`].
    pub shape: Extents,
    /// Steps; `None` for layouts that have none.
    pub stride: Option<Extents>,
    /// The first element in the storage, as pickled.
    pub storage_offset: Option<i64>,
    /// torch's layout name: `strided`, `sparse_coo`, ….
    pub layout: &'static str,
    /// The device, where the file says.
    pub device: Option<Arc<str>>,
    /// As pickled; `None` for arrays.
    pub requires_grad: Option<bool>,
    /// Lazily conjugated.
    pub conj: bool,
    /// Lazily negated.
    pub neg: bool,
    /// Where the elements lie.
    pub data: Data,
    /// A wrapper subclass: what it holds lies in its state, and is listed below it.
    pub wraps: bool,
    /// What few tensors have.
    pub rare: Option<Box<Rare>>,
}

/// What few tensors have: apart, as a checkpoint may hold very many of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rare {
    /// The class of a tensor subclass.
    pub class: Option<String>,
    /// How a quantized tensor's integers are to be read.
    pub quantizer: Option<Box<Quantizer>>,
    /// Elements of a nested tensor, whose shape has -1 where its tensors differ.
    pub ragged: Option<u64>,
    /// State of a parameter or subclass: what else it carries.
    pub state: Option<NodeId>,
    /// Why its elements cannot be trusted.
    pub problem: Option<String>,
    /// Why its elements will not be read though they are there: a bound.
    pub unread: Option<&'static str>,
}

impl Rare {
    const NONE: Rare = Rare { class: None, quantizer: None, ragged: None, state: None, problem: None, unread: None };

    /// Those of a tensor with a problem, if it has one.
    pub(crate) fn of_problem(problem: Option<String>) -> Option<Box<Self>> {
        problem.map(|problem| Box::new(Rare { problem: Some(problem), ..Rare::default() }))
    }

    /// The same for the class of a subclass.
    pub(crate) fn of_class(class: Option<String>) -> Option<Box<Self>> {
        class.map(|class| Box::new(Rare { class: Some(class), ..Rare::default() }))
    }
}

impl Deref for Tensor {
    type Target = Rare;

    fn deref(&self) -> &Rare {
        const NONE: &Rare = &Rare::NONE;
        self.rare.as_deref().unwrap_or(NONE)
    }
}

impl DerefMut for Tensor {
    fn deref_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl Tensor {
    /// The same without what a parameter or subclass carries.
    pub(super) fn without_state(mut self) -> Self {
        self.rare.iter_mut().for_each(|rare| rare.state = None);
        self
    }

    /// The same as no subclass, and without what one carries.
    pub(super) fn without_class(mut self) -> Self {
        self.rare.iter_mut().for_each(|rare| (rare.class, rare.state) = (None, None));
        self
    }

    /// Elements, when the shape makes sense.
    pub(crate) fn numel(&self) -> Option<u64> {
        if self.ragged.is_some() {
            return self.ragged;
        }
        if self.shape.iter().any(|size| *size < 0) {
            return None;
        }
        // an extent of zero makes the others harmless
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1u64, |product, size| product.checked_mul(u64::try_from(*size).ok()?))
    }

    /// Bytes of all elements; `None` when the shape or the element's size is unknown or overflows.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let dtype = self.dtype.as_ref()?;
        self.numel()?.div_ceil(dtype.in_a_byte().into()).checked_mul(u64::from(dtype.size()?))
    }

    /// The same tensor in a checkpoint that took its own in.
    pub(super) fn moved(mut self, moved: &Moved, first_storage: u32) -> Self {
        match &mut self.data {
            Data::Storage { id, .. } => *id = id.after(first_storage),
            Data::Parts(parts) => parts.iter_mut().for_each(|part| *part = moved.node(*part)),
            Data::Array { .. } | Data::Nothing => {}
        }
        if let Some(rare) = &mut self.rare {
            let arguments = rare.quantizer.iter_mut().flat_map(|quantizer| &mut quantizer.arguments);
            arguments.chain(&mut rare.state).for_each(|node| *node = moved.node(*node));
        }
        self
    }

    /// The storage it is a view of.
    pub(crate) fn storage(&self) -> Option<StorageId> {
        match self.data {
            Data::Storage { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Which part of which storage it is, so that what several names share is read once.
    pub(crate) fn view(&self) -> Option<View> {
        let Data::Storage { id, offset } = self.data else { return None };
        Some(View {
            storage: id,
            dtype: self.dtype.clone()?,
            offset,
            shape: self.shape.clone(),
            stride: self.stride.clone(),
            conj: self.conj,
            neg: self.neg,
        })
    }

    /// True for layouts whose elements are kept in other tensors.
    pub(crate) fn is_sparse(&self) -> bool {
        self.layout != STRIDED
    }

    /// True for torch's nested tensors: several of different sizes in one buffer.
    pub(crate) fn is_nested(&self) -> bool {
        self.layout == NESTED
    }

    /// The bytes of an array that lies in a pickle or a file of numpy's.
    pub(crate) fn array(&self) -> Option<&SharedSource> {
        match &self.data {
            Data::Array { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Where the elements lie, for reading all of them. Fails as [`Tensor::elements`] does, and with `Limit` where there are
    /// more than the file explains.
    pub(crate) fn readable(&self, storages: &Storages) -> Result<Elements> {
        match self.unread {
            Some(bound) if self.problem.is_none() => Err(Error::limit(bound)),
            _ => self.elements(storages),
        }
    }

    /// Where the elements lie. Fails with the tensor's problem when there is one, or when it holds no
    /// elements of its own (meta, sparse, object arrays). Elements of less than a byte are a row of packed bytes, as
    /// torch's `int_repr()` gives them.
    pub(crate) fn elements(&self, storages: &Storages) -> Result<Elements> {
        self.elements_from(storages, Storage::source)
    }

    /// The same as [`Tensor::readable`], of a storage that is opened when it is first read.
    pub(crate) fn deferred(&self, storages: &Storages) -> Result<Elements> {
        match self.unread {
            Some(bound) if self.problem.is_none() => Err(Error::limit(bound)),
            _ => self.elements_from(storages, Storage::deferred),
        }
    }

    fn elements_from(
        &self,
        storages: &Storages,
        source_of: impl Fn(&Storage) -> Result<SharedSource>,
    ) -> Result<Elements> {
        if let Some(problem) = &self.problem {
            return Err(Error::data(problem.clone()));
        }
        let dtype = self.dtype.clone().ok_or_else(|| Error::data("its dtype is unknown"))?;
        let size = |value: &i64| u64::try_from(*value).map_err(|_| Error::data("a negative size or stride"));
        let shape = self.shape.iter().map(size).collect::<Result<Vec<_>>>()?;
        let stride = self.stride.iter().flatten().map(size).collect::<Result<Vec<_>>>()?;
        let (source, byte_order, offset) = match &self.data {
            Data::Storage { id, offset } => {
                let storage = storages.get(*id).ok_or_else(|| Error::data("no such storage"))?;
                (source_of(storage)?, storage.byte_order, *offset)
            }
            Data::Array { source, byte_order } => (source.clone(), *byte_order, 0),
            Data::Parts(_) => return Err(Error::data(self.why_no_elements())),
            Data::Nothing if self.device.as_deref() == Some("meta") => {
                return Err(Error::data("a meta tensor has no data"));
            }
            Data::Nothing => return Err(Error::data("its elements are not in the file as numbers")),
        };
        let several = u64::from(dtype.in_a_byte());
        let (shape, stride) = match several {
            1 => (shape, stride),
            several => (vec![self.numel().unwrap_or(0).div_ceil(several)], vec![1]),
        };
        Ok(Elements { source, dtype, shape, stride, offset, byte_order, conj: self.conj, neg: self.neg })
    }

    /// The same with each element in a byte of its own and in the tensor's shape, where several share one.
    pub(crate) fn unpacked(&self, storages: &Storages) -> Result<Elements> {
        let packed = self.elements(storages)?;
        let several = packed.dtype.in_a_byte();
        if several == 1 {
            return Ok(packed);
        }
        let source = Unpacked::over(packed.source, several);
        let shape = self.shape.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect();
        let offset = packed.offset.saturating_mul(several.into());
        Ok(Elements { offset, ..Elements::row_major(source, packed.dtype, shape) })
    }

    fn why_no_elements(&self) -> String {
        match &self.class {
            Some(class) if self.wraps => {
                format!("a {class} has no elements of its own: they are in what lies below it")
            }
            _ => format!("a {} tensor has no elements of its own", self.layout),
        }
    }

    /// Finds out, without reading data, whether the elements lie where they should; sets `problem` if not.
    pub(super) fn inspect(&mut self, storages: &Storages) {
        if self.problem.is_none()
            && let Some(problem) = self.find_problem(storages)
        {
            self.problem = Some(problem);
        }
    }

    fn find_problem(&self, storages: &Storages) -> Option<String> {
        if let Some(size) = self.shape.iter().find(|size| **size < 0 && self.ragged.is_none()) {
            return Some(format!("has a negative size ({size})"));
        }
        let Some(stride) = &self.stride else { return None };
        if stride.len() != self.shape.len() {
            return Some(format!("has {} sizes but {} strides", self.shape.len(), stride.len()));
        }
        if let Some(step) = stride.iter().find(|step| **step < 0) {
            return Some(format!("has a negative stride ({step})"));
        }
        if self.storage_offset.is_some_and(|offset| offset < 0) {
            return Some(format!("has a negative storage offset ({})", self.storage_offset.unwrap_or_default()));
        }
        let Some(numel) = self.numel() else { return Some("has more elements than 64 bits can count".into()) };
        let size = u64::from(self.dtype.as_ref()?.size()?);
        if numel.checked_mul(size).is_none() {
            return Some("has more bytes than 64 bits can count".into());
        }
        let several = u64::from(self.dtype.as_ref()?.in_a_byte());
        if several > 1 && !self.is_contiguous() {
            // torch reads such a view as if it had the strides of whole bytes
            return Some(
                "is a view of elements that share bytes, which cannot be told apart from its neighbours".into(),
            );
        }
        let (available, offset, name) = match &self.data {
            Data::Storage { id, offset } => {
                let storage = storages.get(*id)?;
                match storage.missing() {
                    Some(why) if numel > 0 || storage.numel > 0 => return Some(why.to_owned()),
                    Some(_) => return None,
                    None => (storage.extent()?, *offset, format!("storage {}", storage.key)),
                }
            }
            Data::Array { source, .. } => (source.len(), 0, "its data".into()),
            Data::Parts(_) | Data::Nothing => return None,
        };
        if numel == 0 {
            return None;
        }
        let last = match several {
            1 => self.shape.iter().zip(stride).try_fold(offset, |last, (extent, step)| {
                let steps = u64::try_from(extent - 1).ok()?.checked_mul(u64::try_from(*step).ok()?)?;
                last.checked_add(steps)
            }),
            several => offset.checked_add((numel - 1) / several),
        };
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        match (last, end) {
            (Some(_), Some(end)) if end <= available => None,
            (Some(last), _) => Some(format!("reaches element {last} of {name}, which has {}", available / size.max(1))),
            _ => Some(format!("reaches outside {name}")),
        }
    }

    /// Whether all that it is lies in the tensors of its state.
    pub(super) fn is_wrapper(&self) -> bool {
        self.state.is_some() && matches!(self.data, Data::Nothing)
    }

    /// The nodes of the tensors that it consists of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &NodeId> {
        let parts = match &self.data {
            Data::Parts(parts) => parts.as_slice(),
            _ => &[],
        };
        parts.iter().chain(self.quantizer.iter().flat_map(|quantizer| &quantizer.arguments))
    }

    /// True when the elements lie one after the other in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.stride.as_ref().is_none_or(|stride| {
            let wanted = contiguous(&self.shape);
            self.shape.iter().zip(stride.iter().zip(&wanted)).all(|(extent, (have, want))| *extent <= 1 || have == want)
        })
    }

    /// True for quantized types.
    pub(crate) fn is_quantized(&self) -> bool {
        self.dtype.as_ref().and_then(DType::class) == Some(Class::Quantized)
    }
}

/// The ordinary layout's name.
pub(crate) const STRIDED: &str = "strided";
/// What nested tensors are called: torch has no name for their layout.
pub(crate) const NESTED: &str = "nested";

/// Row-major strides, as torch counts them (an extent of 0 counts as 1).
pub(crate) fn contiguous(shape: &[i64]) -> Extents {
    let mut step = 1i64;
    let mut stride: Extents = shape
        .iter()
        .rev()
        .map(|extent| {
            let here = step;
            step = step.saturating_mul((*extent).max(1));
            here
        })
        .collect();
    stride.reverse();
    stride
}

/// Column-major strides (numpy's `order='F'`).
pub(crate) fn fortran(shape: &[i64]) -> Extents {
    let reversed: Extents = shape.iter().rev().copied().collect();
    let mut stride = contiguous(&reversed);
    stride.reverse();
    stride
}

/// The facts of a tensor that a container lists itself: contiguous, on the CPU.
pub(crate) fn plain_tensor(dtype: DType, shape: impl Into<Extents>) -> Tensor {
    let shape = shape.into();
    Tensor {
        dtype: Some(dtype),
        stride: Some(contiguous(&shape)),
        shape,
        storage_offset: Some(0),
        layout: STRIDED,
        device: Some("cpu".into()),
        requires_grad: Some(false),
        ..Tensor::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_both_orders() {
        assert_eq!(contiguous(&[4, 3, 2])[..], [6, 2, 1]);
        assert_eq!(fortran(&[4, 3, 2])[..], [1, 4, 12]);
        assert_eq!(contiguous(&[3, 0, 2])[..], [2, 2, 1]);
        assert!(contiguous(&[]).is_empty());
    }

    #[test]
    fn tensors_stay_small() {
        // as for nodes: their size is the memory of a listing
        assert_eq!(size_of::<Tensor>(), 176);
    }

    #[test]
    fn what_few_have_is_kept_apart_only_where_it_is() {
        let mut tensor = Tensor::default();
        assert!(tensor.problem.is_none() && tensor.rare.is_none());
        tensor.problem = Some("lost".to_owned());
        assert_eq!(tensor.clone().problem.as_deref(), Some("lost"));
    }

    #[test]
    fn counting_elements_never_overflows() {
        let with = |shape: &[i64]| Tensor { shape: shape.into(), ..Tensor::default() }.numel();
        assert_eq!(with(&[]), Some(1));
        assert_eq!(with(&[1 << 40, 1 << 40]), None);
        assert_eq!(with(&[1 << 40, 1 << 40, 0]), Some(0));
        assert_eq!(with(&[-1]), None);
        assert_eq!(with(&[-1, 0]), None);
    }
}
