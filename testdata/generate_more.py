"""Write what generate.py does not: odd modules, tensor subclasses, numpy's and joblib's corners, zips of other writers.

usage: python generate_more.py OUT_DIR        (torch 2.15, numpy 2, joblib)

Every file gets an oracle beside it (see README.md). Tensors that a module holds outside its state dict are listed in the
oracle under "outside_state_dict": their names and hashes, found by walking the live object.
"""
import collections
import copy
import datetime
import io
import json
import os
import pickle
import struct
import sys
import typing
import warnings
import zipfile

import joblib
import joblib.numpy_pickle_compat
import numpy as np
import torch
import torch.nn as nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import generate  # noqa: E402

OUT = None


def path(name):
    return os.path.join(OUT, name)


def save(name, obj, legacy=None, **extra):
    """torch.save in the zip format, and in the legacy one too when a name for that is given."""
    torch.save(obj, path(name))
    generate.oracle(obj, path(name), OUT, legacy=False, **extra)
    if legacy:
        torch.save(obj, path(legacy), _use_new_zipfile_serialization=False)
        generate.oracle(obj, path(legacy), OUT, legacy=True, **extra)


# ---- forms that older versions wrote and torch still reads

class Pickled:
    """Pickled by the `__reduce__` that it is given."""
    def __init__(self, *reduce):
        self.reduce = reduce

    def __reduce__(self):
        return self.reduce


def old_forms():
    """Calls of the classes themselves with their state (`Tensor.__setstate__`), and what came from devices without storages."""
    hooks, floats = collections.OrderedDict(), torch.arange(12, dtype=torch.float32).reshape(3, 4)
    doubles = torch.arange(6, dtype=torch.float64)
    storage = torch.FloatStorage([0.5, 1.5, 2.5, 3.5])
    parameter, variable = nn.Parameter, torch.autograd.Variable
    numpy, cpu = torch._utils._rebuild_device_tensor_from_numpy, torch._utils._rebuild_device_tensor_from_cpu_tensor
    forms = {
        "parameter": Pickled(parameter, (floats, True)),
        "parameter_alone": Pickled(parameter, (floats,)),
        "parameter_frozen": Pickled(parameter, (floats,), (False, False, hooks)),
        "variable": Pickled(variable, (doubles,), (True, False, hooks)),
        "variable_5": Pickled(variable, (), (doubles, True, hooks, True, False)),
        "tensor_4": Pickled(torch.FloatTensor, (), (storage, 1, (3,), (1,))),
        "double_5": Pickled(torch.DoubleTensor, (), (doubles, True, hooks, False, False)),
        "rebuilt": Pickled(torch._utils._rebuild_tensor, (storage, 0, (2, 2), (1, 2))),
        "from_numpy": Pickled(numpy, (np.arange(4, dtype=np.int32), torch.int32, "cpu", False)),
        "from_cpu": Pickled(cpu, (floats, torch.float32, "cpu", True)),
    }
    torch.save(forms, path("old_forms.pt"))
    torch.save(forms, path("old_forms.legacy.pt"), _use_new_zipfile_serialization=False)
    for name, legacy in (("old_forms.pt", False), ("old_forms.legacy.pt", True)):
        generate.oracle(torch.load(path(name), weights_only=False), path(name), OUT, legacy=legacy)


# ---- modules

class Attributes(nn.Module):
    """Tensors in every place that a module can keep one, only some of which are in its state dict."""
    def __init__(self, inner=None):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(4.0).reshape(2, 2))
        self.register_parameter("absent", None)
        self.register_buffer("kept", torch.tensor([1.0, 2.0]))
        self.register_buffer("cache", torch.tensor([3, 4, 5]), persistent=False)
        self.plain = torch.full((3,), 7.0)
        self.alias = self.kept
        self.history = [torch.ones(1), torch.zeros(2)]
        self.table = {"mean": torch.tensor(0.5), "shape": (2, 2)}
        self.width = 2
        if inner is not None:
            self.inner = inner


