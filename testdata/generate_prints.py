"""Write tensors.pt and what torch prints for each tensor in it.

usage: python generate_prints.py OUT_DIR        (torch 2.15)

tensors.pt is a dict of tensors; expected.json maps each of their names to {"print": what print(tensor) writes}, some also
to {"full": the same with torch.set_printoptions(threshold=inf)}. arrays.json lists {"name", "slice", "dtype", "file"}: a
tensor, the part of it and the dtype it is cast to (or null), and the file that numpy.save made of that.
"""
import json
import math
import os
import sys
import warnings

import numpy as np
import torch

warnings.simplefilter("ignore")
torch.manual_seed(6)
INF, NAN = math.inf, math.nan
FULL = ("row_1001_float", "matrix_six", "quantized_channels_cut", "transposed_cut", "complex_cut", "scalar", "coo_cut")
tensors = {}


def add(name, tensor):
    tensors[name] = tensor


# every dtype, small and mixed
floats = torch.tensor([[0.0, -0.0, 1.0, -1.5], [0.125, 100.25, -3.0, 0.0625]])
for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
              torch.float8_e4m3fnuz, torch.float8_e5m2fnuz):
    add(str(dtype)[6:], floats.to(dtype))
add("float8_e8m0fnu", torch.tensor([0, 1, 120, 127, 128, 254, 255], dtype=torch.uint8).view(torch.float8_e8m0fnu))
add("float8_e8m0fnu_close", torch.tensor([126, 127, 128], dtype=torch.uint8).view(torch.float8_e8m0fnu))
add("float4_e2m1fn_x2", torch.tensor([0, 18, 52, 255], dtype=torch.uint8).view(torch.float4_e2m1fn_x2))
for dtype in (torch.uint8, torch.uint16, torch.uint32, torch.uint64):
    add(str(dtype)[6:], torch.tensor([[0, 1, 200], [7, 30, 255]]).to(dtype))
for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
    add(str(dtype)[6:], torch.tensor([[0, -1, 100], [7, -30, 127]]).to(dtype))
add("int64_extremes", torch.tensor([torch.iinfo(torch.int64).min, 0, torch.iinfo(torch.int64).max]))
add("uint64_extreme", torch.tensor([2 ** 64 - 1, 0], dtype=torch.uint64))
add("bool", torch.tensor([[True, False], [False, True]]))
add("bool_true", torch.tensor([True, True]))
for dtype in (torch.complex32, torch.complex64, torch.complex128):
    add(str(dtype)[6:], torch.tensor([1 + 2j, -0.5 - 0.25j, complex(0, -0.0), 1e3j]).to(dtype))
add("complex_nonfinite", torch.tensor([complex(NAN, INF), complex(-INF, 1), 1 + 1j]))
add("complex_scientific", torch.tensor([[1e-7 + 2j, 3 - 4e9j]]))
add("complex_conj", torch.tensor([[1 + 2j, 3 - 4j, -1j]]).conj())
add("complex_imag_neg", torch.tensor([1 + 2j, 3 - 4j]).conj().imag)
add("complex_cut", torch.randn(40, 40, dtype=torch.complex64))

# magnitudes
add("whole", torch.tensor([1.0, -20.0, 300.0]))
add("whole_wide", torch.tensor([1.0, 2000.0]))
add("whole_large", torch.tensor([2e8, 3e8]))
add("whole_nonfinite", torch.tensor([1.0, INF, -INF, NAN]))
add("only_nan", torch.tensor([NAN, NAN]))
add("only_nonfinite", torch.tensor([-INF, NAN, 0.0]))
add("zeros", torch.zeros(2, 3))
add("negative_zero", torch.tensor([-0.0, 0.0]))
add("small", torch.tensor([0.5, 0.00009]))
add("boundary_1000", torch.tensor([0.001, 1.0]))
add("boundary_1000_float64", torch.tensor([0.001, 1.0], dtype=torch.float64))
add("boundary_1e-4", torch.tensor([1e-4, 2e-4]))
add("boundary_1e8", torch.tensor([1e8, 0.5e8]))
add("ties", torch.tensor([0.03125, 0.09375, 0.15625, -0.03125, 2.00005]))
add("float64_huge", torch.tensor([1e300, -1e-300], dtype=torch.float64))
add("float64_three_digits", torch.tensor([1e-100, 1.0, NAN, INF], dtype=torch.float64))
add("float32_subnormal", torch.tensor([1e-45, 1e-40]))
add("float16_max", torch.tensor([65504.0, 6e-8], dtype=torch.float16))
add("rounding_up", torch.tensor([9.99996, 1.0]))
add("scientific_rounding_up", torch.tensor([9.99999e99, 1.0], dtype=torch.float64))

