"""Write objects that torch.load(weights_only=True) refuses, and what each becomes with `ckpt convert --safe`.

usage: python generate_safe.py OUT_DIR        (torch 2.x, numpy 2)

expected.json: by file, the names, classes and successors of what is replaced, and the repr of the object afterwards without
its tensors, as this script says it in Python.
"""
import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import json
import os
import pathlib
import random
import sys

import numpy as np
import torch
import torch.nn as nn


class Color(enum.Enum):
    RED = 1
    NAMED = "blue"


@dataclasses.dataclass
class Config:
    lr: float
    layers: list
    path: object = None


@dataclasses.dataclass(frozen=True)
class Key:
    a: int
    b: str


Point = collections.namedtuple("Point", "x y")


class Bag(dict):
    pass


class Marked(dict):
    """Items and attributes, of one name in both."""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)


class Tagged(torch.Tensor):
    pass


def cases():
    """name: (object, [(name, class, became)], plain equivalent or None where there are tensors)."""
    own = "__main__."
    yield "plain", {"w": torch.ones(2), "epoch": 3, "raw": b"\xff\x00", "set": {1}}, [], {
        "epoch": 3, "raw": b"\xff\x00", "set": {1}}
    yield "namespace", {"args": argparse.Namespace(lr=0.1, name="x")}, [("args", "argparse.Namespace", "dict")], {
        "args": {"lr": 0.1, "name": "x"}}
    yield "dataclass", {"c": Config(0.5, [1, 2], pathlib.PurePosixPath("/data/x"))}, [
        ("c", own + "Config", "dict"), ("c.path", "pathlib.PurePosixPath", "str")], {
        "c": {"lr": 0.5, "layers": [1, 2], "path": "/data/x"}}
    yield "enums", {"a": Color.RED, "b": Color.NAMED, Color.RED: 5}, [
        ("a", own + "Color", "int"), ("b", own + "Color", "str")], {"a": 1, "b": "blue", 1: 5}
    zone = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))
    dates = {"when": datetime.datetime(2020, 1, 2, 3, 4, 5, 60), "aware": datetime.datetime(2020, 1, 2, tzinfo=zone),
             "day": datetime.date(1999, 12, 31), "time": datetime.time(23, 59), "took": datetime.timedelta(days=1, seconds=5)}
    yield "dates", dates, [(key, "datetime." + type(value).__name__, "str") for key, value in dates.items()], {
        key: str(value) if key == "took" else value.isoformat() for key, value in dates.items()}
    scalars = {"i": np.int64(-5), "f": np.float32(0.1), "b": np.bool_(True), "u": np.uint64(2**64 - 1), "s": np.str_("hé"),
               "c": np.complex128(1 + 2j), "d": np.datetime64("2020-01-02T03:04:05")}
    yield "scalars", scalars, None, {key: str(value) if key == "d" else value.item() for key, value in scalars.items()}
    yield "names", {"f": json.dumps, "g": len, "c": Color, "p": print}, None, {
        "f": "json.dumps", "g": "len", "c": own + "Color", "p": "print"}
    dicts = collections.defaultdict(list, {"a": [1]})
    yield "collections", {"d": dicts, "q": collections.deque([1, 2]), "f": frozenset({3}), "n": Point(1, 2), "b": Bag(k=1)}, [
        ("d", "collections.defaultdict", "dict"), ("q", "collections.deque", "list"), ("f", "frozenset", "set"),
        ("n", own + "Point", "tuple"), ("b", own + "Bag", "dict")], {
        "d": {"a": [1]}, "q": [1, 2], "f": {3}, "n": (1, 2), "b": {"k": 1}}
    yield "keys", {Key(1, "x"): 1, frozenset({2}): 2, (Key(3, "y"), 1): 3}, None, {
        (("a", 1), ("b", "x")): 1, (2,): 2, ((("a", 3), ("b", "y")), 1): 3}
    shared = Config(1.0, [])
    shared.path = shared
    yield "shared", {"a": shared, "b": shared}, [("a", own + "Config", "dict")], None
    yield "random", {"py": random.Random(1).getstate(), "np": np.random.RandomState(1).get_state(), "w": torch.ones(1)}, [
        ("np.1", "numpy.ndarray", "Tensor")], None
    yield "arrays", {"a": np.arange(6.0).reshape(2, 3), "o": np.array([1, "x"], object), "t": np.array(["a", "bc"])}, [
        ("a", "numpy.ndarray", "Tensor"), ("o", "numpy.ndarray", "list"), ("t", "numpy.ndarray", "dict")], None
    net = Net()
    yield "module", {"model": net, "tied": net.fc.weight, "args": argparse.Namespace(m=net)}, [
        ("model", own + "Net", "OrderedDict"), ("args", "argparse.Namespace", "dict")], None
    yield "tensors", {"t": torch.ones(2).as_subclass(Tagged), "p": nn.Parameter(torch.ones(2))}, [
        ("t", own + "Tagged", "Tensor")], None
    marked = Marked(a=1)
    marked.a = 2
    yield "attributes", {"m": marked, "p": functools.partial(len)}, None, None


def collision():
    """Two keys that would be one."""
    return {Color.RED: "enum", 1: "number"}


def plain(value):
    """The repr without tensors."""
    return repr({key: item for key, item in value.items() if not isinstance(item, torch.Tensor)})


def main(out):
    os.makedirs(out, exist_ok=True)
    expected = {}
    for name, value, replaced, then in cases():
        for suffix, zip_format in ((".pt", True), (".legacy.pt", False)):
            torch.save(value, os.path.join(out, name + suffix), _use_new_zipfile_serialization=zip_format)
            expected[name + suffix] = {"replaced": replaced, "repr": then and plain(then)}
    torch.save(collision(), os.path.join(out, "collision.pt"))
    with open(os.path.join(out, "expected.json"), "w") as to:
        json.dump(expected, to, indent=1, sort_keys=True)
        to.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