def outside(module):
    """Names and hashes of the tensors that state_dict() leaves out, each object once."""
    inside = {id(t) for m in module.modules() for t in list(m._parameters.values()) + [
        b for n, b in m._buffers.items() if n not in m._non_persistent_buffers_set]}
    found = []

    def visit(name, value):
        if isinstance(value, torch.Tensor):
            if id(value) not in inside:
                inside.add(id(value))
                found.append({"name": name, "shape": list(value.shape), "dtype": str(value.dtype)[6:],
                              "sha256": generate.hashlib.sha256(generate.tensor_bytes(value)).hexdigest()})
        elif isinstance(value, (list, tuple)):
            for i, v in enumerate(value):
                visit("%s.%d" % (name, i), v)
        elif isinstance(value, dict):
            for k, v in value.items():
                visit("%s.%s" % (name, k), v)
    for prefix, m in module.named_modules():
        dot = prefix + "." if prefix else ""
        for n, v in m._buffers.items():
            visit(dot + n, v)
        for n, v in vars(m).items():
            if n not in ("_parameters", "_buffers", "_modules"):
                visit(dot + n, v)
    return found


class Layers(nn.Module):
    """One of many kinds of layer, with torch's own containers."""
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.attention_kv = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, bias=False)
        self.lstm = nn.LSTM(3, 2, num_layers=2, bidirectional=True)
        self.gru = nn.GRU(2, 2, bias=False)
        self.embed = nn.Embedding(5, 2, padding_idx=0)
        self.norm = nn.LayerNorm(4)
        self.group = nn.GroupNorm(2, 4, affine=False)
        self.running = nn.BatchNorm1d(3, track_running_stats=True)
        self.instance = nn.InstanceNorm1d(3)
        self.conv = nn.ConvTranspose1d(2, 3, 2)
        self.prelu = nn.PReLU()
        self.bilinear = nn.Bilinear(2, 2, 1)
        self.encoder = nn.TransformerEncoderLayer(4, 2, dim_feedforward=3)
        self.list = nn.ModuleList([nn.Linear(1, 1), nn.Identity(), nn.Linear(1, 2)])
        self.by_name = nn.ModuleDict({"a": nn.Linear(1, 1), "b c": nn.Linear(1, 1)})
        self.params = nn.ParameterList([torch.ones(1), torch.zeros(2)])
        self.named = nn.ParameterDict({"x": torch.ones(2)})
        self.frozen = nn.Linear(2, 1).requires_grad_(False)
        self.tied = self.frozen


def modules():
    torch.manual_seed(11)
    net = Attributes(Attributes())
    save("module_attributes.pt", net, "module_attributes.legacy.pt", outside_state_dict=outside(net))
    layers = Layers()
    save("layers_full.pt", layers, outside_state_dict=outside(layers))
    save("layers_state.pt", layers.state_dict(), "layers_state.legacy.pt")
    save("several_modules.pt", {"generator": nn.Linear(1, 2), "discriminator": nn.Linear(2, 1), "step": 5,
                                "optimizer": torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1).state_dict()})
    parametrized = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
                                 nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)),
                                 nn.utils.parametrizations.orthogonal(nn.Linear(2, 2)))
    save("parametrized_state.pt", parametrized.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.utils.weight_norm(nn.Linear(2, 3))
        old.weight = old.weight.detach()  # a plain attribute: what is computed from weight_g and weight_v
    save("weight_norm_full.pt", old, outside_state_dict=outside(old))
    save("complete_training.pt", {
        "state_dict": nn.DataParallel(nn.Linear(2, 2)).state_dict(), "model_ema": {"shadow": nn.Linear(2, 2).state_dict()},
        "rng": torch.get_rng_state()[:16], "scaler": {"scale": 65536.0, "_growth_tracker": 3}, "epoch": 7,
        "best": {"acc": 0.75, "at": datetime.date(2024, 5, 6)}, "classes": ["cat", "dog"], "size": torch.Size([1, 2])})


# ---- TorchScript

class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("scratch", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.fc(x) + self.scratch


class Scripted(nn.Module):
    names: typing.List[str]
    table: typing.Dict[str, int]
    maybe: typing.Optional[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.25]))
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self.first = Inner()
        self.rest = nn.Sequential(Inner(), nn.BatchNorm1d(2))
        self.names = ["a", "b"]
        self.table = {"x": 1}
        self.sizes = (1, 2.5)
        self.maybe = None
        self.extra = torch.arange(3)

    def forward(self, x):
        y = self.rest(self.first(x)) * self.scale + self.mean
        return y + torch.tensor([10.0, 20.0]) + self.extra.sum()


