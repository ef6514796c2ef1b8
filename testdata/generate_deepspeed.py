"""Write DeepSpeed checkpoints of a small model: each directory by DeepSpeed itself, on two or four gloo ranks (deepspeed,
torch, numpy needed; no GPU), and what DeepSpeed's own `zero_to_fp32` makes of each: `expected.json`.

usage: python generate_deepspeed.py OUT_DIR
"""
import hashlib
import json
import os
import shutil
import sys

os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", MASTER_ADDR="127.0.0.1", TOKENIZERS_PARALLELISM="false")

import torch  # noqa: E402
import torch.nn as nn  # noqa: E402

PORT = 29541
# what DeepSpeed leaves beside a checkpoint and is none
SCRIPTS = ("zero_to_fp32.py", "zero_to_torch.py")


class Norm(nn.Module):
    """A norm that counts, like BatchNorm, which CPUs do not have in every type."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.full((width,), 0.1))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        with torch.no_grad():
            self.running_mean += (x.mean(0) * 0.1).to(self.running_mean.dtype)
            self.num_batches_tracked += 1
        return x * self.weight + self.bias


class Block(nn.Module):
    """A scale without dimensions, sizes that no world size divides, buffers of all kinds."""

    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width + 2)
        self.out = nn.Linear(width + 2, width, bias=False)
        self.norm = Norm(width)
        self.scale = nn.Parameter(torch.tensor(0.75))
        self.register_buffer("table", torch.arange(5) * 3)
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("halves", torch.tensor([0.1, 65504.0, -6e-8], dtype=torch.float16))
        self.register_buffer("doubles", torch.tensor([0.1, 1e300, -1e-300], dtype=torch.float64))
        self.register_buffer("scratch", torch.zeros(4), persistent=False)

    def forward(self, x):
        return x + self.scale * self.norm(self.out(torch.relu(self.fc(x))))


class Net(nn.Module):
    def __init__(self, tied=True, frozen=True, width=5):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.first = Block(width)
        self.second = Block(width)
        self.head = nn.Linear(width, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        if frozen:
            self.second.fc.weight.requires_grad_(False)
            self.second.scale.requires_grad_(False)

    def forward(self, tokens):
        return self.head(self.second(self.first(self.embed(tokens))))


def config(stage, precision, **zero):
    settings = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": stage, "reduce_bucket_size": 200, "allgather_bucket_size": 200, **zero},
    }
    if precision != "fp32":
        settings[precision] = {"enabled": True}
    if precision == "fp16":
        settings["fp16"]["loss_scale"] = 1.0
    return settings


#: name: ranks, stage, precision, one group or two, further settings, of the model, of saving
CASES = {
    "zero1_fp32": dict(ranks=2, stage=1, precision="fp32", groups=2),
    "zero1_bf16_optimizer": dict(ranks=2, stage=1, precision="bf16", groups=2, accumulate="fp32"),
    "zero2_bf16": dict(ranks=4, stage=2, precision="bf16", groups=2),
    "zero2_fp16": dict(ranks=2, stage=2, precision="fp16", groups=1, model=dict(frozen=False)),
    "zero2_round_robin": dict(ranks=4, stage=2, precision="fp32", groups=2, zero=dict(round_robin_gradients=True)),
    "zero2_aligned": dict(ranks=2, stage=2, precision="bf16", groups=2, zero=dict(parameter_alignment=True)),
    "zero2_without_frozen": dict(ranks=2, stage=2, precision="bf16", groups=1, save=dict(exclude_frozen_parameters=True)),
    "zero3_fp32": dict(ranks=2, stage=3, precision="fp32", groups=1),
    "zero3_bf16": dict(ranks=4, stage=3, precision="bf16", groups=2, zero=dict(sub_group_size=40)),
    "zero3_persistent": dict(ranks=4, stage=3, precision="bf16", groups=1, model=dict(tied=False),
                             zero=dict(stage3_param_persistence_threshold=0)),
    "zero3_without_frozen": dict(ranks=2, stage=3, precision="bf16", groups=2, save=dict(exclude_frozen_parameters=True)),
}
#: as DeepSpeed 0.9.0 wrote the one that is named, which did not say what is tied
AGED = {"zero2_aged": "zero2_fp16"}


def age(path):
    for inner, _, files in os.walk(path):
        for file in (os.path.join(inner, name) for name in files if name.endswith("_model_states.pt")):
            state = torch.load(file, weights_only=False)
            for key in ("shared_params", "frozen_param_shapes", "frozen_param_fragments", "checkpoint_parallel_dimensions"):
                state.pop(key, None)
            torch.save(state, file)


#: as DeepSpeed writes it without ZeRO (which fails for parameters without dimensions): one file holds all
PLAIN = {"zero0_fp32": "zero1_fp32"}


def unpartitioned(path):
    inner = os.path.join(path, open(os.path.join(path, "latest")).read())
    for file in os.listdir(inner):
        file = os.path.join(inner, file)
        if file.endswith("_optim_states.pt"):
            os.remove(file)
            continue
        state = torch.load(file, weights_only=False)
        for key in ("param_shapes", "shared_params", "frozen_param_shapes", "frozen_param_fragments"):
            state[key] = None
        state["optimizer"] = {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
        torch.save(state, file)
    return state["module"]


def worker(rank, name, case, path, truth):
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(case["ranks"]), MASTER_PORT=str(PORT))
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    # DeepSpeed 0.19 views parameters as bytes, which fails for those without dimensions
    view = torch.Tensor.view
    torch.Tensor.view = lambda t, *how: view(t.reshape(1) if t.dim() == 0 and how == (torch.uint8,) else t, *how)
    # torch computes with it, DeepSpeed does not ask
    type(deepspeed.accelerator.get_accelerator()).is_fp16_supported = lambda accelerator: True
    torch.manual_seed(7)
    settings = config(case["stage"], case["precision"], **case.get("zero", {}))
    if "accumulate" in case:
        settings["data_types"] = {"grad_accum_dtype": case["accumulate"]}
    net = Net(**case.get("model", {}))
    trained = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    if case["groups"] == 2:
        groups = [{"params": [p for n, p in trained if p.dim() > 1], "weight_decay": 0.1},
                  {"params": [p for n, p in trained if p.dim() <= 1], "weight_decay": 0.0}]
    else:
        groups = [{"params": [p for _, p in trained]}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    engine, *_ = deepspeed.initialize(model=net, optimizer=optimizer, config=settings)
    torch.manual_seed(20 + rank)
    for _ in range(2):
        tokens = torch.randint(0, 11, (4,))
        loss = nn.functional.cross_entropy(engine(tokens).float(), torch.roll(tokens, 1))
        engine.backward(loss)
        engine.step()
    whole = {}
    for n, p in engine.module.named_parameters():
        if p.requires_grad:
            whole[n] = safe_get_full_fp32_param(p)
    if rank == 0:
        torch.save({n: t for n, t in whole.items() if t is not None}, truth)
    client = {"epoch": 3, "note": "saved by hand"}
    engine.save_checkpoint(path, client_state=client, **case.get("save", {}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def described(state):
    """What a state dict holds, in its order."""
    firsts = {}
    out = []
    for name, tensor in state.items():
        tensor = tensor.detach()
        first = firsts.setdefault(id(state[name]), name)
        entry = {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape),
                 "sha256": sha256(tensor)}
        if first != name:
            entry["is"] = first
        out.append(entry)
    return out


def sha256(tensor):
    tensor = tensor.contiguous()
    raw = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else tensor
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()


def merged(path):
    """DeepSpeed's own merging; a BF16 optimizer's files do not say their stage, which it wants."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    tag = open(os.path.join(path, "latest")).read()
    files = [f for f in os.listdir(os.path.join(path, tag)) if f.endswith("_optim_states.pt")]
    some = torch.load(os.path.join(path, tag, files[0]), weights_only=False)
    if "zero_stage" in some["optimizer_state_dict"]:
        return get_fp32_state_dict_from_zero_checkpoint(path)
    copy = path + ".copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    for file in files:
        file = os.path.join(copy, tag, file)
        state = torch.load(file, weights_only=False)
        state["optimizer_state_dict"]["zero_stage"] = 1
        torch.save(state, file)
    state = get_fp32_state_dict_from_zero_checkpoint(copy)
    shutil.rmtree(copy)
    return state


