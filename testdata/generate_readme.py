"""Writes testdata/readme/: the files that the README's commands name, so that a test can run every one of them.

Needs torch, numpy and safetensors: python testdata/generate_readme.py
"""

import argparse
import os
import pickle
import shutil
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
OUT = HERE / "readme"
torch.manual_seed(0)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8)


class Net(torch.nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3)
        self.encoder = torch.nn.Module()
        self.encoder.layer = torch.nn.ModuleList(Block() for _ in range(2))
        self.fc = torch.nn.Linear(8, classes)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 10)
        self.head.weight = self.embed.weight


# classes pickled by name, as somebody's script has them
models = types.ModuleType("models")
for one in (Block, Net):
    one.__module__, one.__qualname__ = "models", one.__name__
    setattr(models, one.__name__, one)
sys.modules["models"] = models


def save(name, what, **options):
    (OUT / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save(what, OUT / name, **options)


def prefixed(prefix, state):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def changed(state, by):
    return OrderedDict((name, tensor + by * torch.randn_like(tensor)) for name, tensor in state.items())


def training(net, epoch, **more):
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {"epoch": epoch, "model": net.state_dict(), **more, "optimizer": optimizer.state_dict()}


class Run:
    """What an attack pickles."""

    def __reduce__(self):
        return os.system, ("echo hello",)


def broken(path):
    """A zip whose second member's bytes, and whose last one's data descriptor, are damaged."""
    names = [f"model.layer{number}.w" for number in range(1, 7)]
    save(path, {name: torch.full((4, 4), float(number)) for number, name in enumerate(names)})
    data = bytearray((OUT / path).read_bytes())
    with zipfile.ZipFile(OUT / path) as archive:
        for number, at in ((1, 0), (4, 20)):
            info = archive.getinfo(f"broken/data/{number}")
            name, extra = (int.from_bytes(data[info.header_offset + i : info.header_offset + i + 2], "little") for i in (26, 28))
            data[info.header_offset + 30 + name + extra + at] ^= 0x40
    (OUT / path).write_bytes(data)


shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()
net = Net()
state = net.state_dict()

save("model.pth", state)
save_file(dict(state), OUT / "model.safetensors")
save("ddp.pth", prefixed("module.", state))
save("old.pth", state, _use_new_zipfile_serialization=False)
save("full.pth", net)
save("script.pt", None)
torch.jit.script(torch.nn.Linear(3, 2)).save(str(OUT / "script.pt"))

save("before.pth", training(net, 3, loss=0.52))
after = Net(classes=5)
after.load_state_dict({n: t for n, t in changed(state, 0.01).items() if not n.startswith("fc")}, strict=False)
save("after.pth", training(after, 5, loss=0.31))
save("base.pth", state)
tuned = changed(state, 0.001)
save("tuned.pth", tuned)
save_file(dict(tuned), OUT / "tuned.safetensors")
save("checkpoint.pth", prefixed("backbone.", state))
save("run.ckpt", training(net, 3, args=argparse.Namespace(lr=1e-3, arch="net")))
save("best.pt", training(net, 40, ema=changed(state, 0.001)))
save("encoder.pth", net.encoder.state_dict())
save("head.pth", net.fc.state_dict())
save("weights.pt", {"head.weight": torch.randn(2, 3), "head.bias": torch.zeros(2)})
numpy.save(OUT / "bias.npy", numpy.array([0.5, -0.5], numpy.float32))

for epoch in (8, 9, 10):
    save(f"epoch_{epoch}.pt", changed(state, 0.01))
names = list(state)
for part, chosen in enumerate((names[:2], names[2:8], names[8:]), 1):
    save(f"part_{part}.pt", {name: state[name] for name in chosen})
save_file(dict(state), OUT / "base.safetensors")
save("head.pt", {"fc.weight": torch.zeros(3, 8), "fc.bias": torch.zeros(3)})
save("G.pth", torch.nn.Linear(4, 8).state_dict())
save("D.pth", torch.nn.Linear(8, 1).state_dict())
save("tied.bin", Tied().state_dict())
broken("broken.pth")

save("download.pth", {"epoch": 3, "state_dict": state, "callback": Run()})
save("models/net.pth", state)
save("models/run.ckpt", training(net, 3, args=argparse.Namespace(lr=1e-3)))
save_file(dict(state), OUT / "models" / "net.safetensors")
(OUT / "models" / "pointer.bin.txt").write_text("version https://git-lfs.github.com/spec/v1\n")