def torchscript():
    torch.manual_seed(12)
    net = Scripted().eval()
    script = torch.jit.script(net)
    script.save(path("scripted_rich.pt"))
    generate.drop_debug_files(path("scripted_rich.pt"))
    # a loaded archive says what its state dict is: attributes and non-persistent buffers are buffers to TorchScript
    again = torch.jit.load(path("scripted_rich.pt"))
    generate.oracle(again.state_dict(), path("scripted_rich.pt"), OUT, torchscript=True)
    traced = torch.jit.freeze(torch.jit.script(generate.SmallCNN().eval()))
    traced.save(path("scripted_frozen.pt"))
    generate.drop_debug_files(path("scripted_frozen.pt"))
    generate.oracle(torch.jit.load(path("scripted_frozen.pt")).state_dict(), path("scripted_frozen.pt"), OUT, torchscript=True)
    from torch.ao.nn.quantized import Conv2d, Linear
    from torch.ao.nn.quantized.dynamic import Linear as Dynamic
    quantized = nn.Sequential(collections.OrderedDict([("linear", Linear(3, 2)), ("conv", Conv2d(1, 1, 2)), ("dynamic", Dynamic(2, 2)),
                                                       ("plain", nn.Linear(2, 2))]))
    for layer, shape in ((quantized.linear, (2, 3)), (quantized.conv, (1, 1, 2, 2)), (quantized.dynamic, (2, 2))):
        values = torch.arange(float(np.prod(shape))).reshape(shape) - 2
        layer.set_weight_bias(torch.quantize_per_tensor(values, 0.5, 0, torch.qint8), torch.arange(float(shape[0])))
    torch.jit.script(quantized).save(path("scripted_quantized.pt"))
    generate.drop_debug_files(path("scripted_quantized.pt"))
    packed = torch.jit.load(path("scripted_quantized.pt"))
    generate.oracle(packed.state_dict(), path("scripted_quantized.pt"), OUT, torchscript=True,
                    packed={"linear": pack(packed.linear), "conv": pack(packed.conv), "dynamic": pack(packed.dynamic)})
    save("quantized_state.pt", quantized.state_dict())
    torch.save(quantized, path("quantized_full.pt"))
    generate.oracle(quantized.state_dict(), path("quantized_full.pt"), OUT, legacy=False)


def pack(module):
    params = module._packed_params
    w, b = (params._packed_params if hasattr(params, "_packed_params") else params).unpack()
    return {"weight": generate.describe(w, []), "bias": generate.describe(b, [])}


# ---- tensor subclasses

class MyTensor(torch.Tensor):
    """The simplest subclass: pickled by its base, with its attributes as state."""


class Wrapped(torch.Tensor):
    """A wrapper subclass: no storage of its own, the data is in its attributes."""
    @staticmethod
    def __new__(cls, inner, scale):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=torch.float32)

    def __init__(self, inner, scale):
        self.inner, self.scale = inner, scale

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Wrapped(args[0].inner, args[0].scale)
        raise NotImplementedError(func)


