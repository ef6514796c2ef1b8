"""Write pairs of files for `ckpt diff`, and what numpy says of their differences.

usage: python generate_diff.py OUT_DIR        (torch 2.15, numpy 2, safetensors)

  numbers_a.pt  numbers_b.pt  numbers.json   two tensors of every dtype, of unlike dtypes, with NaN, infinities and both zeros;
                                             the oracle has what ckpt.diff/1 says of each, in exact or long double arithmetic
  run_a.ckpt  run_b.ckpt                     two runs: optimizer, values of all sorts; run_a.safetensors, run_a.npz: its weights
  duplicates.pt  duplicates_swapped.pt       the name `a.b` by two paths, in both orders
  wrapped.pt                                 the weights of run_a below `module.`, where some tensors are all zeros
  plain.pt                                   the same names without it
  two_models.pt                              weights in two places
  sets.pkl  sets_again.pkl                   one set pickled in two orders
"""
import argparse
import fractions
import json
import math
import os
import pickle

import numpy as np
import torch
from safetensors.torch import save_file

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu]
COMPLEX = [torch.complex32, torch.complex64, torch.complex128]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64]
QUANTIZED = [torch.qint8, torch.quint8, torch.qint32]


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def numbers(dtype_a, dtype_b):
    """Two tensors of 3 x 50 elements, some of them equal."""
    a, b = torch.randn(3, 50, dtype=torch.float64), torch.randn(3, 50, dtype=torch.float64)
    b[0] = a[0]
    if dtype_a in COMPLEX:
        a, b = torch.complex(a, a.flip(0)), torch.complex(b, b.flip(1))
    return a.to(dtype_a), b.to(dtype_b)


def odd(a, b):
    """The same with NaN, infinities and zeros."""
    inf, nan = math.inf, math.nan
    pairs = [(nan, nan), (nan, 1), (1, nan), (inf, inf), (inf, -inf), (1, inf), (0.0, -0.0), (0, 1), (1, 0), (2, 2)]
    a, b = a.clone(), b.clone()
    for i, (x, y) in enumerate(pairs):
        a[1, i], b[1, i] = x, y
    return a, b


def integers(dtype):
    info = torch.iinfo(dtype)
    values = [info.min, info.max, 0, 1, 2, 3, info.max - 1, info.max]
    others = [info.max, info.min, 0, 1, 5, 3, info.max, info.max - 1]
    return torch.tensor(values, dtype=dtype), torch.tensor(others, dtype=dtype)


def exact(tensor):
    """The elements as pairs of Fractions, or floats that are not finite."""
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    tensor = tensor.flatten()
    if tensor.dtype == torch.complex32:
        tensor = tensor.to(torch.complex64)
    if tensor.is_complex():
        return [(z.real, z.imag) for z in tensor.to(torch.complex128).tolist()]
    if tensor.is_floating_point():
        return [(x, 0) for x in tensor.to(torch.float64).tolist()]
    return [(int(x), 0) for x in tensor.tolist()]


def difference(a, b):
    """What ckpt.diff/1 says of two tensors, element by element."""
    as_long_double = lambda x: np.longdouble(x.numerator) / np.longdouble(x.denominator) if isinstance(x, fractions.Fraction) else np.longdouble(x)
    differing, distances, relative = 0, [], []
    dot, aa, bb = np.longdouble(0), np.longdouble(0), np.longdouble(0)
    for x, y in zip(exact(a), exact(b)):
        if any(math.isnan(v) for v in x + y):
            differing += not (any(map(math.isnan, x)) and any(map(math.isnan, y)))
            continue
        if x == y:
            d = np.longdouble(0)
        elif all(map(math.isfinite, x + y)):
            re, im = (as_long_double(fractions.Fraction(p) - fractions.Fraction(q)) for p, q in zip(x, y))
            d = np.sqrt(re * re + im * im)
        else:
            d = np.longdouble(math.inf)
        differing += x != y
        distances.append(d)
        length = np.sqrt(sum(np.longdouble(v) ** 2 for v in y))
        with np.errstate(divide="ignore"):
            relative.append(np.longdouble(0) if d == 0 else d if np.isinf(d) else d / length)
        if all(map(math.isfinite, x + y)):
            x, y = [np.longdouble(v) for v in x], [np.longdouble(v) for v in y]
            dot, aa, bb = dot + x[0] * y[0] + x[1] * y[1], aa + x[0] ** 2 + x[1] ** 2, bb + y[0] ** 2 + y[1] ** 2
    finite = lambda x: float(x) if np.isfinite(x) else None
    return {
        "max_abs": finite(max(distances)),
        "mean_abs": finite(np.sum(np.array(distances, dtype=np.longdouble)) / len(distances)),
        "max_rel": finite(max(relative)),
        "cosine": finite(dot / (np.sqrt(aa) * np.sqrt(bb))),
        "differing": differing,
        "total": a.numel(),
    }


