"""Hold `ckpt check` against CPython's own unpicklers, on pickle streams that nobody wrote.

usage: python3 fuzz/against_cpython.py [--streams 200000] [--seed 1] [--jobs 2] [--minutes M] [--ckpt target/release/ckpt]
                                        [--keep DIR] [--shown 30] [--cutting 120]
       python3 fuzz/against_cpython.py --one FILE...        what CPython reaches in these files, and what ckpt lists

Python 3.8 or newer, nothing installed. Streams are made from the pickles of testdata/, from pickles of every protocol and
from opcodes put together here; most are then changed, in their opcodes or their bytes, and carry probes: globals of names
that occur once, so that it shows where a reader stops. Each is a file of its own (`.pkl`), and `data.pkl` in a torch zip.

`pickle.Unpickler` (C) and `pickle._Unpickler` (Lib/pickle.py) load each, with the encodings that programs use, one pickle
after the other until one fails: each with an unpickler of its own, and all with one that keeps its memo. Nothing is
imported and nothing runs: `find_class` notes the name and gives an inert class that takes every call, state, item and
attribute. Then

  missing   each global that CPython comes to, before it fails too, must be in the list of `ckpt check --json`,
  uncalled  and be listed as called where CPython calls it;
  broken    what CPython loads to the end must not be told as broken;
  genops    where ckpt finds nothing broken, so must be the globals that `pickletools.genops` sees.

What is not asked for is said at `differences`, and in README.md.

Exit status 1 when anything differs, 2 when nothing does and the run was cut short; what was found up to then is summed up.
The first --shown streams of each kind of difference are printed, made small as far as --cutting seconds for all of them go,
and written to the directory of --keep.
"""
import argparse
import collections
import copyreg
import io
import json
import multiprocessing
import os
import pickle
import pickletools
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
MAX_SEED_BYTES = 4096
BATCH = 500
KIND_NAMES = ("c", "python")
OTHER_ENCODINGS = ("latin1", "utf-8")
LEGACY_PICKLES, LEGACY_MAGIC = 5, b"l\xfc\x9cF\xf9 j\xa8P\x19"
# within which the first pickle gives the magic number, behind a probe
MAX_MAGIC = 64
EXTENSIONS = (1, 2, 7, 255, 256, 0x1234, 0x12345, 0x7FFFFFFF)
MOST_MEMORY = 1 << 30
# of processor time, for one load and for a stream; and of waiting for one
SECONDS, STREAM_SECONDS, MOST_SECONDS = 1, 4, 600
# what is told instead of a name
NAMELESS = {"global-extension", "global-computed", "too-many-pickles", "too-much-work"}


# The inert loader

class Reached:
    """What one load came to."""

    def __init__(self):
        self.names = set()
        self.called = set()


class Inert(type):
    """A class of nothing, which is also what every call of it gives."""

    def __call__(cls, *args, **kwargs):
        return touched(cls)

    def __setitem__(cls, key, value):
        pass

    def __getitem__(cls, key):
        raise IndexError

    def __iter__(cls):
        return iter(())

    def append(cls, item):
        pass

    def extend(cls, items):
        pass

    def add(cls, item):
        pass

    def keys(cls):
        return ()

    def __setstate__(cls, state):
        pass


class Object(metaclass=Inert):
    name = None
    reached = None

    def __new__(cls, *args, **kwargs):
        return touched(cls)


def inert(name, reached):
    return type.__call__(Inert, "inert", (Object,), {"name": name, "reached": reached})


def touched(cls):
    if cls.name is not None:
        cls.reached.called.add(cls.name)
    return inert(None, cls.reached)


def is_name(text):
    return bool(text) and all(c.isprintable() and not c.isspace() for c in text)


class Stub:
    """What both unpicklers look names and persistent ids up with."""

    def note_in(self, reached):
        self.reached = reached
        return self

    def find_class(self, module, name):
        if not module:
            raise ValueError("Empty module name")  # which is what Python says, before it looks for anything
        full = (module, name)
        self.reached.names.add(full)
        return inert(full, self.reached)

    def persistent_load(self, pid):
        return inert(None, self.reached)


class CUnpickler(Stub, pickle.Unpickler):
    pass


