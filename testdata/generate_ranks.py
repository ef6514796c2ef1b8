"""Write checkpoints of which each process saved its own part with torch.save, and what torch says is in them as a whole.

usage: python generate_ranks.py OUT_DIR [NAME...]

Needs torch 2.15 with gloo; for Megatron-LM's files megatron-core 0.16, whose layers are made on the CPU.
"""
import hashlib
import json
import os
import shutil
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

PORT = 29561


class Net(nn.Module):
    """Odd sizes, a buffer, tied weights, a parameter with one row, frozen ones."""
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.up = nn.Linear(6, 10)
        self.norm = nn.BatchNorm1d(10)
        self.down = nn.Linear(10, 6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embed.weight
        self.one = nn.Parameter(torch.randn(1, 3))
        self.scale = nn.Parameter(torch.randn(5), requires_grad=False)

    def forward(self, x):
        return self.head(self.down(self.norm(self.up(self.embed(x))).relu()))


def seeded():
    torch.manual_seed(7)
    net = Net()
    with torch.no_grad():
        net.norm.running_mean.normal_()
    return net


def sha256(tensor):
    data = tensor.detach().cpu().contiguous()
    return hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b"").hexdigest()


def oracle(path, tensors):
    """What the whole tensors are, by name."""
    rows = {k: {"dtype": str(v.dtype).replace("torch.", ""), "shape": list(v.shape), "sha256": sha256(v)}
            for k, v in tensors.items()}
    with open(path + ".whole.json", "w") as file:
        json.dump({"torch": torch.__version__.split("+")[0], "tensors": rows}, file, indent=0, sort_keys=True)


def save(obj, path, name="model"):
    os.makedirs(path, exist_ok=True)
    torch.save(obj, os.path.join(path, f"{name}_world_size_{dist.get_world_size()}_rank_{dist.get_rank()}.pt"))


def whole(state):
    return {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in state.items()}


def finish(state, path):
    """Saves this rank's part, and the oracle of all."""
    save(state, path)
    full = whole(state)
    if dist.get_rank() == 0:
        oracle(path, full)


def fsdp2(path):
    """FSDP2 on a line of processes, with what verl writes beside the model."""
    from torch.distributed.fsdp import fully_shard
    net = seeded()
    fully_shard(net.up), fully_shard(net.down)
    fully_shard(net)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.01)
    net(torch.arange(6)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    finish(net.state_dict(), path)
    save(optimizer.state_dict(), path, "optim")
    save({"lr_scheduler": None, "rng": {"cpu": torch.ByteTensor([dist.get_rank()] * 4)}}, path, "extra_state")
    state = optimizer.state_dict()["state"]
    full = {f"state.{i}.{k}": v.full_tensor() if isinstance(v, DTensor) else v for i, s in state.items() for k, v in s.items()}
    if dist.get_rank() == 0:
        oracle(path + "_optim", full)
        json.dump({"FSDP_version": 2, "world_size": dist.get_world_size()}, open(os.path.join(path, "fsdp_config.json"), "w"))


def hsdp(path):
    """FSDP2 on a mesh of two by two: replicated along one side."""
    from torch.distributed.fsdp import fully_shard
    net = seeded()
    fully_shard(net, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("ddp", "fsdp")))
    finish(net.state_dict(), path)


def fsdp_tp(path):
    """Tensor parallelism, then FSDP2 across it: _StridedShard."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 4), nn.LayerNorm(4))
    parallelize_module(net, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(net, mesh=mesh["dp"])
    finish(net.state_dict(), path)


def older(path):
    """What torch until 2.9 kept of a mesh and of placements: the tensor of ranks, and no order of cuts."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor._dtensor_spec import DTensorSpec
    new = DeviceMesh.__getstate__
    DeviceMesh.__getstate__ = lambda mesh: {
        "device_type": mesh.device_type, "mesh": mesh.mesh.clone(), "mesh_dim_names": mesh.mesh_dim_names,
        "_flatten_mesh_list": tuple(mesh.mesh.flatten().tolist()), "_thread_id": None, "_hash": None,
        "_coordinate_on_dim": list(mesh.get_coordinate())}
    DTensorSpec.__getstate__ = lambda spec: {
        "mesh": spec.mesh, "placements": spec.placements, "tensor_meta": spec.tensor_meta}
    fsdp_tp(path)
    DeviceMesh.__getstate__ = new
    del DTensorSpec.__getstate__


