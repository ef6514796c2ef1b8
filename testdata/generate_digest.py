"""Writes testdata/digest/: the same weights in every container, and the digests that `ckpt digest` must print of them.

    python3 testdata/generate_digest.py        # torch 2.15, numpy, safetensors

The digests are computed here from the tensors in memory, by the definition in `ckpt digest --help` and nothing of ckpt's.
"""

import gzip
import hashlib
import json
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file, save_model

OUT = Path(__file__).parent / "digest"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def elements(tensor):
    """sha256 of the elements: row-major, little-endian (as this machine is), conjugated and negated."""
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return sha256(bytes(tensor.reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b"")


def dtype(tensor):
    name = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_quantized:
        return name
    scheme = str(tensor.qscheme()).removeprefix("torch.")
    if scheme == "per_tensor_affine":
        return f"{name}({scheme},{tensor.q_scale()!r},{tensor.q_zero_point()!r})"
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    parts = ",".join(f"{dtype(part)}:{elements(part)}" for part in (scales, zeros))
    return f"{name}({scheme},{parts},{tensor.q_per_channel_axis()!r})"


def tensor_record(name, tensor):
    shape = ",".join(str(extent) for extent in tensor.shape)
    return f"tensor\n{elements(tensor)}\n{dtype(tensor)}\n{shape}\n{name}"


def value_record(name, value):
    return f"value\n{sha256(repr(value).encode())}\n{type(value).__name__}\n{name}"


def digest(records):
    hashes = sorted(sha256(record.encode()) for record in records)
    return sha256(("ckpt.digest/1\n" + "".join(h + "\n" for h in hashes)).encode())


def of_weights(state_dict):
    return digest([tensor_record(name, tensor) for name, tensor in state_dict.items()])


def of_all(tree):
    records = []

    def walk(prefix, item):
        if isinstance(item, dict) and item:
            for key, value in item.items():
                walk(prefix + [str(key)], value)
        elif isinstance(item, torch.Tensor):
            records.append(tensor_record(".".join(prefix), item))
        else:
            records.append(value_record(".".join(prefix), item))

    walk([], tree)
    return digest(records)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    torch.manual_seed(0)
    weights, everything = {}, {}

    model = torch.nn.Sequential(
        OrderedDict(conv=torch.nn.Conv2d(2, 3, 2), norm=torch.nn.BatchNorm2d(3), head=torch.nn.Linear(6, 4))
    )
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = model.state_dict()
    plain = of_weights(state)

    def same(name):
        weights[name] = plain
        return OUT / name

    torch.save(state, same("state.pt"))
    torch.save(state, same("state.legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save(dict(reversed(state.items())), same("reversed.pt"))
    torch.save(model, same("module.pth"))
    torch.jit.script(model).save(str(same("scripted.pt")))
    checkpoint = {"epoch": 3, "model": state, "optimizer": optimizer.state_dict(), "best": 0.5, "note": "a\nb"}
    torch.save(checkpoint, same("checkpoint.tar"))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, same("state.safetensors"), {"by": "torch"})
    np.savez(same("state.npz"), **{name: tensor.numpy() for name, tensor in state.items()})
    np.savez_compressed(same("compressed.npz"), **{name: tensor.numpy() for name, tensor in state.items()})
    big = {name: tensor.numpy().astype(tensor.numpy().dtype.newbyteorder(">")) for name, tensor in state.items()}
    np.savez(same("big_endian.npz"), **big)
    with gzip.GzipFile(same("state.pt.gz"), "wb", mtime=0) as out:
        out.write((OUT / "state.pt").read_bytes())
    strided = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in state.items()}
    torch.save(strided, same("strided.pt"))

    names = sorted(state)
    shards = OUT / "shards"
    shards.mkdir()
    weights["shards"] = plain
    weight_map = {}
    for number, part in enumerate([names[:4], names[4:]], 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: state[name].contiguous() for name in part}, shards / file, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    dcp.save({"model": state}, checkpoint_id=same("dcp"), no_dist=True)

    # what differs in one thing
    def other(name, changed):
        torch.save(changed, OUT / name)
        weights[name] = of_weights(changed)

    flipped = {name: tensor.clone() for name, tensor in state.items()}
    flipped["head.bias"].view(torch.int32)[0] ^= 1
    other("one_bit.pt", flipped)
    other("renamed.pt", {name.replace("head.", "tail."): tensor for name, tensor in state.items()})
    other("half.pt", {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()})
    other("reshaped.pt", {name: tensor.reshape(1, -1) if name == "head.bias" else tensor for name, tensor in state.items()})
    other("exchanged.pt", {**state, "norm.weight": state["norm.bias"], "norm.bias": state["norm.weight"]})

    # tied or not
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(5, 3)
            self.head = torch.nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    tied = Tied()
    tied_digest = of_weights(tied.state_dict())
    torch.save(tied.state_dict(), OUT / "tied.pt")
    torch.save({name: tensor.clone() for name, tensor in tied.state_dict().items()}, OUT / "untied.pt")
    save_model(tied, str(OUT / "tied.safetensors"))
    weights.update(dict.fromkeys(["tied.pt", "untied.pt", "tied.safetensors"], tied_digest))

    # every dtype, odd shapes and names
    odd = {
        str(kind).removeprefix("torch."): torch.arange(6).reshape(2, 3).to(kind)
        for kind in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
            torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32,
            torch.uint64, torch.complex64, torch.complex128,
        )
    }
    odd |= {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "conj": torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "neg": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
        "part": torch.arange(20.0).reshape(4, 5)[1:3, ::2],
        "expanded": torch.tensor([7.0]).expand(3, 2),
        "ключ 键 \U0001f511": torch.ones(1),
        "line\nend": torch.ones(2),
    }
    torch.save(odd, OUT / "odd.pt")
    torch.save(odd, OUT / "odd.legacy.pt", _use_new_zipfile_serialization=False)
    weights.update(dict.fromkeys(["odd.pt", "odd.legacy.pt"], of_weights(odd)))
    x = torch.tensor([[-1.0, 0.5], [2.0, 3.0]])
    quantized = {
        "tensor": torch.quantize_per_tensor(x, 0.1, 10, torch.quint8),
        "channel": torch.quantize_per_channel(x, torch.tensor([0.1, 0.25]), torch.tensor([3, -4]), 1, torch.qint8),
    }
    other("quantized.pt", quantized)
    other("quantized_otherwise.pt", {**quantized, "tensor": torch.quantize_per_tensor(x * 2, 0.2, 10, torch.quint8)})
    assert elements(quantized["tensor"]) == elements(torch.quantize_per_tensor(x * 2, 0.2, 10, torch.quint8))

    # every tensor and value
    values = {
        "epoch": 3, "loss": 0.1, "name": "it's\n\u00e9", "none": None, "flag": True, "big": 2**70, "bytes": b"\0\xff",
        "betas": (0.9, 0.999), "steps": [1, 2], "long": "x" * 1000, "empty": {}, "model": state,
    }  # fmt: skip
    for name, tree in [("values.pt", values), ("state.pt", dict(state))]:
        if name != "state.pt":
            torch.save(tree, OUT / name)
        everything[name] = of_all(tree)
    weights["values.pt"] = plain

    expected = {"weights": dict(sorted(weights.items())), "all": everything}
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


main()