class PythonUnpickler(Stub, pickle._Unpickler):
    pass


KINDS = {"c": CUnpickler, "python": PythonUnpickler}


class TooLong(Exception):
    pass


def buffers():
    while True:
        yield b"buffer"


def load(data, kind, encoding, one_memo=False):
    """What each pickle in a row reaches, whether the last one ended where the data do, and whether an encoding did not fit."""
    file, found, unpickler = io.BytesIO(data), [], None
    while True:
        reached = Reached()
        found.append(reached)
        copyreg._extension_cache.clear()
        if unpickler is None or not one_memo:
            unpickler = KINDS[kind](file, encoding=encoding, buffers=buffers())
        unpickler.note_in(reached)
        try:
            unpickler.load()
        except TooLong:
            raise
        except BaseException as e:  # whatever a stream makes it fail with
            return found, False, isinstance(e, UnicodeDecodeError)
        if file.tell() >= len(data) or len(found) > 50:
            return found, True, False


class Expected:
    """Of all ways to load: what is named and called, by the first pickle and before what follows a legacy stream too."""

    def __init__(self):
        self.names, self.called, self.first, self.first_called, self.early = set(), set(), set(), set(), set()
        self.loads = self.is_row = self.is_encoded = False

    def take(self, data, kind, encoding, one_memo=False):
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            found, ended, is_encoded = load(data, kind, encoding, one_memo)
            signal.setitimer(signal.ITIMER_PROF, 0)
        except TooLong:
            return
        self.loads |= ended and not one_memo
        self.is_row |= len(found) > 1
        self.is_encoded |= is_encoded
        if one_memo and b"\x94" in data:
            return  # MEMOIZE counts on: what was not written so comes to other names than it has, and only danger is told
        for number, reached in enumerate(found):
            self.names |= reached.names
            self.called |= reached.called
            if number < LEGACY_PICKLES:
                self.early |= reached.names
        self.first |= found[0].names
        self.first_called |= found[0].called


def oracle(data):
    expected = Expected()
    expected.is_legacy, expected.is_zip = LEGACY_MAGIC in data[:MAX_MAGIC], data.startswith(b"PK")
    for kind in KIND_NAMES:
        expected.take(data, kind, "ASCII")
        if expected.is_encoded:
            for encoding in OTHER_ENCODINGS:
                expected.take(data, kind, encoding)
        if expected.is_row:
            expected.take(data, kind, "latin1" if expected.is_encoded else "ASCII", one_memo=True)
    return expected


def oracles(streams):
    """What CPython comes to in each and what its opcodes name; None where it does not end. In a process of its own, as C
    hashes tuples of tuples for years and hears no signal but the system's that kills it."""
    found = []
    while len(found) < len(streams):
        reader, writer = multiprocessing.Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            try:
                for data in streams[len(found):]:
                    until = int(time.process_time()) + 1 + STREAM_SECONDS
                    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
                    writer.send((oracle(data), genops(data)))
            finally:
                os._exit(0)
        writer.close()
        try:
            while len(found) < len(streams):
                if not reader.poll(MOST_SECONDS):
                    raise EOFError
                found.append(reader.recv())
        except EOFError:
            found.append(None)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        reader.close()
    return found


def genops(data):
    """The globals that stand in the opcodes of the first pickle; nothing where pickletools stops."""
    names = set()
    try:
        for opcode, arg, at in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST") and b"\\" in b"".join(data[at:].split(b"\n", 2)[:2]):
                continue  # it takes a backslash for an escape, which no unpickler does in a name
            if opcode.name in ("GLOBAL", "INST"):
                names.add(arg)
    except Exception:
        return set()
    return names


# Seeds

def pickles_of_testdata():
    seeds = []
    for folder, _, files in sorted(os.walk(os.path.join(HERE, "..", "testdata"))):
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.endswith((".json", ".py", ".md", ".txt")) or os.path.getsize(path) > 1 << 20:
                continue
            with open(path, "rb") as file:
                data = file.read()
            if data[:1] in (b"\x80", b"(", b"c", b"]", b"}") or name.endswith(".pkl"):
                seeds.append(data[:MAX_SEED_BYTES])
            try:
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    for member in archive.namelist():
                        if member.endswith(".pkl"):
                            seeds.append(archive.read(member)[:MAX_SEED_BYTES])
            except Exception:
                continue
    return seeds