def placements(path):
    """Every kind of placement on meshes of one, two and more dimensions."""
    n = dist.get_world_size()
    line, square = init_device_mesh("cpu", (n,)), init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    torch.manual_seed(11)
    full = {
        "rows": (torch.randn(7, 3), line, [Shard(0)]),
        "columns": (torch.randn(2, 9, dtype=torch.float64), line, [Shard(1)]),
        "few": (torch.arange(2), line, [Shard(0)]),
        "none": (torch.zeros(0, 4), line, [Shard(0)]),
        "both": (torch.randn(5, 7).to(torch.bfloat16), square, [Shard(0), Shard(1)]),
        "same": (torch.randn(11, 2), square, [Shard(0), Shard(0)]),
        "strided": (torch.randn(12, 2), square, [_StridedShard(0, split_factor=2), Shard(0)]),
        "inner": (torch.randn(2, 10, 3), square, [_StridedShard(1, split_factor=3), Replicate()]),
        "copies": (torch.randn(3), square, [Replicate(), Replicate()]),
        "half": (torch.randn(6, 2).to(torch.complex64), square, [Replicate(), Shard(0)]),
        "scalar": (torch.tensor(2.5), line, [Replicate()]),
        "turned": (torch.randn(6, 8).t(), line, [Shard(1)]),
        "part": (torch.randn(9) > 0, square["b"], [Shard(0)]),
    }
    state = {k: distribute_tensor(v, m, p) for k, (v, m, p) in full.items()}
    small = torch.randn(8).to(torch.float8_e4m3fn)
    full["float8"] = (small, line, [Shard(0)])
    state["float8"] = DTensor.from_local(small.chunk(n)[dist.get_rank()].clone(), line, [Shard(0)], run_check=False)
    # distribute_tensor refuses what does not come out even here, full_tensor does not
    odd, kind = torch.randn(13, 2), _StridedShard(0, split_factor=3)
    local = kind._split_tensor(odd, n, with_padding=False)[0][dist.get_rank()]
    full["odd"] = (odd, line, [kind])
    state["odd"] = DTensor.from_local(local, line, [kind], shape=odd.shape, stride=odd.stride(), run_check=False)
    state["plain"], state["step"], state["name"] = torch.arange(3), 5, "abc"
    tied = state["rows"]
    state["tied"] = tied.detach()
    state["parameter"] = nn.Parameter(state["both"].detach())
    save({"model": state, "rank": dist.get_rank()}, path)
    full = {k: v for k, (v, _, _) in full.items()}
    full.update(plain=torch.arange(3), tied=full["rows"], parameter=full["both"])
    if dist.get_rank() == 0:
        oracle(path, {f"model.{k}": v for k, v in full.items()})
    # torch puts the same together
    for k, v in state.items():
        if isinstance(v, DTensor) and k != "float8":
            assert torch.equal(v.full_tensor(), full[k]), k


def partial(path):
    """Sums that nobody has added up."""
    line = init_device_mesh("cpu", (dist.get_world_size(),))
    term = DTensor.from_local(torch.ones(4), line, [Partial()])
    save({"sum": term, "rows": distribute_tensor(torch.randn(5), line, [Shard(0)])}, path)


def fsdp1(kind, path):
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, StateDictType
    net = seeded()
    net.scale.requires_grad_(kind == "local")
    net = FSDP(net, use_orig_params=kind == "sharded", device_id=torch.device("cpu"))
    with FSDP.state_dict_type(net, StateDictType.FULL_STATE_DICT):
        full = net.state_dict()
    which = {"sharded": StateDictType.SHARDED_STATE_DICT, "local": StateDictType.LOCAL_STATE_DICT}[kind]
    with FSDP.state_dict_type(net, which):
        state = net.state_dict()
    save(state, path)
    print(kind, {k: type(v).__name__ for k, v in state.items()})
    if kind == "local":
        flat = state["_flat_param"].local_tensor() if hasattr(state["_flat_param"], "local_tensor") else state["_flat_param"]
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, flat)
        full = {"_flat_param": torch.cat(parts), **{k: v for k, v in state.items() if k != "_flat_param"}}
    if dist.get_rank() == 0:
        oracle(path, full)


