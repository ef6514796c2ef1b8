"""Files that name globals of libraries, in the ways that pickles do: testdata/globals.

usage: python generate_globals.py

Each is one pickle of protocol 4, {'value': ...}: nothing needs to be installed, and nothing is loaded.
"""
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "globals")


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def glob(name):
    module, _, name = name.partition(" ")
    return text(module) + text(name) + b"\x93"


def named(name):
    return glob(name)


def made(name):
    return glob(name) + b")\x81}" + text("a") + b"K\x01sb"


def called(name, *args):
    return glob(name) + b"(" + b"".join(args) + b"tR"


def pickle(*values):
    return b"\x80\x04}" + b"".join(text(f"value{n}") + value + b"s" for n, value in enumerate(values)) + b"."


FILES = {
    # nothing but data, as libraries save it
    "library_named.pkl": pickle(
        named("torch.nn.functional gelu"),
        named("transformers.trainer_utils IntervalStrategy"),
        named("sklearn.ensemble._forest RandomForestClassifier"),
        named("timm.models._features FeatureInfo"),
        named("functools partial"),
    ),
    "library_made.pkl": pickle(
        made("sklearn.svm._classes SVC"),
        made("torchvision.transforms.transforms Compose"),
        made("mmengine.logging.history_buffer HistoryBuffer"),
        made("logging.handlers RotatingFileHandler"),
    ),
    # a constructor that opens what it is given, called
    "handler_called.pkl": pickle(called("logging.handlers RotatingFileHandler", text("victim"))),
    # handed to a function that calls it
    "handler_handed.pkl": pickle(
        called("torch._tensor _rebuild_from_type_v2", named("logging.handlers RotatingFileHandler"), text("x"), b"(tN")
    ),
    "type_by_name.pkl": pickle(called("cloudpickle.cloudpickle _builtin_type", text("NoneType"))),
    "type_of_code.pkl": pickle(called("cloudpickle.cloudpickle _builtin_type", text("CodeType"))),
    # a project's own
    "own.pkl": pickle(made("mymodels.net Net"), made("mymodels.config Config"), named("collections OrderedDict")),
    "own_and_system.pkl": pickle(made("mymodels.net Net"), called("posix system", text("true"))),
    "partial_of_system.pkl": pickle(called("functools partial", named("posix system"), text("true"))),
}


def main():
    os.makedirs(HERE, exist_ok=True)
    for name, data in FILES.items():
        with open(os.path.join(HERE, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