def subclasses():
    mine = torch.arange(6.0).reshape(2, 3).as_subclass(MyTensor)
    mine.note, mine.extra = "mine", torch.tensor([9, 8])
    stated = nn.Parameter(torch.ones(2, 2))
    stated.note = "fine tuned"
    holding = nn.Parameter(torch.zeros(2))
    holding.ema = torch.full((2,), 0.5)
    buffer = nn.Buffer(torch.ones(3)) if hasattr(nn, "Buffer") else torch.ones(3)
    save("subclasses.pt", collections.OrderedDict([
        ("plain", torch.ones(1)), ("mine", mine), ("stated", stated), ("holding", holding), ("buffer", buffer),
        ("uninitialized", nn.Parameter(torch.empty(0)))]), "subclasses.legacy.pt")
    wrapped = Wrapped(torch.arange(4, dtype=torch.int8).reshape(2, 2), torch.tensor(0.5))
    torch.save({"w": wrapped, "real": torch.ones(1)}, path("wrapper_subclass.pt"))
    part = {"w": {"inner": wrapped.inner, "scale": wrapped.scale}, "real": torch.ones(1)}
    tensors, leaves = [], []
    generate.walk(part, [], tensors, leaves, set())
    with open(path("wrapper_subclass.pt.parts.json"), "w") as f:
        json.dump({"why": "the tensors inside; `w` itself has shape [2, 2], dtype float32 and no storage", "tensors": tensors}, f,
                  indent=1, sort_keys=True)
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])
    torch.save({"nested": nested}, path("nested_tensor.pt"))


def keys_and_values():
    tree = {1: torch.ones(1), "1": torch.zeros(1), True: "overwrites 1's value? no: True == 1", 2: {3: {(4, "x"): torch.full((2,), 4.0)}},
            None: torch.ones(2), 1.5: [torch.ones(1), {"deep": {0: (torch.ones(1), [])}}], b"bytes": torch.zeros(2),
            "a.b": {"c": torch.ones(1)}, "a": {"b.c": torch.zeros(1)}, "\u00e9\U0001f600": 1, -7: torch.ones(1), False: torch.ones(3)}
    del tree[True]
    tree[1] = torch.ones(1)
    tree[frozenset([1])] = "set key"
    save("keys.pt", tree, "keys.legacy.pt")
    values = collections.OrderedDict([
        ("true", True), ("zero", 0), ("minus", -1), ("byte", 255), ("short", 65535), ("int", 2 ** 31 - 1), ("long", 2 ** 53), ("longer", 2 ** 53 + 1),
        ("min", -2 ** 63), ("float", 0.1), ("tiny", 5e-324), ("big", 1.7976931348623157e308), ("round", 1e16), ("exp", 1e-7), ("neg0", -0.0),
        ("whole", 100.0), ("pi", 3.141592653589793), ("e22", 1e22), ("inf", float("-inf")), ("empty", ""), ("quote", "it's \"so\""),
        ("apos", "it's"), ("escape", "a\tb\nc\\d\x00\x7f\u200b\u202e"), ("long text", "x" * 300), ("bytes", b"\x00'\"\xff\n"),
        ("bytearray", bytearray(b"ab")), ("list", [1, 2.0, "x", None, b"y"]), ("one", (1,)), ("nested", [[1, 2], [3, [4]]]), ("empty list", []),
        ("empty tuple", ()), ("empty dict", {}), ("empty set", set()), ("range", range(3)), ("slice", slice(1, 2)), ("ellipsis", ...),
        ("complex", 1.5 - 2j), ("type", collections.OrderedDict), ("function", len), ("counter", collections.Counter("aab")),
        ("deque", collections.deque([1, 2], 5)), ("date", datetime.date(2024, 1, 2)), ("delta", datetime.timedelta(1, 2)),
        ("t", torch.ones(1)), ("generator", torch.Generator().get_state()[:4]), ("layout", torch.sparse_coo), ("qscheme", torch.per_tensor_affine),
        ("fraction", __import__("fractions").Fraction(1, 3)),
        ("decimal", __import__("decimal").Decimal("1.10")), ("enum", __import__("signal").SIGINT), ("uuid", __import__("uuid").UUID(int=5))])
    save("values.pt", values, "values.legacy.pt")


