//! torch's and numpy's constructors, recognised by name in one table and read instead of called.
//!
//! Sources: `torch/_utils.py`, `torch/_tensor.py`, `torch/nn/parameter.py`, `torch/storage.py` (1.0 to 2.15), and
//! `numpy/core/src/multiarray/methods.c` (`array_setstate`).

use std::collections::{HashMap, HashSet};

use rustc_hash::FxHashMap;

use crate::checkpoint::numpy;
use crate::checkpoint::storage::{Persistent, StorageId, Storages};
use crate::checkpoint::tensor::{Data, Kind, Quantizer, STRIDED, Tensor, TensorId, contiguous};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{Change, Construct, Graph, Node, NodeId};

/// What a callable makes, when this program knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constructor {
    /// `(storage, offset, size, stride)`.
    Tensor,
    /// `(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    TensorV2,
    /// `(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`.
    TensorV3,
    /// `(tensor, requires_grad, hooks[, state])`.
    Parameter,
    /// A tensor class itself, with its state in `BUILD` (torch 0.x).
    TensorClass,
    /// `Parameter(tensor[, requires_grad])`, then `BUILD (requires_grad, volatile, hooks)`.
    ParameterClass,
    /// `(storage, offset, size, stride, quantizer, requires_grad, hooks)`.
    Quantized,
    /// `(layout, data)`.
    Sparse,
    /// `(dtype, size, stride, requires_grad)`.
    Meta,
    /// `(cls, dtype, size, stride, offset, layout, device, requires_grad)`.
    WrapperSubclass,
    /// `(func, type, args, state)`.
    FromType,
    /// `(array or tensor, dtype, device, requires_grad)`.
    OnDevice,
    /// `(buffer, sizes, strides, offsets)`.
    Nested,
    /// `_reconstruct(type, shape, code)`, then `BUILD (version, shape, dtype, fortran, data)`.
    NumpyArray,
    /// `_frombuffer(data, dtype, shape, order)`.
    NumpyFromBuffer,
    /// `scalar(dtype, data)`.
    NumpyScalar,
    /// `dtype(code, align, copy)`, then `BUILD`.
    NumpyDtype,
    /// joblib's stand-in for an array whose bytes follow in the stream.
    JoblibArray,
    /// `_load_from_bytes(bytes)`: a whole legacy stream.
    LoadFromBytes,
    /// `OrderedDict`, `defaultdict` and the like: a mapping by its items.
    Mapping,
    /// `deque` and the like: a sequence by what is appended.
    Sequence,
    /// `set(list)`, `frozenset(list)`.
    Set,
    /// `complex(real, imag)`.
    Complex,
    /// `bytearray(…)`.
    ByteArray,
    /// `_codecs.encode(text, 'latin1')`: bytes before protocol 3.
    Encode,
    /// `bytes()`: empty bytes before protocol 3.
    NoBytes,
    /// `torch.Size(tuple)`.
    Size,
    /// `torch.device(type[, index])`.
    Device,
    /// `torch.serialization._get_layout(name)`.
    Layout,
    /// TorchScript's `build_intlist(list)` and `restore_type_tag(value, type)`: the first argument.
    Unwrapped,
    /// `copyreg._reconstructor(cls, base, state)`.
    Reconstructor,
    /// `torch.fx.graph_module.reduce_graph_module(body, imports)`.
    GraphModule,
}

use Constructor as C;

