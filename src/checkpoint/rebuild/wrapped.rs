//! Tensors that keep their elements in other tensors: wrapper subclasses (DTensor, torchao's, quanto's), nested tensors.
//!
//! Sources: `torch/_tensor.py` (`_rebuild_from_type_v2`), `torch/_utils.py` (`_rebuild_wrapper_subclass`,
//! `_rebuild_nested_tensor`), `torch/nested/_internal/nested_tensor.py` (`_rebuild_njt`),
//! `torch/distributed/tensor/_api.py`.

use std::collections::HashSet;

use super::Attempt;
use super::calls::Call;
use crate::checkpoint::arguments::{device_name, layout_name, sizes, torch_dtype};
use crate::checkpoint::constructors::Constructor as C;
use crate::checkpoint::object::Objects;
use crate::checkpoint::tensor::{Data, Extents, Kind, NESTED, Rare, Tensor};
use crate::data::number::integers;
use crate::dtype::{ByteOrder, DType, Known};
use crate::error::ErrorKind;
use crate::pickle::{Graph, NodeId};
use crate::source::read_vec;

/// Tensors that one wrapper may hold.
const MAX_PARTS: usize = 256;
/// Objects of a wrapper's state that are looked through for them.
const MAX_STATE: usize = 1024;
/// Sizes of nested tensors that are read to tell their shape.
const MAX_NESTED_SIZES: u64 = 1 << 16;