# ---- numpy, plain pickles, joblib

def numpy_zoo():
    people = np.array([("ann", 31, 1.5), ("bob", 42, 2.5)], dtype=[("name", "U5"), ("age", "<i4"), ("w", "<f8")])
    return collections.OrderedDict([
        ("f4", np.arange(6, dtype="f4").reshape(2, 3)), ("fortran", np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        ("big_endian", np.arange(3, dtype=">i4")), ("big_complex", np.array([1 + 2j], dtype=">c16")), ("strided", np.arange(10)[::3]),
        ("half", np.array([0.5, 2], dtype="f2")), ("bool", np.array([True, False])), ("uint64", np.array([2 ** 64 - 1], dtype="u8")),
        ("scalar_array", np.array(3.5)), ("empty", np.zeros((0, 3), dtype="i2")), ("complex", np.array([1 - 1j], dtype="c8")),
        ("text", np.array(["ab", "\u00e9"])), ("bytes", np.array([b"abc", b"d"])), ("structured", people), ("record", people.view(np.recarray)),
        ("dates", np.array(["2024-01-02", "NaT"], dtype="M8[D]")), ("deltas", np.array([5], dtype="m8[ms]")),
        ("objects", np.array([1, "two", None, [3]], dtype=object)), ("masked", np.ma.array([1, 2, 3], mask=[0, 1, 0])),
        ("longdouble", np.array([1.5], dtype=np.longdouble)), ("void", np.array([b"\1\2"], dtype="V2")), ("np_bool", np.bool_(True)),
        ("np_f4", np.float32(0.1)), ("np_str", np.str_("s")), ("np_date", np.datetime64("2024-01-02")), ("dtype", np.dtype(">f4"))])


def portable(obj):
    """Without what has no stable hash or repr: objects, masks, long doubles."""
    return collections.OrderedDict((k, v) for k, v in obj.items() if k not in ("masked", "longdouble"))


def numpy_files():
    for protocol in (0, 2, 4, 5):
        name = path("zoo_protocol%d.pkl" % protocol)
        with open(name, "wb") as f:
            pickle.dump(portable(numpy_zoo()), f, protocol=protocol)
        generate.oracle(portable(numpy_zoo()), name, OUT, plain_pickle=protocol)
    with open(path("zoo_masked.pkl"), "wb") as f:
        pickle.dump({k: v for k, v in numpy_zoo().items() if k in ("masked", "longdouble", "f4")}, f)
    row = [{"w": np.arange(3.0)}, np.ones((2, 2), dtype="f4"), "a note", {"b": [np.zeros(1), 2]}]
    for protocol in (2, 4):
        with open(path("several_protocol%d.pkl" % protocol), "wb") as f:
            for part in row:
                pickle.dump(part, f, protocol=protocol)
        generate.oracle(row, path("several_protocol%d.pkl" % protocol), OUT, plain_pickle=protocol)
    # an array larger than a frame, so that protocol 4 writes it between frames; and one memoised twice
    large = np.arange(20000, dtype="f4")
    for protocol in (2, 4):
        name = path("large_protocol%d.pkl" % protocol)
        with open(name, "wb") as f:
            pickle.dump({"large": large, "again": large, "after": 1}, f, protocol=protocol)
        generate.oracle({"large": large, "again": large, "after": 1}, name, OUT, plain_pickle=protocol)

    arrays = {"w": np.arange(6, dtype="f4").reshape(2, 3), "layer/kernel": np.arange(4, dtype="i8"), "f": np.asfortranarray(np.eye(3)[:2]),
              "big": np.arange(2, dtype=">f8"), "scalar": np.array(2.5), "empty": np.zeros((2, 0)), "text": np.array(["a", "bc"])}
    for name, writer in (("arrays.npz", np.savez), ("arrays_compressed.npz", np.savez_compressed)):
        writer(path(name), **arrays)
        generate.oracle(arrays, path(name), OUT, npz=True)
    np.savez(path("objects.npz"), w=arrays["w"], o=np.array([{"lr": 0.1}, None], dtype=object))
    np.savez(path("positional.npz"), np.ones(2), np.zeros(1))
    generate.oracle({"arr_0": np.ones(2), "arr_1": np.zeros(1)}, path("positional.npz"), OUT, npz=True)
    for version in ((1, 0), (2, 0), (3, 0)):
        name = path("array_v%d.npy" % version[0])
        with open(name, "wb") as f:
            np.lib.format.write_array(f, arrays["f"], version=version)
        generate.oracle(arrays["f"], name, OUT, npy=True)


def joblib_files():
    obj = collections.OrderedDict([("coef", np.arange(12.0).reshape(3, 4)), ("name", "model"), ("fortran", np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3))),
                                   ("nested", {"a": [np.arange(2), np.zeros((0, 2))], "depth": 3}), ("again", None), ("scalar", np.array(1.5)),
                                   ("objects", np.array(["x", 2, None], dtype=object)), ("big", np.arange(3, dtype=">i2")), ("text", np.array(["ab"])),
                                   ("last", np.ones(1, dtype="u1"))])
    obj["again"] = obj["coef"]
    for name, compress, protocol in (("joblib.pkl", 0, None), ("joblib_protocol2.pkl", 0, 2), ("joblib.pkl.z", ("zlib", 3), None),
                                     ("joblib.pkl.gz", ("gzip", 3), None), ("joblib.pkl.bz2", ("bz2", 3), None),
                                     ("joblib.pkl.xz", ("xz", 3), None), ("joblib.pkl.lzma", ("lzma", 3), None)):
        joblib.dump(obj, path(name), compress=compress, protocol=protocol)
        generate.oracle(joblib.load(path(name)), path(name), OUT, plain_pickle=protocol)
    plain = {"w": np.arange(3.0), "n": 1}
    with open(path("joblib_zfile.pkl"), "wb") as f:
        joblib.numpy_pickle_compat.write_zfile(f, pickle.dumps(plain, 2))
    generate.oracle(plain, path("joblib_zfile.pkl"), OUT, plain_pickle=2)