/// Module (several: separated by blanks), name, what it makes.
const TABLE: &[(&str, &str, Constructor)] = &[
    ("torch._utils", "_rebuild_tensor", C::Tensor),
    ("torch._utils", "_rebuild_tensor_v2", C::TensorV2),
    ("torch._utils", "_rebuild_tensor_v3", C::TensorV3),
    ("torch._utils", "_rebuild_parameter", C::Parameter),
    ("torch._utils", "_rebuild_parameter_with_state", C::Parameter),
    ("torch._utils", "_rebuild_qtensor", C::Quantized),
    ("torch._utils", "_rebuild_sparse_tensor", C::Sparse),
    ("torch._utils", "_rebuild_sparse_csr_tensor", C::Sparse),
    ("torch._utils", "_rebuild_meta_tensor_no_storage", C::Meta),
    ("torch._utils", "_rebuild_wrapper_subclass", C::WrapperSubclass),
    ("torch._utils", "_rebuild_device_tensor_from_numpy", C::OnDevice),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", C::OnDevice),
    ("torch._utils", "_rebuild_xla_tensor", C::OnDevice),
    ("torch._utils", "_rebuild_mlc_tensor", C::OnDevice),
    ("torch._utils", "_rebuild_nested_tensor", C::Nested),
    ("torch._tensor torch.tensor torch", "_rebuild_from_type", C::FromType),
    ("torch._tensor torch.tensor torch", "_rebuild_from_type_v2", C::FromType),
    ("torch.nn.parameter torch.nn", "Parameter", C::ParameterClass),
    ("torch.autograd.variable torch.autograd", "Variable", C::TensorClass),
    ("torch.storage", "_load_from_bytes", C::LoadFromBytes),
    ("torch", "Size", C::Size),
    ("torch", "device", C::Device),
    ("torch.serialization", "_get_layout", C::Layout),
    ("torch.jit._pickle", "build_intlist", C::Unwrapped),
    ("torch.jit._pickle", "build_doublelist", C::Unwrapped),
    ("torch.jit._pickle", "build_boollist", C::Unwrapped),
    ("torch.jit._pickle", "build_tensorlist", C::Unwrapped),
    ("torch.jit._pickle", "restore_type_tag", C::Unwrapped),
    ("torch.fx.graph_module", "reduce_graph_module", C::GraphModule),
    ("numpy.core.multiarray numpy._core.multiarray numpy", "_reconstruct", C::NumpyArray),
    ("numpy.core.numeric numpy._core.numeric numpy", "_frombuffer", C::NumpyFromBuffer),
    ("numpy.core.multiarray numpy._core.multiarray", "scalar", C::NumpyScalar),
    ("numpy", "dtype", C::NumpyDtype),
    ("joblib.numpy_pickle", "NumpyArrayWrapper", C::JoblibArray),
    ("sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper", C::JoblibArray),
    ("collections", "OrderedDict", C::Mapping),
    ("collections", "defaultdict", C::Mapping),
    ("collections", "Counter", C::Mapping),
    ("collections", "deque", C::Sequence),
    ("builtins __builtin__", "dict", C::Mapping),
    ("builtins __builtin__", "list", C::Sequence),
    ("builtins __builtin__", "set", C::Set),
    ("builtins __builtin__", "frozenset", C::Set),
    ("builtins __builtin__", "complex", C::Complex),
    ("builtins __builtin__", "bytearray", C::ByteArray),
    ("builtins __builtin__", "bytes", C::NoBytes),
    ("_codecs", "encode", C::Encode),
    ("copyreg copy_reg", "_reconstructor", C::Reconstructor),
];

/// The constructor of a global's module and name.
pub fn constructor(module: &str, name: &str) -> Option<Constructor> {
    let row = TABLE.iter().find(|row| row.1 == name && row.0.split(' ').any(|known| known == module));
    row.map(|row| row.2).or_else(|| {
        let of_torch =
            module == "torch" || module == "torch._tensor" || module == "torch.cuda" || module == "torch.sparse";
        (of_torch && name.ends_with("Tensor")).then_some(C::TensorClass)
    })
}

/// All tensors of a graph, and which nodes they are.
#[derive(Debug, Default)]
pub struct Tensors {
    all: Vec<Tensor>,
    of: FxHashMap<NodeId, TensorId>,
    constructors: FxHashMap<NodeId, Option<Constructor>>,
    /// Roots of the streams inside `_load_from_bytes`, by the call's node.
    pub(super) inner_roots: HashMap<NodeId, NodeId>,
}

impl Tensors {
    /// The tensor of `id`.
    pub fn get(&self, id: TensorId) -> Option<&Tensor> {
        self.all.get(id.0 as usize)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.all.iter()
    }

