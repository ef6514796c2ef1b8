"""Pairs of files that mean the same in other words, or nearly: what pickle protocols make of values, keys that are numbers or
text, new NaNs, and keys that `load_state_dict` does not expect.

usage: generate_spelled.py testdata/spelled
"""
import collections
import datetime
import os
import sys

import torch

A = torch.arange(4.0)


def main(out):
    os.makedirs(out, exist_ok=True)
    def save(name, obj, **kw):
        torch.save(obj, os.path.join(out, name), **kw)
    values = {"bytes": b"\xff" * 300, "ascii": b"a", "empty": b"", "date": datetime.datetime(2020, 1, 1), "class": int, "function": len,
              "default": collections.defaultdict(int, a=1), "array": bytearray(b"\xff" * 30), "range": range(3)}
    for protocol in (2, 3, 4, 5):
        save(f"protocol_{protocol}.pt", {"w": A, **values}, pickle_protocol=protocol)
    save("values_differ.pt", {"w": A, **values, "bytes": b"\xff" * 299 + b"\xfe"}, pickle_protocol=4)
    backwards = set()
    for element in (8, 0):
        backwards.add(element)
    save("set_forwards.pt", {"w": A, "tags": {0, 8}})
    save("set_backwards.pt", {"w": A, "tags": backwards})
    save("keys_int.pt", {"w": A, "o": {"state": {0: A, 1: A}}})
    save("keys_str.pt", {"w": A, "o": {"state": {"0": A, "1": A}}})
    save("weights.pt", {"w": A, "v": A + 1})
    new = A.clone()
    new[1] = float("nan")
    save("nan.pt", {"w": new, "v": A * 1000 + 1})
    save("extra.pt", {"w": A, "v": A + 1, "2._extra_state": {"a": 1}, "epoch": 3})
    save("number.pt", {"w": 3.0, "v": A + 1})
    save("metadata.pt", {"__metadata__": A, "w": A + 1})


if __name__ == "__main__":
    main(sys.argv[1])
