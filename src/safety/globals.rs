//! What is known of the globals that pickles name: harmless, dangerous with why, or nothing.
//!
//! Known-good is a list, everything else is at least unknown. The lists are of what loading really needs (torch, numpy,
//! collections, common classes of configurations) and of what Python and its libraries offer to run code, start
//! processes, touch files or reach the network.

use super::weights_only::is_allowed;
use crate::checkpoint::constructors::constructor;

/// What to think of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Loading it and calling it makes data and nothing else.
    Known,
    /// Nothing is known: it may do anything when it is called.
    Unknown,
    /// Would run code, start a process, or touch files, the network or the interpreter; why.
    Dangerous(&'static str),
}

const RUNS: &str = "runs code";
const STARTS: &str = "starts processes";
const FILES: &str = "touches files";
const NET: &str = "reaches the network";
const IMPORTS: &str = "imports modules";
const NESTED: &str = "loads other pickles";
const REACHES: &str = "reaches any attribute or function";
const NATIVE: &str = "calls native code";
const SYSTEM: &str = "changes the process or the interpreter";

/// Modules (with all below them), names in them (`*`: all), why.
const DANGEROUS: &[(&str, &str, &str)] = &[
    (
        "os posix nt",
        "system popen popen2 popen3 popen4 execl execle execlp execlpe execv execve execvp execvpe fork forkpty spawnl \
         spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe startfile posix_spawn posix_spawnp",
        STARTS,
    ),
    ("os posix nt posixpath ntpath", "*", "reaches files, processes and the environment"),
    ("subprocess _posixsubprocess pty commands popen2 multiprocessing concurrent pexpect invoke", "*", STARTS),
    ("platform", "popen _syscmd_ver _syscmd_file", STARTS),
    ("sys", "*", SYSTEM),
    (
        "builtins __builtin__ __builtins__",
        "eval exec execfile compile input breakpoint apply reduce intern exit quit help license __loader__ __spec__",
        RUNS,
    ),
    ("builtins __builtin__ __builtins__", "open file", FILES),
    ("builtins __builtin__ __builtins__", "__import__ reload __build_class__", IMPORTS),
    ("builtins __builtin__ __builtins__", "getattr setattr delattr globals locals vars __dict__", REACHES),
    ("importlib _frozen_importlib _frozen_importlib_external _imp imp zipimport pkgutil pkg_resources", "*", IMPORTS),
    (
        "runpy code codeop cProfile profile _lsprof timeit trace pdb bdb doctest unittest test idlelib lib2to3 nose",
        "*",
        RUNS,
    ),
    ("pydoc inspect _pyrepl rlcompleter dis ast symtable compileall py_compile", "*", RUNS),
    (
        "types",
        "CodeType FunctionType LambdaType MethodType BuiltinFunctionType ModuleType new_class DynamicClassAttribute",
        RUNS,
    ),
    ("new", "*", RUNS),
    ("marshal", "*", RUNS),
    ("fickling picklescan modelscan modelaudit saferpickle model_unpickler", "*", "works on a scanner itself"),
    ("_interpreters _xxsubinterpreters interpreters _testcapi _testinternalcapi", "*", RUNS),
    ("gc atexit signal _signal threading _thread sched site sitecustomize faulthandler resource", "*", SYSTEM),
    ("operator _operator", "attrgetter itemgetter methodcaller call", REACHES),
    ("functools _functools", "partial partialmethod reduce singledispatch cached_property", REACHES),
    ("itertools", "starmap accumulate", REACHES),
    ("copyreg copy_reg", "add_extension pickle constructor dispatch_table", SYSTEM),
    ("ctypes _ctypes cffi mmap _cffi_backend", "*", NATIVE),
    (
        "pickle _pickle cPickle pickletools dill _dill cloudpickle shelve jsonpickle joblib.externals.cloudpickle",
        "*",
        NESTED,
    ),
    ("joblib joblib.numpy_pickle joblib.numpy_pickle_compat sklearn.externals.joblib", "load dump read_pickle", NESTED),
    ("pandas pandas.io.pickle pandas.io.common", "read_pickle to_pickle eval read_csv read_hdf get_handle", NESTED),
    ("pandas.core.computation", "*", RUNS),
    ("numpy", "load loads loadtxt genfromtxt save savez fromfile memmap open_memmap DataSource", FILES),
    ("numpy.lib.npyio numpy.lib.format numpy.lib._datasource numpy.lib._npyio_impl", "*", FILES),
    ("numpy.core.memmap numpy.memmap", "*", FILES),
    ("numpy.f2py numpy.distutils numpy.testing", "*", RUNS),
    ("numpy.ctypeslib", "load_library", NATIVE),
    ("numpy.lib.utils", "safe_eval", RUNS),
    ("torch", "load hub compile classes ops library save import_ir_module os sys", NESTED),
    ("torch.compile", "*", RUNS),
    ("torch.serialization", "load _load _legacy_load save", NESTED),
    ("torch.hub", "*", NET),
    ("torch.jit", "*", RUNS),
    ("torch.package", "*", IMPORTS),
    (
        "torch._dynamo torch._inductor torch._higher_order_ops torch.compiler torch._C torch._ops torch.library",
        "*",
        RUNS,
    ),
    ("torch.fx.experimental.symbolic_shapes torch.fx.graph torch.fx._symbolic_trace", "*", RUNS),
    (
        "torch.fx.graph_module",
        "reduce_package_graph_module reduce_deploy_graph_module _exec_with_source _forward_from_src",
        RUNS,
    ),
    ("torch.utils.cpp_extension torch.utils.bottleneck torch.utils.collect_env torch.utils.benchmark", "*", RUNS),
    ("torch.utils._config_module torch.utils.data.datapipes.utils.decoder torch.utils.model_zoo", "*", NESTED),
    ("torch.distributed.rpc torch.distributed.elastic torch.distributed.run torch.multiprocessing", "*", STARTS),
    ("torch._utils", "_import_dotted_name", IMPORTS),
    ("tensorflow keras", "load_model load_weights Lambda", RUNS),
    ("keras.layers.core tensorflow.python.keras.layers.core keras.src.layers.core.lambda_layer", "Lambda", RUNS),
    ("tensorflow.io tensorflow.python.lib.io tensorflow.python.platform.gfile", "*", FILES),
    ("io _io codecs", "open open_code FileIO fdopen", FILES),
    ("shutil tempfile fileinput glob filecmp linecache tarfile zipfile zipapp shelve dbm sqlite3 _sqlite3", "*", FILES),
    ("distutils setuptools pip ensurepip venv virtualenv", "*", STARTS),
    ("logging", "FileHandler config handlers basicConfig", FILES),
    ("logging.config logging.handlers syslog", "*", FILES),
    ("pathlib", "Path.open Path.write_text Path.write_bytes Path.unlink Path.read_text Path.read_bytes", FILES),
    (
        "socket _socket ssl _ssl select selectors asyncio aiohttp http httplib httplib2 httpx urllib urllib2 urllib3 requests",
        "*",
        NET,
    ),
    (
        "smtplib imaplib ftplib poplib telnetlib nntplib xmlrpc xmlrpclib socketserver SocketServer paramiko boto3",
        "*",
        NET,
    ),
    ("webbrowser antigravity", "*", STARTS),
    ("uuid", "_get_command_stdout _popen _find_mac _ifconfig_getter _ip_getter _arp_getter _netstat_getter", STARTS),
    ("_osx_support _aix_support", "*", STARTS),
    ("jinja2 mako yaml.unsafe_load", "*", RUNS),
    ("yaml", "load unsafe_load full_load load_all unsafe_load_all", RUNS),
    ("sympy sympy.core.sympify sympy.parsing.sympy_parser", "sympify parse_expr S", RUNS),
    ("IPython ipykernel", "*", RUNS),
    ("transformers", "AutoModel pipeline", NET),
    ("huggingface_hub", "*", NET),
    ("datasets.load", "*", NET),
    ("bokeh.io lxml matplotlib.cbook", "*", FILES),
    ("django flask twisted tornado celery", "*", SYSTEM),
];