class Plain:
    pass


class Slots:
    __slots__ = ("a", "b")


class Wrapped:
    def __reduce__(self):
        return (collections.OrderedDict, (), {"state": 1}, iter([1, 2]), iter([("a", 1)]))


class External:
    pass


class Pickler(pickle._Pickler):
    def persistent_id(self, obj):
        return ("storage", "FloatStorage", "0", "cpu", 4) if isinstance(obj, External) else None


def generated_pickles():
    plain, slots = Plain(), Slots()
    plain.a, plain.b = [1, 2.5, None, True], {"x": (1,), "y": b"bytes"}
    slots.a = slots.b = "shared"
    loop = []
    loop.append(loop)
    objects = [
        {"epoch": 3, "w": [1.5] * 3, "name": "name"}, [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        [0, -1, 255, 65536, 1 << 31, -(1 << 63), 1 << 80, 1 << 2100], {1, 2}, frozenset("ab"), "h\u00e9\u6a21\ud800", b"\0\xff" * 30,
        bytearray(b"abc"), plain, [slots, slots], Wrapped(), loop, collections.OrderedDict(a=1), {"n": {"m": {}}},
        collections.defaultdict(list, a=[1]), collections.Counter("abca"), complex(1, 2), range(3), len, Plain, External(),
        ["x" * 300, "x" * 300], b"y" * 70000, [External(), {"k": External()}],
    ]
    for protocol in range(6):
        for obj in objects:
            for pickler in (pickle._Pickler, Pickler):
                out = io.BytesIO()
                try:
                    pickler(out, protocol).dump(obj)
                except Exception:
                    continue
                yield out.getvalue()[:1 << 14]
        if protocol == 5:
            out = io.BytesIO()
            pickle.Pickler(out, 5, buffer_callback=lambda _: None).dump([pickle.PickleBuffer(b"ab"), pickle.PickleBuffer(bytearray(b"c"))])
            yield out.getvalue()


def chunks(data):
    """A stream cut at its opcodes, as far as pickletools knows them."""
    ends = []
    try:
        for _, _, at in pickletools.genops(data):
            ends.append(at)
    except Exception:
        pass
    cuts = ends + [len(data)] if ends else [0, len(data)]
    return [data[a:b] for a, b in zip(cuts, cuts[1:]) if b > a]


# Opcodes

NUMBERS = [
    b"0", b"1", b"7", b"-1", b"00", b"01", b"010", b"0x10", b"0X1f", b"0x", b"0o17", b"0b1", b"0b2", b"1_0", b"1__0", b"_1", b"1_", b" 3", b"3 ", b"\t3\x0b",
    b"+5", b"+ 5", b"--1", b"", b" ", b"5\0junk", b"\0", b"1e5", b"1.5", b"inf", b"-nan", b"1L", b"0L", b"L", b"1LL", b"1l", b"99999999999999999999", b"9" * 5000,
    b"0x" + b"f" * 40, b"1\r", b"\r", b"3\x1c", b"\x853", b"\xa03", b"\xb2", b"1e999", b"0x1p3", b"1_0.5", b"infinity", b".5", b"5.", b"-0", b"08", b"True", b"0_7", b"1 2",
    b"1\x00", b" 1\x00 ", b"1L\0", b"1L ", b"1L\r", b"4294967296", b"2147483648", b"9223372036854775807", b"9223372036854775808", b"3\f",
]
NAMES = [
    "os", "posix", "system", "a.b", "__builtin__", "builtins", "", " ", "n n", "\u00e9t\u00e9", "\u6a21", "a\r", "\r", "a\0b", "x" * 300, "y" * 5000, "..", ".a", "a.", "__main__",
    "copy_reg", "_reconstructor", "collections", "OrderedDict", "\ufeffos", "\U0001f600", "a\tb", "\x1b[0m", "\u202e", "\x85", "\xa0", "\u2028", "None",
]
TEXTS = NAMES + ["\ud800", "a\udc80", "C:\\new", "\\u0041", "\\u00", "\\U00110000", "'", '"', "a'b"]


class Maker:
    """Opcodes and streams of one random state."""

    def __init__(self, rng):
        self.rng = rng
        self.probes = 0

    def probe(self):
        """A global of a name that occurs once, taken off the stack again; sometimes called."""
        self.probes += 1
        rng, module, name = self.rng, b"probe", b"p%d" % self.probes
        call = rng.choice([b"", b"", b")R", b")\x81", b"(tR"])
        way = rng.randrange(8)
        if way < 5:
            return b"c" + module + b"\n" + name + b"\n" + call + b"0"
        if way == 5:
            return b"(i" + module + b"\n" + name + b"\n0"
        if way == 6:
            return b"(c" + module + b"\n" + name + b"\no0"
        return b"\x8c\x05" + module + b"\x8c" + bytes([len(name)]) + name + b"\x93" + call + b"0"

    def text(self):
        """An opcode that pushes a text, in one of the ways there are."""
        rng = self.rng
        text = rng.choice(TEXTS)
        raw = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.1:
            raw = bytes(rng.randrange(256) for _ in range(rng.randrange(6)))
        way = rng.randrange(8)
        if way == 0:
            return b"V" + raw.replace(b"\n", b"") + b"\n"
        if way == 1:
            quote = rng.choice([b"'", b'"'])
            left, right = rng.choice([(quote, quote)] * 6 + [(quote, b""), (b"'", b'"'), (b" '", b"'"), (quote, quote + b" "), (quote, quote + b"\r"), (quote, quote + b"\0"), (b"", b""), (b"\x0b'", b"'"), (quote, quote + b"\x1c")])
            inner = raw if rng.random() < 0.5 else rng.choice([b"\\x41", b"\\x4", b"\\n", b"\\", b"\\777", b"\\\\", b"\\'", b"\\q", b"\\N{x}", b"\\\r", b"\\x", b"a\\"])
            return b"S" + left + inner.replace(b"\n", b"") + right + b"\n"
        if way == 2:
            return b"T" + struct.pack("<i", len(raw)) + raw
        if way == 3 and len(raw) < 256:
            return b"U" + bytes([len(raw)]) + raw
        if way == 4:
            return b"X" + struct.pack("<I", len(raw)) + raw
        if way == 5:
            return b"\x8d" + struct.pack("<Q", len(raw)) + raw
        if len(raw) < 256:
            return b"\x8c" + bytes([len(raw)]) + raw
        return b"X" + struct.pack("<I", len(raw)) + raw

    def length(self):
        return self.rng.choice([0, 1, 2, 5, 255, 256, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])

    def index(self):
        return self.rng.choice([0, 1, 1, 2, 2, 3, 7, 255])

    def opcode(self):
        """Any opcode, with an argument that may be odd."""
        rng = self.rng
        way = rng.randrange(34)
        if way < 5:
            return rng.choice([b"I", b"L", b"F"]) + rng.choice(NUMBERS) + b"\n"
        if way < 7:
            return self.text()
        if way == 7:
            return self.text() + rng.choice([b"", b"\x94", b"q\1"]) + self.text() + b"\x93"
        if way == 8:
            return b"c" + rng.choice(NAMES).encode() + b"\n" + rng.choice(NAMES).encode() + b"\n"
        if way == 9:
            return rng.choice([b"p", b"g"]) + rng.choice(NUMBERS) + b"\n"
        if way == 10:
            return rng.choice([b"q", b"h"]) + bytes([self.index()])
        if way == 11:
            return rng.choice([b"r", b"j"]) + struct.pack("<I", rng.choice([0, 1, 2, 300, 70000]))
        if way == 12:
            code = rng.choice(EXTENSIONS + (0, 3))
            return rng.choice([b"\x82" + struct.pack("<B", code & 255), b"\x83" + struct.pack("<H", code & 65535), b"\x84" + struct.pack("<i", code), b"\x84" + struct.pack("<i", -code)])
        if way == 13:
            return b"P" + rng.choice([b"0", b"", b"K\3\4", b"\xe9", rng.choice(TEXTS).encode("utf-8", "replace").replace(b"\n", b"")]) + b"\n"
        if way == 14:
            return b"\x95" + struct.pack("<Q", rng.choice([0, 1, 2, 5, 9, 14, 20, 40, 100, self.length()]))
        if way == 15:
            raw = bytes(rng.randrange(3))
            return b"\x96" + struct.pack("<Q", len(raw) if rng.random() < 0.8 else self.length()) + raw
        if way == 16:
            return rng.choice([b"\x97", b"\x97\x98", b"\x98"])
        if way == 17:
            head, form = rng.choice([(b"B", "<I"), (b"T", "<I"), (b"X", "<I"), (b"\x8d", "<Q"), (b"\x8e", "<Q"), (b"\x8b", "<I")])
            return head + struct.pack(form, self.length() & ((1 << 32) - 1 if form == "<I" else (1 << 64) - 1))
        if way == 18:
            raw = bytes(rng.choice([0, 1, 127, 128, 255]) for _ in range(rng.choice([0, 1, 2, 4, 8, 9, 200])))
            return rng.choice([b"\x8a" + bytes([len(raw)]) + raw, b"\x8b" + struct.pack("<i", len(raw)) + raw])
        if way == 19:
            return b"\x80" + bytes([rng.choice([0, 1, 2, 3, 4, 5, 6, 255])])
        if way == 20:
            return b"(i" + rng.choice(NAMES).encode() + b"\n" + rng.choice(NAMES).encode() + b"\n"
        if way == 21:
            return b"G" + struct.pack(">d", rng.choice([0.0, 1.5, float("nan"), float("inf")])) + b"J\xff\xff\xff\xff"
        if way == 22:
            return b"C\1aB\1\0\0\0b\x8e" + struct.pack("<Q", 1) + b"c"
        return rng.choice([bytes([b]) for b in b"(.012KMNRabdelosut})]\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x94\x93Q"])

    def grown(self):
        """A stream of opcodes that mostly have on the stack what they take."""
        rng, out, depth, marks = self.rng, [], 0, 0
        if rng.random() < 0.6:
            out.append(b"\x80" + bytes([rng.randrange(6)]))
        pushes = [b"N", b"\x88", b"\x89", b"K\1", b"M\1\1", b"]", b"}", b")", b"\x8f", b"C\1a", b"J\0\0\0\0", b"\x97", b"\x8a\1\1", b"\x96" + b"\0" * 8]
        for _ in range(rng.randrange(3, 40)):
            way = rng.randrange(20)
            if way < 3 or depth < 2:
                out.append(rng.choice(pushes))
                depth += 1
            elif way < 5:
                out.append(self.text())
                depth += 1
            elif way < 7:
                out.append(rng.choice([b"I", b"L", b"F"]) + rng.choice(NUMBERS[:30]) + b"\n")
                depth += 1
            elif way < 9:
                out.append(b"cm\n" + rng.choice(NAMES).encode() + b"\n")
                depth += 1
            elif way == 9:
                out.append(b"(")
                marks += 1
            elif way == 10 and marks:
                out.append(rng.choice([b"t", b"l", b"d", b"e", b"u", b"\x90", b"\x91", b"1", b"o"]))
                marks -= 1
            elif way == 11:
                out.append(rng.choice([b"\x85", b"\x86", b"\x87"]))
                depth -= 1
            elif way == 12:
                out.append(rng.choice([b")R", b")\x81", b")}\x92", b"R", b"\x81", b"}b", b"Nb", b"b", b"\x89b", b"NN\x86b", b"Na", b"K\0Ns", b"(e", b"(u", b"(\x90"]))
            elif way == 13:
                out.append(b"0")
                depth -= 1
            elif way == 14:
                out.append(rng.choice([b"2", b"\x94", b"q\1", b"p1\n", b"h\1", b"g1\n", b"g0\n", b"h\0"]))
            elif way == 15:
                out.append(self.probe())
            elif way == 16:
                out.append(b"Q")
            else:
                out.append(self.opcode())
        return out + [b"."]

    def framed(self, parts):
        """Some of the stream in frames, with lengths that may not be theirs."""
        rng = self.rng
        begin = rng.randrange(len(parts) + 1)
        end = rng.randrange(begin, len(parts) + 1)
        inner = parts[begin:end]
        length = sum(map(len, inner)) + rng.choice([0, 0, 0, 0, 1, -1, 2, 8, 1000, 1 << 20])
        return parts[:begin] + [b"\x95" + struct.pack("<Q", max(length, 0))] + inner + parts[end:]

    def changed(self, parts, pool):
        """One change at opcodes."""
        rng = self.rng
        if not parts:
            return [self.opcode()]
        at = rng.randrange(len(parts))
        way = rng.randrange(12)
        if way < 4:
            odd = [self.opcode()]
            if rng.random() < 0.5:
                odd.append(b"0")
            return parts[:at] + odd + [self.probe()] + parts[at:]
        if way == 4:
            return parts[:at] + [self.opcode()] + parts[at + 1:]
        if way == 5:
            return parts[:at] + parts[at + 1:]
        if way == 6:
            return parts[:at] + [parts[at]] + parts[at:]
        if way == 7:
            other = pool[rng.randrange(len(pool))]
            begin = rng.randrange(len(other) + 1)
            return parts[:at] + other[begin:begin + rng.randrange(1, 12)] + parts[at:]
        if way == 8:
            return self.framed(parts)
        if way == 9:
            return parts[:at] + pool[rng.randrange(len(pool))]
        if way == 10:
            other = rng.randrange(len(parts))
            parts = list(parts)
            parts[at], parts[other] = parts[other], parts[at]
            return parts
        return parts[:at] + [self.probe()] + parts[at:]

    def bytes_changed(self, data):
        rng, data = self.rng, bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            if not data:
                break
            at = rng.randrange(len(data))
            way = rng.randrange(6)
            if way == 0:
                data[at] = rng.randrange(256)
            elif way == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif way == 2:
                del data[at]
            elif way == 3:
                data.insert(at, rng.choice(b"\n\0 .0('\"\r\x80\x94\x95\xff"))
            elif way == 4:
                del data[at:at + rng.randrange(1, 20)]
            else:
                data[at:at] = data[at:at + rng.randrange(1, 20)]
        return bytes(data)

    def stream(self, pool):
        rng = self.rng
        self.probes = 0
        parts = self.grown() if rng.random() < 0.4 else list(pool[rng.randrange(len(pool))])
        if rng.random() < 0.5 and parts:
            parts = parts[:-1] + [self.probe()] + parts[-1:]
        for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 5])):
            parts = self.changed(parts, pool)
        if rng.random() < 0.1:
            parts = self.framed(parts)
        data = b"".join(parts)
        way = rng.randrange(14)
        if way < 2:
            data = self.bytes_changed(data)
        elif way == 2:
            data = data[:rng.randrange(len(data) + 1)]
        elif way == 3:
            data += rng.choice([b"\0" * 9, b"junk", b"\n", self.probe() + b"N.", b"\x80\2" + self.probe() + b"N.", self.probe()])
        elif way == 4:
            data += b"".join(self.grown())
        elif way == 5:
            data += b"".join(pool[rng.randrange(len(pool))])
        elif way == 6:
            data = data.rstrip(b".")[:-1] if rng.random() < 0.5 else data + b"(iprobe\nlast" if rng.random() < 0.5 else data[:-1] + b"cprobe\nlast"
        return data