# ---- the zip format, by other writers

def members(name):
    with zipfile.ZipFile(path(name)) as z:
        return [(i.filename, z.read(i)) for i in z.infolist()]


def rezip(source, name, check=True, folder=None, order=lambda m: m, folders=False, stream=False, compress=zipfile.ZIP_STORED, edit=None):
    """Writes the members of `source` as another zip writer would, with the same oracle, and checks that torch loads it."""
    raw = io.BytesIO()
    raw.seekable = (lambda: False) if stream else raw.seekable
    with zipfile.ZipFile(Stream(raw) if stream else raw, "w", compress) as z:
        parts = order(members(source))
        top = parts[0][0].split("/")[0]
        if folders:
            for d in (top + "/", top + "/data/"):
                z.writestr(zipfile.ZipInfo(d, (1980, 1, 1, 0, 0, 0)), b"")
        for member, data in parts:
            member = folder + member[len(top):] if folder else member
            info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
            info.compress_type = compress
            with z.open(info, "w", force_zip64=edit == "zip64") as f:
                f.write(data)
        if edit == "comment":
            z.comment = b"re-zipped by hand, not PK\x05\x06"
    finish(source, name, raw.getvalue(), check)


def finish(source, name, data, check=True, **extra):
    with open(path(name), "wb") as f:
        f.write(data)
    with open(path(source) + ".json") as f:
        doc = json.load(f)
    doc.update(extra, file=name, bytes=len(data), made_from=source)
    with open(path(name) + ".json", "w", encoding="utf-8") as f:
        json.dump(doc, f, indent=1, sort_keys=True, ensure_ascii=False)
    if check:
        a, b = torch.load(path(source), weights_only=False), torch.load(path(name), weights_only=False)
        for k in a:
            if k not in UNTYPED:
                same = a[k].contiguous().view(torch.uint8) if a[k].dim() else a[k]
                assert torch.equal(same, b[k].contiguous().view(torch.uint8) if b[k].dim() else b[k]), (name, k)


