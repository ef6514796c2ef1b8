"""Write what `ckpt convert` must bring through whole, and what torch says of it (torch 2.x, safetensors).

usage: python generate_round_trips.py OUT_DIR

`expected.json` says of each file what torch and safetensors make of it: the keys of the state dict in order, aliases, and
for casts the dtype and sha256 of every tensor after `.half()` or `.bfloat16()` of the module and the loading of the
optimizer's state by an optimizer over its parameters. Those are torch's own casts; what is no weight keeps its dtype.
"""
import copy
import hashlib
import json
import os
import sys

import numpy
import torch
import torch.nn as nn
from safetensors import safe_open
from safetensors.torch import save_file, save_model


class Tied(nn.Module):
    """Three names of one weight, as language models tie them."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(5, 4)
        self.mid = nn.Linear(4, 4)
        self.lm_head = nn.Linear(4, 5, bias=False)
        self.proj = nn.Linear(4, 5, bias=False)
        self.lm_head.weight = self.proj.weight = self.wte.weight


class Net(nn.Module):
    """Weights with a parameter without dimensions, and buffers that are numbers (as in latent-diffusion's LitEma)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592600))
        self.register_buffer("decay", torch.tensor(0.9999))
        self.register_buffer("num_updates", torch.tensor(100001.0))

    def forward(self, x):
        return self.norm(self.conv(x)).sum() * self.logit_scale


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"version": 3, "scale": numpy.float64(0.1), "history": [1, 2.5, None], "amax": torch.tensor([3.0])}

    def set_extra_state(self, state):
        pass


def digest(tensor):
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0)
    return hashlib.sha256(bytes(data.numpy())).hexdigest()


def facts(state):
    return {name: [str(t.dtype).removeprefix("torch."), digest(t)] for name, t in state.items()}


def write_safetensors(out, expected):
    plain = {"b.weight": torch.arange(6.).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.bfloat16)}
    # as kohya's trainers write it: long strings, JSON in strings, a value that is a tensor's name in no useful sense
    metadata = {"ss_network_module": "networks.lora", "ss_tag_frequency": json.dumps({"cat": {"a \u732b": 3}}),
                "ss_output_name": "\u732b \"quoted\" \\ \n", "modelspec.title": "x", "format": "pt"}
    save_file(plain, os.path.join(out, "kohya.safetensors"), metadata)
    expected["kohya.safetensors"] = {"metadata": metadata, "keys": sorted(plain)}
    # nothing of this is an alias: values that are no tensors, keys that are, and `format` beside a tensor `pt`
    tensors = {"pt": torch.ones(1), "w": torch.zeros(2), "v": torch.ones(3)}
    metadata = {"format": "pt", "w": "v", "note": "x", "other": "note"}
    save_file(tensors, os.path.join(out, "no_alias.safetensors"), metadata)
    expected["no_alias.safetensors"] = {"metadata": metadata, "keys": sorted(tensors)}
    torch.manual_seed(1)
    model = Tied()
    path = os.path.join(out, "tied.safetensors")
    save_model(model, path, {"format": "pt", "note": "kept"})
    torch.save(model.state_dict(), os.path.join(out, "tied.pt"))
    with safe_open(path, "pt") as file:
        expected["tied.safetensors"] = {"metadata": dict(file.metadata()), "keys": sorted(file.keys()),
                                        "state": facts(model.state_dict())}


def write_shards(out, expected):
    folder = os.path.join(out, "extra_tensor")
    os.makedirs(folder, exist_ok=True)
    tensors = [{"a": torch.ones(2), "stray": torch.zeros(3)}, {"b": torch.arange(3.)}]
    weight_map = {}
    for number, shard in enumerate(tensors, 1):
        name = "model-%05d-of-00002.safetensors" % number
        save_file(shard, os.path.join(folder, name), {"format": "pt", "job": "x"})
        weight_map.update({key: name for key in shard if key != "stray"})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as to:
        json.dump({"metadata": {"total_size": 20}, "weight_map": weight_map}, to)
    expected["extra_tensor"] = {"keys": ["a", "b"], "left_out": ["stray"]}


