"""Files that were damaged, or made by hand, in ways that bytes of the other files cannot be made to be in a test: sparse
tensors with indices that torch refuses, a checkpoint in pieces (DCP) with a flipped bit, archives made again by zip programs.

    python testdata/generate_damage.py        (torch 2.15; writes testdata/damage and its opens.json)
"""

import io
import json
import pathlib
import random
import shutil
import warnings
import zipfile

import torch
import torch.distributed.checkpoint as dcp

warnings.simplefilter("ignore")
OUT = pathlib.Path(__file__).parent / "damage"
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()
torch.manual_seed(0)


def coo(indices, values, size, coalesced=None):
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=False, is_coalesced=coalesced)


def compressed(layout, pointers, plain, values, size):
    make = torch.sparse_compressed_tensor
    return make(pointers, plain, values, size, layout=layout, check_invariants=False)


def t(*numbers, dtype=torch.int64):
    return torch.tensor(numbers, dtype=dtype)


V = torch.arange(1.0, 4)
SPARSE = {
    "coo": coo(torch.tensor([[0, 1, 2], [1, 0, 3]]), V, (3, 4)),
    "coo_outside": coo(torch.tensor([[0, 1, 3], [1, 0, 3]]), V, (3, 4)),
    "coo_outside_second": coo(torch.tensor([[0, 1, 2], [1, 0, 4]]), V, (3, 4)),
    "coo_negative": coo(torch.tensor([[0, -1, 2], [1, 0, 3]]), V, (3, 4)),
    "coo_twice": coo(torch.tensor([[0, 0, 2], [1, 1, 3]]), V, (3, 4)),
    "coo_coalesced": coo(torch.tensor([[0, 1, 2], [1, 0, 3]]), V, (3, 4), True),
    "coo_coalesced_out_of_order": coo(torch.tensor([[1, 0, 2], [1, 0, 3]]), V, (3, 4), True),
    "coo_coalesced_twice": coo(torch.tensor([[0, 0, 2], [1, 1, 3]]), V, (3, 4), True),
    "coo_dense": coo(torch.tensor([[0, 2]]), torch.ones(2, 5), (3, 5)),
    "coo_dense_outside": coo(torch.tensor([[0, 3]]), torch.ones(2, 5), (3, 5)),
    "coo_empty": coo(torch.empty(2, 0, dtype=torch.int64), torch.empty(0), (3, 4)),
    "coo_many": coo(torch.arange(9000).reshape(1, -1), torch.ones(9000), (9000,), True),
    "coo_many_last_twice": coo(
        torch.cat([torch.arange(8999), t(8998)]).reshape(1, -1), torch.ones(9000), (9000,), True
    ),
}
for name, layout in [("csr", torch.sparse_csr), ("csc", torch.sparse_csc)]:
    along, across = (3, 4) if name == "csr" else (4, 3)
    size = (3, 4)
    tail = [3] * (along - 1)
    SPARSE |= {
        name: compressed(layout, t(0, 2, *tail), t(0, 2, 1), V, size),
        f"{name}_int32": compressed(
            layout, t(0, 2, *tail, dtype=torch.int32), t(0, 2, 1, dtype=torch.int32), V, size
        ),
        f"{name}_outside": compressed(layout, t(0, 2, *tail), t(0, across, 1), V, size),
        f"{name}_negative": compressed(layout, t(0, 2, *tail), t(-1, 2, 1), V, size),
        f"{name}_starts_at_1": compressed(layout, t(1, 2, *tail), t(0, 2, 1), V, size),
        f"{name}_ends_early": compressed(layout, t(0, 1, *([2] * (along - 1))), t(0, 2, 1), V, size),
        f"{name}_goes_back": compressed(layout, t(0, 2, 1, *([3] * (along - 2))), t(0, 2, 1), V, size),
        f"{name}_twice_in_a_row": compressed(layout, t(0, 2, *tail), t(2, 2, 1), V, size),
        f"{name}_out_of_order": compressed(layout, t(0, 2, *tail), t(2, 0, 1), V, size),
    }
    SPARSE[name + "_batch"] = compressed(
        layout, torch.stack([t(0, 2, *tail)] * 2), torch.stack([t(0, 2, 1)] * 2), torch.stack([V] * 2), (2, 3, 4)
    )
    SPARSE[name + "_batch_second_outside"] = compressed(
        layout,
        torch.stack([t(0, 2, *tail)] * 2),
        torch.stack([t(0, 2, 1), t(0, 9, 1)]),
        torch.stack([V] * 2),
        (2, 3, 4),
    )
