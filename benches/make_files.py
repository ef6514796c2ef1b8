"""Write the large files that the benchmarks read, outside the repository.

usage: python3 make_files.py OUT_DIR [NAME ...] [--small]

Python's standard library only: torch is not needed, so that gigabytes take seconds and no memory. The files are laid out as
torch.save lays them out (members stored, data aligned to 64 bytes, a zip64 end record). Without NAMEs every file is
written, about 20 GB and two files of 30 GB that are all hole; `--small` writes the same files a thousandth of the size.

  weights.pt  weights.legacy.pt  weights.safetensors      3.6 GB in 224 float32 tensors, names below `module.`
  keys-N.pt  keys-N.legacy.pt                             a state dict of N tensors of 16 elements, N = 1000, 10000, 100000
  contiguous.pt  transposed.pt                            1 GiB in one tensor of 16384 x 16384, row-major and with stride (1, n)
  hole.pt  hole.legacy.pt                                 one tensor of 30 GB in a sparse file
  zero3/                                                  a ZeRO-3 directory of 8 ranks: the tensors of weights.pt; Adam's moments, which nobody reads, are short
  array-2.pkl  array-4.pkl                                a numpy array in a plain pickle: 2.5 GB at protocol 2, 3 GB at 4
"""
import argparse
import array
import collections
import io
import json
import os
import pickle
import random
import struct
import sys
import types
import zlib

BLOCK = 16 << 20
ALIGNMENT = 64


# ---- what torch's pickles name, without torch

def stand_in(module, name):
    """A function or class that pickle writes as `module.name`."""
    parts = module.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[:i + 1]), types.ModuleType(parts[i]))

    def made():
        raise RuntimeError("only its name is used")
    made.__module__, made.__name__, made.__qualname__ = module, name, name
    setattr(sys.modules[module], name, made)
    return made


REBUILD = stand_in("torch._utils", "_rebuild_tensor_v2")
FLOAT = stand_in("torch", "FloatStorage")
RECONSTRUCT = stand_in("numpy.core.multiarray", "_reconstruct")
SIZE, STAGE = stand_in("torch", "Size"), stand_in("deepspeed.runtime.zero.config", "ZeroStageEnum")
NDARRAY, DTYPE = stand_in("numpy", "ndarray"), stand_in("numpy", "dtype")


class Storage:
    def __init__(self, key, numel, hole=False):
        self.key, self.numel, self.hole = str(key), numel, hole


class Tensor:
    def __init__(self, storage, size, stride=None):
        self.storage, self.size, self.stride = storage, tuple(size), tuple(stride or row_major(size))

    def __reduce__(self):
        return REBUILD, (self.storage, 0, self.size, self.stride, False, collections.OrderedDict())


def row_major(size):
    strides, step = [], 1
    for n in reversed(size):
        strides.insert(0, step)
        step *= n
    return strides


class Pickler(pickle.Pickler):
    def __init__(self, f, legacy):
        super().__init__(f, protocol=2)
        self.tail = (None,) if legacy else ()

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", FLOAT, obj.key, "cpu", obj.numel) + self.tail
        return None


def pickled(obj, legacy=False):
    out = io.BytesIO()
    Pickler(out, legacy).dump(obj)
    return out.getvalue()


# ---- data

class Data:
    """Finite floats that do not compress, from one random block; another place in it for each storage."""
    def __init__(self):
        rng = random.Random(20)
        # sign and fraction random, exponents from 2^-8 to 2^-1
        words = array.array("I", rng.randbytes(BLOCK))
        self.block = array.array("I", ((w & 0x807FFFFF) | (119 + (w >> 23 & 7)) << 23 for w in words)).tobytes()
        self.twice = memoryview(self.block + self.block)

    def pieces(self, nbytes, seed):
        start = seed * 65540 % BLOCK
        while nbytes:
            n = min(nbytes, BLOCK)
            yield self.twice[start:start + n]
            nbytes -= n


def write_data(f, data, storage, seed):
    """Writes (or skips, for a hole) a storage; returns its CRC."""
    crc, left = 0, 4 * storage.numel
    if storage.hole:
        f.seek(left, os.SEEK_CUR)
        zeros = bytes(BLOCK)
        while left:
            n = min(left, BLOCK)
            crc = zlib.crc32(zeros if n == BLOCK else zeros[:n], crc)
            left -= n
        return crc
    for piece in data.pieces(left, seed):
        f.write(piece)
        crc = zlib.crc32(piece, crc)
    return crc


# ---- containers

