//! What each of torch's and numpy's constructors makes of its arguments, as far as it makes tensors.
//!
//! Sources: `torch/_utils.py`, `torch/_tensor.py`, `torch/nn/parameter.py`, `torch/storage.py` (1.0 to 2.15), and
//! `numpy/core/src/multiarray/methods.c` (`array_setstate`).

use super::{Attempt, Tensors};
use crate::checkpoint::arguments::{device_name, layout_name, sizes, torch_dtype};
use crate::checkpoint::constructors::Constructor as C;
use crate::checkpoint::numpy;
use crate::checkpoint::storage::{Persistent, StorageId, Storages};
use crate::checkpoint::tensor::{Data, Kind, Quantizer, Rare, STRIDED, Tensor};
use crate::data::casting::Casting;
use crate::dtype::{ByteOrder, DType};
use crate::pickle::{Change, Graph, Node, NodeId};

/// One call of a constructor, being read.
pub(super) struct Call<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) graph: &'a Graph,
    pub(super) storages: &'a Storages,
    pub(super) node: NodeId,
    pub(super) callable: NodeId,
}

impl Call<'_> {
    pub(super) fn make(&self, constructor: C, args: &[NodeId]) -> Attempt {
        match constructor {
            C::Tensor => self.strided(args, None, None, None).into(),
            C::TensorV2 => self.strided(args, None, args.get(4), args.get(6)).into(),
            C::TensorV3 => {
                let dtype = args.get(6).and_then(|node| torch_dtype(self.graph, *node));
                self.strided(args, dtype, args.get(4), args.get(7)).into()
            }
            C::Quantized => self.quantized(args).into(),
            C::Sparse => self.sparse(args),
            C::Meta => self.meta(args).into(),
            C::Parameter => self.parameter(args),
            C::ParameterClass | C::TensorClass => self.old_class(constructor, args),
            C::WrapperSubclass => self.wrapper(args).into(),
            C::FromType => self.of_subclass(args),
            C::OnDevice => self.on_device(args),
            C::Nested => self.nested(args),
            C::Jagged => self.jagged(args),
            C::NumpyArray => numpy::reconstructed(self.graph, self.node).into(),
            C::NumpyFromBuffer => numpy::from_buffer(self.graph, args).into(),
            C::JoblibArray => numpy::joblib_array(self.graph, self.node).into(),
            _ => Attempt::Never,
        }
    }

    pub(super) fn known(&self, node: NodeId) -> Option<&Tensor> {
        self.tensors.of(node).and_then(|id| self.tensors.get(id))
    }

    fn storage(&self, node: NodeId) -> Option<(StorageId, u64)> {
        let node = self.tensors.inner_roots.get(&node).copied().unwrap_or(node);
        match self.storages.meaning(node)? {
            Persistent::Storage { id, view_offset } => Some((*id, *view_offset)),
            _ => None,
        }
    }

    pub(super) fn flag(&self, node: Option<&NodeId>) -> Option<bool> {
        self.graph.int(*node?).map(|value| value != 0)
    }

    /// `(storage, offset, size, stride, …)`; `dtype` overrides the storage's.
    fn strided(
        &self,
        args: &[NodeId],
        dtype: Option<DType>,
        requires_grad: Option<&NodeId>,
        metadata: Option<&NodeId>,
    ) -> Option<Tensor> {
        let [storage_node, offset, size, stride, ..] = args else { return None };
        let offset = self.graph.int_saturating(*offset)?;
        let shape = sizes(self.graph, *size)?;
        let mut tensor = Tensor {
            stride: Some(sizes(self.graph, *stride)?),
            storage_offset: Some(offset),
            layout: STRIDED,
            requires_grad: Some(self.flag(requires_grad).unwrap_or(false)),
            conj: self.has(metadata, "conj"),
            neg: self.has(metadata, "neg"),
            dtype,
            shape,
            ..Tensor::default()
        };
        match self.storage(*storage_node) {
            Some((id, view_offset)) => self.place(&mut tensor, id, view_offset, offset),
            None => tensor.problem = Some("its storage is not one that this file describes".into()),
        }
        Some(tensor)
    }

    fn place(&self, tensor: &mut Tensor, id: StorageId, view_offset: u64, offset: i64) {
        let Some(storage) = self.storages.get(id) else { return };
        tensor.device = Some(storage.location.clone());
        match &tensor.dtype {
            None => tensor.dtype = Some(storage.dtype.clone()),
            Some(DType::Other { name, size: None }) => {
                // a type nobody has listed: its size follows when the tensor fills the storage
                let numel = tensor.numel().filter(|numel| *numel > 0 && offset == 0);
                let bytes = storage.numel.checked_mul(u64::from(storage.dtype.size().unwrap_or(1)));
                let size = numel.zip(bytes).filter(|(numel, bytes)| bytes % numel == 0);
                let size = size.and_then(|(numel, bytes)| u32::try_from(bytes / numel).ok());
                tensor.dtype = Some(DType::Other { name: name.clone(), size });
            }
            Some(_) => {}
        }
        tensor.data = if &*storage.location == "meta" {
            Data::Nothing
        } else {
            match u64::try_from(offset).ok().and_then(|offset| offset.checked_add(view_offset)) {
                Some(offset) => Data::Storage { id, offset },
                None => {
                    tensor.problem = Some(format!("has an impossible storage offset ({offset})"));
                    Data::Nothing
                }
            }
        };
    }

    fn has(&self, metadata: Option<&NodeId>, key: &str) -> bool {
        let Some(node) = metadata else { return false };
        match self.graph.node(*node) {
            Node::Dict(entries) => entries.iter().any(|entry| {
                self.graph.str(entry.key).as_deref() == Some(key) && self.graph.bool(entry.value) == Some(true)
            }),
            _ => false,
        }
    }

    fn quantized(&self, args: &[NodeId]) -> Option<Tensor> {
        let mut tensor = self.strided(args, None, args.get(5), None)?;
        let parts = self.graph.sequence(*args.get(4)?)?;
        let (scheme, arguments) = parts.split_first()?;
        let scheme = self.graph.global(*scheme).map(|(_, name)| name.into_owned());
        let quantizer = Quantizer { scheme: scheme.unwrap_or_default(), arguments: arguments.to_vec() };
        tensor.quantizer = Some(Box::new(quantizer));
        Some(tensor)
    }

    fn sparse(&self, args: &[NodeId]) -> Attempt {
        let [layout, data, ..] = args else { return Attempt::Never };
        let Some(parts) = self.graph.sequence(*data) else { return Attempt::Never };
        let layout = layout_name(self.graph, *layout);
        let (tensors, size) = match (layout, parts) {
            ("sparse_coo", [indices, values, size, ..]) => (vec![*indices, *values], *size),
            (_, [compressed, plain, values, size, ..]) => (vec![*compressed, *plain, *values], *size),
            _ => return Attempt::Never,
        };
        let Some(shape) = sizes(self.graph, size) else { return Attempt::Never };
        let Some(values) = tensors.last().and_then(|node| self.known(*node)) else { return Attempt::NotYet };
        let odd = tensors.iter().filter_map(|node| self.known(*node)).find(|part| matches!(part.data, Data::Parts(_)));
        let odd = odd.map(|part| format!("consists of a {} tensor, of which torch makes none", part.layout));
        let tensor = Tensor {
            dtype: values.dtype.clone(),
            layout,
            shape,
            device: values.device.clone(),
            requires_grad: Some(false),
            data: if odd.is_some() { Data::Nothing } else { Data::Parts(tensors.clone()) },
            rare: Rare::of_problem(odd.or_else(|| tensors.iter().find_map(|node| self.known(*node)?.problem.clone()))),
            ..Tensor::default()
        };
        Attempt::Done(Box::new(tensor))
    }

    fn meta(&self, args: &[NodeId]) -> Option<Tensor> {
        let [dtype, size, stride, rest @ ..] = args else { return None };
        Some(Tensor {
            dtype: torch_dtype(self.graph, *dtype),
            shape: sizes(self.graph, *size)?,
            stride: Some(sizes(self.graph, *stride)?),
            storage_offset: Some(0),
            layout: STRIDED,
            device: Some("meta".into()),
            requires_grad: Some(self.flag(rest.first()).unwrap_or(false)),
            ..Tensor::default()
        })
    }

    fn parameter(&self, args: &[NodeId]) -> Attempt {
        let Some(inner) = args.first() else { return Attempt::Never };
        let Some(tensor) = self.known(*inner) else { return Attempt::NotYet };
        let requires_grad = Some(self.flag(args.get(1)).unwrap_or(true));
        let mut parameter = Tensor { kind: Kind::Parameter, requires_grad, ..tensor.clone() };
        // what a wrapper holds is in its own state
        let state = tensor.state.filter(|_| tensor.wraps).or(args.get(3).copied());
        if state != parameter.state {
            parameter.state = state;
        }
        Attempt::Done(Box::new(parameter))
    }

    /// torch 0.x: a class called with a tensor or with nothing, and a state of 3, 4 or 5 elements (`Tensor.__setstate__`).
    fn old_class(&self, constructor: C, args: &[NodeId]) -> Attempt {
        let kind = if constructor == C::ParameterClass { Kind::Parameter } else { Kind::Tensor };
        let state = self.graph.changes(self.node).iter().find_map(|change| match change {
            Change::Build(state) => self.graph.tuple(*state),
            _ => None,
        });
        let mut tensor = match (args.first(), state) {
            (_, Some(state)) if state.len() == 4 => match self.strided(state, None, None, None) {
                Some(tensor) => tensor,
                None => return Attempt::Never,
            },
            (_, Some([data, ..])) if state.is_some_and(|state| state.len() == 5) => match self.known(*data) {
                Some(tensor) => tensor.clone(),
                None => return Attempt::NotYet,
            },
            (Some(data), _) => match self.known(*data) {
                Some(tensor) => tensor.clone(),
                None => return Attempt::NotYet,
            },
            _ => return Attempt::Never,
        };
        tensor.kind = kind;
        let place = match state.map(<[NodeId]>::len) {
            Some(3) => state.and_then(|state| state.first()),
            Some(5) => state.and_then(|state| state.get(3)),
            _ => args.get(1),
        };
        let default = tensor.requires_grad.unwrap_or(false) || kind == Kind::Parameter;
        tensor.requires_grad = Some(self.flag(place).unwrap_or(default));
        let dtype = self.graph.global(self.callable).map(|(_, name)| DType::from_storage_class(&name));
        if tensor.dtype.is_none() {
            tensor.dtype = dtype;
        }
        Attempt::Done(Box::new(tensor))
    }

    /// `(array or tensor, dtype, device, requires_grad)`: what is stored, cast to the type and moved to the device.
    fn on_device(&self, args: &[NodeId]) -> Attempt {
        let [data, dtype, device, rest @ ..] = args else { return Attempt::Never };
        let Some(inner) = self.known(*data) else { return Attempt::NotYet };
        let mut tensor = inner.clone();
        let dtype = torch_dtype(self.graph, *dtype);
        if let Some(dtype) = dtype.filter(|dtype| inner.dtype.as_ref() != Some(dtype)) {
            self.cast(&mut tensor, dtype);
        }
        tensor.kind = Kind::Tensor;
        tensor.storage_offset = tensor.storage_offset.or(Some(0));
        tensor.device = device_name(self.graph, *device).map(Into::into);
        tensor.requires_grad = Some(self.flag(rest.first()).unwrap_or(false));
        Attempt::Done(Box::new(tensor))
    }

    /// The tensor becomes one of another type, cast whenever its elements are read.
    fn cast(&self, tensor: &mut Tensor, dtype: DType) {
        let cast = tensor.elements(self.storages).and_then(|stored| {
            let source = Casting::over(stored.source, stored.byte_order, &stored.dtype, &dtype)?;
            Ok((source, stored.offset))
        });
        match (cast, &tensor.dtype) {
            // numpy has no such type, or it is not known: the bytes are what torch's are
            (_, None) => {}
            // an array of its own keeps its strides, as in torch
            (Ok((source, 0)), _) => tensor.data = Data::Array { source, byte_order: ByteOrder::Little },
            (_, Some(stored)) if tensor.problem.is_none() => {
                tensor.problem = Some(format!("is stored as {stored}, of which no {dtype} can be made here"));
            }
            _ => {}
        }
        tensor.dtype = Some(dtype);
    }
}