# The comparison

def torch_zip(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("data.pkl", data), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo("archive/" + name), content)
    return out.getvalue()


def ckpt_lists(ckpt, directory):
    """What ckpt says of each file of a directory, by name: the lines about it."""
    run = subprocess.run([ckpt, "check", "--json", "--no-data", "-R", directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if run.returncode not in (0, 1, 2):
        raise SystemExit("ckpt ended with status %d: %s" % (run.returncode, run.stderr.decode(errors="replace")[-500:]))
    lines = collections.defaultdict(list)
    for line in run.stdout.decode().splitlines():
        row = json.loads(line)
        name = os.path.basename(row["file"].split("::")[0])
        lines[name].append(row)
    return lines


def spellings(name):
    """A global as ckpt may write it: what strings of Python 2 mean depends on the encoding that the loader is given."""
    def both(text):
        shown = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)  # a lone surrogate
        try:
            return {shown, text.encode("latin-1").decode()}
        except UnicodeError:
            return {shown}
    return {module + "." + attribute for module in both(name[0]) for attribute in both(name[1])}


def is_name(text):
    return bool(text) and all(c.isprintable() and not c.isspace() for c in text)


def differences(rows, expected, form, globals_of_genops):
    """The ways in which what ckpt says of a file differs from what CPython does."""
    names, called = (expected.names, expected.called) if form == "pkl" else (expected.first, expected.first_called)
    listed, listed_called, codes = set(), set(), set()
    for row in rows:
        for one in row.get("globals", ()):
            listed.add(one["name"])
            if one["how"] != "named":
                listed_called.add(one["name"])
        codes |= {finding["code"] for finding in row.get("findings", ())}
    told = []
    is_danger = any(row.get("verdict") == "danger" for row in rows)
    # a file that is refused as no checkpoint (status 2) is vouched for by nobody, and may be text: what must be told all
    # the same is that a name is called that looks like one
    is_refused = bool(rows) and all(row["schema"] == "ckpt.error/1" for row in rows)
    wanted = {name for name in called if all(map(is_name, name))} if is_refused else names
    # behind the five pickles of a legacy stream are storages: there a name must be called to be told
    if expected.is_legacy:
        wanted = wanted & (expected.early | called)
    # in what begins as parts of a zip do too
    if expected.is_zip:
        wanted = wanted & called
    is_nameless = lambda name: name[0] == "extension" and codes & NAMELESS
    missing = [name for name in wanted if not is_nameless(name) and not spellings(name) & listed]
    if missing:
        told.append(("missing", sorted(missing)))
    uncalled = [name for name in called if spellings(name) & listed and not spellings(name) & listed_called]
    if uncalled:
        told.append(("uncalled", sorted(uncalled)))
    refusals = [row.get("message", "") for row in rows if row["schema"] == "ckpt.error/1"]
    refusals += [f["message"] for row in rows for f in row.get("findings", ()) if f["code"] in ("pickle-broken", "unreadable") and "_load_from_bytes" not in str(f["where"])]
    refusals = [message for message in refusals if "--max-" not in message and "more names than" not in message]
    # a frame that goes on after STOP hides what lies in it from one reader and not from the other
    if expected.loads and wanted and refusals and not is_danger and "pickle-odd" not in codes:
        told.append(("broken", refusals[:2]))
    if not refusals and any(row.get("container") for row in rows) and globals_of_genops:
        shown = {name.replace(" ", ".") for name in listed}
        absent = {name for name in globals_of_genops if name.replace(" ", ".") not in shown}
        if absent and "trailing-data" not in codes:
            told.append(("genops", sorted(absent)))
    return told


def too_long(*_):
    raise TooLong


def prepare():
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(3000)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, hard))
    signal.signal(signal.SIGPROF, too_long)
    for code in EXTENSIONS:
        try:
            copyreg.add_extension("extension", "e%d" % code, code)
        except ValueError:
            pass  # registered before the fork