    /// The nodes that are tensors, and what is known of them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, TensorId, &Tensor)> {
        self.of.iter().filter_map(|(node, id)| Some((*node, *id, self.get(*id)?)))
    }

    /// These nodes are tensors no more.
    pub(super) fn forget(&mut self, nodes: &HashSet<NodeId>) {
        self.of.retain(|node, _| !nodes.contains(node));
    }

    /// The tensor that a node is.
    pub fn of(&self, node: NodeId) -> Option<TensorId> {
        self.of.get(&node).copied()
    }

    /// Adds a tensor that `node` stands for.
    pub(super) fn add(&mut self, node: NodeId, tensor: Tensor) -> Result<TensorId> {
        let id = u32::try_from(self.all.len()).map_err(|_| Error::limit("more than 4 billion tensors"))?;
        self.all.push(tensor);
        self.of.insert(node, TensorId(id));
        Ok(TensorId(id))
    }

    /// What an object's callable makes. A class that was saved with its source counts as itself.
    pub fn constructor_of(&self, graph: &Graph, callable: NodeId) -> Option<Constructor> {
        match self.constructors.get(&callable) {
            Some(known) => *known,
            None => named(graph, callable),
        }
    }

    /// Remembers what each global makes, from node number `from` on, so that it is looked up once however many calls it has.
    pub(super) fn learn_constructors(&mut self, graph: &Graph, from: usize) {
        for id in graph.ids().skip(from) {
            if let Node::Global { .. } = graph.node(id) {
                self.constructors.entry(id).or_insert_with(|| named(graph, id));
            }
        }
    }

    /// Finds every tensor of the graph. Arguments come before the calls that take them, so one pass in the order of the
    /// nodes does, but for what `BUILD` brings later: those are tried again while anything new is found.
    /// A tensor takes the memory of many objects, so how many there may be depends on those.
    pub(super) fn rebuild(&mut self, graph: &Graph, storages: &Storages, limits: &Limits) -> Result<()> {
        let mut left = limits.max_objects.saturating_add(graph.held().saturating_mul(2));
        let mut bytes = 0_u64;
        self.learn_constructors(graph, 0);
        let mut waiting: Vec<NodeId> = graph.ids().filter(|id| graph.object(*id).is_some()).collect();
        for _ in 0..MAX_PASSES {
            let before = self.all.len();
            let mut later = Vec::new();
            for id in waiting {
                match self.try_node(graph, storages, id) {
                    Attempt::Done(tensor) => {
                        let mut tensor = *tensor;
                        tensor.inspect(storages);
                        bytes = bytes.saturating_add(tensor.bytes().unwrap_or(0));
                        left = left.checked_sub(OBJECTS_A_TENSOR + 2 * tensor.shape.len() as u64).ok_or_else(|| {
                            Error::limit("has more tensors than its pickle explains; --max-objects raises the bound")
                        })?;
                        self.add(id, tensor)?;
                    }
                    Attempt::NotYet => later.push(id),
                    Attempt::Never => {}
                }
            }
            waiting = later;
            if waiting.is_empty() || self.all.len() == before {
                break;
            }
        }
        let explained = bytes_for(graph, storages, limits);
        if bytes > explained {
            self.bound_reading(explained);
        }
        Ok(())
    }

    /// Lets so many bytes of elements be read, those of a view that has several names once.
    fn bound_reading(&mut self, mut left: u64) {
        let mut seen = HashMap::new();
        for tensor in &mut self.all {
            let mut fits = || {
                let less = left.checked_sub(tensor.bytes().unwrap_or(0));
                left = less.unwrap_or(left);
                less.is_some()
            };
            let fits = match tensor.view() {
                Some(view) => *seen.entry(view).or_insert_with(fits),
                None => fits(),
            };
            tensor.unread = (!fits).then_some(MANY_TIMES_THE_BYTES);
        }
    }

    fn try_node(&self, graph: &Graph, storages: &Storages, id: NodeId) -> Attempt {
        let Some(object) = graph.object(id) else { return Attempt::Never };
        let mut callable = object.callable;
        let mut args = graph.sequence(object.args).unwrap_or_default();
        if self.constructor_of(graph, callable) == Some(C::Reconstructor) {
            let Some([class, ..]) = args.get(..1) else { return Attempt::Never };
            (callable, args) = (*class, &[]);
        }
        let Some(constructor) = self.constructor_of(graph, callable) else { return Attempt::Never };
        let call = Call { tensors: self, graph, storages, node: id, callable };
        match constructor {
            C::NumpyArray | C::JoblibArray | C::TensorClass | C::ParameterClass
                if object.how == Construct::Reduce && object.changes.is_empty() && args.is_empty() =>
            {
                Attempt::Never
            }
            _ => call.make(constructor, args),
        }
    }
}

const MAX_PASSES: usize = 8;
const OBJECTS_A_TENSOR: u64 = 24;
/// Tensors may be views of the same bytes, or larger than what they are expanded from: in all so many times the bytes.
const TIMES_THE_BYTES: u64 = 16;
const MANY_TIMES_THE_BYTES: &str = "is larger than its bytes, or one of many views of them, and too much to read with \
                                    those before it; --max-read-bytes allows more";