def all_numbers():
    a, b = {}, {}
    for dtype in FLOATS + FLOAT8 + COMPLEX:
        name = name_of(dtype)
        a[name], b[name] = numbers(dtype, dtype)
        if dtype in FLOATS:
            a[name + ".odd"], b[name + ".odd"] = odd(a[name], b[name])
    for dtype in INTEGERS:
        a[name_of(dtype)], b[name_of(dtype)] = integers(dtype)
    a["bool"], b["bool"] = torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False])
    for dtype in QUANTIZED:
        x, y = numbers(torch.float32, torch.float32)
        a[name_of(dtype)], b[name_of(dtype)] = (torch.quantize_per_tensor(t, 0.1, 10, dtype) for t in (x, y))
    # the same numbers in another dtype, and as nearly as that can be
    for narrow in FLOATS[1:]:
        for wide in FLOATS[:FLOATS.index(narrow)]:
            x, _ = numbers(wide, wide)
            a[f"{name_of(wide)}.as.{name_of(narrow)}"], b[f"{name_of(wide)}.as.{name_of(narrow)}"] = x, x.to(narrow)
    a["int64.as.float64"], b["int64.as.float64"] = torch.arange(-5, 5), torch.arange(-5, 5).double() + torch.arange(10) % 2
    a["int32.as.uint64"], b["int32.as.uint64"] = integers(torch.int32)[0], integers(torch.uint64)[0]
    # large means, small differences
    a["offset"] = 1e6 + torch.arange(1000, dtype=torch.float32) % 7
    b["offset"] = a["offset"] + 0.0625 * (torch.arange(1000) % 3)
    return a, b


class Config:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


Config.__module__, Config.__qualname__ = "train", "Config"


def run(model, optimizer, **changed):
    values = {
        "epoch": 3, "loss": 0.25, "best": math.nan, "name": "run", "done": False, "nothing": None, "betas": (0.9, 0.999), "size": torch.Size([3]),
        "note": "x" * 300 + "old" + "y" * 300, "tags": {"a", "b", "c", "d"}, "dtype": torch.float16, "big": 2**70, "blob": b"\0\1" * 2000,
        "scalar": np.float32(1.5), "args": Config(lr=0.1, seed=1), "storage": torch.arange(6, dtype=torch.int16).untyped_storage(),
    }
    return {"model": model, "optimizer": optimizer, **values, **changed}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    path = lambda name: os.path.join(out, name)
    torch.manual_seed(5)
    import sys
    import types
    sys.modules["train"] = types.ModuleType("train")
    sys.modules["train"].Config = Config

    a, b = all_numbers()
    torch.save(a, path("numbers_a.pt"))
    torch.save(b, path("numbers_b.pt"))
    with open(path("numbers.json"), "w") as f:
        json.dump({name: difference(a[name], b[name]) for name in a}, f, indent=0)
        f.write("\n")

    model = {name: torch.randn(4, 3) for name in ("fc.weight", "head.weight", "new.weight")}
    model |= {"fc.bias": torch.zeros(4), "head.bias": torch.zeros(4), "steps": torch.tensor(7)}
    adam = {"state": {0: {"exp_avg": torch.randn(4, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    torch.save(run(model, adam), path("run_a.ckpt"))
    save_file(model, path("run_a.safetensors"))
    np.savez(path("run_a.npz"), **{name: tensor.numpy() for name, tensor in model.items()})
    other = {name: tensor.clone() for name, tensor in model.items() if name != "new.weight"}
    other["fc.weight"][1, 2] += 0.5
    other["head.weight"] = torch.randn(5, 3)
    other["head.bias"] = other["head.bias"].double()
    other["fc.bias"].requires_grad_()
    other["old.weight"] = torch.randn(2)
    changes = {
        "epoch": 5, "loss": 0.2500001, "name": "other", "betas": [0.9, 0.999], "note": "x" * 300 + "new" + "y" * 300, "big": 2**70 + 1,
        "blob": b"\0\1" * 1999 + b"\0\2", "args": Config(lr=0.1, seed=2, extra="added"),
        "storage": torch.tensor([0, 1, 2, 3, 4, 6], dtype=torch.int16).untyped_storage(), "nothing": 0, "done": 0,
    }
    torch.save(run(other, adam, **changes), path("run_b.ckpt"))
    torch.save({f"module.{name}": tensor for name, tensor in model.items()}, path("wrapped.pt"))
    torch.save(model, path("plain.pt"))
    torch.save({"ema": {"net": {"w": torch.ones(2)}}, "model": {"w": torch.ones(2)}, "optimizer": adam}, path("two_models.pt"))

    x, y = torch.ones(2), torch.zeros(2)
    torch.save({"a.b": x, "a": {"b": y}}, path("duplicates.pt"))
    torch.save({"a": {"b": y}, "a.b": x}, path("duplicates_swapped.pt"))

    for name, order in ("sets.pkl", 1), ("sets_again.pkl", -1):
        with open(path(name), "wb") as f:
            # a set of small integers is pickled in the order that its table has
            pickle.dump({"tags": InOrder([8, 1, 3][::order])}, f, protocol=2)


class InOrder(list):
    """A list that comes back as a set."""

    def __reduce__(self):
        return set, (list(self),)


if __name__ == "__main__":
    main()
