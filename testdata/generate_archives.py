"""Write archives around checkpoints, unpacked checkpoints and chunks in safetensors, with what torch says they hold.

usage: python generate_archives.py OUT_DIR (torch 2.15, numpy, safetensors)
"""
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import zipfile

import torch
import torch.nn as nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

RANKS = 2


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def truth(state, prefix=""):
    """What an input holds: dtype, shape and hash by name."""
    out = {}
    for key, value in state.items():
        name = "%s%s" % (prefix, key)
        if isinstance(value, torch.Tensor):
            out[name] = {"dtype": str(value.dtype)[6:], "shape": list(value.shape), "sha256": sha256(value.detach())}
        elif isinstance(value, dict):
            out.update(truth(value, name + "."))
    return out


def saved(obj, legacy=False):
    out = io.BytesIO()
    torch.save(obj, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def zipped(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, data)
    return out.getvalue()


def tarred(members, mode="w", format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archives(out, expected):
    from safetensors.torch import save
    torch.manual_seed(21)
    state = {"w": torch.randn(3, 4), "half": torch.randn(5).half(), "n": torch.arange(4)}
    other = {"w": torch.randn(2)}
    zipfile_, legacy, safe = saved(state), saved(state, legacy=True), save(state)
    readme, second = b"Read me.\n", saved(other)
    manifest = b'{"modelName": "m", "archiverVersion": "0.9.0"}'
    files = {
        "plain.pt": zipfile_,
        "stored.zip": zipped([("README.md", readme), ("weights/", b""), ("weights/model.pt", zipfile_)]),
        "deflated.zip": zipped([("README.md", readme), ("model.pt", zipfile_), ("old.pt", legacy), ("m.safetensors", safe)],
                               zipfile.ZIP_DEFLATED),
        "odd_names.zip": zipped([("my model.pt", zipfile_), ("a::b.pt", second), ("gewichte-\u00e4\u00f6.pt", zipfile_),
                                 ("it's.pt", zipfile_), ("a", zipped([("b.pt", zipfile_)]))]),
        "model.tar.gz": tarred([("./README.md", readme), ("./code/inference.py", b"pass\n"), ("./model.pth", zipfile_)],
                               "w:gz"),
        "model.tar.bz2": tarred([("model.pth", legacy)], "w:bz2"),
        "model.tar.xz": tarred([("d/" * 60 + "model.pth", zipfile_)], "w:xz", tarfile.GNU_FORMAT),
        "model.nemo": tarred([("./model_config.yaml", b"a: 1\n"), ("./model_weights.ckpt", zipfile_)]),
        "agent.zip": zipped([("data", b"{}"), ("pytorch_variables.pth", saved(None)), ("policy.pth", zipfile_),
                             ("policy.optimizer.pth", second), ("_stable_baselines3_version", b"2.3.0"),
                             ("system_info.txt", readme)]),
        "model.mar": zipped([("MAR-INF/MANIFEST.json", manifest), ("model.pt", zipfile_)], zipfile.ZIP_DEFLATED),
    }
    files["nested.zip"] = zipped([("b.tar.gz", tarred([("c.pt", zipfile_), ("d.zip", files["deflated.zip"])], "w:gz"))])
    for name, data in files.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)
    both = truth(state)
    for name in ("plain.pt", "stored.zip::weights/model.pt", "deflated.zip::model.pt", "deflated.zip::old.pt",
                 "deflated.zip::m.safetensors", "odd_names.zip::my model.pt", "odd_names.zip::gewichte-\u00e4\u00f6.pt",
                 "odd_names.zip::it's.pt", "model.tar.gz::model.pth", "model.tar.gz::./model.pth",
                 "model.tar.bz2::model.pth", "model.tar.xz::" + "d/" * 60 + "model.pth", "model.nemo::model_weights.ckpt",
                 "agent.zip::policy.pth", "model.mar::model.pt", "nested.zip::b.tar.gz::c.pt",
                 "nested.zip::b.tar.gz::d.zip::model.pt", "nested.zip::b.tar.gz::d.zip::m.safetensors"):
        expected[name] = both
    expected["agent.zip::policy.optimizer.pth"] = truth(other)
    # the whole name wins over an archive in the archive
    expected["odd_names.zip::a::b.pt"] = truth(other)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("steps", torch.arange(3))

    def forward(self, x):
        return self.fc(x) + self.steps.sum()


def unpacked(out, expected):
    """Archives that were unpacked, at the top and a folder down; the folder put into a zip, deflated, and into a tar."""
    torch.manual_seed(22)
    state = {"model": {"w": torch.randn(4, 3), "tied": None}, "b": torch.randn(2).bfloat16(), "epoch": 3}
    state["model"]["tied"] = state["model"]["w"]
    with zipfile.ZipFile(io.BytesIO(saved(state))) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    members = [("run/" + name.split("/", 1)[1], data) for name, data in members]
    path = os.path.join(out, "unpacked")
    shutil.rmtree(path, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(zipped(members))) as archive:
        archive.extractall(path)
    deep = [("outer/" + name, data) for name, data in members]
    for name, data in (("folder.zip", zipped([("notes.txt", b"x"), *deep], zipfile.ZIP_DEFLATED)),
                       ("folder.tar", tarred([("notes.txt", b"x"), *deep]))):
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)
    held = truth(state)
    for name in ("unpacked", "unpacked/run", "folder.zip::outer/run", "folder.tar::outer/run", "folder.tar::./outer/run/"):
        expected[name] = held
    net = Net()
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(net), script)
    path = os.path.join(out, "unpacked_script")
    shutil.rmtree(path, ignore_errors=True)
    with zipfile.ZipFile(script) as archive:
        for name in archive.namelist():
            if not name.endswith(".debug_pkl"):
                archive.extract(name, path)
    expected["unpacked_script"] = truth(net.state_dict())