/// How many bytes the tensors may have together.
fn bytes_for(graph: &Graph, storages: &Storages, limits: &Limits) -> u64 {
    let stored =
        storages.iter().filter_map(|(_, storage)| storage.available()).fold(graph.stream_bytes(), u64::saturating_add);
    limits.max_read_bytes.saturating_add(stored.saturating_mul(TIMES_THE_BYTES))
}
/// Dimensions beyond this are no tensor's: torch itself stops at 64 wherever it computes.
const MAX_DIMS: usize = 1024;

enum Attempt {
    Done(Box<Tensor>),
    /// It needs a tensor that is not known yet.
    NotYet,
    Never,
}

impl From<Option<Tensor>> for Attempt {
    fn from(tensor: Option<Tensor>) -> Self {
        tensor.map_or(Attempt::Never, |tensor| Attempt::Done(Box::new(tensor)))
    }
}

fn named(graph: &Graph, callable: NodeId) -> Option<Constructor> {
    graph.global(callable).and_then(|(module, name)| constructor(&module, &name))
}

/// The dtype that a node names: `torch.float32`, or a storage class.
pub(crate) fn torch_dtype(graph: &Graph, node: NodeId) -> Option<DType> {
    let (module, name) = graph.global(node)?;
    if name.ends_with("Storage") {
        return Some(DType::from_storage_class(&name));
    }
    (module == "torch").then(|| DType::from_torch_name(&name).unwrap_or_else(|| DType::other(&name, None)))
}

/// `torch.device(type[, index])` or a string, as torch prints it.
pub(super) fn device_name(graph: &Graph, node: NodeId) -> Option<String> {
    if let Some(text) = graph.str_or_bytes(node) {
        return Some(text.into_owned());
    }
    let args = graph.sequence(graph.object(node)?.args)?;
    let kind = graph.str_or_bytes(*args.first()?)?;
    Some(match args.get(1).and_then(|index| graph.int(*index)) {
        Some(index) => format!("{kind}:{index}"),
        None => kind.into_owned(),
    })
}

const LAYOUTS: &[&str] =
    &[STRIDED, "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged", "_mkldnn"];

fn layout_name(graph: &Graph, node: NodeId) -> &'static str {
    let name = match graph.object(node) {
        Some(object) => graph.sequence(object.args).and_then(|args| graph.str_or_bytes(*args.first()?)),
        None => graph.global(node).map(|(_, name)| name),
    };
    let name = name.unwrap_or_default();
    let bare = name.strip_prefix("torch.").unwrap_or(&name);
    LAYOUTS.iter().find(|known| **known == bare).unwrap_or(&"sparse")
}

/// Sizes or strides: a tuple, a list or a `torch.Size` of integers.
pub(crate) fn sizes(graph: &Graph, node: NodeId) -> Option<Vec<i64>> {
    let items = match graph.object(node) {
        Some(object) => graph.sequence(*graph.sequence(object.args)?.first()?)?,
        None => graph.sequence(node)?,
    };
    items.get(..=MAX_DIMS).is_none().then(|| items.iter().map(|item| graph.int_saturating(*item)).collect()).flatten()
}

/// One call of a constructor, being read.
struct Call<'a> {
    tensors: &'a Tensors,
    graph: &'a Graph,
    storages: &'a Storages,
    node: NodeId,
    callable: NodeId,
}

