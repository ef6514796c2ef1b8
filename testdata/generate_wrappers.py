"""Files with tensors that keep their elements elsewhere or in another form, and what torch says of them.

Usage: python generate_wrappers.py DIRECTORY (torch 2.15)

Beside each module's file `F` lies `F_sd.pt`, its `state_dict()` as torch saves it. `expected.json` holds dtypes, shapes
and sha256 of elements (contiguous, little-endian, quantized ones as `int_repr()`), and Python's `repr` of values.
"""

import collections, datetime, decimal, fractions, hashlib, io, ipaddress, json, pathlib, pickle, re, sys, types, uuid, warnings

import numpy
import torch
import torch.ao.quantization as quantization
import torch.nn as nn

warnings.simplefilter("ignore")
OUT = pathlib.Path(sys.argv[1])
OUT.mkdir(parents=True, exist_ok=True)
EXPECTED = {}


def facts(tensor):
    stored = tensor.int_repr() if tensor.is_quantized else tensor
    stored = stored.detach().contiguous()
    stored = stored.view(torch.int16) if stored.dtype == torch.bfloat16 else stored
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape),
            hashlib.sha256(stored.numpy().tobytes()).hexdigest()]


def save(name, obj, **tensors):
    torch.save(obj, OUT / name)
    EXPECTED[name] = {key: facts(value) for key, value in tensors.items()}


class OnDevice:
    """What torch's device backends pickle: the array, the type it has, the device."""

    def __init__(self, function, array, dtype, device):
        self.call = (function, (array, dtype, device, False))

    def __reduce__(self):
        return self.call


torch.manual_seed(0)
values = torch.randn(3, 5).to(torch.bfloat16)
stored = values.float().numpy()
function = torch._utils._rebuild_device_tensor_from_numpy
save("device.pt", collections.OrderedDict(
    cast=OnDevice(function, stored, torch.bfloat16, "cpu"),
    half=OnDevice(function, stored, torch.float16, "cpu"),
    turned=OnDevice(function, numpy.asfortranarray(stored), torch.bfloat16, "cpu"),
    big=OnDevice(function, stored.astype(">f4").view(stored.dtype.newbyteorder(">")), torch.bfloat16, "cpu"),
    same=OnDevice(function, stored, torch.float32, "cpu"),
    count=OnDevice(function, numpy.array(7), torch.int64, "cpu"),
), cast=values, half=values.to(torch.float16), turned=values, big=values, same=values.float(), count=torch.tensor(7))

packed = {}
for dtype in (torch.quint4x2, torch.quint2x4):
    for shape in ((4, 6), (3, 5)):
        scales, zero_points = torch.full(shape[:1], 0.25), torch.zeros(shape[0])
        packed[f"{dtype}_{shape[1]}".removeprefix("torch.")] = torch.quantize_per_channel(
            torch.rand(*shape) * 3, scales, zero_points, 0, dtype)
save("packed.pt", packed, **packed)

save("nested.pt", {
    "ragged": torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(4, 3)]),
    "parameter": nn.Parameter(torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(2, 3)])),
    "jagged": torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged),
})
save("masked.pt", {"masked": torch.masked.masked_tensor(torch.arange(4.0), torch.tensor([True, False, True, True]))})


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.conv, self.dequant = quantization.QuantStub(), nn.Conv2d(1, 2, 3), quantization.DeQuantStub()
        self.fc, self.adder = nn.Linear(2, 2), torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x):
        x = self.fc(self.conv(self.quant(x)).mean((2, 3)))
        return self.dequant(self.adder.add(x, x))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.cell, self.head = nn.LSTM(3, 4), nn.LSTMCell(2, 2), nn.Linear(4, 1, bias=False)


torch.backends.quantized.engine = "fbgemm"
static = Model().eval()
static.qconfig = quantization.get_default_qconfig("fbgemm")
quantization.prepare(static, inplace=True)
static(torch.randn(2, 1, 5, 5))
embedding = nn.Sequential(nn.EmbeddingBag(6, 4, mode="sum"))
embedding.qconfig = quantization.float_qparams_weight_only_qconfig_4bit
plain = lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
for name, module in {
    "static": quantization.convert(static),
    "dynamic": quantization.quantize_dynamic(plain(), {nn.Linear}),
    "dynamic_half": quantization.quantize_dynamic(plain(), {nn.Linear}, dtype=torch.float16),
    "recurrent": quantization.quantize_dynamic(Recurrent(), {nn.LSTM, nn.LSTMCell, nn.Linear}),
    "embedding": quantization.convert(quantization.prepare(embedding)),
}.items():
    save(f"{name}.pt", module)
    save(f"{name}_sd.pt", module.state_dict())

buffer = io.BytesIO()
torch.jit.save(torch.jit.script(nn.Linear(2, 3, device="meta")), buffer)
(OUT / "meta_script.pt").write_bytes(buffer.getvalue())


class Outer:
    class Config:
        def __init__(self):
            self.lr = 0.1


save("nested_class.pt", {"config": Outer.Config(), "w": torch.ones(2)})

utc, cet = datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=1), "CET")
python = {
    "when": datetime.datetime(2020, 1, 2, 3, 4), "then": datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    "whole": datetime.datetime(2020, 1, 2, 3, 4, 5), "aware": datetime.datetime(2020, 1, 2, tzinfo=utc),
    "zoned": datetime.datetime(2020, 1, 2, tzinfo=cet, fold=1), "day": datetime.date(2020, 1, 2),
    "time": datetime.time(1, 2), "moment": datetime.time(1, 2, 3, 4), "delta": datetime.timedelta(days=-1, seconds=2),
    "zero": datetime.timedelta(0), "utc": utc, "cet": cet, "uuid": uuid.UUID(int=5), "path": pathlib.PosixPath("/tmp/x"),
    "relative": pathlib.PurePosixPath("a/b"), "here": pathlib.PurePosixPath(), "windows": pathlib.PureWindowsPath("C:/d/x"),
    "decimal": decimal.Decimal("1.50"), "fraction": fractions.Fraction(-1, 3), "range": range(5), "steps": range(0, 9, 2),
    "slice": slice(1, None), "pattern": re.compile("a+"), "address": ipaddress.IPv4Address("10.0.0.1"),
}
for protocol in (2, 4):
    (OUT / f"python{protocol}.pkl").write_bytes(pickle.dumps(python, protocol))
EXPECTED["python"] = {key: repr(value) for key, value in python.items()}


def stream(obj, zipped=True):
    buffer = io.BytesIO()
    torch.save(obj, buffer, _use_new_zipfile_serialization=zipped)
    return buffer


held = {"a": torch.arange(6.0).reshape(2, 3), "n": 1}
everything = {
    "bytes": stream(held).getvalue(), "legacy": stream(held, False).getvalue(), "buffer": stream(held),
    "array": bytearray(stream(held).getvalue()), "bare": stream(held["a"]).getvalue(), "odd": b"PK\x03\x04" + bytes(90),
}
for protocol in (2, 4):
    (OUT / f"embedded{protocol}.pkl").write_bytes(pickle.dumps(everything, protocol))
names = {f"{key}.a": held["a"] for key in ("bytes", "legacy", "buffer", "array")}
save("embedded.pt", {"w": torch.ones(2), **everything}, w=torch.ones(2), **names, **{"bare.0": held["a"]})

(OUT / "expected.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")