class Zip:
    """The zip subset that torch writes: stored members, data at multiples of 64, zip64 records."""
    def __init__(self, f, top):
        self.f, self.top, self.directory = f, top, []

    def member(self, name, size, write):
        """`write(f)` writes `size` bytes and returns their CRC, which is then put into the header."""
        name = (self.top + "/" + name).encode()
        at = self.f.tell()
        large = size >= 0xFFFFFFFF
        extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
        pad = -(at + 30 + len(name) + len(extra) + 4) % ALIGNMENT
        extra += struct.pack("<HH", 0x4246, pad) + b"Z" * pad
        said = 0xFFFFFFFF if large else size
        self.f.write(struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 45, 0x800, 0, 0, 33, 0, said, said, len(name), len(extra)) + name + extra)
        crc = write(self.f)
        end = self.f.tell()
        self.f.seek(at + 14)
        self.f.write(struct.pack("<I", crc))
        self.f.seek(end)
        self.directory.append((name, at, size, crc))

    def text(self, name, data):
        def write(f):
            f.write(data)
            return zlib.crc32(data)
        self.member(name, len(data), write)

    def close(self):
        start = self.f.tell()
        for name, at, size, crc in self.directory:
            wide = [n for n in (size, size, at) if n >= 0xFFFFFFFF]
            extra = struct.pack("<HH%dQ" % len(wide), 1, 8 * len(wide), *wide) if wide else b""
            size, at = min(size, 0xFFFFFFFF), min(at, 0xFFFFFFFF)
            self.f.write(struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 45, 45, 0x800, 0, 0, 33, crc, size, size, len(name),
                                     len(extra), 0, 0, 0, 0, at) + name + extra)
        end, n = self.f.tell(), len(self.directory)
        self.f.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, n, n, end - start, start))
        self.f.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        count, where = min(n, 0xFFFF), min(start, 0xFFFFFFFF)
        self.f.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, end - start, where, 0))


def torch_zip(path, obj, storages, data):
    with open(path, "wb") as f:
        z = Zip(f, os.path.splitext(os.path.basename(path))[0])
        z.text("data.pkl", pickled(obj))
        z.text("byteorder", b"little")
        for seed, s in enumerate(storages):
            z.member("data/" + s.key, 4 * s.numel, lambda f, s=s, seed=seed: write_data(f, data, s, seed))
        z.text("version", b"3\n")
        z.close()


def torch_legacy(path, obj, storages, data):
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as f:
        for head in (0x1950A86A20F9469CFC6C, 1001, info):
            f.write(pickle.dumps(head, 2))
        f.write(pickled(obj, legacy=True))
        f.write(pickle.dumps([s.key for s in storages], 2))
        for seed, s in enumerate(storages):
            f.write(struct.pack("<q", s.numel))
            write_data(f, data, s, seed)
        f.truncate()


def safetensors(path, obj, storages, data):
    header, at = {}, 0
    for name, tensor in obj.items():
        end = at + 4 * tensor.storage.numel
        header[name] = {"dtype": "F32", "shape": tensor.size, "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw)
        for seed, s in enumerate(storages):
            write_data(f, data, s, seed)


def numpy_pickle(path, numel, protocol, data):
    """What pickle.dump(array) of numpy 1 writes: at protocol 2 the bytes are a latin-1 str in UTF-8."""
    def build(payload):
        raw = io.BytesIO()
        pickle.Pickler(raw, protocol).dump(Reduced(RECONSTRUCT, (NDARRAY, (0,), b"b"), (1, (numel,), Reduced(DTYPE, ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0)), False, payload)))
        return raw.getvalue()
    marker = b"<the data of the array>"
    frame = build(marker)
    if protocol == 2:
        encoded = [bytes(p).decode("latin1").encode() for p in data.pieces(BLOCK, 1)][0]
        rest = bytes(next(data.pieces(4 * numel % BLOCK or 4, 1))).decode("latin1").encode() if 4 * numel % BLOCK else b""
        blocks = 4 * numel // BLOCK
        length = blocks * len(encoded) + len(rest)
        old, opcode, pieces = b"X" + struct.pack("<I", len(marker)) + marker, b"X", [encoded] * blocks + [rest]
    else:
        length = 4 * numel
        old, opcode, pieces = b"C" + bytes([len(marker)]) + marker, b"B", data.pieces(length, 1)
    head, tail = frame.split(old)
    if protocol >= 4:  # the data lies between two frames, as CPython writes it; here there are none
        head = head[:2] + head[11:]
    with open(path, "wb") as f:
        f.write(head + opcode + struct.pack("<I", length))
        for piece in pieces:
            f.write(piece)
        f.write(tail)


class Reduced:
    def __init__(self, function, arguments, state):
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts


