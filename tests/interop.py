#!/usr/bin/env python3
"""Open what `ckpt convert` and `ckpt repair` write with a real torch and compare it with the original.

usage: PYTHON_WITH_TORCH tests/interop.py CKPT DIR...

Every torch file below the folders torch-* of DIR (made by its generate.py, so trusted) goes to torch's zip and legacy
containers and comes back through torch: every tensor must be the same bit for bit, with its strides, sharing and grad,
every other value by its repr. What is written as a zip is loaded in every way that the torch has: mapped into memory, and
with offsets that are calculated instead of looked up. State dicts and modules also go to `--state-dict`, which must open with
weights_only=True. Each file is also cut off, gets holes of zeros, changed bits, broken headers and more behind its end, and is
repaired: torch must load what is saved, and all of it where no tensor was touched. Exit status 0 when all agree.
"""
import contextlib
import inspect
import os
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


def main():
    binary, roots = os.path.abspath(sys.argv[1]), sys.argv[2:]
    sys.path.insert(0, os.path.abspath(roots[0]))
    import generate  # the classes that pickled modules look for
    for name in dir(generate):
        setattr(sys.modules["__main__"], name, getattr(sys.modules["__main__"], name, getattr(generate, name)))
    good = total = 0
    loaded = {}
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
    print("; ".join("%s: %d" % item for item in loaded.items()))
    print("%d of %d conversions and repairs agree with torch %s" % (good, total, torch.__version__))
    sys.exit(0 if total and good == total else 1)


if __name__ == "__main__":
    main()
