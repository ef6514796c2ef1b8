"""Write the container that torch used before 0.1.10: a plain tar of `storages`, `tensors`, `pickle`.

usage: python generate_tar.py OUT_DIR        (any torch that still reads it; checked with torch.load here)
No torch on the package index is old enough to write this, so the bytes are laid out from what
torch.load's tar branch reads, and the script fails unless torch.load agrees with the oracle.
"""
import io
import os
import pickle
import struct
import sys
import tarfile

import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import generate  # noqa: E402


class Pickler(pickle.Pickler):
    """Tensors become persistent ids (their number as a string), as the old writer did."""
    def __init__(self, f, ids):
        super().__init__(f, protocol=2)
        self.ids = ids

    def persistent_id(self, obj):
        return self.ids.get(id(obj))


def dump(f, obj):
    pickle.dump(obj, f, protocol=2)


def write(path, obj, tensors):
    """tensors: list of the tensor objects inside obj. Views that share a storage share its entry."""
    storages, tens, order = io.BytesIO(), io.BytesIO(), {}
    for t in tensors:
        order.setdefault(t.untyped_storage()._cdata, (len(order) + 1000, t))
    dump(storages, len(order))
    for key, t in order.values():
        kind = getattr(torch, t.storage()._pickle_storage_type())
        dump(storages, (key, "cpu", kind))
        flat = t.storage()
        storages.write(struct.pack("<q", len(flat)))
        storages.write(bytes(flat.untyped()))
    dump(storages, [])
    dump(tens, len(tensors))
    ids = {}
    for n, t in enumerate(tensors):
        ids[id(t)] = str(n + 1)
        dump(tens, (n + 1, order[t.untyped_storage()._cdata][0], torch.FloatTensor))
        tens.write(struct.pack("<i", t.dim()) + b"\0\0\0\0")
        tens.write(struct.pack("<%dq" % t.dim(), *t.shape) + struct.pack("<%dq" % t.dim(), *t.stride()))
        tens.write(struct.pack("<q", t.storage_offset()))
    body = io.BytesIO()
    Pickler(body, ids).dump(obj)
    info = io.BytesIO()
    dump(info, {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}})
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("sys_info", info), ("pickle", body), ("tensors", tens), ("storages", storages)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data.getvalue())
            tar.addfile(entry, io.BytesIO(data.getvalue()))


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    state = generate.OneLayer().state_dict()
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    views = {"epoch": 3, "model": {"base": base, "rows": base[1:3], "t": base.t()}}
    for name, obj, tensors in (("one_layer_state.tar", state, list(state.values())),
                               ("views.tar", views, list(views["model"].values()))):
        path = os.path.join(out, name)
        write(path, obj, tensors)
        back = torch.load(path, weights_only=False)
        flat = (lambda o: list((o.get("model") or o).values()))
        assert all(torch.equal(a, b) for a, b in zip(flat(back), flat(obj))), name
        generate.oracle(obj, path, out, tar=True)


if __name__ == "__main__":
    main()