def prepare_worker():
    prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the interpreter complains of broken bytearrays


def compare(ckpt, streams):
    """The differences of some streams: (stream, form, kind, what)."""
    directory = tempfile.mkdtemp(prefix="against-cpython-")
    try:
        expected, endless = {}, 0
        for number, (data, known) in enumerate(zip(streams, oracles(streams))):
            if known is None:
                endless += 1
                continue
            wanted, seen = known
            for form, content in (("pkl", data), ("pt", torch_zip(data))):
                with open(os.path.join(directory, "s%06d.%s" % (number, form)), "wb") as file:
                    file.write(content)
            # a zip is no pickle but for who takes any text as a persistent id: there only danger is told
            for form in ("pt",) if data.startswith(b"PK\3\4") else ("pkl", "pt"):
                expected["s%06d.%s" % (number, form)] = (number, form, wanted, seen)
        lines = ckpt_lists(ckpt, directory)
        reached = sum(len(wanted.names) for _, form, wanted, _ in expected.values() if form == "pt")
        found = []
        for name, (number, form, wanted, seen) in expected.items():
            for kind, what in differences(lines.get(name, []), wanted, form, seen):
                found.append((streams[number], form, kind, what))
        return found, reached, endless
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def batch(job):
    ckpt, seed, number, size, pool = job[0], job[1], job[2], job[3], POOL
    maker = Maker(random.Random("%d/%d" % (seed, number)))
    return compare(ckpt, [maker.stream(pool) for _ in range(size)])


