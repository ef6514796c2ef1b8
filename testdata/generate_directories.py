"""Write directories of torch.distributed.checkpoint and Hugging Face folders, whole and with what is wrong with them.

usage: python generate_directories.py OUT_DIR (torch 2.15, safetensors, zstandard)

`dcp.pt` is what torch's own merging makes of `dcp/` and of `dcp_zstd/`; NAME.metadata is another index for `dcp/`, and
`safetensors_unnamed.metadata` one for `dcp_safetensors/`.
"""
import dataclasses
import json
import os
import pickle
import sys
import warnings

warnings.filterwarnings("ignore")

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch.distributed.checkpoint._extension import ZStandard
from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

RANKS = 2


def state(mesh):
    torch.manual_seed(31)
    w, b = torch.randn(10, 6), torch.randn(7).bfloat16()
    return {
        "model": {"w": distribute_tensor(w, mesh, [Shard(0)]), "v": distribute_tensor(w.t().contiguous(), mesh, [Shard(1)]),
                  "b": distribute_tensor(b, mesh, [Replicate()]), "n": torch.tensor(3)},
        # as FSDP's optimizers have it without its groups
        "optimizer": {"state": {"w": {"step": torch.tensor(1.0), "exp_avg": distribute_tensor(w * 2, mesh, [Shard(0)])}}},
        "epoch": 4,
        "list": [1, "x", torch.ones(2)],
    }


def work(rank, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29541", RANK=str(rank), WORLD_SIZE=str(RANKS))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    whole = state(init_device_mesh("cpu", (RANKS,)))
    for name, options, what in [
            ("dcp", {}, whole),
            ("dcp_zstd", {"_extensions": [ZStandard()]}, whole),
            ("dcp_safetensors", {"serialization_format": SerializationFormat.SAFETENSORS}, {"model": whole["model"]})]:
        dcp.save(what, storage_writer=FileSystemWriter(os.path.join(out, name), **options))
    dcp.save(whole, storage_writer=FileSystemWriter(os.path.join(out, "dcp_each")), use_collectives=False)
    if rank == 0:
        # of the compressed one the same comes out
        for name in ("dcp_zstd", "dcp"):
            dcp_to_torch_save(os.path.join(out, name), os.path.join(out, "dcp.pt"))
    dist.barrier()
    dist.destroy_process_group()


def changed(out, name, change, of="dcp"):
    """Another index for a directory: NAME.metadata."""
    with open(os.path.join(out, of, ".metadata"), "rb") as f:
        metadata = pickle.load(f)
    change(metadata)
    with open(os.path.join(out, name + ".metadata"), "wb") as f:
        pickle.dump(metadata, f)


def key(metadata, fqn, offset=None):
    return next(k for k in metadata.storage_data if k.fqn == fqn and (offset is None or list(k.offset) == offset))


def undescribed(metadata):
    del metadata.state_dict_metadata["list.2"]


def unnamed(metadata):
    undescribed(metadata)
    del metadata.storage_data[key(metadata, "list.2")]


def twice(metadata):
    metadata.storage_data[key(metadata, "list.0")] = metadata.storage_data[key(metadata, "epoch")]


def gap(metadata):
    del metadata.state_dict_metadata["model.w"].chunks[1]


def overlap(metadata):
    metadata.state_dict_metadata["model.w"].chunks[1].offsets = torch.Size([4, 0])
    old = key(metadata, "model.w", [5, 0])
    place = metadata.storage_data.pop(old)
    metadata.storage_data[dataclasses.replace(old, offset=torch.Size([4, 0]))] = place


def dtype(metadata):
    metadata.state_dict_metadata["list.2"].properties.dtype = torch.int32


def shape(metadata):
    metadata.state_dict_metadata["model.b"].size = torch.Size([1, 7])
    chunk, = metadata.state_dict_metadata["model.b"].chunks
    chunk.offsets, chunk.sizes = torch.Size([0, 0]), torch.Size([1, 7])
    old = key(metadata, "model.b")
    metadata.storage_data[dataclasses.replace(old, offset=torch.Size([0, 0]))] = metadata.storage_data.pop(old)


def unknown_extension(metadata):
    for place in metadata.storage_data.values():
        place.transform_descriptors = ["stream.rot13/1"]


def without(name):
    def change(metadata):
        del metadata.state_dict_metadata[name]
        del metadata.storage_data[key(metadata, name)]
    return change


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    mp.spawn(work, (out,), RANKS)
    for change in (undescribed, unnamed, twice, gap, overlap, dtype, shape, unknown_extension):
        changed(out, change.__name__, change)
    changed(out, "safetensors_unnamed", without("model.n"), "dcp_safetensors")
    torch.save({"epoch": 3, "global_step": 12, "callbacks": {}, "loops": {}}, os.path.join(out, "meta.pt"))
    folder = os.path.join(out, "hf_fp16")
    os.makedirs(folder)
    half = {"a.w": torch.arange(6).half().reshape(2, 3), "b.w": torch.arange(4).half()}
    for number, name in enumerate(half, 1):
        save_file({name: half[name]}, os.path.join(folder, "model.fp16-0000%d-of-00002.safetensors" % number))
    index = {"metadata": {"total_size": 20}, "weight_map": {
        name: "model.fp16-0000%d-of-00002.safetensors" % number for number, name in enumerate(half, 1)}}
    with open(os.path.join(folder, "model.safetensors.index.fp16.json"), "w") as f:
        json.dump(index, f)


if __name__ == "__main__":
    main()