# shapes
add("scalar", torch.tensor(3.5))
add("scalar_whole", torch.tensor(3.0))
add("scalar_small", torch.tensor(1e-9))
add("scalar_int", torch.tensor(-7))
add("scalar_bool", torch.tensor(True))
add("scalar_uint8", torch.tensor(7, dtype=torch.uint8))
add("scalar_complex", torch.tensor(-1.5 + 2j))
add("scalar_nan", torch.tensor(NAN, dtype=torch.float16))
add("empty", torch.tensor([]))
add("empty_int", torch.tensor([], dtype=torch.int64))
add("empty_2d", torch.empty(0, 4))
add("empty_middle", torch.empty(2, 0, 3, dtype=torch.float16))
add("row_breaks", torch.arange(100))
add("row_breaks_float", torch.randn(33))
add("row_1000", torch.arange(1000, dtype=torch.int16))
add("row_1001", torch.arange(1001, dtype=torch.int16))
add("row_1001_float", torch.arange(1001).float() / 7)
add("matrix_cut", torch.randn(50, 60))
add("matrix_tall", torch.arange(2002).reshape(1001, 2))
add("matrix_wide", torch.arange(2002).reshape(2, 1001))
add("matrix_six", torch.arange(1200).reshape(6, 200))
add("three_dims", torch.randn(2, 3, 4))
add("three_dims_cut", torch.arange(8 * 9 * 20, dtype=torch.int32).reshape(8, 9, 20))
add("four_dims", torch.randn(4, 3, 3, 3))
add("four_dims_cut", torch.randn(9, 3, 7, 7).half())
add("five_dims", torch.arange(32).reshape(2, 2, 2, 2, 2))
add("seven_dims", torch.zeros(1, 1, 2, 1, 1, 2, 1))
add("deep", torch.zeros([1] * 30))
add("wider_than_a_line", torch.zeros(3).reshape([1] * 75 + [3]) + 0.5)
add("transposed", torch.arange(12.0).reshape(3, 4).t())
add("transposed_cut", torch.arange(2000).reshape(40, 50).t())
add("expanded", torch.tensor([1.0, 2.0]).expand(700, 2))
add("view", torch.arange(100.0)[10:40:3])
add("extremes_left_out", torch.cat([torch.ones(3), torch.full((2000,), 1e9), torch.ones(3)]))

# suffixes
add("requires_grad", torch.tensor([1.0, 2.0], requires_grad=True))
add("requires_grad_breaks", torch.tensor([0.25] * 9, dtype=torch.float64, requires_grad=True))
for n in range(6, 10):
    add(f"suffix_fits_{n}", torch.tensor([0.25] * n, dtype=torch.float16, requires_grad=True))
add("parameter", torch.nn.Parameter(torch.randn(2, 3)))
add("parameter_fixed", torch.nn.Parameter(torch.arange(3), requires_grad=False))
add("parameter_empty", torch.nn.Parameter(torch.empty(0)))
add("meta", torch.empty(3, 4, device="meta"))
add("meta_half", torch.empty(3, device="meta", dtype=torch.float16))
add("meta_int", torch.empty((), device="meta", dtype=torch.int64))

# quantized
add("qint8", torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 3, torch.qint8))
add("quint8", torch.quantize_per_tensor(torch.randn(3, 4), 0.05, 128, torch.quint8))
add("qint32", torch.quantize_per_tensor(torch.randn(5), 0.001, 0, torch.qint32))
add("quantized_empty", torch.quantize_per_tensor(torch.empty(0, 2), 0.1, 1, torch.quint8))
add("quantized_cut", torch.quantize_per_tensor(torch.randn(40, 40), 0.1, 1, torch.quint8))
scales, zeros = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([0, 1, 2])
add("quantized_channels", torch.quantize_per_channel(torch.randn(3, 4), scales, zeros, 0, torch.qint8))
add("quantized_channels_last", torch.quantize_per_channel(torch.randn(500, 3), scales, zeros, 1, torch.quint8))
many = torch.arange(1, 41).double() / 100
add("quantized_channels_cut", torch.quantize_per_channel(torch.randn(40, 50), many, many.long(), 0, torch.qint8))