class Stream(object):
    """A file that cannot seek: zipfile then writes data descriptors."""
    def __init__(self, f):
        self.write, self.flush = f.write, f.flush


# dtypes over UntypedStorage that are wider than a byte: torch 2.15 forgets to swap them
UNTYPED = ("uint16", "uint32", "uint64")


def foreign_zips():
    torch.manual_seed(13)
    state = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict()
    save("state.pt", state)
    rezip("state.pt", "zip_deflated.pt", compress=zipfile.ZIP_DEFLATED)
    rezip("state.pt", "zip_64.pt", edit="zip64")
    rezip("state.pt", "zip_streamed.pt", stream=True)
    rezip("state.pt", "zip_streamed_deflated.pt", stream=True, compress=zipfile.ZIP_DEFLATED)
    rezip("state.pt", "zip_folders.pt", folders=True)
    rezip("state.pt", "zip_reversed.pt", order=lambda m: m[::-1])
    rezip("state.pt", "zip_comment.pt", edit="comment")
    rezip("state.pt", "zip_folder_archive.pt", folder="archive")
    rezip("state.pt", "zip_folder_text.pt", folder="epoch 3, l\u00f6ss=0.5")
    rezip("state.pt", "zip_version_2.pt", order=lambda m: [(n, b"2\n" if n.endswith("/version") else d) for n, d in m if not n.split("/")[-1].startswith(".")])
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path("zip_without_crc.pt"))
        generate.oracle(state, path("zip_without_crc.pt"), OUT, legacy=False)
    finally:
        torch.serialization.set_crc32_options(True)
    # appended the way an in-place edit does it: a second data.pkl, a second directory, after the old end
    with open(path("state.pt"), "rb") as f:
        old = f.read()
    appended = io.BytesIO(old)
    with zipfile.ZipFile(appended, "a") as z:
        pickled = [i for i in z.infolist() if i.filename.endswith("data.pkl")][0]
        data = z.read(pickled)
        z.filelist.remove(pickled)
        del z.NameToInfo[pickled.filename]
        z.start_dir = len(old)
        z.writestr(zipfile.ZipInfo(pickled.filename, (1980, 1, 1, 0, 0, 0)), data)
    finish("state.pt", "zip_appended.pt", appended.getvalue())
    big_endian()


def big_endian():
    """As torch on s390x writes: `byteorder` is `big` and each element's bytes are reversed (complex: each half's)."""
    every = generate.dtypes()
    views = torch.arange(12, dtype=torch.int16).reshape(3, 4)
    every["transposed"], every["bool_view"] = views.t(), torch.tensor([[True, False, True]])[:, 1:]
    save("every_dtype.pt", every)
    unit = {}
    for tensor in every.values():
        storage = tensor.untyped_storage()
        unit[bytes(storage)] = tensor.element_size() // (2 if tensor.is_complex() else 1)
    out = []
    for name, data in members("every_dtype.pt"):
        if "/data/" in name and data:
            n = unit[data]
            data = np.frombuffer(data, dtype="V%d" % n).view("u1").reshape(-1, n)[:, ::-1].tobytes()
        out.append((name, b"big" if name.endswith("/byteorder") else data))
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as z:
        for name, data in out:
            z.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    finish("every_dtype.pt", "big_endian.pt", raw.getvalue(), byteorder="big")


def main():
    global OUT
    OUT = sys.argv[1]
    os.makedirs(OUT, exist_ok=True)
    generate.hide_source_paths()
    for part in (old_forms, modules, torchscript, subclasses, keys_and_values, numpy_files, joblib_files, foreign_zips):
        part()


if __name__ == "__main__":
    main()