for name, layout in [("bsr", torch.sparse_bsr), ("bsc", torch.sparse_bsc)]:
    blocks = torch.ones(2, 2, 2)
    SPARSE |= {
        name: compressed(layout, t(0, 1, 2), t(0, 1), blocks, (4, 4)),
        f"{name}_outside": compressed(layout, t(0, 1, 2), t(0, 2), blocks, (4, 4)),
        f"{name}_goes_back": compressed(layout, t(0, 2, 1), t(0, 1), blocks, (4, 4)),
    }

opens = {}


def judge(path):
    try:
        torch.load(path, weights_only=True)
        opens[path.name] = True
    except Exception:
        opens[path.name] = False


for name, tensor in SPARSE.items():
    for suffix, new in [(".pt", True), (".legacy.pt", False)]:
        path = OUT / f"sparse_{name}{suffix}"
        if new or name in ("coo", "coo_outside", "csr_outside"):
            torch.save({"w": tensor}, path, _use_new_zipfile_serialization=new)
            judge(path)

# archives made by hand of one that torch wrote
source = io.BytesIO()
random.seed(0)
weights = {f"layer{i}.w": torch.randn(8, 8) for i in range(3)}
torch.save(weights, source)
torch.save(weights, OUT / "hand_truth.pt")


def rezip(name, rename, method=zipfile.ZIP_STORED, beside=()):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(OUT / name, "w", method) as new:
        for member, content in beside:
            new.writestr(zipfile.ZipInfo(member), content)
        for member in old.namelist():
            if (to := rename(member)) is not None:
                new.writestr(zipfile.ZipInfo(to), old.read(member), method)
    judge(OUT / name)


bare = lambda member: member.removeprefix("archive/")
rezip("hand_no_folder.pt", bare)
rezip("hand_folder_more.pt", lambda member: "outer/" + member)
rezip("hand_deflated.pt", lambda member: member, zipfile.ZIP_DEFLATED)
rezip("hand_deflated_no_folder.pt", bare, zipfile.ZIP_DEFLATED)
rezip("hand_macosx_first.pt", lambda member: member, beside=[("__MACOSX/._archive", b"Mac OS X")])
rezip("hand_no_version.pt", lambda member: None if member.endswith("/version") else member)
rezip("hand_in_folder.pt", lambda member: member, beside=[("archive/", b"")])
rezip("hand_no_byteorder.pt", lambda member: None if member.endswith("/byteorder") else member)

# chunks of DCP, in one of which a bit is flipped
torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:29731", rank=0, world_size=1)
dcp.save({"a": torch.randn(8, 8), "b": torch.randn(4), "step": 3}, checkpoint_id=str(OUT / "dcp_flipped"))
part = OUT / "dcp_flipped" / "__0_0.distcp"
content = bytearray(part.read_bytes())
with zipfile.ZipFile(io.BytesIO(bytes(content))) as last:
    pass
first = content.index(b"archive/data/0")
content[content.index(b"PK\x07\x08", first) - 1] ^= 1
part.write_bytes(content)

(OUT / "opens.json").write_text(json.dumps(opens, indent=0, sort_keys=True) + "\n")
print(len(opens), "files,", sum(opens.values()), "open")