# sparse
add("coo", torch.tensor([[0, 1.5], [0, 0], [2, 0]]).to_sparse())
add("coo_empty", torch.zeros(2, 3).to_sparse())
add("coo_half", torch.tensor([[0, 1], [2, 0]]).half().to_sparse())
add("coo_hybrid", torch.ones(3, 2, 4).to_sparse(1))
add("coo_scalar", torch.sparse_coo_tensor(torch.zeros(0, 2, dtype=torch.long), torch.tensor([1.0, 2.0]), ()))
add("coo_cut", torch.arange(1.0, 1601).reshape(40, 40).to_sparse())
add("csr", torch.tensor([[0, 1.5], [0, 0], [2, 0]]).to_sparse_csr())
add("csr_empty", torch.zeros(2, 3, dtype=torch.float64).to_sparse_csr())
add("csc", torch.tensor([[0, 1], [0, 0], [2, 0]]).to_sparse_csc())
add("bsr", torch.arange(16.0).reshape(4, 4).to_sparse_bsr((2, 2)))
add("bsc", torch.arange(16).reshape(4, 4).to_sparse_bsc((2, 2)))
add("parameter_coo", torch.nn.Parameter(torch.eye(2).to_sparse()))


def printed(tensor, threshold):
    torch.set_printoptions(threshold=threshold)
    return str(tensor) + "\n"


# name, slice, dtype, the array
ARRAYS = [(name, None, None, lambda t: t) for name in (
    "float64", "float32", "float16", "complex64", "complex128", "bool", "uint8", "uint16", "uint32", "uint64", "int8",
    "int16", "int32", "int64", "int64_extremes", "scalar", "scalar_bool", "empty_2d", "empty_middle", "transposed",
    "view", "complex_conj", "complex_imag_neg", "requires_grad", "parameter", "five_dims", "float32_subnormal")]
ARRAYS += [
    ("bfloat16", None, "float32", lambda t: t.float()),
    ("float16_max", None, "float64", lambda t: t.double()),
    ("float8_e4m3fn", None, "float32", lambda t: t.float()),
    ("float8_e5m2fnuz", None, "float16", lambda t: t.half()),
    ("float8_e8m0fnu_close", None, "float64", lambda t: t.double()),
    ("four_dims", None, "float16", lambda t: t.half()),
    ("three_dims_cut", "2:4,1,::5", None, lambda t: t[2:4, 1, ::5]),
    ("three_dims_cut", "..., -1", None, lambda t: t[..., -1]),
    ("transposed_cut", "::-7,5", None, lambda t: t.numpy()[::-7, 5]),
    ("matrix_tall", "-2:,::-1", None, lambda t: t.numpy()[-2:, ::-1]),
    ("five_dims", "[0, ::-1, 1, :, ::-1]", None, lambda t: t.numpy()[0, ::-1, 1, :, ::-1]),
    ("row_1000", "7:3", None, lambda t: t[7:3]),
    ("matrix_cut", "3,::-10", "float64", lambda t: t.double().numpy()[3, ::-10]),
]


def save_arrays(read, out):
    os.makedirs(os.path.join(out, "arrays"), exist_ok=True)
    listed = []
    for i, (name, part, dtype, take) in enumerate(ARRAYS):
        array = take(read[name].detach().resolve_conj().resolve_neg())
        if isinstance(array, torch.Tensor):
            array = array.numpy()
        file = f"arrays/{i:02}_{name}.npy"
        np.save(os.path.join(out, file), np.array(array, order="C"))
        listed.append({"name": name, "slice": part, "dtype": dtype, "file": file})
    with open(os.path.join(out, "arrays.json"), "w") as f:
        json.dump(listed, f, indent=0)
        f.write("\n")


def main(out):
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, "tensors.pt")
    torch.save(tensors, path)
    # what is printed is what was read back
    read = torch.load(path, weights_only=False)
    expected = {}
    for name, tensor in read.items():
        entry = expected[name] = {"print": printed(tensor, 1000)}
        if name in FULL:
            entry["full"] = printed(tensor, INF)
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(expected, f, indent=0)
        f.write("\n")
    save_arrays(read, out)
    print(len(expected), "tensors")


if __name__ == "__main__":
    main(sys.argv[1])