impl Call<'_> {
    fn make(&self, constructor: Constructor, args: &[NodeId]) -> Attempt {
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
            C::NumpyArray => numpy::reconstructed(self.graph, self.node).into(),
            C::NumpyFromBuffer => numpy::from_buffer(self.graph, args).into(),
            C::JoblibArray => numpy::joblib_array(self.graph, self.node).into(),
            _ => Attempt::Never,
        }
    }

    fn known(&self, node: NodeId) -> Option<&Tensor> {
        self.tensors.of(node).and_then(|id| self.tensors.get(id))
    }

    fn storage(&self, node: NodeId) -> Option<(StorageId, u64)> {
        let node = self.tensors.inner_roots.get(&node).copied().unwrap_or(node);
        match self.storages.meaning(node)? {
            Persistent::Storage { id, view_offset } => Some((*id, *view_offset)),
            _ => None,
        }
    }

    fn flag(&self, node: Option<&NodeId>) -> Option<bool> {
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
        tensor.quantizer = Some(Quantizer { scheme: scheme.unwrap_or_default(), arguments: arguments.to_vec() });
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
        let tensor = Tensor {
            dtype: values.dtype.clone(),
            layout,
            shape,
            device: values.device.clone(),
            requires_grad: Some(false),
            data: Data::Parts(tensors.clone()),
            problem: tensors.iter().find_map(|node| self.known(*node)?.problem.clone()),
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
        Attempt::Done(Box::new(Tensor {
            kind: Kind::Parameter,
            requires_grad: Some(self.flag(args.get(1)).unwrap_or(true)),
            state: args.get(3).copied(),
            ..tensor.clone()
        }))
    }

    /// torch 0.x: a class called with a tensor or with nothing, and a state of 3, 4 or 5 elements (`Tensor.__setstate__`).
    fn old_class(&self, constructor: Constructor, args: &[NodeId]) -> Attempt {
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

    fn wrapper(&self, args: &[NodeId]) -> Option<Tensor> {
        let [class, dtype, size, stride, offset, layout, device, requires_grad, ..] = args else { return None };
        Some(Tensor {
            class: self.graph.global(*class).map(|(_, name)| name.into_owned()),
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

    /// `(func, type, args, state)`: what `func(*args)` makes, as a subclass. A wrapper keeps its data in its state: it
    /// shows the facts of that inner tensor.
    fn of_subclass(&self, args: &[NodeId]) -> Attempt {
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
        if constructor == C::WrapperSubclass {
            match self.inner_tensor(state) {
                Some(Some(inner)) => {
                    let global = (inner.shape != tensor.shape).then_some(tensor.shape);
                    tensor = Tensor { global_shape: global, requires_grad: tensor.requires_grad, ..inner.clone() };
                }
                Some(None) => {}
                None => return Attempt::NotYet,
            }
        }
        tensor.class = self.graph.global(*class).map(|(_, name)| name.into_owned());
        tensor.state = state;
        if tensor.class.as_deref() == Some("Parameter") {
            tensor.kind = Kind::Parameter;
        }
        Attempt::Done(Box::new(tensor))
    }

    /// The one tensor in a wrapper's state. `None`: it holds tensors that are not known yet; `Some(None)`: there is not
    /// just one.
    #[allow(clippy::option_option)]
    fn inner_tensor(&self, state: Option<NodeId>) -> Option<Option<&Tensor>> {
        let Some(state) = state else { return Some(None) };
        let dict = match self.graph.node(state) {
            Node::Tuple(parts) => self.graph.children(*parts).first().copied().unwrap_or(state),
            _ => state,
        };
        let Node::Dict(entries) = self.graph.node(dict) else { return Some(None) };
        let mut found = None;
        for entry in entries.iter() {
            let name = self.graph.str(entry.key);
            let tensor = self.known(entry.value);
            if name.as_deref() == Some("_local_tensor") {
                return tensor.map(Some);
            }
            if tensor.is_some() {
                if found.is_some() {
                    return Some(None);
                }
                found = tensor;
            }
        }
        Some(found)
    }

    fn on_device(&self, args: &[NodeId]) -> Attempt {
        let [data, dtype, device, rest @ ..] = args else { return Attempt::Never };
        let Some(inner) = self.known(*data) else { return Attempt::NotYet };
        let mut tensor = inner.clone();
        let dtype = torch_dtype(self.graph, *dtype);
        // torch casts here: only where numpy has no such type do the two differ, and the array's is what is stored
        if inner.dtype.is_none() {
            tensor.dtype = dtype;
        }
        tensor.kind = Kind::Tensor;
        tensor.storage_offset = tensor.storage_offset.or(Some(0));
        tensor.device = device_name(self.graph, *device).map(Into::into);
        tensor.requires_grad = Some(self.flag(rest.first()).unwrap_or(false));
        Attempt::Done(Box::new(tensor))
    }

    fn nested(&self, args: &[NodeId]) -> Attempt {
        let Some(inner) = args.first() else { return Attempt::Never };
        let Some(buffer) = self.known(*inner) else { return Attempt::NotYet };
        let mut tensor = buffer.clone();
        tensor.class = Some("NestedTensor".into());
        Attempt::Done(Box::new(tensor))
    }
}

/// The facts of a tensor that a container lists itself: contiguous, on the CPU.
pub(crate) fn plain_tensor(dtype: DType, shape: Vec<i64>) -> Tensor {
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
    fn aliases_of_a_constructor() {
        assert_eq!(constructor("torch.tensor", "_rebuild_from_type"), Some(C::FromType));
        assert_eq!(constructor("numpy._core.multiarray", "_reconstruct"), Some(C::NumpyArray));
        assert_eq!(constructor("torch", "FloatTensor"), Some(C::TensorClass));
        assert_eq!(constructor("evil", "_rebuild_tensor_v2"), None);
    }
}
