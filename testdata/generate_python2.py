# -*- coding: utf-8 -*-
"""Write plain pickles as Python 2 wrote them, with oracles in Python 3's words.

usage: python2.7 generate_python2.py OUT_DIR        (standard library only)

Python 2 pickles `str` as STRING / SHORT_BINSTRING (bytes that are text in practice), names `__builtin__` and `copy_reg`,
and writes objects of old-style classes with INST and OBJ. The reprs below are what Python 3 shows after
`pickle.load(f, encoding="utf-8")`; `latin1` names the one entry that is no UTF-8.
"""
import array
import collections
import io
import json
import os
import pickle
import sys


class Old:
    """An old-style class."""
    def __init__(self):
        self.alpha = 0.5
        self.layers = [1, 2]


class New(object):
    def __init__(self):
        self.beta = 2
        self.name = "new"


class Slots(object):
    __slots__ = ("x", "y")

    def __init__(self):
        self.x, self.y = 1, "two"

    def __getstate__(self):
        return (None, {"x": self.x, "y": self.y})

    def __setstate__(self, state):
        for k, v in state[1].items():
            setattr(self, k, v)


# name, value, type and repr in Python 3 (None: not a plain value, only has to be carried)
VALUES = [
    ("str", "text", "str", "'text'"), ("utf8", "mod\xc3\xa8le", "str", u"'mod\xe8le'"), ("long str", "x" * 300, None, None),
    ("unicode", u"\u6a21\u578b", "str", u"'\u6a21\u578b'"), ("quote", "it's", "str", "\"it's\""), ("escape", "a\nb\\", "str", "'a\\nb\\\\'"),
    ("int", 7, "int", "7"), ("int64", 2 ** 40, "int", "1099511627776"), ("long", 7L, "int", "7"), ("negative", -(2 ** 70), "int", "-1180591620717411303424"),
    ("bool", True, "bool", "True"), ("none", None, "NoneType", "None"), ("float", 0.1, "float", "0.1"), ("inf", float("inf"), "float", "inf"),
    ("list", [1, "a", None], "list", "[1, 'a', None]"), ("tuple", (1, 2L), "tuple", "(1, 2)"), ("empty", {}, "dict", "{}"),
    ("set", set([1]), "set", "{1}"), ("frozenset", frozenset([2]), "frozenset", "frozenset({2})"), ("complex", 1 + 2j, "complex", "(1+2j)"),
    ("xrange", xrange(3), None, None), ("latin1", "caf\xe9", "str", u"'caf\xe9'"), ("type", int, None, None), ("function", len, None, None),
    ("array", array.array("f", [1.5]), None, None), ("old", Old(), None, None), ("new", New(), None, None), ("slots", Slots(), None, None),
]
INSIDE = {"old": [("alpha", "float", "0.5"), ("layers", "list", "[1, 2]")], "new": [("beta", "int", "2"), ("name", "str", "'new'")],
          "slots": [("x", "int", "1"), ("y", "str", "'two'")]}


def main():
    out = sys.argv[1]
    if not os.path.isdir(out):
        os.makedirs(out)
    leaves = []
    for name, _, kind, text in VALUES:
        if kind:
            leaves.append({"path": [name], "type": kind, "repr": text})
        leaves += [{"path": [name, attribute], "type": k, "repr": r} for attribute, k, r in INSIDE.get(name, [])]
    for protocol in (0, 1, 2):
        path = os.path.join(out, "values_protocol%d.pkl" % protocol)
        with open(path, "wb") as f:
            pickle.dump(collections.OrderedDict((name, value) for name, value, _, _ in VALUES), f, protocol)
        # conformance reads "python" to tell Python 2's reprs apart: these are Python 3's
        doc = {"file": os.path.basename(path), "bytes": os.path.getsize(path), "plain_pickle": protocol, "python": "3", "written_by": "2.7",
               "tensors": [], "leaves": leaves}
        with io.open(path + ".json", "w", encoding="utf-8") as f:
            f.write(unicode(json.dumps(doc, indent=1, sort_keys=True)))


if __name__ == "__main__":
    main()
