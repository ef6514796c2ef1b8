"""Write the files that 16 ranks of FSDP save, 3.6 GB of bfloat16 and float32 in all, without a cluster.

usage: python3 make_ranks.py OUT_DIR [RANKS]

Needs torch 2.6 or newer. Each rank is a process of its own with torch's fake process group.
"""
import os
import subprocess
import sys

NAMES = [(f"model.layers.{layer}.{name}.weight", shape) for layer in range(24) for name, shape in [
    ("self_attn.q_proj", (2048, 2048)), ("self_attn.k_proj", (2048, 2048)), ("self_attn.v_proj", (2048, 2048)),
    ("self_attn.o_proj", (2048, 2048)), ("mlp.up_proj", (5632, 2048)), ("mlp.down_proj", (2048, 5632)),
    ("input_layernorm", (2048,)), ("post_attention_layernorm", (2048,)),
]]


def write(out, rank, ranks):
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))
    generator = torch.Generator().manual_seed(rank)
    state = {}
    for name, shape in NAMES:
        part = torch.randn(shape[0] // ranks, *shape[1:], generator=generator)
        state[name] = DTensor.from_local(part, mesh, [Shard(0)], run_check=False)
    torch.save(state, os.path.join(out, f"model_world_size_{ranks}_rank_{rank}.pt"))


if __name__ == "__main__":
    out, ranks = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 16
    if len(sys.argv) > 3:
        write(out, int(sys.argv[3]), ranks)
    else:
        os.makedirs(out, exist_ok=True)
        for rank in range(ranks):
            subprocess.run([sys.executable, __file__, out, str(ranks), str(rank)], check=True)
