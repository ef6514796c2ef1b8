#!/usr/bin/env python3
"""Open what `ckpt convert` and `ckpt repair` write with a real torch and compare it with the original.

usage: PYTHON_WITH_TORCH tests/interop.py CKPT DIR...

Every torch file below the folders torch-* of DIR (made by its generate.py, so trusted) goes to torch's zip and legacy
containers and comes back through torch: every tensor must be the same bit for bit, with its strides, sharing and grad,
every other value by its repr. What is written as a zip is loaded in every way that the torch has: mapped into memory, and
with offsets that are calculated instead of looked up. State dicts and modules also go to `--state-dict`, which must open with
weights_only=True. Modules go to safetensors, shards and back into `load_state_dict(strict=True)`. Each file is also cut off,
gets holes of zeros, changed bits, broken headers and more behind its end, and is repaired: torch must load what is saved, and
all of it where no tensor was touched. In every file below a folder renames/ the names of the state dicts get a prefix: torch
must load it with everything else as it was, and the generators must take their states. Files are merged in pairs under keys,
and state dicts that torch has cut into parts come back as the whole. Every set of weights in the files below a folder weights/
becomes a state dict with the names and elements that its script's loading code takes. Every file that lists is made safe and
opened with weights_only=True. Exit status 0 when all agree.
"""
import collections
import contextlib
import hashlib
import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings

import torch

warnings.simplefilter("ignore")


def load(path, **more):
    return torch.load(path, map_location="cpu", **({"weights_only": False} | more))


@contextlib.contextmanager
def calculated_offsets():
    """torch computes where storages lie instead of reading the zip's local headers, where the file's layout allows it."""
    from torch.utils.serialization import config
    before, config.load.calculate_storage_offsets = config.load.calculate_storage_offsets, True
    try:
        yield
    finally:
        config.load.calculate_storage_offsets = before


def ways(path, **more):
    """Loads a zip in every way this torch has: the name of the way, what it gave."""
    yield "load", load(path, **more)
    if "mmap" not in inspect.signature(torch.load).parameters:
        return
    yield "load(mmap=True)", load(path, mmap=True, **more)
    try:
        from torch.utils.serialization import config
        config.load.calculate_storage_offsets
    except (ImportError, AttributeError):
        return
    with calculated_offsets():
        yield "load with calculated offsets", load(path, **more)
        yield "load(mmap=True) with calculated offsets", load(path, mmap=True, **more)