def packages(out, expected):
    """torch.package archives of one pickle and of two."""
    from torch.package import PackageExporter
    torch.manual_seed(23)
    one, two = {"enc": torch.randn(3, 3), "step": torch.tensor(4)}, {"dec": torch.randn(2)}
    for name, objects in (("package.pt", {"model.pkl": one}), ("packages.pt", {"enc.pkl": one, "dec.pkl": two})):
        with PackageExporter(os.path.join(out, name)) as exporter:
            exporter.extern("**")
            exporter.save_source_string("zoo", "answer = 42\n")
            for resource, obj in objects.items():
                exporter.save_pickle("models", resource, obj)
    expected["package.pt"] = expected["package.pt::models/model.pkl"] = truth(one)
    expected["package.pt::package/models/model.pkl"] = truth(one)
    expected["packages.pt::models/enc.pkl"] = truth(one)
    expected["packages.pt::models/dec.pkl"] = truth(two)


def chunks(out, expected):
    """Two processes' chunks in safetensors files: with DCP's index, and as HuggingFaceStorageWriter leaves them without."""
    import torch.multiprocessing as mp
    for name in ("dcp_safetensors", "hf_ranks"):
        shutil.rmtree(os.path.join(out, name), ignore_errors=True)
    mp.spawn(chunks_worker, args=(out,), nprocs=RANKS)
    model, _ = chunks_state()
    expected["dcp_safetensors"] = truth({"model": model})
    expected["hf_ranks"] = truth(model)


def chunks_state():
    torch.manual_seed(24)
    whole = {"emb": torch.randn(7, 3), "bias": torch.randn(5).bfloat16(), "columns": torch.randn(2, 6), "steps": torch.tensor(9)}
    return whole, {"emb": 0, "bias": 0, "columns": 1}


def chunks_worker(rank, out):
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29537", RANK=str(rank), WORLD_SIZE=str(RANKS))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    whole, cut = chunks_state()
    model = {k: distribute_tensor(v, mesh, [Shard(cut[k])]) if k in cut else v for k, v in whole.items()}
    path = os.path.join(out, "dcp_safetensors")
    writer = FileSystemWriter(path, serialization_format=SerializationFormat.SAFETENSORS)
    dcp.save({"model": model, "epoch": 3}, storage_writer=writer)
    path = os.path.join(out, "hf_ranks")
    dcp.save(model, storage_writer=dcp.HuggingFaceStorageWriter(path, save_distributed=True))
    if rank == 0:
        # torch's own reader of such files says the same
        read = {k: torch.zeros_like(v) for k, v in whole.items()}
        dcp.load(read, storage_reader=dcp.HuggingFaceStorageReader(path), no_dist=True)
        assert all(torch.equal(read[k], whole[k]) for k in whole)
    dist.destroy_process_group()


def torch7(out):
    """A tensor and a table as Lua Torch's `torch.save` writes them (File.lua), by hand."""
    word, text = lambda *n: struct.pack("<%di" % len(n), *n), lambda s: struct.pack("<i", len(s)) + s
    kind = lambda number, name: word(4, number) + text(b"V 1") + text(name)
    storage = kind(2, b"torch.FloatStorage") + struct.pack("<q", 3) + struct.pack("<3f", 1, 2, 3)
    tensor = kind(1, b"torch.FloatTensor") + word(1) + struct.pack("<3q", 3, 1, 1) + storage
    for name, data in (("tensor.t7", tensor), ("table.t7", word(3, 1, 1, 2) + text(b"weight") + tensor)):
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    folder, held = sys.argv[1], {}
    os.makedirs(folder, exist_ok=True)
    for make in (archives, unpacked, packages, chunks):
        make(folder, held)
    torch7(folder)
    with open(os.path.join(folder, "holds.json"), "w") as f:
        json.dump(held, f, indent=1, sort_keys=True, ensure_ascii=False)