def fsdp1_mesh(path):
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, ShardedStateDictConfig, StateDictType
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("fsdp",))
    net = seeded()
    net = FSDP(net, use_orig_params=True, device_mesh=mesh, device_id=torch.device("cpu"))
    with FSDP.state_dict_type(net, StateDictType.SHARDED_STATE_DICT, ShardedStateDictConfig(offload_to_cpu=False)):
        state = net.state_dict()
    finish(state, path)


class Shape:
    """A GPT of Megatron-core and how it is cut."""
    def __init__(self, tp, pp, vpp=None, layers=4, gated=False, groups=None, tied=False):
        self.tp, self.pp, self.vpp, self.layers, self.gated, self.groups, self.tied = tp, pp, vpp, layers, gated, groups, tied


def gpt(shape):
    """This process's models, one for each stage it has. What a layer holds says which layer it is."""
    from megatron.core import parallel_state
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import TransformerConfig

    def init(weight):
        seed = torch.Generator().manual_seed(sum((i + 1) * n for i, n in enumerate(weight.shape)))
        with torch.no_grad():
            weight.copy_(torch.randint(-99, 99, weight.shape, generator=seed).to(weight.dtype))

    config = TransformerConfig(
        num_layers=shape.layers, hidden_size=8, num_attention_heads=4, num_query_groups=shape.groups, ffn_hidden_size=12,
        use_cpu_initialization=True, init_method=init, output_layer_init_method=init, gated_linear_unit=shape.gated,
        tensor_model_parallel_size=shape.tp, pipeline_model_parallel_size=shape.pp, pipeline_dtype=torch.float32,
        virtual_pipeline_model_parallel_size=shape.vpp, bias_activation_fusion=False, activation_func=torch.nn.functional.silu
        if shape.gated else torch.nn.functional.gelu)
    models = []
    for stage in range(shape.vpp or 1):
        vp = stage if shape.vpp else None
        first = parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp)
        last = parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp)
        model = GPTModel(config, get_gpt_layer_local_spec(), 32, 16, pre_process=first, post_process=last,
                         share_embeddings_and_output_weights=shape.tied, vp_stage=vp)
        with torch.no_grad():
            for layer in model.decoder.layers:
                for name, parameter in layer.named_parameters():
                    if name.endswith("bias") or "layernorm" in name:
                        # each is drawn alike, cut like the weight that it belongs to
                        full = torch.arange(1, 1 + parameter.numel() * (shape.tp if cut(name) else 1)) % 7
                        parameter.copy_(local(full, name, shape))
                    parameter.mul_(layer.layer_number)
        models.append(model)
    return models


def cut(name):
    return name in ("self_attention.linear_qkv.bias", "mlp.linear_fc1.bias")


def local(full, name, shape):
    """A bias as ColumnParallelLinear has it: of a gated one each half is cut on its own."""
    from megatron.core import parallel_state
    rank = parallel_state.get_tensor_model_parallel_rank()
    if not cut(name):
        return full
    halves = full.chunk(2) if shape.gated and "fc1" in name else [full]
    return torch.cat([half.chunk(shape.tp)[rank] for half in halves])