def elements(tensor):
    tensor = tensor.detach()
    tensor = tensor.int_repr() if tensor.is_quantized else tensor
    tensor = tensor.resolve_conj().resolve_neg().contiguous()
    return bytes(tensor.view(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def facts(value, seen, where=""):
    """Yields what is known of everything in a value, in order."""
    if isinstance(value, torch.nn.Module):
        yield where, repr(value), value.training
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        strided = value.layout == torch.strided and value.device.type != "meta"
        yield where, type(value).__name__, value.dtype, tuple(value.shape), str(value.layout), value.requires_grad
        if strided:
            pointer = value.untyped_storage().data_ptr() if hasattr(value, "untyped_storage") else value.storage().data_ptr()
            yield where, value.stride(), elements(value), seen.setdefault(pointer, len(seen)) if value.numel() else None
        elif value.device.type != "meta":
            yield where, elements(value.to_dense())
    elif isinstance(value, dict):
        yield where, type(value).__name__, [repr(key) for key in value]
        for key, item in value.items():
            yield from facts(item, seen, "%s[%r]" % (where, key))
        if hasattr(value, "_metadata"):
            yield where, repr(value._metadata)
    elif isinstance(value, (list, tuple)):
        yield where, type(value).__name__, len(value)
        for index, item in enumerate(value):
            yield from facts(item, seen, "%s[%d]" % (where, index))
    elif isinstance(value, random.Random) or hasattr(value, "bit_generator") or hasattr(value, "get_state"):
        state = value.getstate() if isinstance(value, random.Random) else getattr(value, "bit_generator", None)
        yield from facts(state if isinstance(state, tuple) else state.state if state else value.get_state(), seen, where)
    elif hasattr(value, "tobytes"):
        yield where, str(value.dtype), value.shape, value.tobytes()
    elif hasattr(value, "__dict__") and not isinstance(value, type) and type(value).__repr__ is object.__repr__:
        yield from facts(vars(value), seen, where + ".")
    else:
        yield where, type(value).__name__, repr(value)


def run(binary, *args):
    done = subprocess.run([binary, args[0], "-q", "--force", *args[1:]], capture_output=True, timeout=60)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip())


def convert(binary, *args):
    run(binary, "convert", *args)


def damages(whole):
    """Yields what became of a file, and whether everything in it can be saved."""
    is_zip = whole.startswith(b"PK")
    yield whole[:-30], is_zip
    yield whole[:len(whole) * 3 // 4], False
    if not is_zip:
        return
    # a transfer's failed block, a lost tail, a changed bit
    middle = len(whole) // 2
    yield whole[:middle] + bytes(300) + whole[middle + 300:], False
    yield whole[:middle] + bytes(len(whole) - middle), False
    yield whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:], False
    # what torch refuses although every tensor is whole
    at = whole.index(b"/version") - whole[:whole.index(b"/version")][::-1].index(b"PK"[::-1]) - 2
    yield whole[:at] + b"gone" + whole[at + 4:], True
    yield whole + bytes(70000), True
    yield whole[:len(whole) // 3] + whole, False
    yield whole[:-6] + b"\x01\x02" + whole[-4:], True


def repair(binary, path, cut, out, original):
    """Damages a file in several ways and repairs it: torch must load whatever could be saved."""
    whole = open(path, "rb").read()
    for number, (damaged, is_all_there) in enumerate(damages(whole)):
        if damaged == whole:
            continue
        with open(cut, "wb") as to:
            to.write(damaged)
        if os.path.exists(out):
            os.remove(out)
        try:
            run(binary, "repair", cut, "-o", out)
        except ValueError as e:
            refused = "nothing can be saved" in str(e) or "no tensor is whole" in str(e)
            # a bit that was changed in what only fills up shows nowhere
            if is_all_there or not refused and str(e):
                raise ValueError("damage %d: %s" % (number, e))
            continue
        back = load(out)
        if is_all_there:
            same(original, back)


def same(a, b):
    for x, y in zip(facts(a, {}), facts(b, {}), strict=True):
        if x != y:
            raise ValueError("%s became %s" % (str(x)[:200], str(y)[:200]))


def with_prefix(value, names, prefix, path=""):
    """The value with a prefix before the names that `names` gives for the mapping at each path."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(with_prefix(item, names, prefix, ".".join(filter(None, (path, str(index)))))
                           for index, item in enumerate(value))
    if not isinstance(value, dict) or hasattr(value, "_metadata") and path not in names:
        return value
    mine = names.get(path, ())
    items = [(prefix + key if key in mine else key, with_prefix(item, names, prefix, ".".join(filter(None, (path, str(key))))))
             for key, item in value.items()]
    made = collections.OrderedDict(items) if isinstance(value, collections.OrderedDict) else dict(items)
    if hasattr(value, "_metadata"):
        made._metadata = collections.OrderedDict(
            ((prefix + key).rstrip("."), version) for key, version in value._metadata.items())
    return made


def set_random_states(value):
    """Resumes whatever generators' states lie in a value: each setter refuses what is none."""
    import numpy
    count = 0
    if isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and value.numel() == 5056:
        torch.set_rng_state(value)
        count += 1
    elif isinstance(value, dict) and "bit_generator" in value:
        getattr(numpy.random, value["bit_generator"])().state = value
        count += 1
    elif isinstance(value, tuple) and len(value) == 5 and value[0] == "MT19937":
        numpy.random.set_state(value)
        count += 1
    elif isinstance(value, tuple) and len(value) == 3 and value[0] == 3:
        random.setstate(value)
        count += 1
    elif isinstance(value, (dict, list, tuple)):
        count += sum(set_random_states(item) for item in (value.values() if isinstance(value, dict) else value))
    return count


def renames(binary, folder, out):
    """Puts a prefix before the names in each file: good and total."""
    good = total = states = 0
    for file, names in json.load(open(os.path.join(folder, "expected.json"))).items():
        if not names:
            continue
        try:
            original = load(os.path.join(folder, file))
            set_random_states(original)
        except Exception as e:
            print("not compared, this Python cannot open %s: %s" % (os.path.join(folder, file), str(e)[:100]))
            continue
        total += 1
        try:
            run(binary, "rename", os.path.join(folder, file), "--add-prefix", "net.", "-o", out)
            back = load(out)
            same(with_prefix(original, names, "net."), back)
            before = set_random_states(original)
            assert set_random_states(back) == before, "a random state was lost"
            states += before
            run(binary, "strip-prefix", "net.", out, "-o", out)
            same(original, load(out))
            good += 1
        except Exception as e:
            print("%s renamed: %s" % (file, str(e)[:400]))
    print("%d of %d renamed files agree; %d random states resumed" % (good, total, states))
    return good, total


def at(value, path):
    """What the loading code of a training script takes: the part of a checkpoint that a path of keys leads to."""
    if path == ".":
        return value
    if isinstance(value, dict):
        for key in value:
            name = str(key)
            if path == name or path.startswith(name + "."):
                return at(value[key], path[len(name) + 1:] or ".")
    head, _, rest = path.partition(".")
    return at(value[int(head)] if isinstance(value, (list, tuple)) else getattr(value, head), rest or ".")


def flat(value, prefix=""):
    """The tensors in a set of weights, by name: of a module what `state_dict()` gives."""
    import numpy
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, (torch.Tensor, numpy.ndarray)):
        yield prefix, torch.as_tensor(value)
    elif isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(item, "%s.%s" % (prefix, key) if prefix else str(key))


def layouts(binary, folder, out):
    """Reduces checkpoints of training scripts to state dicts: good and total."""
    import numpy
    good = total = 0
    sys.path.insert(0, os.path.dirname(folder))
    import generate_weights  # the classes of its own
    with contextlib.suppress(Exception):
        next(generate_weights.zoo())  # and those of packages that need not be installed
    if not hasattr(numpy, "_core"):  # as numpy 2 calls it
        for name in ("", ".multiarray", ".numeric"):
            sys.modules["numpy._core" + name] = __import__("numpy.core" + name, fromlist=["numpy"])
    for name in dir(generate_weights):
        setattr(sys.modules["__main__"], name, getattr(sys.modules["__main__"], name, getattr(generate_weights, name)))
    for file, row in sorted(json.load(open(os.path.join(folder, "expected.json"))).items()):
        path = os.path.join(folder, file)
        for root in row.get("choices", [row["root"]] if "root" in row else []):
            try:
                original = dict(flat(at(load(path), root)))
            except Exception as e:
                print("not compared, this torch cannot open %s: %s: %s" % (path, type(e).__name__, str(e)[:100]))
                break
            total += 1
            try:
                convert(binary, path, out, "--state-dict", *(["--root", root] if "choices" in row else []))
                back = dict(flat(torch.load(out, **({"weights_only": True} if WEIGHTS_ONLY else {}))))
                assert list(back) == list(original), "names: %s, not %s" % (list(back)[:8], list(original)[:8])
                for name, tensor in original.items():
                    assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape, name
                    assert elements(back[name]) == elements(tensor), name
                good += 1
            except Exception as e:
                print("%s as a state dict: %s: %s" % (file, type(e).__name__, str(e)[:400]))
    print("%d of %d layouts of training scripts give what their loading code takes" % (good, total))
    return good, total


class Tied(torch.nn.Module):
    """Two names of one weight, and buffers."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.wte, self.mid, self.norm = nn.Embedding(6, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.lm_head = nn.Linear(4, 6, bias=False)
        self.lm_head.weight = self.wte.weight


def round_trips(binary, scratch):
    """safetensors and casts into modules with `strict=True`: the number of those that were tried, and what went wrong."""
    try:
        from safetensors import safe_open
        from safetensors.torch import load_model, save_file, save_model
    except ImportError:
        print("no safetensors here: its round trips were NOT tried")
        return 0, []
    def path(name):
        return os.path.join(scratch, name)

    def made(seed):
        torch.manual_seed(seed)
        return Tied()

    model, wrong = made(1), []
    state = model.state_dict()
    save_model(model, path("saved.safetensors"), {"format": "pt"})
    untied = {name: tensor.clone() for name, tensor in state.items()}
    save_file(untied, path("plain.safetensors"), {"format": "pt", "ss_network_module": "networks.lora"})
    torch.save(state, path("state.pt"))
    torch.save(model, path("whole.pt"))

    def strict(file, **more):
        fresh = made(2)
        fresh.load_state_dict(torch.load(file, **more), strict=True)
        return fresh.state_dict()

    def equal(found, wanted=state):
        assert list(found) == list(wanted), "keys: %s" % list(found)
        for name, tensor in wanted.items():
            assert found[name].dtype == tensor.dtype and elements(found[name]) == elements(tensor), name

    def to_torch(source, *more):
        def job():
            convert(binary, path(source), path("out.pt"), *more)
            equal(strict(path("out.pt"), **({"weights_only": True} if WEIGHTS_ONLY else {})))
            pointers = {t.data_ptr() for name, t in torch.load(path("out.pt")).items() if name in ("wte.weight", "lm_head.weight")}
            assert len(pointers) == 1 or source in ("plain.safetensors", "plain_shards"), "no longer tied"
        return job

    def to_safetensors(source, *more):
        def job():
            convert(binary, path(source), path("out.safetensors"), *more)
            fresh = made(2)
            load_model(fresh, path("out.safetensors"), strict=True)
            equal(fresh.state_dict())
        return job

    def as_the_library(source):
        def job():
            convert(binary, path(source), path("out.safetensors"), "--shared", "drop")
            with safe_open(path("out.safetensors"), "pt") as ours, safe_open(path("saved.safetensors"), "pt") as theirs:
                assert sorted(ours.keys()) == sorted(theirs.keys()) and ours.metadata() == theirs.metadata()
        return job

    def cast(dtype):
        def job():
            optimizer = torch.optim.Adam(model.parameters())
            sum(p.sum() for p in model.parameters()).backward()
            optimizer.step()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path("training.pt"))
            convert(binary, path("training.pt"), path("out.pt"), "--dtype", str(dtype))
            back = load(path("out.pt"))
            fresh = made(2).to(dtype)
            fresh.load_state_dict(back["model"], strict=True)
            equal(back["model"], {name: t.to(dtype) if t.is_floating_point() else t for name, t in model.state_dict().items()})
            other = torch.optim.Adam(fresh.parameters())
            other.load_state_dict(back["optimizer"])
            for before, after in zip(optimizer.state.values(), back["optimizer"]["state"].values()):
                assert before["step"] == after["step"] and after["exp_avg"].dtype == dtype
        return job

    def shards(source, name, to):
        return lambda: convert(binary, path(source), path(name), "--to", to, "--max-shard-size", "100B", "--shared", "drop")

    jobs = {
        "plain": to_torch("plain.safetensors"), "plain state dict": to_torch("plain.safetensors", "--state-dict"),
        "tied": to_torch("saved.safetensors"), "tied state dict": to_torch("saved.safetensors", "--state-dict"),
        "tied legacy": to_torch("saved.safetensors", "--to", "torch-legacy"),
        "state dict again": to_torch("state.pt", "--state-dict"), "module": to_torch("whole.pt", "--state-dict"),
        "safetensors shards": shards("state.pt", "shards", "safetensors"), "from them": to_torch("shards"),
        "plain shards": shards("plain.safetensors", "plain_shards", "safetensors"), "from plain ones": to_torch("plain_shards"),
        "torch shards": shards("saved.safetensors", "bins", "torch"), "from those": to_torch("bins"),
        "load_model": to_safetensors("state.pt", "--shared", "drop"), "load_model of a module": to_safetensors("whole.pt", "--shared", "drop"),
        "load_model again": to_safetensors("saved.safetensors"), "load_model of shards": to_safetensors("shards"),
        "as the library": as_the_library("state.pt"), "as the library, of its own": as_the_library("saved.safetensors"),
        "cast to half": cast(torch.float16), "cast to bfloat16": cast(torch.bfloat16), "cast to double": cast(torch.float64),
    }
    for name, job in jobs.items():
        try:
            job()
        except Exception as e:
            wrong.append("round trip, %s: %s: %s" % (name, type(e).__name__, str(e)[:400]))
    return len(jobs), wrong


def opens_weights_only(path):
    try:
        load(path, weights_only=True)
    except Exception:
        return False
    return True


def merges(binary, originals, scratch):
    """Merges each file with the next under keys, and state dicts that torch has cut into parts: how many were tried, and what
    is wrong."""
    tried, wrong = 0, []
    out = os.path.join(scratch, "merged.pt")
    paths = list(originals)
    for one, two in zip(paths, paths[1:] + paths[:1]):
        # a file that is merged with itself shares nothing with itself
        for first, second in ((one, two), (one, one)):
            for to in ("torch", "torch-legacy"):
                tried += 1
                try:
                    run(binary, "merge", "first=" + first, "the.second=" + second, "-o", out, "--to", to)
                    same({"first": load(first), "the.second": load(second)}, load(out))
                except Exception as e:
                    wrong.append("%s and %s -> %s: %s" % (first, second, to, str(e)[:400]))
    for path, state in originals.items():
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            continue
        for count in (2, 3, len(state)):
            size = -(-len(state) // count)
            names = [list(state)[start:start + size] for start in range(0, len(state), size)]
            if len(names) < 2:
                continue
            tried += 1
            try:
                parts = []
                for number, part in enumerate(names):
                    parts.append(os.path.join(scratch, "part_%d.pt" % number))
                    cut = type(state)((name, state[name]) for name in part)
                    if hasattr(state, "_metadata"):
                        cut._metadata = state._metadata
                    torch.save(cut, parts[-1])
                run(binary, "merge", *parts, "-o", out)
                back = load(out, **({"weights_only": True} if WEIGHTS_ONLY and opens_weights_only(path) else {}))
                for name in state:  # what two parts shared was cut
                    same(state[name], back[name])
                assert type(back) is type(state) and list(back) == list(state), "keys differ"
                assert getattr(back, "_metadata", None) == getattr(state, "_metadata", None), "_metadata differs"
            except Exception as e:
                wrong.append("%s in %d parts: %s" % (path, len(names), str(e)[:400]))
    return tried, wrong


def spots(value):
    """Containers below plain dicts and lists, each with a key or index of it and the name that ckpt has for that."""
    open_, seen = [("", value)], set()
    while open_:
        prefix, value = open_.pop()
        if type(value) not in (dict, list, collections.OrderedDict) or id(value) in seen:
            continue
        seen.add(id(value))
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for key, below in pairs:
            # other names can be two things
            if isinstance(key, (str, int)) and not isinstance(key, bool) and str(key) and "\\" not in repr(key):
                yield value, key, prefix + str(key)
                open_.append((prefix + str(key) + ".", below))


def edits(binary, originals, scratch):
    """Sets scalars and deletes keys, a few of each file: how many were tried, and what is wrong. What is refused says why."""
    tried, wrong, refused = 0, [], 0
    out = os.path.join(scratch, "edited.pt")
    for path, state in originals.items():
        count = len(list(spots(state)))
        for number in range(0, count, max(1, count // EDITS_OF_A_FILE)):
            for delete in (False, True):
                # an object that stands in two places stays one
                wanted = load(path)
                container, key, name = list(spots(wanted))[number]
                if delete:
                    del container[key]
                    step = ["--delete", name]
                elif type(container[key]) in (int, float, str, bool, type(None)):
                    container[key] = 17 if container[key] != 17 else "a'b"
                    step = ["--set", "%s=%r" % (name, container[key])]
                else:
                    continue
                tried += 1
                done = subprocess.run([binary, "edit", "--force", path, "-o", out] + step, capture_output=True)
                said = done.stderr.decode(errors="replace").strip().splitlines()
                if done.returncode == 2 and len(said) == 1:
                    refused += 1
                    continue
                try:
                    assert done.returncode == 0, said
                    same(wanted, load(out))
                except Exception as e:
                    wrong.append("%s %s: %s" % (path, " ".join(step), str(e)[:300]))
    print("%d edits, %d refused" % (tried, refused))
    return tried, wrong


# spots of a file that are edited
EDITS_OF_A_FILE = 6
# torch 1.13 knows weights_only and has fewer classes in it
WEIGHTS_ONLY = "weights_only" in inspect.signature(torch.load).parameters
IS_OLD = tuple(int(number) for number in torch.__version__.split(".")[:2]) < (2, 6)

# What the unpickler of torch 1.13 refuses and no older form says: floats, sets, bytes, complex numbers and devices, some
# dtypes as values, dtypes that it lacks, quantized tensors, attributes of tensors, conjugate and negative views, compressed
# sparse tensors, the flag of coalesced ones, other devices.
LACKING = (
    "Unsupported operand 71", "_codecs.encode", "__builtin__.set", "builtins.set", "builtins.complex", "__builtin__.complex",
    "bytearray", "torch.device", "class torch.bfloat16", "class torch.uint", "class torch.bool", "class torch.float", "class torch.quint", "class torch.q",
    "_rebuild_tensor_v3", "_rebuild_qtensor", "_rebuild_from_type_v2", "_rebuild_parameter_with_state", "takes 6 positional arguments but 7",
    "torch.sparse_csr", "torch.sparse_csc", "torch.sparse_bsr", "torch.sparse_bsc", "too many values to unpack (expected 3)",
    "_rebuild_device_tensor_from_cpu_tensor", "_mesh_layout", "collections.Counter",
)
# what a file is refused for by all of torch, or holds besides weights
REFUSED = ("does not open a program", "would still not open it", "would both be", "a byte string of more than")
# larger ones say nothing more
MOST_ELEMENTS = 1 << 22


def hashes(value):
    """dtype, shape and hash of every tensor in containers of an object, of those whose elements lie in order somewhere."""
    seen, open_, found = set(), [value], set()
    while open_:
        value = open_.pop()
        if isinstance(value, torch.Tensor):
            plain = value.layout == torch.strided and value.device.type != "meta" and not value.is_quantized
            if plain and not getattr(value, "is_nested", False) and value.numel() <= MOST_ELEMENTS:
                found.add((str(value.dtype)[6:], tuple(value.shape), hashlib.sha256(elements(value)).hexdigest()))
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            open_.extend(value.values() if isinstance(value, dict) else value)
            open_.extend(getattr(value, "__dict__", {}).values())
    return found


def listed(binary, path):
    """What is listed of a file: its tensors' facts and its values by name; None where it is refused."""
    done = subprocess.run([binary, "ls", "-q", "--json", "--hash", path], capture_output=True, timeout=60)
    if done.returncode:
        return None
    listing = json.loads(done.stdout.decode().splitlines()[0])
    tensors = {(row["dtype"], tuple(row["shape"]), row["sha256"]) for row in listing["tensors"]}
    return tensors, {row["name"]: (row["type"], row["repr"]) for row in listing["values"]}


def made_safe(binary, root, out):
    """Has every file that lists made safe: torch must open it with weights_only=True, tensors bit for bit as they were, and
    values but for those that are named."""
    good = total = lacking = refused = 0
    for path in [os.path.join(folder, name) for folder, _, names in sorted(os.walk(root)) for name in sorted(names)]:
        # torch itself takes forever to open these
        before = None if "laughs" in path or "bomb" in path else listed(binary, path)
        if before is None:
            continue
        total += 1
        try:
            done = subprocess.run([binary, "convert", "--safe", "--force", "--json", path, "-o", out, "--to", "torch"], capture_output=True, timeout=60)
            said = done.stderr.decode(errors="replace").strip()
            if done.returncode:
                assert done.returncode == 2 and "\n" not in said and any(why in said for why in REFUSED), said
                refused += 1
                good += 1
                continue
            report = json.loads(done.stdout.decode())
            after = listed(binary, out)
            try:
                value = load(out, weights_only=True)
            except Exception as e:
                if not (IS_OLD and any(what in str(e) for what in LACKING)):
                    raise
                lacking += 1
                good += 1
                continue
            # elements in a byte string stay in it
            wrong = hashes(value) - after[0]
            assert not wrong or any(0 in shape for _, shape, _ in wrong), "torch has other tensors: %s" % list(wrong)[:3]
            if not report["replaced"] and not report["left_out"]:
                assert before[0] == after[0], "other tensors: %s" % list(before[0] ^ after[0])[:3]
            names = [row["name"] for row in report["replaced"]] + [row["name"] for row in report["left_out"]]
            classes = {row["class"].split(".")[-1] for row in report["replaced"]}
            for name, what in before[1].items():
                if name.startswith("__metadata__.") or "bad_utf8" in path:
                    continue
                is_named = any(name == other or other == "" or name.startswith(other + ".") for other in names)
                # pairs go by their keys, and a key may be one of the objects
                is_named = is_named or what[0] in classes or name.split("(")[0] in classes
                assert is_named or after[1].get(name) == what, "%s was %s and is %s" % (name, what, after[1].get(name))
            good += 1
        except Exception as e:
            print("%s -> safe: %s: %s" % (path, type(e).__name__, str(e)[-300:]))
    print("%d files made safe, %d refused, %d of what torch %s lacks" % (total - refused, refused, lacking, torch.__version__))
    return good, total


def main():
    binary, roots = os.path.abspath(sys.argv[1]), sys.argv[2:]
    sys.path.insert(0, os.path.abspath(roots[0]))
    import generate  # the classes that pickled modules look for
    for name in dir(generate):
        setattr(sys.modules["__main__"], name, getattr(sys.modules["__main__"], name, getattr(generate, name)))
    good = total = 0
    loaded, originals = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "out.pt")
        files = [os.path.join(folder, name) for root in roots for folder, _, names in sorted(os.walk(root))
                 if os.path.basename(folder).startswith("torch-") for name in sorted(names)]
        for path in files:
            if path.endswith((".json", ".gz", "scripted.pt")) or "_protocol" in path:
                continue
            try:
                original = load(path)
            except Exception as e:
                print("not compared, this torch cannot open %s: %s" % (path, str(e)[:100]))
                continue
            originals[path] = original
            for to in ("torch", "torch-legacy", "state-dict", "repaired"):
                if to == "state-dict" and not ("_state" in path or "_full" in path) or "checkpoint" in path and to == "state-dict":
                    continue
                total += 1
                try:
                    if to == "repaired":
                        repair(binary, path, os.path.join(scratch, "cut.pt"), out, original)
                    elif to == "state-dict":
                        convert(binary, path, out, "--state-dict")
                        state = original.state_dict() if isinstance(original, torch.nn.Module) else original
                        for way, back in ways(out, weights_only=True):
                            assert list(state) == list(back), "%s: keys differ" % way
                            assert all(elements(state[key]) == elements(back[key]) for key in state), "%s: values differ" % way
                    else:
                        convert(binary, path, out, "--to", to)
                        for way, back in ways(out) if to == "torch" else [("load", load(out))]:
                            loaded[way] = loaded.get(way, 0) + 1
                            same(original, back)
                    good += 1
                except Exception as e:
                    print("%s -> %s: %s" % (path, to, str(e)[:400]))
        for root in roots:
            if os.path.exists(os.path.join(root, "renames", "expected.json")):
                more = renames(binary, os.path.join(root, "renames"), out)
                good, total = good + more[0], total + more[1]
            if os.path.exists(os.path.join(root, "weights", "expected.json")):
                more = layouts(binary, os.path.join(root, "weights"), out)
                good, total = good + more[0], total + more[1]
        if WEIGHTS_ONLY:
            for root in roots:
                more = made_safe(binary, root, out)
                good, total = good + more[0], total + more[1]
        for tried, wrong in (round_trips(binary, scratch), merges(binary, originals, scratch), edits(binary, originals, scratch)):
            total, good = total + tried, good + tried - len(wrong)
            print("\n".join(wrong), end="\n" if wrong else "")
    print("; ".join("%s: %d" % item for item in loaded.items()))
    print("%d of %d conversions and repairs agree with torch %s" % (good, total, torch.__version__))
    sys.exit(0 if total and good == total else 1)


if __name__ == "__main__":
    main()