def write_state_dicts(out, expected):
    import warnings
    warnings.simplefilter("ignore")
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(2, 2), Extra(2, 2))
    torch.save(model.state_dict(), os.path.join(out, "extra_state.pt"))
    state = model.state_dict()
    expected["extra_state.pt"] = {"keys": list(state), "metadata": {k: dict(v) for k, v in state._metadata.items()}}
    torch.backends.quantized.engine = "qnnpack"
    quantized = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    quantized.qconfig = torch.ao.quantization.get_default_qconfig("qnnpack")
    torch.ao.quantization.prepare(quantized, inplace=True)
    quantized(torch.randn(1, 1, 4, 4))
    observed = quantized.state_dict()
    torch.save(observed, os.path.join(out, "observed.pt"))
    # what a module without observers would have is what is weights
    weights = [name for name in observed if name.endswith((".weight", ".bias"))]
    cast = {name: t.half() if name in weights else t for name, t in observed.items()}
    expected["observed.pt"] = {"float16": facts(cast)}
    torch.ao.quantization.convert(quantized, inplace=True)
    state = quantized.state_dict()
    torch.save(state, os.path.join(out, "quantized.pt"))
    expected["quantized.pt"] = {"keys": list(state)}


def write_training(out, expected):
    torch.manual_seed(3)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(torch.randn(2, 1, 5, 5)).backward()
    optimizer.step()
    for state in optimizer.state.values():
        state["step"].fill_(100001)
    with torch.no_grad():
        model.conv.weight[0, 0, 0, :2] = torch.tensor([7e4, -1e6])
        model.conv.bias[0] = 65519.0
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
                  "loss": torch.tensor(123456.789), "class_weights": torch.tensor([1e5, 0.1]),
                  "scaler": {"scale": torch.tensor(65536.0), "_growth_tracker": 5}}
    torch.save(checkpoint, os.path.join(out, "training.pt"))
    said = {}
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        cast = copy.deepcopy(model).to(dtype)
        other = torch.optim.Adam(cast.parameters())
        other.load_state_dict(copy.deepcopy(checkpoint["optimizer"]))
        state = cast.state_dict()
        # numbers among the buffers, which `.to()` would cast as well
        state.update({name: checkpoint["model"][name] for name in ("decay", "num_updates")})
        whole = {"model." + name: t for name, t in state.items()}
        for index, entry in other.state_dict()["state"].items():
            whole.update({"optimizer.state.%d.%s" % (index, key): t for key, t in entry.items()})
        # the optimizer's loading casts what belongs to a parameter without dimensions too; it is a number to us
        for index, entry in checkpoint["optimizer"]["state"].items():
            whole.update({"optimizer.state.%d.%s" % (index, key): t for key, t in entry.items() if t.dim() == 0})
        whole.update({"loss": checkpoint["loss"], "class_weights": checkpoint["class_weights"],
                      "scaler.scale": checkpoint["scaler"]["scale"]})
        before = {"model." + name: t for name, t in checkpoint["model"].items()}
        lost = {name: int((torch.isinf(t) & torch.isfinite(before[name])).sum()) for name, t in whole.items() if name in before}
        name = str(dtype).removeprefix("torch.")
        said[name] = facts(whole)
        said["overflowed_" + name] = {name: count for name, count in lost.items() if count}
    expected["training.pt"] = said


def write_packed(out, expected):
    """Weights in 8 bits and less beside what says how to read them: GPTQ's, bitsandbytes', fp8's names."""
    state = {
        "a.qweight": torch.arange(8, dtype=torch.int32), "a.qzeros": torch.ones(2, dtype=torch.int32),
        "a.scales": torch.tensor([1e-8, 2.0]), "a.bias": torch.ones(2),
        "b.weight": torch.arange(8, dtype=torch.uint8), "b.weight.absmax": torch.tensor([1e-9, 3.0]),
        "b.weight.quant_map": torch.linspace(-1, 1, 16),
        "c.weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "c.weight_scale_inv": torch.tensor([[1e-9]]),
        "norm.scale": torch.tensor([1.1, 2.2]), "attn.logit_scale": torch.tensor([4.6]), "norm.weight": torch.ones(2),
    }
    torch.save(state, os.path.join(out, "packed.pt"))
    stay = ("scales", "absmax", "quant_map", "scale_inv")
    cast = {name: t if name.endswith(stay) or not t.is_floating_point() else t.half() for name, t in state.items()}
    expected["packed.pt"] = {"float16": facts(cast)}


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    expected = {}
    for write in (write_safetensors, write_shards, write_state_dicts, write_training, write_packed):
        write(out, expected)
    with open(os.path.join(out, "expected.json"), "w") as to:
        json.dump(expected, to, indent=1)
        to.write("\n")


if __name__ == "__main__":
    main()
