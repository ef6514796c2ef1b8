"""Writes the files of selection/: checkpoints of which tests choose parts by name. Needs torch.

usage: python generate_selection.py FOLDER
"""
import collections
import pathlib
import sys

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(2, 1)


def main(folder):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net.head(net.blocks[0].attn(torch.ones(3, 2))).sum().backward()
    optimizer.step()

    def save(name, thing):
        torch.save(thing, folder / name)

    # a flat state dict, as `model.state_dict()` gives it
    save("flat.pt", net.state_dict())
    save("train.pt", {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": {"lr": 0.1, "data": {"root": "/data"}},
    })
    # names that look like globs, are empty, or are made of the same dots in different ways
    t = lambda value: torch.full((2,), float(value))  # noqa: E731
    save("odd.pt", {
        "w[0]": t(1),
        "w0": t(2),
        "a*": t(3),
        "ab": t(4),
        "[": t(5),
        "node": {"in.side": {"x": t(6)}, "y": t(7)},
        "node.in.z": t(8),
        "": t(9),
        "twice": {"b": t(10)},
        "twice.b": t(11),
        7: t(12),
        "Case": t(13),
        "-dash": t(14),
        "it's": t(15),
    })
    save("folds.pt", [{"w": t(1), "b": t(2)}, {"w": t(3), "b": t(4)}, {"w": t(5), "b": t(6)}])
    save("tuple.pt", (collections.OrderedDict(w=t(1), b=t(2)), 5, [t(3), t(4), t(5)]))
    one = {"w": t(1), "b": t(2)}
    save("shared.pt", {"model": one, "ema": one, "step": 1})


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
