"""Ask torch which generated calls it makes with weights_only=True: every allowed callable with every kind of argument.

usage: python3 generate_weights_only_calls.py [OUT.json] [CALLS] [SEED]     (torch 2.15)

weights_only_calls.json has `fragments`, pieces of pickles by name in hex, and `calls`, pairs of fragments joined by blanks
and whether torch opens them. A file is a zip archive with `a/data.pkl` (PROTO 2, the fragments, STOP), `a/data/0` (16 zero
bytes) and `a/version` (3). Memory is limited, as some ask for terabytes.
"""
import io
import json
import os
import random
import resource
import struct
import sys
import warnings
import zipfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "weights_only_calls.json")
CALLS = int(sys.argv[2]) if len(sys.argv) > 2 else 6000
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
warnings.simplefilter("ignore")


def text(s):
    data = s.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(n):
    data = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def number(x):
    return b"G" + struct.pack(">d", x)


def named(full):
    module, name = full.rsplit(".", 1)
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def lst(*items):
    return b"](" + b"".join(items) + b"e"


def call(full, *args):
    return named(full) + tup(*args) + b"R"


def storage(cls="FloatStorage", n=4):
    return tup(text("storage"), named("torch." + cls), text("0"), text("cpu"), integer(n)) + b"Q"


def tensor(cls="FloatStorage", n=4, size=(4,), stride=(1,), grad=b"\x89"):
    sizes, strides = tup(*map(integer, size)), tup(*map(integer, stride))
    return call("torch._utils._rebuild_tensor_v2", storage(cls, n), integer(0), sizes, strides, grad, HOOKS)


HOOKS = call("collections.OrderedDict")
CALLABLES = {
    "bytearray": "builtins.bytearray", "complex": "builtins.complex", "set": "builtins.set", "encode": "_codecs.encode",
    "OrderedDict": "collections.OrderedDict", "Counter": "collections.Counter", "Size": "torch.Size",
    "device": "torch.device", "Tensor": "torch.Tensor", "FloatTensor": "torch.FloatTensor", "LongTensor": "torch.LongTensor",
    "ByteTensor": "torch.ByteTensor", "BoolTensor": "torch.BoolTensor", "HalfTensor": "torch.HalfTensor",
    "Parameter": "torch.nn.parameter.Parameter", "UntypedStorage": "torch.storage.UntypedStorage",
    "TypedStorage": "torch.storage.TypedStorage", "FloatStorage": "torch.FloatStorage",
    "layout": "torch.serialization._get_layout", "float32": "torch.float32",
    "rebuild_tensor": "torch._utils._rebuild_tensor", "rebuild_tensor_v2": "torch._utils._rebuild_tensor_v2",
    "rebuild_from_type": "torch._tensor._rebuild_from_type_v2", "rebuild_parameter": "torch._utils._rebuild_parameter",
}
VALUES = {
    "None": b"N", "True": b"\x88", "False": b"\x89", "0": integer(0), "1": integer(1), "-1": integer(-1), "3": integer(3), "4": integer(4),
    "300": integer(300), "2**40": integer(2**40), "2**63": integer(2**63), "2**70": integer(2**70),
    "2**2000": integer(2**2000), "1.5": number(1.5), "nan": number(float("nan")), "inf": number(float("inf")),
    "''": text(""), "'x'": text("x"), "'0'": text("0"), "'1'": text("1"), "'1+2j'": text("1+2j"), "'ab'": text("ab"), "'é'": text("é"),
    "'€'": text("€"), "'cpu'": text("cpu"), "'cuda:1'": text("cuda:1"), "'cpu:01'": text("cpu:01"), "surrogate": text("\ud800"),
    "'torch.strided'": text("torch.strided"), "()": b")", "(1,)": tup(integer(1)), "(1,2)": tup(integer(1), integer(2)),
    "('a',1)": tup(text("a"), integer(1)), "(1,True)": tup(integer(1), b"\x88"), "[]": b"]", "[1]": lst(integer(1)),
    "[300]": lst(integer(300)), "[-1]": lst(integer(-1)), "['a']": lst(text("a")), "[1.5]": lst(number(1.5)),
    "[(1,2)]": lst(tup(integer(1), integer(2))), "[('a',1)]": lst(tup(text("a"), integer(1))), "[[]]": lst(b"]"),
    "[True]": lst(b"\x88"), "[None]": lst(b"N"), "[[1],[1,2]]": lst(lst(integer(1)), lst(integer(1), integer(2))), "{}": b"}",
    "{a:1}": b"}" + text("a") + integer(1) + b"s", "{1:2}": b"}" + integer(1) + integer(2) + b"s", "odict()": HOOKS,
    "counter()": call("collections.Counter"), "set()": call("builtins.set"), "set(ab)": call("builtins.set", text("ab")),
    "bytearray()": call("builtins.bytearray"), "bytearray(4)": call("builtins.bytearray", integer(4)),
    "complex(1.0)": call("builtins.complex", number(1.0)), "bytes": call("_codecs.encode", text("ab")),
    "Size(2,2)": call("torch.Size", tup(integer(2), integer(2))), "Size(4)": call("torch.Size", tup(integer(4))),
    "device(cpu)": call("torch.device", text("cpu")), "int64": named("torch.int64"),
    "sparse_coo": call("torch.serialization._get_layout", text("torch.sparse_coo")), "tensor": tensor(),
    "int_tensor": tensor("IntStorage"), "scalar": tensor(size=(), stride=()),
    "int_scalar": tensor("IntStorage", size=(), stride=()), "tensor1": tensor(size=(1,)),
    "no_elements": tensor(size=(0,)), "with_grad": tensor(grad=b"\x88"),
    "parameter": call("torch._utils._rebuild_parameter", tensor(), b"\x88", HOOKS), "storage": storage(),
    "int_storage": storage("IntStorage"), "untyped(4)": call("torch.storage.UntypedStorage", integer(4)),
    "typed": call("torch.storage.TypedStorage", lst(integer(1), integer(2))),
    "meta": call("torch._utils._rebuild_meta_tensor_no_storage", named("torch.float32"), tup(integer(2)), tup(integer(1)), b"\x89"),
}
ENCODINGS = ["utf-8", "UTF 16", "latin1", "ascii", "cp1252", "koi8-r", "cp037", "iso8859-15", "mac-roman", "utf-7", "idna",
             "punycode", "hex", "base64", "zlib", "rot13", "unicode_escape", "charmap", "undefined", "mbcs", "nope", ""]