def smallest(ckpt, data, form, kind, until):
    """The stream without what does not matter to this difference, within some tries and up to a time."""
    tries, step = 0, max(len(data) // 2, 1)
    while step and tries < 60:
        at = 0
        while at < len(data) and tries < 60 and time.time() < until:
            shorter = data[:at] + data[at + step:]
            tries += 1
            if any((f, k) == (form, kind) for _, f, k, _ in compare(ckpt, [shorter])[0]):
                data = shorter
            else:
                at += step
        step //= 2
    return data


class Told:
    """The differences of a run: counted, and some of each kind printed and kept."""

    def __init__(self, options):
        self.options, self.left = options, options.cutting
        self.kinds = collections.Counter()

    def take(self, data, form, kind, what):
        self.kinds[form, kind] += 1
        if self.kinds[form, kind] > self.options.shown:
            return
        begun = time.time()
        small = smallest(self.options.ckpt, data, form, kind, begun + self.left)
        self.left = max(self.left - (time.time() - begun), 0)
        if small != data:
            what = [w for _, f, k, w in compare(self.options.ckpt, [small])[0] if (f, k) == (form, kind)] or [what]
            what = what[0]
        print("%s %s %r: %s" % (form, kind, small[-300:], what), flush=True)
        if self.options.keep:
            os.makedirs(self.options.keep, exist_ok=True)
            with open(os.path.join(self.options.keep, "%s-%s-%d" % (form, kind, self.kinds[form, kind])), "wb") as file:
                file.write(small)

    def summary(self):
        return ", ".join("%s %s %d" % (*kind, count) for kind, count in sorted(self.kinds.items())) or "none"


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    global POOL
    options = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:])
    options.add_argument("--streams", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--ckpt", default=os.path.join(HERE, "..", "target", "release", "ckpt"))
    options.add_argument("--minutes", type=float, default=float("inf"))
    options.add_argument("--keep")
    options.add_argument("--shown", type=int, default=30)
    options.add_argument("--cutting", type=float, default=120)
    options.add_argument("--one", nargs="+")
    options = options.parse_args()
    options.ckpt = os.path.abspath(options.ckpt)
    if options.one:
        prepare()
        for path in options.one:
            with open(path, "rb") as file:
                data = file.read()
            of = oracle(data)
            print("%s: CPython reaches %s, calls %s%s" % (path, sorted(of.names), sorted(of.called), ", loads it" if of.loads else ""))
            for _, form, kind, what in compare(options.ckpt, [data])[0]:
                print("  %s %s: %s" % (form, kind, what))
        return
    seeds = pickles_of_testdata() + list(generated_pickles())
    POOL = [parts for parts in map(chunks, seeds) if parts]
    begun = time.time()
    sizes = [min(BATCH, options.streams - at) for at in range(0, options.streams, BATCH)]
    jobs = [(options.ckpt, options.seed, number, size) for number, size in enumerate(sizes)]
    told, reached, endless, done, is_whole = Told(options), 0, 0, 0, False
    signal.signal(signal.SIGTERM, interrupted)
    with multiprocessing.get_context("fork").Pool(options.jobs, prepare_worker) as workers:
        try:
            results = workers.imap_unordered(batch, jobs)
            prepare()
            for number, (found, names, without_end) in enumerate(results):
                reached += names
                endless += without_end
                done += sizes[number]
                for difference in found:
                    told.take(*difference)
                if time.time() - begun > options.minutes * 60:
                    break
            is_whole = done == options.streams
        except KeyboardInterrupt:
            workers.terminate()
    print("Python %s, seed %d: %d streams%s of %d seeds, each as .pkl and in a torch zip, %d globals reached, %.0f s" % (
        sys.version.split()[0], options.seed, done, "" if is_whole else " (the run was cut short)", len(POOL), reached,
        time.time() - begun))
    if endless:
        print("not compared, as CPython does not end there: %d" % endless)
    print("differences: %s" % told.summary())
    sys.exit(1 if told.kinds else 0 if is_whole else 2)


if __name__ == "__main__":
    main()
