"""What torch says of a small zip of its own with one bit of the directory or of the end records changed.

    python testdata/generate_directory_flips.py [DIR]     (torch 2.15; default: directory_flips/ beside it)

Writes `two.pt` and `verdicts.json`: where the directory begins, and for each byte from there on eight letters, the lowest bit
first. `.` torch opens it with the same tensors, `x` refuses it, `o` opens it and gives other tensors, or such as the memory
happened to hold: what stays in memory is filled with rubbish before each of three attempts, which must agree.
"""

import io
import json
import pathlib
import struct
import sys
import warnings

import torch

warnings.simplefilter("ignore")
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "directory_flips"
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half()}


def letter(data):
    found = set()
    for filler in (1, 77, 200):
        rubbish = [torch.full((size,), filler, dtype=torch.uint8) for size in (1, 2, 4, 6, 16, 24, 40, 64, 256)]
        del rubbish
        try:
            loaded = torch.load(io.BytesIO(data), weights_only=True)
        except Exception:
            found.add("x")
            continue
        same = isinstance(loaded, dict) and list(loaded) == list(TENSORS)
        found.add("." if same and all(torch.equal(loaded[k], v) for k, v in TENSORS.items()) else "o")
    return found.pop() if len(found) == 1 else "o"


OUT.mkdir(exist_ok=True)
kept = OUT / "two.pt"
if not kept.exists():
    torch.save(TENSORS, kept)
data = kept.read_bytes()
(start,) = struct.unpack("<Q", data[-22 - 20 - 8 : -22 - 20])
assert data[start : start + 4] == b"PK\1\2"
rows = []
for at in range(start, len(data)):
    flipped = (data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for bit in range(8))
    rows.append("".join(map(letter, flipped)))
(OUT / "verdicts.json").write_text(
    json.dumps({"torch": torch.__version__.split("+")[0], "start": start, "verdicts": rows}, indent=0) + "\n"
)
print({kind: "".join(rows).count(kind) for kind in ".xo"})