HANDLERS = ["strict", "ignore", "replace", "surrogatepass", "xmlcharrefreplace", "nope"]


def fragments():
    out = {"MARK": b"(", "TUPLE": b"t", "REDUCE": b"R", "NEWOBJ": b"\x81", "BUILD": b"b", "BINPERSID": b"Q", "APPEND": b"a",
           "APPENDS": b"e", "SETITEM": b"s", "'storage'": text("storage")}
    out |= {f"<{name}>": named(full) for name, full in CALLABLES.items()}
    out |= {f"enc:{name.replace(' ', '_')}": text(name) for name in ENCODINGS} | {f"err:{name}": text(name) for name in HANDLERS}
    return out | VALUES


def calls(rng):
    """Sequences of names of fragments, without end."""
    values, callables = list(VALUES), [f"<{name}>" for name in CALLABLES]
    encodings = [f"enc:{name.replace(' ', '_')}" for name in ENCODINGS]
    texts = [name for name in values if name[0] == "'"] + ["surrogate", "bytes", "bytearray()"]
    view = ["storage", "0", "(1,)", "(1,)", "False", "odict()", "{}"]
    while True:
        f, some = rng.choice(callables), [rng.choice(values + callables) for _ in range(4)]
        yield rng.choice([
            lambda: [f, "MARK", some[0], "TUPLE", "REDUCE"],
            lambda: [f, "MARK", some[0], "TUPLE", "NEWOBJ"],
            lambda: [f, some[0], "REDUCE"],
            lambda: [f, "MARK", some[0], some[1], "TUPLE", "REDUCE"],
            lambda: [f, "MARK", "[]", some[0], "APPEND", "TUPLE", "REDUCE"],
            lambda: [f, "MARK", "TUPLE", "REDUCE", some[0], "BUILD"],
            lambda: [some[0], some[1], "BUILD"],
            lambda: [some[0], "MARK", some[1], some[2], "TUPLE", "BUILD"],
            lambda: [rng.choice(["tensor", "parameter"]), "MARK", *some[: rng.randrange(5)], "TUPLE", "BUILD"],
            lambda: [some[0], some[1], "APPEND"],
            lambda: ["{}", some[0], "1", "SETITEM"],
            lambda: [some[0], "MARK", some[1], "APPENDS"],
            lambda: [rng.choice(["<encode>", "<bytearray>"]), "MARK", rng.choice(texts), rng.choice(encodings), "TUPLE", "REDUCE"],
            lambda: ["<encode>", "MARK", rng.choice(texts), rng.choice(encodings), "err:" + rng.choice(HANDLERS), "TUPLE", "REDUCE"],
            lambda: ["MARK", *changed(rng, ["'storage'", "<FloatStorage>", "'0'", "'cpu'", "4"], some), "TUPLE", "BINPERSID"],
            lambda: ["<rebuild_tensor_v2>", "MARK", *changed(rng, view, some), "TUPLE", "REDUCE"],
            lambda: ["<rebuild_from_type>", "MARK", f, f, "MARK", some[0], "TUPLE", rng.choice(["None", "{}", some[1]]), "TUPLE", "REDUCE"],
            lambda: ["<rebuild_parameter>", "MARK", *changed(rng, ["tensor", "True", "odict()"], some), "TUPLE", "REDUCE"],
        ])()


def changed(rng, parts, values):
    parts = list(parts)
    parts[rng.randrange(len(parts))] = values[0]
    return parts


def opens(pickle):
    torch.serialization._serialization_tls.sparse_tensors_to_validate.clear()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("a/data.pkl", b"\x80\x02" + pickle + b".")
        z.writestr("a/data/0", bytes(16))
        z.writestr("a/version", "3")
    file.seek(0)
    try:
        torch.load(file, weights_only=True, map_location="cpu")
        return True
    except Exception:
        return False


def main():
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    pieces = fragments()
    answers = {}
    for names in calls(random.Random(SEED)):
        if len(answers) == CALLS:
            break
        answers.setdefault(" ".join(names), opens(b"".join(pieces[name] for name in names)))
    with open(OUT, "w", newline="\n") as f:
        f.write('{"torch": "%s",\n"fragments": ' % torch.__version__.split("+")[0])
        json.dump({name: data.hex() for name, data in pieces.items()}, f, indent=0)
        f.write(',\n"calls": [\n')
        f.write(",\n".join(json.dumps(pair, separators=(",", ":")) for pair in answers.items()))
        f.write("\n]}\n")
    print(len(answers), "calls,", sum(answers.values()), "open")


if __name__ == "__main__":
    main()