def zero3(path, state, ranks, data):
    """What DeepSpeed's ZeRO-3 saves of a state dict: each rank has an equal part of every parameter, all in one row."""
    inner = os.path.join(path, "global_step1")
    os.makedirs(inner, exist_ok=True)
    with open(os.path.join(path, "latest"), "w") as f:
        f.write("global_step1")
    shapes = collections.OrderedDict((name, Reduced(SIZE, (tensor.size,), None)) for name, tensor in state.items())
    part = sum(-(-tensor.storage.numel // ranks) for tensor in state.values())
    for rank in range(ranks):
        names = collections.OrderedDict((name, Tensor(Storage(key, 0), (0,))) for key, name in enumerate(state))
        model = {"module": names, "buffer_names": [], "param_shapes": [shapes], "frozen_param_shapes": {},
                 "shared_params": {}, "frozen_param_fragments": {}, "global_steps": 1, "dp_world_size": ranks,
                 "mp_world_size": 1, "ds_version": "0.19.8"}
        flat, *moments = (Storage(key, numel) for key, numel in enumerate((part, 8, 8)))
        adam = {"state": {0: {"step": 1, "exp_avg": Tensor(moments[0], (8,)), "exp_avg_sq": Tensor(moments[1], (8,))}},
                "param_groups": [{"lr": 1e-4, "params": [0]}]}
        optimizer = {"zero_stage": Reduced(STAGE, (3,), None), "partition_count": ranks, "optimizer_state_dict": adam,
                     "fp32_flat_groups": [Tensor(flat, (part,))]}
        name = os.path.join(inner, "zero_pp_rank_%d_mp_rank_00_%s_states.pt")
        torch_zip(name % (rank, "model"), model, [t.storage for t in names.values()], data)
        torch_zip(name % (rank, "optim"), {"optimizer_state_dict": optimizer, "ds_version": "0.19.8"}, [flat, *moments], data)


# ---- the files

def transformer(hidden, inner, layers):
    obj = collections.OrderedDict()
    for i in range(layers):
        for name, size in [("attention.%s" % p, (hidden, hidden)) for p in "qkvo"] + [
                ("mlp.gate", (inner, hidden)), ("mlp.up", (inner, hidden)), ("mlp.down", (hidden, inner))]:
            obj["module.layers.%d.%s.weight" % (i, name)] = Tensor(Storage(len(obj), size[0] * size[1]), size)
    return obj


def cases(small):
    """name -> function(path, data)"""
    scale = 1000 if small else 1

    def state(writer, make):
        def write(path, data):
            obj = make()
            writer(path, obj, [t.storage for t in obj.values()], data)
        return write
    # 32 layers of 7 tensors: 900,071,424 elements
    weights = lambda: transformer(*((48, 128) if small else (1536, 4056)), 32)  # noqa: E731
    out = {"weights.pt": state(torch_zip, weights), "weights.legacy.pt": state(torch_legacy, weights),
           "weights.safetensors": state(safetensors, weights)}
    for n in (1000, 10000, 100000):
        def keys(n=n):
            return collections.OrderedDict(("module.block%d.weight" % i, Tensor(Storage(i, 16), (4, 4))) for i in range(max(n // scale, 3)))
        out["keys-%d.pt" % n], out["keys-%d.legacy.pt" % n] = state(torch_zip, keys), state(torch_legacy, keys)
    side = 512 if small else 16384
    for name, stride in (("contiguous", None), ("transposed", (1, side))):
        out[name + ".pt"] = state(torch_zip, lambda stride=stride: {"w": Tensor(Storage(0, side * side), (side, side), stride)})
    hole = lambda: {"w": Tensor(Storage(0, 7_500_000_000 // scale, hole=True), (75_000 // scale, 100_000))}  # noqa: E731
    out["hole.pt"], out["hole.legacy.pt"] = state(torch_zip, hole), state(torch_legacy, hole)
    out["zero3"] = lambda path, data: zero3(path, weights(), 8, data)
    for protocol, numel in ((2, 625_000_000), (4, 750_000_000)):
        # small: a block and a rest, so that both are written
        n = 5_000_000 if small else numel
        out["array-%d.pkl" % protocol] = lambda path, data, n=n, p=protocol: numpy_pickle(path, n, p, data)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("names", nargs="*")
    ap.add_argument("--small", action="store_true")
    a = ap.parse_args()
    files = cases(a.small)
    unknown = [n for n in a.names if n not in files]
    if unknown:
        ap.error("no such file: %s; there are: %s" % (" ".join(unknown), " ".join(files)))
    os.makedirs(a.out, exist_ok=True)
    data = Data()
    for name in a.names or files:
        path = os.path.join(a.out, name)
        files[name](path, data)
        print("%s %d" % (path, os.path.getsize(path)), flush=True)


if __name__ == "__main__":
    main()