def megatron(shape, path):
    """Megatron-LM's own files (`megatron/training/checkpointing.py`, save_checkpoint and get_checkpoint_name)."""
    import argparse
    from megatron.core import parallel_state
    parallel_state.initialize_model_parallel(shape.tp, shape.pp, shape.vpp)
    models = gpt(shape)
    state = {"args": argparse.Namespace(
        num_layers=shape.layers, hidden_size=8, swiglu=shape.gated, tensor_model_parallel_size=shape.tp,
        pipeline_model_parallel_size=shape.pp, rank=dist.get_rank()), "checkpoint_version": 3.0, "iteration": 100}
    for i, model in enumerate(models):
        state["model" if len(models) == 1 else f"model{i}"] = model.state_dict()
    state["optimizer"] = {"optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    state["rng_state"] = [{"random_rng_state": dist.get_rank(), "torch_rng_state": torch.ByteTensor([dist.get_rank()] * 3)}]
    name = f"mp_rank_{parallel_state.get_tensor_model_parallel_rank():02d}"
    if shape.pp > 1:
        name += f"_{parallel_state.get_pipeline_model_parallel_rank():03d}"
    folder = os.path.join(path, "iter_0000100", name)
    os.makedirs(folder, exist_ok=True)
    torch.save(state, os.path.join(folder, "model_optim_rng.pt"))
    parallel_state.destroy_model_parallel()
    if dist.get_rank() == 0:
        with open(os.path.join(path, "latest_checkpointed_iteration.txt"), "w") as file:
            file.write("100")


def megatron_oracle(shape, path):
    """The same model in one process."""
    from megatron.core import parallel_state
    parallel_state.initialize_model_parallel(1, 1)
    whole = Shape(1, 1, None, shape.layers, shape.gated, shape.groups, shape.tied)
    state = gpt(whole)[0].state_dict()
    oracle(path, {f"model.{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)})


def llama(path, vocabulary_cut, kv_heads):
    """Meta's files, as `llama/model.py` cuts them: ColumnParallelLinear, RowParallelLinear and the embedding."""
    torch.manual_seed(5)
    dim, heads, hidden, words, n = 8, 4, 12, 20, dist.get_world_size()
    kv = dim // heads * kv_heads
    full, cut = {"tok_embeddings.weight": torch.randn(words, dim)}, {"tok_embeddings.weight": 0 if vocabulary_cut else 1}
    for i in range(2):
        for name, shape, where in [
                ("attention.wq", (dim, dim), 0), ("attention.wk", (kv, dim), 0), ("attention.wv", (kv, dim), 0),
                ("attention.wo", (dim, dim), 1), ("feed_forward.w1", (hidden, dim), 0),
                ("feed_forward.w2", (dim, hidden), 1), ("feed_forward.w3", (hidden, dim), 0),
                ("attention_norm", (dim,), None), ("ffn_norm", (dim,), None)]:
            full[f"layers.{i}.{name}.weight"], cut[f"layers.{i}.{name}.weight"] = torch.randn(shape), where
    full.update({"norm.weight": torch.randn(dim), "output.weight": torch.randn(words, dim)})
    cut["output.weight"] = 0
    full = {k: v.to(torch.bfloat16) for k, v in full.items()}
    part = {k: v if cut.get(k) is None else v.chunk(n, cut[k])[dist.get_rank()].clone() for k, v in full.items()}
    os.makedirs(path, exist_ok=True)
    torch.save(part, os.path.join(path, f"consolidated.{dist.get_rank():02d}.pth"))
    if dist.get_rank() == 0:
        oracle(path, full)
        params = {"dim": dim, "n_layers": 2, "n_heads": heads, "n_kv_heads": kv_heads, "vocab_size": words}
        json.dump(params, open(os.path.join(path, "params.json"), "w"))


MEGATRON = {
    "megatron_tp": Shape(2, 1),
    "megatron_gated": Shape(2, 2, gated=True, groups=2),
    "megatron_virtual": Shape(1, 2, vpp=2),
}


JOBS = {
    "fsdp2": (4, fsdp2),
    "hsdp": (4, hsdp),
    "fsdp_tp": (4, fsdp_tp),
    "older": (4, older),
    "placements": (4, placements),
    "partial": (2, partial),
    "fsdp1_sharded": (2, lambda path: fsdp1("sharded", path)),
    "fsdp1_local": (2, lambda path: fsdp1("local", path)),
    "fsdp1_mesh": (2, fsdp1_mesh),
    "llama2": (2, lambda path: llama(path, False, 4)),
    "llama3": (4, lambda path: llama(path, True, 4)),
    "llama_grouped": (2, lambda path: llama(path, True, 2)),
}
for name, shape in MEGATRON.items():
    JOBS[name] = (shape.tp * shape.pp, lambda path, shape=shape: megatron(shape, path))
    JOBS[name + " whole"] = (1, lambda path, shape=shape: megatron_oracle(shape, path))


def worker(rank, name, path):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(PORT), RANK=str(rank), WORLD_SIZE=str(JOBS[name][0]))
    dist.init_process_group("gloo", rank=rank, world_size=JOBS[name][0])
    JOBS[name][1](path)
    dist.barrier()
    dist.destroy_process_group()


def main():
    out, names = sys.argv[1], sys.argv[2:] or list(JOBS)
    os.makedirs(out, exist_ok=True)
    for name in names:
        path = os.path.join(out, name.split()[0])
        if " " not in name:
            shutil.rmtree(path, ignore_errors=True)
        mp.spawn(worker, args=(name, path), nprocs=JOBS[name][0])


if __name__ == "__main__":
    main()
