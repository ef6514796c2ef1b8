//! What runs code, starts processes, touches files or the network, or changes the interpreter: by name.

pub(super) const RUNS: &str = "runs code";
pub(super) const STARTS: &str = "starts processes";
pub(super) const FILES: &str = "touches files";
pub(super) const NET: &str = "reaches the network";
pub(super) const IMPORTS: &str = "imports modules";
pub(super) const NESTED: &str = "loads other pickles";
pub(super) const REACHES: &str = "reaches any attribute or function";
pub(super) const NATIVE: &str = "calls native code";
pub(super) const SYSTEM: &str = "changes the process or the interpreter";

/// Modules (with all below them), names in them (`*`: all), why.
pub(super) const DANGEROUS: &[(&str, &str, &str)] = &[
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
    (
        "functools _functools",
        "partial partialmethod reduce singledispatch singledispatchmethod cached_property",
        REACHES,
    ),
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
        "reduce_graph_module reduce_package_graph_module reduce_deploy_graph_module _exec_with_source _forward_from_src",
        RUNS,
    ),
    // the sources in the file, of images' generators
    ("torch_utils.persistence", "*", RUNS),
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
    (
        "yaml yaml.loader yaml.constructor",
        "Loader UnsafeLoader FullLoader Constructor UnsafeConstructor FullConstructor",
        RUNS,
    ),
    ("yaml", "load unsafe_load full_load load_all unsafe_load_all", RUNS),
    ("sympy sympy.core.sympify sympy.parsing.sympy_parser", "sympify parse_expr S", RUNS),
    ("IPython ipykernel", "*", RUNS),
    ("transformers", "AutoModel pipeline", NET),
    ("huggingface_hub", "*", NET),
    ("datasets.load", "*", NET),
    ("bokeh.io lxml matplotlib.cbook", "*", FILES),
    ("django flask twisted tornado celery", "*", SYSTEM),
    ("builtins __builtin__", "map iter type hasattr property super classmethod staticmethod", REACHES),
    ("functools _functools", "lru_cache _lru_cache_wrapper wraps update_wrapper total_ordering", REACHES),
    ("itertools", "groupby takewhile dropwhile filterfalse", REACHES),
    ("operator _operator", "setitem delitem getitem iconcat", REACHES),
    ("collections", "namedtuple", RUNS),
    ("weakref _weakref", "finalize ref WeakMethod proxy", REACHES),
    ("abc _py_abc enum", "ABCMeta EnumType EnumMeta", RUNS),
    ("copy", "deepcopy copy _reconstruct", REACHES),
    ("re", "Scanner", REACHES),
    ("zoneinfo", "reset_tzpath", SYSTEM),
    ("random", "SystemRandom", SYSTEM),
    ("argparse", "FileType", FILES),
    ("numpy numpy.lib._npyio_impl", "savetxt savez_compressed fromregex fromfunction vectorize", FILES),
    ("torch torch.storage", "from_file UntypedStorage.from_file TypedStorage.from_file", FILES),
    ("torch.utils.tensorboard torch.profiler torch.cuda.memory torch.utils.data.dataloader", "*", FILES),
    ("functorch scipy.weave weave", "*", RUNS),
    ("tensorflow.python.ops.script_ops", "*", REACHES),
    ("tensorflow", "py_function numpy_function py_func", REACHES),
    (
        "torch.utils.data.datapipes.iter.fileopener torch.utils.data.datapipes.iter.filelister \
         torch.utils.data.datapipes.iter.streamreader torch.utils.data.datapipes.utils.common",
        "*",
        FILES,
    ),
    (
        "torch.distributed",
        "TCPStore FileStore HashStore PrefixStore init_process_group ProcessGroup ProcessGroupGloo ProcessGroupNCCL",
        NET,
    ),
    ("torch._C._distributed_c10d torch.distributed.distributed_c10d torch.distributed.rendezvous", "*", NET),
    (
        "torch.distributed.checkpoint.filesystem torch.distributed.checkpoint._fsspec_filesystem \
         torch.distributed.checkpoint.hf_storage",
        "FileSystemReader FileSystemWriter FileSystem FileSystemBase FsspecReader FsspecWriter \
         HuggingFaceStorageReader HuggingFaceStorageWriter",
        FILES,
    ),
    ("pandas.io", "*", FILES),
    (
        "pandas.core.frame pandas",
        "DataFrame.query DataFrame.eval DataFrame.to_pickle ExcelFile HDFStore ExcelWriter",
        RUNS,
    ),
    ("joblib.externals joblib.hashing", "*", NESTED),
    // joblib reads the file that their state names, with pickles in it
    (
        "joblib.numpy_pickle joblib.numpy_pickle_compat sklearn.externals.joblib.numpy_pickle \
         sklearn.externals.joblib.numpy_pickle_compat",
        "NDArrayWrapper ZNDArrayWrapper ZipNumpyUnpickler",
        NESTED,
    ),
    // their `__setstate__` unpickles bytes of the state
    (
        "gymnasium.vector.utils.misc gymnasium.experimental.vector.utils.misc gym.vector.utils.misc tensordict.utils \
         torchrl.data.utils stable_baselines3.common.vec_env.base_vec_env stable_baselines3.common.vec_env \
         stable_baselines.common.vec_env.base_vec_env",
        "CloudpickleWrapper _CloudpickleWrapper",
        NESTED,
    ),
    (
        "torch.utils.data.datapipes.datapipe",
        "_DataPipeSerializationWrapper _IterDataPipeSerializationWrapper _MapDataPipeSerializationWrapper",
        NESTED,
    ),
    // and these open files that the state names
    ("flair.embeddings.token", "BPEmbSerializable BytePairEmbeddings", FILES),
    (
        "transformers.models.m2m_100.tokenization_m2m_100 transformers.models.marian.tokenization_marian \
         transformers.models.speech_to_text.tokenization_speech_to_text",
        "M2M100Tokenizer MarianTokenizer Speech2TextTokenizer",
        FILES,
    ),
    // `__setstate__` and the constructors run the text of a template, which the state holds
    (
        "scipy.stats._continuous_distns scipy.stats._discrete_distns scipy.stats.distributions",
        "*",
        "runs the text that its state holds",
    ),
    (
        "scipy.stats._distn_infrastructure scipy.stats",
        "rv_generic rv_continuous rv_discrete rv_sample rv_histogram rv_count",
        "runs the text that its state holds",
    ),
    ("joblib joblib.memory joblib.parallel joblib.logger", "Memory Parallel Logger", FILES),
    ("dask.utils toolz cytoolz", "apply methodcaller M pipe curry compose", REACHES),
    ("dask.delayed distributed", "*", RUNS),
    ("scipy.io", "*", FILES),
    ("scipy.datasets pooch", "*", NET),
    ("sympy.printing.preview sympy.utilities.autowrap sympy.utilities.codegen", "*", STARTS),
    (
        "numba numba.core.serialize numba.pycc",
        "CC _unpickle__CustomPickled _rebuild_function _unpickle jit njit cfunc",
        RUNS,
    ),
    ("cupy cupy.cuda.compiler cupy._core.raw", "RawModule RawKernel ElementwiseKernel", NATIVE),
    ("pycuda pyopencl triton", "*", NATIVE),
    ("keras.utils keras.src.utils tensorflow.keras.utils", "get_file get_registered_object", NET),
    ("hydra.utils hydra._internal", "*", IMPORTS),
    ("omegaconf omegaconf.omegaconf", "OmegaConf", REACHES),
    ("mmengine.config.config mmengine.config mmcv.utils.config mmcv mmcv.utils", "Config LazyConfig", FILES),
    ("dataclasses", "make_dataclass", RUNS),
    ("transformers.models.rag", "*", FILES),
    (
        "mmengine.registry mmengine.registry.build_functions mmengine.registry.registry mmcv.utils.registry mmcv.cnn",
        "build_from_cfg build_scheduler_from_cfg build_runner_from_cfg build_model_from_cfg Registry",
        REACHES,
    ),
    ("fvcore.common.file_io iopath", "*", FILES),
    ("ultralytics.utils.checks ultralytics.utils.downloads ultralytics.hub", "*", NET),
    (
        "transformers.dynamic_module_utils transformers.pipelines transformers.utils.hub transformers.file_utils \
         transformers.commands transformers.testing_utils",
        "*",
        NET,
    ),
    ("PIL.ImageShow PIL.ImageGrab PIL.Image imageio imageio.v2 imageio.v3 cv2", "*", FILES),
    ("h5py tables netCDF4 zarr", "*", FILES),
    (
        "xgboost.core xgboost lightgbm.basic lightgbm catboost.core catboost",
        "Booster CatBoost _CatBoostBase CatBoostClassifier CatBoostRegressor CatBoostRanker",
        "loads a model from the text or bytes in its state",
    ),
    ("_catboost catboost._catboost", "*", "loads a model from the text or bytes in its state"),
    ("onnxruntime openvino tensorrt", "*", NATIVE),
    ("pymongo redis sqlalchemy psycopg2 MySQLdb plumbum fabric execnet botocore boto dulwich git sh", "*", NET),
    ("asteval RestrictedPython simpleeval", "*", RUNS),
    ("tqdm.contrib", "*", NET),
    // annotations and formulas are text that is evaluated
    (
        "typing typing_extensions annotationlib",
        "get_type_hints evaluate_forward_ref get_annotations call_annotate_function",
        RUNS,
    ),
    ("attr attr._make attrs", "make_class", RUNS),
    ("pydantic pydantic.main pydantic.v1 pydantic.v1.main", "create_model", RUNS),
    ("patsy patsy.highlevel patsy.build", "dmatrix dmatrices build_design_matrices design_matrix_builders", RUNS),
    ("patsy.eval", "EvalFactor EvalEnvironment", RUNS),
    ("statsmodels.formula", "*", RUNS),
    ("sympy sympy.utilities sympy.utilities.lambdify", "lambdify", RUNS),
    ("Cython cython pyximport langchain_experimental mock", "*", RUNS),
    ("decorator", "FunctionMaker decorate decorator contextmanager dispatch_on", RUNS),
    ("fire gin jsonargparse", "*", REACHES),
    ("lightning.pytorch.cli pytorch_lightning.cli pytorch_lightning.utilities.cli", "LightningCLI", IMPORTS),
    (
        "gym gymnasium gym.envs.registration gymnasium.envs.registration",
        "make make_vec load load_env_creator load_env_plugins",
        IMPORTS,
    ),
    ("transformers.utils.import_utils", "_LazyModule", IMPORTS),
    // what calls the function that it is given
    ("heapq _heapq", "nsmallest nlargest", REACHES),
    ("functools _functools", "cmp_to_key", REACHES),
    (
        "numpy numpy.lib numpy.lib.shape_base numpy.lib._shape_base_impl numpy.lib.function_base \
         numpy.lib._function_base_impl numpy.core.numeric numpy._core.numeric numpy.core.umath numpy._core.umath",
        "apply_along_axis apply_over_axes piecewise frompyfunc fromfunction seterrcall set_string_function",
        REACHES,
    ),
    (
        "scipy.optimize scipy.optimize._optimize scipy.optimize._minimize scipy.optimize._minpack_py \
         scipy.optimize._root scipy.optimize._zeros_py scipy.integrate scipy.integrate._quadpack_py \
         scipy.integrate._odepack_py scipy.integrate._ivp.ivp",
        "minimize minimize_scalar fsolve leastsq root root_scalar brentq brenth ridder bisect newton curve_fit \
         least_squares differential_evolution basinhopping dual_annealing shgo brute direct fmin fmin_bfgs fmin_cg \
         fmin_powell fmin_l_bfgs_b fmin_tnc fmin_cobyla fminbound approx_fprime check_grad quad quad_vec dblquad \
         tplquad nquad odeint solve_ivp solve_bvp",
        REACHES,
    ),
    ("scipy scipy._lib._ccallback", "LowLevelCallable", NATIVE),
    ("pandas.core.apply", "*", REACHES),
    (
        "pandas pandas.core.frame pandas.core.series pandas.core.generic",
        "DataFrame.pipe DataFrame.apply DataFrame.applymap DataFrame.map DataFrame.transform DataFrame.agg \
         DataFrame.aggregate Series.pipe Series.apply Series.map Series.transform Series.agg Series.aggregate NDFrame.pipe",
        REACHES,
    ),
    ("pandas.core.common", "pipe", REACHES),
    (
        "torch.utils._pytree torch.utils._cxx_pytree optree jax jax.tree_util jax.tree",
        "tree_map tree_map_ tree_map_only tree_map_only_ tree_map_with_path tree_all tree_any tree_all_only tree_any_only \
         tree_reduce tree_broadcast_map pure_callback io_callback",
        REACHES,
    ),
    ("torch.nn.parallel torch.nn.parallel.parallel_apply", "parallel_apply", REACHES),
    ("torch.utils.data._utils.worker", "_worker_loop", REACHES),
    ("toolz.functoolz cytoolz.functoolz toolz cytoolz", "pipe curry compose compose_left juxt do excepts", REACHES),
    ("toolz.functoolz cytoolz.functoolz toolz cytoolz", "thread_first thread_last", REACHES),
    ("more_itertools more_itertools.more more_itertools.recipes", "side_effect repeatfunc iterate map_reduce", REACHES),
    ("uuid", "getnode", STARTS),
    ("debugpy pydevd docker rpyc Pyro4 Pyro5 s3fs gcsfs adlfs kaggle jupyter_client findspark", "*", NET),
    ("wandb wandb.sdk.wandb_init comet_ml", "init login restore start Api", NET),
    ("ray ray._private.worker", "get put remote init", NET),
    ("allennlp.common.file_utils cached_path", "*", FILES),
];

/// Classes whose constructors reach something, and whose objects pickles otherwise hold: modules, names, why.
pub(super) const CONSTRUCTORS: &[(&str, &str, &str)] = &[
    (
        "logging logging.handlers",
        "FileHandler RotatingFileHandler TimedRotatingFileHandler WatchedFileHandler BaseRotatingHandler",
        "opens the file it is given",
    ),
    (
        "transformers.integrations.deepspeed transformers.deepspeed",
        "HfDeepSpeedConfig HfTrainerDeepSpeedConfig",
        "reads the file it is given",
    ),
    ("accelerate.utils.dataclasses accelerate.utils", "DeepSpeedPlugin MegatronLMPlugin", "reads the file it is given"),
    ("accelerate.state accelerate", "PartialState AcceleratorState GradientState", "starts distributed processing"),
    ("torch.utils.data.dataloader torch.utils.data", "DataLoader", "starts processes"),
    ("torch.distributed.device_mesh", "DeviceMesh", "starts distributed processing"),
    ("ultralytics ultralytics.models.yolo.model ultralytics.engine.model", "YOLO Model", "reads the file it is given"),
];

/// Modules whose name as an attribute (`torch.serialization` `os.system`) leads to all they have.
pub(super) const ROADS: &[&str] = &[
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