/// Modules whose name as an attribute (`torch.serialization` `os.system`) leads to all they have.
const ROADS: &[&str] = &[
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "builtins",
    "__builtin__",
    "__builtins__",
    "importlib",
    "ctypes",
    "shutil",
    "socket",
    "pickle",
    "_pickle",
    "runpy",
    "pty",
    "marshal",
    "code",
    "inspect",
    "types",
    "io",
    "pathlib",
    "urllib",
    "tempfile",
    "__globals__",
    "__class__",
    "__subclasses__",
    "__bases__",
    "__base__",
    "__mro__",
    "__init__",
    "__dict__",
    "__code__",
    "__closure__",
    "__import__",
    "__getattribute__",
    "__reduce__",
    "__reduce_ex__",
    "__loader__",
    "mro",
    "modules",
    "system",
    "eval",
    "exec",
    "func_globals",
    "__call__",
    "__self__",
    "__func__",
    "__wrapped__",
    "f_globals",
];

/// Modules, names in them; `*` stands for names that begin with a capital, as classes do.
const KNOWN: &[(&str, &str)] = &[
    (
        "builtins __builtin__",
        "set frozenset dict list tuple int long float complex bool str unicode bytes bytearray object range xrange slice \
         NoneType Ellipsis NotImplemented len abs sum min max round pow divmod reversed enumerate zip all any hash id \
         repr ascii bin hex oct ord chr isinstance issubclass callable",
    ),
    ("copyreg copy_reg", "_reconstructor __newobj__ __newobj_ex__"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict Counter defaultdict deque UserDict UserList UserString ChainMap"),
    ("datetime", "datetime date time timedelta timezone"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "UUID SafeUUID"),
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace MappingProxyType GenericAlias"),
    ("typing", "Any Dict List Tuple Set Optional Union Sequence Mapping Iterable"),
    ("pathlib pathlib._local", "PosixPath WindowsPath PurePosixPath PureWindowsPath Path PurePath"),
    ("enum", "Enum IntEnum"),
    ("signal", "Signals Handlers Sigmasks"),
    ("http", "HTTPStatus HTTPMethod"),
    ("random", "Random"),
    ("array", "array _array_reconstructor"),
    ("zoneinfo", "ZoneInfo._unpickle"),
    (
        "numpy",
        "dtype ndarray bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 longdouble \
        complex64 complex128 str_ bytes_ void datetime64 timedelta64 intp uintp matrix recarray record float int object",
    ),
    ("numpy.core.multiarray numpy._core.multiarray", "_reconstruct scalar"),
    ("numpy.core.numeric numpy._core.numeric", "_frombuffer"),
    ("numpy.ma.core numpy.ma", "_mareconstruct MaskedArray MaskedConstant"),
    ("numpy.rec numpy.core.records numpy._core.records", "recarray record"),
    ("numpy.matrixlib.defmatrix numpy.matrixlib", "matrix"),
    ("numpy.dtypes", "*"),
    ("numpy.random", "RandomState"),
    ("numpy.random._pickle", "__randomstate_ctor __bit_generator_ctor __generator_ctor"),
    ("numpy.random._mt19937 numpy.random._pcg64 numpy.random._philox numpy.random._sfc64", "*"),
    (
        "scipy.sparse.csr scipy.sparse._csr scipy.sparse.csc scipy.sparse._csc scipy.sparse.coo scipy.sparse._coo",
        "csr_matrix csc_matrix coo_matrix csr_array csc_array coo_array",
    ),
    ("scipy.sparse.lil scipy.sparse._lil scipy.sparse.dok scipy.sparse._dok", "lil_matrix dok_matrix"),
    ("joblib.numpy_pickle sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper NDArrayWrapper"),
    (
        "torch",
        "Size device dtype Tensor Generator layout memory_format qscheme strided sparse_coo sparse_csr sparse_csc \
        sparse_bsr sparse_bsc contiguous_format channels_last channels_last_3d preserve_format jagged",
    ),
    ("torch._utils", "_rebuild_sparse_csr_tensor _rebuild_xla_tensor _rebuild_mlc_tensor _rebuild_nested_tensor"),
    ("torch._tensor torch.tensor", "_rebuild_from_type _rebuild_from_type_v2"),
    ("torch.serialization", "_get_layout"),
    // what the bytes hold is gone through as well
    ("torch.storage", "_load_from_bytes"),
    ("torch.storage", "UntypedStorage TypedStorage _UntypedStorage _TypedStorage"),
    ("torch.nn.parameter", "Parameter Buffer UninitializedParameter UninitializedBuffer"),
    ("torch.nn", "Parameter Module Linear Sequential ReLU"),
    ("torch.nn.modules", "*"),
    ("torch.nn.backends.thnn", "_get_thnn_function_backend THNNFunctionBackend"),
    ("torch.nn.parallel.data_parallel torch.nn.parallel.distributed", "DataParallel DistributedDataParallel"),
    ("torch.nn.quantized torch.ao.nn", "*"),
    ("torch.nn.utils.parametrize", "ParametrizationList"),
    ("torch.nn.utils.parametrizations", "_Orthogonal _WeightNorm _SpectralNorm"),
    ("torch.nn.utils.spectral_norm", "SpectralNorm SpectralNormStateDictHook SpectralNormLoadStateDictPreHook"),
    ("torch.nn.utils.weight_norm", "WeightNorm"),
    ("torch.optim", "*"),
    ("torch.optim.lr_scheduler", "*"),
    ("torch.utils.hooks", "RemovableHandle"),
    ("torch._C", "_TensorBase TensorBase Generator"),
    ("torch.distributed.checkpoint.metadata", "*"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo _StoragePrefix"),
    (
        "torch.distributed.tensor torch.distributed._tensor torch.distributed._tensor.api torch.distributed.tensor._api",
        "DTensor",
    ),
    ("torch.distributed.tensor.placement_types torch.distributed._tensor.placement_types", "*"),
    (
        "torch.distributed.tensor._dtensor_spec torch.distributed._tensor._dtensor_spec",
        "DTensorSpec TensorMeta ShardOrderEntry",
    ),
    ("torch.distributed.device_mesh torch.distributed._mesh_layout", "DeviceMesh _MeshLayout _FlatLayout"),
    (
        "torch.jit._pickle",
        "build_intlist build_doublelist build_boollist build_tensorlist build_tensor_from_id restore_type_tag",
    ),
    ("torch.torch_version", "TorchVersion"),
    ("torchvision.models torchvision.ops", "*"),
    ("omegaconf.dictconfig omegaconf.listconfig omegaconf.base omegaconf.nodes", "*"),
    ("easydict", "EasyDict"),
    ("yacs.config", "CfgNode"),
    ("fvcore.common.config", "CfgNode"),
    ("addict.addict", "Dict"),
    ("ml_collections.config_dict.config_dict", "*"),
    (
        "pytorch_lightning.utilities.parsing lightning.pytorch.utilities.parsing lightning_fabric.utilities.data",
        "AttributeDict",
    ),
    ("pytorch_lightning.callbacks.model_checkpoint lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
    (
        "transformers.training_args transformers.training_args_seq2seq transformers.trainer_utils \
         transformers.trainer_pt_utils transformers.integrations.deepspeed transformers.deepspeed transformers.modeling_utils",
        "*",
    ),
    ("transformers.models", "*"),
    ("accelerate.state accelerate.utils.dataclasses accelerate.utils.deepspeed", "*"),
    ("simpletransformers.config.model_args", "*"),
];

/// Sorts a global by its module and qualified name.
pub fn classify(module: &str, name: &str) -> Status {
    if name.is_empty() || module.chars().chain(name.chars()).any(char::is_control) {
        return Status::Dangerous("has a name that no program writes");
    }
    if is_known(module, name) {
        return Status::Known;
    }
    if let Some(why) = danger(module, name) {
        return Status::Dangerous(why);
    }
    // an attribute of an attribute: `torch` `serialization.os.system`
    let mut parts = name.split('.');
    if name.contains('.') && parts.any(|part| ROADS.contains(&part)) || module.split('.').skip(1).any(is_road) {
        return Status::Dangerous(REACHES);
    }
    Status::Unknown
}

/// In a module's path only what nobody calls a module of their own.
fn is_road(part: &str) -> bool {
    matches!(part, "os" | "posix" | "nt" | "sys" | "subprocess" | "builtins" | "__builtin__" | "ctypes")
}

fn is_known(module: &str, name: &str) -> bool {
    let listed = |row: &(&str, &str)| {
        let (modules, names) = *row;
        let named = match names {
            "*" => {
                let bare = name.strip_prefix('_').unwrap_or(name);
                bare.starts_with(|c: char| c.is_ascii_uppercase()) && !name.contains('.')
            }
            names => names.split_ascii_whitespace().any(|known| known == name),
        };
        named && modules.split_ascii_whitespace().any(|known| covers(known, module, names == "*"))
    };
    // TorchScript's classes: there is no such module, and torch.jit makes them without Python
    let scripted =
        module == "__torch__" || module.starts_with("__torch__.") || (module, name) == ("torch", "ScriptObject");
    is_allowed(module, name)
        || scripted
        || KNOWN.iter().any(listed)
        || (module == "torch" || module == "torch.cuda" || module == "torch.sparse")
            && (constructor(module, name).is_some() || name.ends_with("Storage") && !name.contains('.'))
}

fn danger(module: &str, name: &str) -> Option<&'static str> {
    let first = name.split('.').next().unwrap_or(name);
    let listed = |row: &&(&str, &str, &str)| {
        let (modules, names, _) = **row;
        let all = names == "*";
        modules.split_ascii_whitespace().any(|known| covers(known, module, all))
            && (all || names.split_ascii_whitespace().any(|known| known == name || known == first))
    };
    DANGEROUS.iter().find(listed).map(|row| row.2)
}

/// Whether `module` is `known`, or with `below` lies in it.
fn covers(known: &str, module: &str, below: bool) -> bool {
    module.strip_prefix(known).is_some_and(|rest| rest.is_empty() || below && rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dangerous(module: &str, name: &str) -> bool {
        matches!(classify(module, name), Status::Dangerous(_))
    }

    #[test]
    fn what_checkpoints_need_is_known() {
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch", "float8_e4m3fn"),
            ("torch.nn.modules.conv", "Conv2d"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("argparse", "Namespace"),
            ("__builtin__", "set"),
            ("pathlib", "PosixPath"),
        ] {
            assert_eq!(classify(module, name), Status::Known, "{module} {name}");
        }
    }

    #[test]
    fn what_runs_code_is_dangerous_by_every_name() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("builtins", "eval"),
            ("__builtin__", "eval"),
            ("builtins", "getattr"),
            ("torch.serialization", "os.system"),
            ("torch", "serialization.os.system"),
            ("torch.nn.modules.module", "Module.__init__.__globals__"),
            ("torch.os", "system"),
            ("subprocess", "Popen"),
            ("numpy.testing._private.utils", "runstring"),
            ("runpy", "_run_code"),
            ("_pickle", "loads"),
            ("collections", "abc.sys.modules"),
            ("os.path", "join"),
            ("operator", "attrgetter"),
            ("torch.hub", "load"),
        ] {
            assert!(dangerous(module, name), "{module} {name}");
        }
    }

    #[test]
    fn everything_else_is_unknown() {
        for (module, name) in [
            ("models.cnn", "CNN"),
            ("torch.nn.modules.conv", "some_function"),
            ("torch.nn.modules", "Conv2d.forward"),
            ("utils.logging", "Logger"),
            ("ossaudio", "open"),
            ("__main__", "Net"),
        ] {
            assert_eq!(classify(module, name), Status::Unknown, "{module} {name}");
        }
    }
}