def main(out, only):
    import torch.multiprocessing as mp
    global PORT
    os.makedirs(out, exist_ok=True)
    listing = os.path.join(out, "expected.json")
    expected = json.load(open(listing)) if only and os.path.exists(listing) else {}
    for name, case in CASES.items():
        if only and name not in only:
            continue
        path = os.path.join(out, name)
        shutil.rmtree(path, ignore_errors=True)
        truth = path + ".truth"
        PORT += 1
        mp.spawn(worker, args=(name, case, path, truth), nprocs=case["ranks"])
        for script in SCRIPTS:
            if os.path.exists(os.path.join(path, script)):
                os.remove(os.path.join(path, script))
        state = merged(path)
        whole = torch.load(truth)
        os.remove(truth)
        for n, tensor in whole.items():
            if not torch.equal(state[n], tensor.cpu()):
                print(f"{name}: {n} is another one in the engine")
        expected[name] = described(state)
        for aged in (aged for aged, one in AGED.items() if one == name):
            old = os.path.join(out, aged)
            shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(path, old)
            age(old)
            expected[aged] = expected[name]
        for plain in (plain for plain, one in PLAIN.items() if one == name):
            new = os.path.join(out, plain)
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(path, new)
            expected[plain] = described(unpartitioned(new))
        with open(listing, "w") as f:
            json.dump(expected, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