impl Call<'_> {
    fn objects(&self) -> Objects<'_> {
        Objects { graph: self.graph, tensors: self.tensors, storages: self.storages }
    }

    /// `(cls, dtype, size, stride, offset, layout, device, requires_grad)`.
    pub(super) fn wrapper(&self, args: &[NodeId]) -> Option<Tensor> {
        let [class, dtype, size, stride, offset, layout, device, requires_grad, ..] = args else { return None };
        Some(Tensor {
            rare: Rare::of_class(self.graph.global(*class).map(|(_, name)| name.into_owned())),
            dtype: torch_dtype(self.graph, *dtype),
            shape: sizes(self.graph, *size)?,
            stride: sizes(self.graph, *stride),
            storage_offset: self.graph.int(*offset),
            layout: layout_name(self.graph, *layout),
            device: device_name(self.graph, *device).map(Into::into),
            requires_grad: self.flag(Some(requires_grad)),
            ..Tensor::default()
        })
    }

    /// `(func, type, args, state)`: what `func(*args)` makes, as a subclass. A wrapper keeps its data in its state. Only
    /// of a DTensor whose local tensor is the whole one does that become the data.
    pub(super) fn of_subclass(&self, args: &[NodeId]) -> Attempt {
        let [func, class, inner_args, rest @ ..] = args else { return Attempt::Never };
        let Some(constructor) = self.tensors.constructor_of(self.graph, *func) else { return Attempt::Never };
        // a subclass of a subclass is not what torch writes, and must not recurse
        let (false, Some(inner_args)) = (constructor == C::FromType, self.graph.sequence(*inner_args)) else {
            return Attempt::Never;
        };
        let mut tensor = match self.make(constructor, inner_args) {
            Attempt::Done(tensor) => *tensor,
            other => return other,
        };
        let state = rest.first().copied();
        let class = self.graph.global(*class).map(|(_, name)| name.into_owned()).filter(|name| name != "Tensor");
        match (constructor, state) {
            (C::WrapperSubclass, Some(state)) => {
                let distributed = class.as_deref() == Some("DTensor");
                let local = self.of_state(state, "_local_tensor").filter(|_| distributed);
                match self.whole_local_tensor(state, &tensor).filter(|_| distributed) {
                    Some(local) => {
                        tensor = Tensor { requires_grad: tensor.requires_grad, device: tensor.device, ..local.clone() };
                    }
                    // of a DTensor the rest says which rank holds what
                    None => self.hold(&mut tensor, local.unwrap_or(state)),
                }
            }
            (C::Jagged, Some(_)) => tensor.wraps = true,
            _ => {}
        }
        tensor.class = class;
        tensor.state = state;
        if tensor.class.as_deref() == Some("Parameter") {
            tensor.kind = Kind::Parameter;
        }
        Attempt::Done(Box::new(tensor))
    }

    /// A DTensor's local tensor, where it has the global shape and nothing has to be added up with other ranks' ones.
    fn whole_local_tensor(&self, state: NodeId, global: &Tensor) -> Option<&Tensor> {
        let objects = self.objects();
        let local = self.known(self.of_state(state, "_local_tensor")?)?;
        let placements = objects.attribute(self.of_state(state, "_spec")?, "placements")?;
        let is_sum = |placement: &NodeId| {
            let class = objects.class_name(*placement).unwrap_or_default();
            !["Replicate", "Shard", "_StridedShard"].contains(&class.as_str())
        };
        let whole = local.shape == global.shape && local.dtype == global.dtype && !local.wraps;
        (whole && !self.graph.sequence(placements)?.iter().any(is_sum)).then_some(local)
    }

    /// An attribute in a state: a dict, or `(dict or None, slots)`.
    fn of_state(&self, state: NodeId, name: &str) -> Option<NodeId> {
        let dicts = match self.graph.tuple(state) {
            Some(parts) => parts.to_vec(),
            None => vec![state],
        };
        let entries = dicts.iter().filter_map(|dict| self.objects().items(*dict)).flatten();
        entries.filter(|entry| self.graph.str(entry.key).as_deref() == Some(name)).map(|entry| entry.value).last()
    }

    /// The tensors anywhere in a wrapper's state are its parts; those of wrappers inside it in their stead.
    fn hold(&self, tensor: &mut Tensor, state: NodeId) {
        tensor.wraps = true;
        let objects = self.objects();
        let mut seen = HashSet::from([state]);
        let (mut open, mut parts, mut looked_at) = (vec![state], Vec::new(), 0_usize);
        while let Some(node) = open.pop() {
            looked_at += 1;
            if parts.len() > MAX_PARTS || looked_at > MAX_STATE {
                tensor.problem = Some(format!("wraps more than {MAX_PARTS} tensors"));
                return;
            }
            match self.known(node) {
                Some(Tensor { data: Data::Parts(inner), wraps: true, .. }) => {
                    open.extend(inner.iter().rev().filter(|inner| seen.insert(**inner)));
                }
                Some(_) => parts.push(node),
                None => {
                    let children = objects.children(node).into_iter().rev().map(|child| objects.unwrap(child.node));
                    open.extend(children.filter(|child| !objects.is_plain_scalar(*child) && seen.insert(*child)));
                }
            }
        }
        tensor.data = if parts.is_empty() { Data::Nothing } else { Data::Parts(parts) };
    }

    /// `(buffer, sizes, strides, offsets)`: several tensors of different sizes.
    pub(super) fn nested(&self, args: &[NodeId]) -> Attempt {
        let [buffer, sizes, _, _, ..] = args else { return Attempt::Never };
        let (Some(elements), Some(table)) = (self.known(*buffer), self.known(*sizes)) else { return Attempt::NotYet };
        let parts = args.iter().take(4).copied().filter(|part| self.known(*part).is_some()).collect();
        let mut tensor = Tensor {
            dtype: elements.dtype.clone(),
            device: elements.device.clone(),
            requires_grad: Some(elements.requires_grad.unwrap_or(false)),
            layout: NESTED,
            rare: Some(Box::new(Rare {
                ragged: Some(elements.numel().unwrap_or(0)),
                problem: args.iter().take(4).find_map(|part| self.known(*part)?.problem.clone()),
                ..Rare::default()
            })),
            data: Data::Parts(parts),
            ..Tensor::default()
        };
        match self.nested_shape(table) {
            Some(shape) => tensor.shape = shape,
            None => tensor.shape = table.shape.first().copied().into_iter().collect(),
        }
        Attempt::Done(Box::new(tensor))
    }

    /// How many tensors, and their extents where all have the same, from the table of their sizes.
    fn nested_shape(&self, table: &Tensor) -> Option<Extents> {
        let [count, dims] = *table.shape.as_slice() else { return None };
        let rows = usize::try_from(dims).ok()?;
        table.numel().filter(|numel| *numel <= MAX_NESTED_SIZES)?;
        let mut shape = Extents::from_slice(&[count]);
        if table.dtype != Some(DType::Known(Known::Int64)) || !table.is_contiguous() {
            return None;
        }
        let place = match table.elements(self.storages) {
            Ok(place) => place,
            Err(e) => {
                if e.kind() == ErrorKind::Io {
                    self.graph.refuse(&e);
                }
                return None;
            }
        };
        let bytes = table.bytes()?;
        let mut found = match read_vec(place.source.as_ref(), place.offset.checked_mul(8)?, bytes) {
            Ok(found) => found,
            Err(e) => {
                if e.kind() == ErrorKind::Io {
                    self.graph.refuse(&e);
                }
                return None;
            }
        };
        if place.byte_order == ByteOrder::Big {
            found.chunks_exact_mut(8).for_each(<[u8]>::reverse);
        }
        let found: Vec<i64> = integers(Known::Int64, &found).filter_map(|size| i64::try_from(size).ok()).collect();
        for dim in 0..rows {
            let mut column = found.iter().skip(dim).step_by(rows);
            let first = column.next().copied().unwrap_or(-1);
            shape.push(if column.all(|size| *size == first) { first } else { -1 });
        }
        Some(shape)
    }

    /// `_rebuild_njt({'values', 'offsets', 'lengths', '_ragged_idx', …})`.
    pub(super) fn jagged(&self, args: &[NodeId]) -> Attempt {
        let objects = self.objects();
        let Some(items) = args.first().and_then(|dict| objects.items(*dict)) else { return Attempt::Never };
        let get = |name: &str| {
            let found = items.iter().find(|entry| self.graph.str(entry.key).as_deref() == Some(name));
            found.map(|entry| entry.value).filter(|value| *value != Graph::NONE)
        };
        let (Some(values_node), Some(offsets_node)) = (get("values"), get("offsets")) else { return Attempt::Never };
        let (Some(values), Some(offsets)) = (self.known(values_node), self.known(offsets_node)) else {
            return Attempt::NotYet;
        };
        let at = get("_ragged_idx").and_then(|at| self.graph.int(at)).unwrap_or(1);
        let mut shape = values.shape.clone();
        if let Some(ragged) = usize::try_from(at - 1).ok().and_then(|at| shape.get_mut(at)) {
            *ragged = -1;
        }
        shape.insert(0, offsets.shape.first().map_or(0, |count| (count - 1).max(0)));
        let parts = [Some(values_node), Some(offsets_node), get("lengths")].into_iter().flatten();
        Attempt::Done(Box::new(Tensor {
            dtype: values.dtype.clone(),
            device: values.device.clone(),
            requires_grad: Some(get("requires_grad").and_then(|flag| self.graph.bool(flag)).unwrap_or(false)),
            layout: "jagged",
            shape,
            rare: Some(Box::new(Rare { ragged: Some(values.numel().unwrap_or(0)), ..Rare::default() })),
            data: Data::Parts(parts.collect()),
            ..Tensor::default()
        }))
    }
}
