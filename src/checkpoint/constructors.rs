//! The callables this program knows, in one table by module and name, and what each of them makes.

use crate::pickle::{Graph, NodeId};

/// What a callable makes, when this program knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constructor {
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
    /// `(dict of values, offsets, …)`: a nested tensor of jagged layout.
    Jagged,
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
    /// NVlabs' `_reconstruct_persistent_obj({'class_name': …, 'module_src': …, 'state': …})` (StyleGAN, EDM): an object
    /// whose class is source code in the file.
    Persistent,
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
    ("torch.nested._internal.nested_tensor", "_rebuild_njt", C::Jagged),
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
    ("torch_utils.persistence", "_reconstruct_persistent_obj", C::Persistent),
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
pub(crate) fn constructor(module: &str, name: &str) -> Option<Constructor> {
    let row = TABLE.iter().find(|row| row.1 == name && row.0.split(' ').any(|known| known == module));
    row.map(|row| row.2).or_else(|| {
        let of_torch =
            module == "torch" || module == "torch._tensor" || module == "torch.cuda" || module == "torch.sparse";
        (of_torch && name.ends_with("Tensor")).then_some(C::TensorClass)
    })
}

/// The constructor of a node that is a global.
pub(super) fn named(graph: &Graph, callable: NodeId) -> Option<Constructor> {
    graph.global(callable).and_then(|(module, name)| constructor(&module, &name))
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
