//! What makes data and nothing else, whatever it is called with.

/// Modules, names in them; `*` stands for names that begin with a capital, as classes do.
pub(super) const KNOWN: &[(&str, &str)] = &[
    (
        "builtins __builtin__",
        "set frozenset dict list tuple int long float complex bool str unicode bytes bytearray object range xrange slice \
         NoneType Ellipsis NotImplemented len abs sum min max round pow divmod reversed enumerate zip all any hash id \
         repr ascii bin hex oct ord chr isinstance issubclass callable",
    ),
    ("copyreg copy_reg", "_reconstructor __newobj__ __newobj_ex__"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict Counter defaultdict deque UserDict UserList UserString ChainMap"),
    ("_io io", "BytesIO StringIO"),
    ("datetime", "datetime date time timedelta timezone"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "UUID SafeUUID"),
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace MappingProxyType GenericAlias"),
    ("typing", "Any Dict List Tuple Set Optional Union Sequence Mapping Iterable OrderedDict Callable Literal Type"),
    ("pathlib pathlib._local", "PosixPath WindowsPath PurePosixPath PureWindowsPath Path PurePath"),
    ("enum", "Enum IntEnum"),
    ("signal", "Signals Handlers Sigmasks"),
    ("http", "HTTPStatus HTTPMethod"),
    ("random", "Random"),
    ("re", "_compile compile RegexFlag Pattern"),
    ("threading _thread", "Lock RLock lock allocate_lock"),
    ("logging", "getLogger"),
    ("inspect", "Signature Parameter _ParameterKind _empty BoundArguments"),
    ("itertools", "count cycle repeat chain product combinations permutations islice"),
    ("operator _operator", "add sub mul truediv floordiv mod neg pos abs eq ne lt le gt ge and_ or_ xor not_ concat"),
    ("array", "array _array_reconstructor"),
    ("zoneinfo", "ZoneInfo ZoneInfo._unpickle"),
    ("ipaddress", "IPv4Address IPv6Address IPv4Network IPv6Network IPv4Interface IPv6Interface"),
    ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS _MISSING_TYPE _FIELD_BASE _KW_ONLY_TYPE Field"),
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
    // functions that their pickles call: they set fields of the object that they make, or are `cls.__new__(cls, **kwargs)`,
    // as NEWOBJ_EX is
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("pandas._libs.interval", "__pyx_unpickle_IntervalMixin"),
    ("pandas._libs.tslibs.timestamps pandas._libs.tslib", "_unpickle_timestamp"),
    ("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle"),
    ("pandas._libs.tslibs.nattype pandas._libs.tslibs", "_nat_unpickle"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"),
    ("pandas.core.indexes.period", "_new_PeriodIndex"),
    ("pandas.core.indexes.interval", "_new_IntervalIndex"),
    ("pandas.core.indexes.timedeltas", "_new_TimedeltaIndex"),
    // classes whose pickles call them: they keep numbers, names and arrays
    ("pandas._libs.tslibs.offsets", "*"),
    ("pandas._libs.sparse", "IntIndex BlockIndex"),
    ("pandas.core.internals.managers", "BlockManager SingleBlockManager"),
    (
        "pandas",
        "NA NaT BooleanDtype CategoricalDtype DatetimeTZDtype Float32Dtype Float64Dtype Int8Dtype Int16Dtype Int32Dtype \
         Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype IntervalDtype PeriodDtype SparseDtype StringDtype \
         Interval Period Timedelta Timestamp",
    ),
    ("sklearn.tree._tree sklearn.tree.tree", "Tree"),
    ("sklearn._loss._loss sklearn.linear_model._sgd_fast", "*"),
    (
        "sklearn.feature_selection._univariate_selection sklearn.feature_selection",
        "f_classif f_regression chi2 f_oneway r_regression",
    ),
    ("scipy._lib.array_api_compat.numpy._aliases", "asarray"),
    ("torchmetrics.metric", "jit_distributed_available"),
    ("sklearn.neighbors._kd_tree sklearn.neighbors._ball_tree sklearn.metrics._dist_metrics", "newObj"),
    ("sklearn._loss._loss", "__pyx_unpickle_CyHalfBinomialLoss __pyx_unpickle_CyHalfSquaredError"),
    ("joblib.numpy_pickle sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper"),
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
    (
        "torch torch.nn.functional torch._C._nn torch.special torch.Tensor",
        "celu celu_ elu elu_ gelu glu hardshrink hardsigmoid hardswish hardtanh hardtanh_ leaky_relu leaky_relu_ \
         log_softmax log_sigmoid logsigmoid mish normalize prelu relu relu_ relu6 rrelu rrelu_ selu selu_ sigmoid \
         sigmoid_ silu softmax softmin softplus softshrink softsign tanh tanh_ tanhshrink threshold threshold_ abs sin \
         cos exp log sqrt square sum mean max min add mul cat stack gumbel_softmax dropout layer_norm group_norm \
         batch_norm mse_loss l1_loss smooth_l1_loss cross_entropy nll_loss binary_cross_entropy \
         binary_cross_entropy_with_logits huber_loss kl_div cosine_similarity expm1 log1p erf expit log_ndtr",
    ),
    (
        "torch.nn.init",
        "uniform_ normal_ trunc_normal_ constant_ ones_ zeros_ eye_ dirac_ xavier_uniform_ xavier_normal_ \
         kaiming_uniform_ kaiming_normal_ orthogonal_ sparse_",
    ),
    ("torch.utils.data._utils.collate torch.utils.data.dataloader", "default_collate default_convert"),
    ("torch.multiprocessing.reductions", "rebuild_tensor"),
    (
        "torch.distributed._shard.sharded_tensor.api torch.distributed._shard.sharded_tensor",
        "ShardedTensor ShardedTensor.ProcessGroupState TensorProperties MEM_FORMAT_ENCODING ShardedTensorMetadata",
    ),
    ("torch.distributed._shard.sharded_tensor.metadata", "*"),
    ("torch.distributed._shard.sharded_tensor.shard", "Shard"),
    ("torch.distributed._shard.metadata", "ShardMetadata"),
    ("torch.distributed.remote_device", "_remote_device"),
    ("torch.distributed.fsdp.api", "*"),
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "StateDictType FullStateDictConfig LocalStateDictConfig ShardedStateDictConfig ShardingStrategy",
    ),
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
    ("torch._C", "_TensorBase TensorBase Generator _VariableFunctionsClass"),
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
    (
        "transformers.optimization",
        "_get_constant_lambda _get_constant_schedule_with_warmup_lr_lambda _get_linear_schedule_with_warmup_lr_lambda \
         _get_cosine_schedule_with_warmup_lr_lambda _get_inverse_sqrt_schedule_lr_lambda \
         _get_cosine_with_hard_restarts_schedule_with_warmup_lr_lambda \
         _get_polynomial_decay_schedule_with_warmup_lr_lambda",
    ),
    ("torchvision.ops.boxes", "box_iou nms batched_nms"),
    ("numpy", "sin cos tan tanh exp expm1 log log1p log2 log10 sqrt square abs mean median std var sum min max poly1d"),
    ("torch.amp.grad_scaler torch.cuda.amp.grad_scaler", "OptState _refresh_per_optimizer_state"),
    ("easydict", "EasyDict"),
    ("yacs.config", "CfgNode"),
    ("fvcore.common.config", "CfgNode"),
    ("addict.addict", "Dict"),
    ("ml_collections.config_dict.config_dict", "*"),
    (
        "pytorch_lightning.utilities.parsing lightning.pytorch.utilities.parsing lightning_fabric.utilities.data \
         lightning.fabric.utilities.data",
        "AttributeDict",
    ),
    ("pytorch_lightning.callbacks.model_checkpoint lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
    (
        "accelerate.utils.dataclasses",
        "DistributedType DynamoBackend PrecisionType LoggerType RNGType ComputeEnvironment SageMakerDistributedType \
         CustomDtype TorchDynamoPlugin GradientAccumulationPlugin DataLoaderConfiguration ProjectConfiguration",
    ),
];

/// Classes whose objects hold data. Nobody went through all that calling them does, so that they are known only where the
/// pickle makes its objects as pickles do, without a call of the class.
pub(super) const MADE: &[(&str, &str)] = &[
    (
        "transformers.training_args transformers.training_args_seq2seq transformers.trainer_utils \
         transformers.trainer_pt_utils",
        "*",
    ),
    ("simpletransformers.config.model_args", "*"),
    ("omegaconf.dictconfig omegaconf.listconfig omegaconf.base omegaconf.nodes", "*"),
    ("torch.distributed.fsdp.fully_sharded_data_parallel", "*"),
    ("numpy.random.bit_generator", "SeedSequence SeedlessSeedSequence"),
    ("numpy.random._generator numpy.random.mtrand", "Generator RandomState"),
    ("pandas._libs.internals", "BlockPlacement Block BlockManager"),
    ("pandas._libs.arrays", "NDArrayBacked"),
    ("pandas._libs.tslibs.timestamps pandas._libs.tslib", "Timestamp"),
    ("pandas._libs.tslibs.timedeltas", "Timedelta"),
    ("pandas._libs.tslibs.period pandas._libs.period", "Period PeriodDtypeBase"),
    ("pandas._libs.tslibs.nattype pandas._libs.tslibs", "NaTType"),
    ("pandas._libs.missing", "NAType"),
    ("pandas._libs.interval", "Interval"),
    ("pandas._libs.index", "*"),
    ("scipy.spatial._ckdtree scipy.spatial.ckdtree scipy.spatial._kdtree", "cKDTree cKDTreeNode KDTree"),
    ("scipy.spatial.transform._rotation scipy.spatial.transform.rotation", "Rotation Slerp"),
    ("scipy.interpolate._interpolate scipy.interpolate.interpolate", "interp1d"),
    ("scipy.interpolate._ppoly scipy.interpolate._bspl", "*"),
    ("scipy.stats._distn_infrastructure", "rv_frozen rv_continuous_frozen rv_discrete_frozen"),
    ("sklearn.tree._tree sklearn.tree.tree", "TreeBuilder"),
    ("sklearn.neighbors._kd_tree sklearn.neighbors._ball_tree", "*"),
    ("sklearn.metrics._dist_metrics sklearn.multioutput", "*"),
    ("sklearn.ensemble._hist_gradient_boosting.common", "*"),
    ("spacy.vocab", "Vocab"),
    ("spacy.strings", "StringStore"),
    ("torch_geometric.typing torch_sparse.tensor", "SparseTensor"),
    (
        "pandas.core.indexes.base pandas.core.indexes.range pandas.core.indexes.multi pandas.core.indexes.datetimes \
         pandas.core.indexes.timedeltas pandas.core.indexes.period pandas.core.indexes.interval \
         pandas.core.indexes.category pandas.core.indexes.numeric pandas.core.indexes.frozen",
        "Index RangeIndex MultiIndex DatetimeIndex TimedeltaIndex PeriodIndex IntervalIndex CategoricalIndex Int64Index \
         UInt64Index Float64Index NumericIndex FrozenList FrozenNDArray",
    ),
    ("pandas.core.series", "Series"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.internals.managers pandas.core.internals.blocks pandas.core.arrays pandas.core.dtypes.dtypes", "*"),
    ("pandas.core.flags", "Flags"),
    (
        "pandas",
        "Categorical CategoricalIndex DataFrame DatetimeIndex Index IntervalIndex MultiIndex PeriodIndex RangeIndex \
         Series TimedeltaIndex",
    ),
    ("pandas.arrays", "*"),
    ("sklearn.pipeline", "Pipeline FeatureUnion"),
    (
        "sklearn.model_selection._search sklearn.model_selection._split sklearn.naive_bayes sklearn.gaussian_process.kernels",
        "*",
    ),
    ("scipy.interpolate._interpnd scipy.interpolate._rbfinterp", "*"),
    ("scipy.spatial._qhull scipy.spatial.qhull", "Delaunay ConvexHull Voronoi"),
    (
        "statsmodels.regression.linear_model statsmodels.genmod.generalized_linear_model \
         statsmodels.discrete.discrete_model",
        "RegressionResultsWrapper GLMResultsWrapper BinaryResultsWrapper",
    ),
    ("munch", "Munch"),
    ("scipy.interpolate._cubic", "CubicSpline PchipInterpolator Akima1DInterpolator CubicHermiteSpline"),
    (
        "scipy.interpolate._interpolate scipy.interpolate.interpolate",
        "interp1d._call_linear interp1d._call_linear_np interp1d._call_nearest interp1d._call_spline \
         interp1d._call_previousnext interp1d._call_nan_spline",
    ),
    ("gymnasium.spaces", "*"),
    ("torch_geometric.data.data", "Data BaseData"),
    ("torch_geometric.data.batch", "Batch DataBatch HeteroDataBatch"),
    ("torch_geometric.data.hetero_data", "HeteroData"),
    ("torch_geometric.nn.conv torch_geometric.nn.dense torch_geometric.nn.norm torch_geometric.nn.aggr", "*"),
    ("transformers.generation.configuration_utils", "GenerationConfig"),
    (
        "torchmetrics.aggregation torchmetrics.metric torchmetrics.collections torchmetrics.classification \
         torchmetrics.regression torchmetrics.retrieval torchmetrics.clustering torchmetrics.nominal \
         torchmetrics.segmentation",
        "*",
    ),
    ("sklearn.compose._column_transformer", "ColumnTransformer make_column_selector"),
    ("fairseq.meters", "AverageMeter TimeMeter StopwatchMeter"),
    (
        "scipy.sparse._dia scipy.sparse.dia scipy.sparse._bsr scipy.sparse.bsr",
        "dia_matrix dia_array bsr_matrix bsr_array",
    ),
    ("dgl.frame", "Frame"),
    ("mmengine.config.config mmcv.utils.config", "ConfigDict"),
    ("mmengine.logging.message_hub", "MessageHub"),
    ("torch.ao.quantization.qconfig torch.quantization.qconfig", "QConfig QConfigDynamic"),
    ("gym.spaces", "*"),
    ("tensordict._td tensordict.tensordict", "TensorDict"),
    ("peft.tuners.lora", "LoraConfig LoraModel"),
    ("megatron.core.transformer.enums megatron.core.enums", "*"),
    ("megatron.core.tensor_parallel.random", "CudaRNGStatesTracker"),
    ("omegaconf._utils", "_DEFAULT_MARKER_"),
    ("lightning_fabric.utilities.types lightning.fabric.utilities.types", "_PATH"),
];
