"""Write checkpoints of several files or members (torch 2.x): meshes of processes, shared storages, several models.

usage: python generate_layouts.py OUT_DIR
"""
import hashlib
import json
import os
import shutil
import sys

import torch
import torch.nn as nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import generate  # noqa: E402
import generate_frameworks  # noqa: E402

RANKS = 4


def mesh(out):
    """Four processes: tensors cut along one dimension and two, one rank without a part; nested dicts and lists."""
    import torch.multiprocessing as mp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    path = os.path.join(out, "dcp_mesh")
    shutil.rmtree(path, ignore_errors=True)
    mp.spawn(mesh_worker, args=(path,), nprocs=RANKS)
    # torch's own merging says what is in it
    dcp_to_torch_save(path, path + ".pt")
    generate_frameworks.write_oracle(torch.load(path + ".pt", weights_only=False), path)
    os.remove(path + ".pt")


def mesh_worker(rank, path):
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29533", RANK=str(rank), WORLD_SIZE=str(RANKS))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    line, square = init_device_mesh("cpu", (RANKS,)), init_device_mesh("cpu", (2, 2))
    torch.manual_seed(11)
    cut = {
        "square": (torch.randn(7, 9), square, [Shard(0), Shard(1)]),
        "columns": (torch.randn(5, 10, dtype=torch.complex64), line, [Shard(1)]),
        "inner": (torch.randn(3, 4, 5).to(torch.bfloat16), square, [Shard(2), Shard(1)]),
        "two_of_four": (torch.arange(2), line, [Shard(0)]),
        "turned": (torch.randn(6, 8).t(), line, [Shard(1)]),
        "everywhere": (torch.randn(3), line, [Replicate()]),
        "flags": (torch.randn(9) > 0, line, [Shard(0)]),
    }
    model = {k: distribute_tensor(v, m, p) for k, (v, m, p) in cut.items()}
    model.update(empty=torch.zeros(0, 3), float8=torch.randn(8).to(torch.float8_e4m3fn), scalar=torch.tensor(2.5))
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}},
                 "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0, 1]}, {"lr": None}]}
    dcp.save({"model": model, "optimizer": optimizer, "epoch": 3, "list": [1, torch.ones(2), {"a": "b"}]}, checkpoint_id=path)
    dist.destroy_process_group()


class Tied(nn.Module):
    """Two names for one weight, a buffer that is a part of a storage, one that state_dict() leaves out, a constant."""
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("part", torch.arange(12)[2:8])
        self.register_buffer("hidden", torch.arange(6.0).view(2, 3).t(), persistent=False)
        self.constant = torch.ones(3)

    def forward(self, x):
        return self.a(x) + self.b(x) + self.part.sum() + self.hidden.sum() + self.constant.sum()


def program(module, *args):
    exported = torch.export.export(module, args)
    for node in exported.graph.nodes:
        for k in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(k, None)
    return exported


def exported(out):
    from torch.export.pt2_archive._package import load_pt2, package_pt2
    torch.manual_seed(12)
    one, other = program(Tied(), torch.ones(1, 4)), program(nn.Linear(2, 3), torch.ones(1, 2))
    path = os.path.join(out, "tied.pt2")
    torch.export.save(one, path)
    loaded = torch.export.load(path)
    outside = {k: sha256(v) for k, v in loaded.constants.items()}
    generate.oracle(loaded.state_dict, path, out, pt2=True, outside_state_dict=outside)
    path = os.path.join(out, "two_models.pt2")
    package_pt2(path, exported_programs={"encoder": one, "decoder": other})
    loaded = load_pt2(path).exported_programs
    generate.oracle({k: loaded[k].state_dict for k in ("encoder", "decoder")}, path, out, pt2=True)


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def shards(out):
    """A legacy stream and a zip as shards: one storage under two names, a view, parameters, a value; not in file order."""
    torch.manual_seed(13)
    path = os.path.join(out, "sharded_tied")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    weight = nn.Linear(4, 4).weight
    first = {"x.weight": weight, "y.weight": weight, "view": torch.arange(12.0).view(3, 4).t()[1:], "extra": [1, 2]}
    second = {"z": torch.ones(2, 2, dtype=torch.float16)}
    names = ["pytorch_model-%05d-of-00002.bin" % n for n in (1, 2)]
    torch.save(first, os.path.join(path, names[0]), _use_new_zipfile_serialization=False)
    torch.save(second, os.path.join(path, names[1]))
    order = ["z", "y.weight", "view", "extra", "x.weight"]
    both = {**first, **second}
    with open(os.path.join(path, "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": 0}, "weight_map": {k: names[k in second] for k in order}}, f, indent=1)
    generate_frameworks.write_oracle({k: both[k] for k in order}, path)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    for make in (mesh, exported, shards):
        make(sys.argv[1])
