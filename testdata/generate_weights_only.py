"""Ask torch which files it opens with weights_only=True, and which of them with some bytes changed.

usage: python3 generate_weights_only.py [OUT.json] [MUTATIONS] [SEED] [DIR...]     (torch 2.15; default: all beside it)

The answers go to weights_only.json: `files` maps each file to a boolean; `mutated` lists `[file, [[offset, byte], ...],
boolean]`, where the bytes are changed inside the file's pickles. The question is put with map_location="cpu", so that it
does not depend on devices.
"""
import io
import json
import os
import pickletools
import random
import signal
import sys
import warnings
import zipfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "weights_only.json")
MUTATIONS = int(sys.argv[2]) if len(sys.argv) > 2 else 600
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
DIRS = sys.argv[4:] or [HERE]
# archives that readers understand differently are refused here whatever torch makes of them, bombs as well
LEFT_OUT = ("zip_bomb", "zip_dotdot", "zip_duplicate", "zip_overlap", "st_duplicate")
warnings.simplefilter("ignore")


def opens(file):
    # what a load that failed leaves there makes the next one fail
    torch.serialization._serialization_tls.sparse_tensors_to_validate.clear()
    signal.alarm(30)
    try:
        torch.load(file, weights_only=True, map_location="cpu")
        return True
    except Exception:
        return False
    finally:
        signal.alarm(0)


def pickles(data):
    """Where the pickles of a torch.save file lie: (start, end) pairs."""
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            for info in z.infolist():
                if info.filename.endswith("data.pkl") and info.compress_type == 0:
                    head = data[info.header_offset:]
                    start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
                    yield start, start + info.file_size
    else:
        stream = io.BytesIO(data)
        for _ in range(5):
            start = stream.tell()
            for _ in pickletools.genops(stream):
                pass
            yield start, stream.tell()


def main():
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(RuntimeError("takes too long")))
    files = {}
    for root in DIRS:
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                if not name.endswith((".json", ".py", ".md", ".txt")) and not name.startswith(LEFT_OUT):
                    files[os.path.relpath(path, HERE)] = opens(path)
    files = dict(sorted(files.items()))
    rng = random.Random(SEED)
    good = [f for f in files if files[f] and not f.endswith(".safetensors") and os.path.getsize(os.path.join(HERE, f)) < 40_000]
    mutated = []
    while len(mutated) < MUTATIONS:
        name = rng.choice(good)
        with open(os.path.join(HERE, name), "rb") as f:
            data = bytearray(f.read())
        try:
            spans = list(pickles(bytes(data)))
        except zipfile.BadZipFile:  # bytes after the archive
            continue
        if not spans:
            continue
        start, end = rng.choice(spans)
        changes = []
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            at = rng.randrange(start, end)
            old = data[at]
            new = rng.choice([old ^ (1 << rng.randrange(8)), rng.randrange(256), (old + 1) % 256, rng.choice(b"(.0KMJXq}])tuRbcN\x85\x86\x87\x88\x89\x8a")])
            if new != old:
                changes.append([at, new])
                data[at] = new
        if changes:
            mutated.append([name, changes, opens(io.BytesIO(bytes(data)))])
    with open(OUT, "w", newline="\n") as f:
        f.write('{"torch": "%s",\n"files": {\n' % torch.__version__.split("+")[0])
        f.write(",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in files.items()))
        f.write('\n},\n"mutated": [\n')
        f.write(",\n".join(json.dumps(m) for m in mutated))
        f.write("\n]}\n")
    print(len(files), "files,", sum(files.values()), "open;", len(mutated), "mutated,", sum(m[2] for m in mutated), "open")


main()
