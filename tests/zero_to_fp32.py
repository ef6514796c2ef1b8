"""Random ZeRO directories, DeepSpeed's `zero_to_fp32` against `ckpt ls --hash`: deepspeed and torch needed.

usage: python tests/zero_to_fp32.py CKPT [CASES] [SEED]

The partitioning is written out here as DeepSpeed's `stage_1_and_2.py` and `partition_parameters.py` have it, so that world
sizes, shapes and groups are many: a run of DeepSpeed itself for each would take days. Runs of it are in `testdata/deepspeed`.
"""
import contextlib
import hashlib
import io
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import OrderedDict

os.environ.update(DS_ACCELERATOR="cpu")
import torch  # noqa: E402
from deepspeed.runtime.zero.config import ZeroStageEnum  # noqa: E402
from deepspeed.utils import zero_to_fp32 as merging  # noqa: E402
from deepspeed.utils.tensor_fragment import fragment_address  # noqa: E402

FLOATS = [torch.float32, torch.float16, torch.bfloat16]


def shape(rng):
    dims = rng.choice([0, 1, 1, 2, 2, 3])
    return torch.Size(rng.randint(1, 9) for _ in range(dims))


def parts_of(flat, ranks):
    size = flat.numel() // ranks
    return [flat[rank * size:(rank + 1) * size] for rank in range(ranks)]


def case(rng, path):
    """Writes a directory; gives what is special about it."""
    ranks, stage, dtype = rng.randint(1, 8), rng.choice([1, 2, 3]), rng.choice(FLOATS)
    made = torch.Generator().manual_seed(rng.randrange(1 << 30))
    fill = lambda size, dtype=torch.float32: torch.randn(size, generator=made).to(dtype)  # noqa: E731
    names = [f"layers.{number}.{rng.choice(['weight', 'bias', 'scale'])}" for number in range(rng.randint(1, 14))]
    rng.shuffle(names)
    trained = {name: fill(shape(rng)) for name in names}
    frozen = {f"frozen.{number}": fill(shape(rng), dtype) for number in range(rng.choice([0, 0, 1, 4]))}
    buffers = {f"buffer.{number}": fill(shape(rng), rng.choice(FLOATS + [torch.float64, torch.int64, torch.bool]))
               for number in range(rng.randint(0, 3))}
    shared = {f"tied.{number}": rng.choice(names + list(frozen) + ["nowhere"]) for number in range(rng.randint(0, 2))}
    count = rng.randint(1, min(3, len(names)))
    cuts = sorted(rng.sample(range(1, len(names)), count - 1))
    groups = [OrderedDict((name, trained[name]) for name in names[a:b]) for a, b in zip([0] + cuts, cuts + [len(names)])]
    is_bf16, bits = rng.random() < 0.3, {}
    flats = [[] for _ in range(ranks)]
    paddings, slices, lean, padded = [[] for _ in range(ranks)], [[] for _ in range(ranks)], rng.random() < 0.7, False
    alignments = []
    if stage < 3:
        aligned = rng.random() < 0.3
        for group in groups:
            row, alignment, places = [], [], {}
            for number, (name, tensor) in enumerate(group.items()):
                places[name] = (sum(len(piece) for piece in row), tensor.numel())
                row.append(tensor.reshape(-1))
                at = sum(len(piece) for piece in row)
                pad = -at % 4 if aligned and number + 1 < len(group) else 0
                alignment.append(pad)
                row.append(torch.zeros(pad))
            row = torch.cat(row)
            used = len(row)
            row = torch.cat([row, torch.zeros(-used % (2 * ranks))])
            alignments.append(alignment)
            size = len(row) // ranks
            for rank, part in enumerate(parts_of(row, ranks)):
                pad = min(max((rank + 1) * size - used, 0), size)
                paddings[rank].append(pad)
                flats[rank].append(part[:size - pad] if lean else part.clone())
                here = OrderedDict()
                for name, (start, numel) in places.items():
                    first, last = max(start, rank * size), min(start + numel, (rank + 1) * size)
                    if first < last:
                        here[name] = fragment_address(numel=last - first, start=first - rank * size)
                slices[rank].append(here)
        if aligned or rng.random() < 0.5:
            bits["param_alignment_paddings"] = alignments
    else:
        rows = [[] for _ in range(ranks)]
        for tensor in trained.values():
            part = math.ceil(tensor.numel() / ranks)
            flat = torch.cat([tensor.reshape(-1), torch.full((part * ranks - tensor.numel(),), 7.0)])
            for rank in range(ranks):
                rows[rank].append(flat[rank * part:(rank + 1) * part])
        # groups of the optimizer are whole parameters
        ends, at = [], 0
        for piece in rows[0]:
            at += len(piece)
            if rng.random() < 0.3:
                ends.append(at)
        ends = ends if ends and ends[-1] == at else [*ends, at]
        for rank in range(ranks):
            row = torch.cat(rows[rank])
            flats[rank] = [row[a:b].clone() for a, b in zip([0] + ends, ends)]
    tag = rng.choice(["global_step7", "epoch-1", "pytorch_model"])
    inner = os.path.join(path, tag)
    os.makedirs(inner)
    with open(os.path.join(path, "latest"), "w") as f:
        f.write(tag)
    shapes = [OrderedDict((name, tensor.shape) for name, tensor in group.items()) for group in groups]
    for rank in range(ranks):
        if stage == 3 or rank == 0:
            whole = {**buffers, **trained, **frozen}
            holds = {name: tensor if stage < 3 or name in buffers else torch.empty(0) for name, tensor in whole.items()}
            fragments = frozen
            if stage == 3:
                fragments = {}
                for name, tensor in frozen.items():
                    part = math.ceil(tensor.numel() / ranks)
                    flat = torch.cat([tensor.reshape(-1), torch.zeros(part * ranks - tensor.numel(), dtype=dtype)])
                    fragments[name] = flat[rank * part:(rank + 1) * part].clone()
            state = {"module": OrderedDict(rng.sample(list(holds.items()), len(holds)) if rng.random() < 0.5 else holds),
                     "buffer_names": list(buffers), "optimizer": None, "param_shapes": shapes,
                     "frozen_param_shapes": OrderedDict((name, tensor.shape) for name, tensor in frozen.items()),
                     "shared_params": shared if rank == 0 else {}, "frozen_param_fragments": OrderedDict(fragments),
                     "global_steps": 7, "dp_world_size": ranks, "mp_world_size": 1, "ds_version": "0.19.8"}
            name = f"zero_pp_rank_{rank}_mp_rank_00" if stage == 3 else "mp_rank_00"
            torch.save(state, os.path.join(inner, f"{name}_model_states.pt"))
        optimizer = {"zero_stage": ZeroStageEnum(stage) if rng.random() < 0.9 else stage, "loss_scaler": None}
        moments = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"params": [0]}]}
        if stage == 3:
            optimizer.update(partition_count=ranks, optimizer_state_dict=moments, fp32_flat_groups=flats[rank])
        else:
            optimizer.update(partition_count=[ranks] * len(groups), base_optimizer_state=moments, group_paddings=paddings[rank],
                             single_partition_of_fp32_groups=flats[rank], param_slice_mappings=slices[rank], **bits)
        name = f"{'bf16_' if is_bf16 else ''}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": optimizer, "ds_version": "0.19.8"}, os.path.join(inner, name))
    return f"stage {stage}, {ranks} ranks, {len(groups)} groups, {len(names)} parameters"


def sha256(tensor):
    tensor = tensor.detach().contiguous()
    raw = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else tensor
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()


def main(ckpt, cases=200, seed=1):
    wrong = 0
    for number in range(int(cases)):
        rng = random.Random(f"{seed} {number}")
        path = tempfile.mkdtemp()
        try:
            what = case(rng, path)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                state = merging.get_fp32_state_dict_from_zero_checkpoint(path)
            wanted = [(name, str(t.dtype).removeprefix("torch."), list(t.shape), sha256(t)) for name, t in state.items()]
            run = subprocess.run([ckpt, "ls", "--json", "--hash", path], capture_output=True, text=True)
            rows = json.loads(run.stdout)["tensors"] if run.returncode == 0 else []
            found = [(row["path"][1], row["dtype"], row["shape"], row["sha256"]) for row in rows]
            if found != wanted:
                wrong += 1
                print(f"case {number} ({what}): {run.stderr.strip()}")
                for one, other in zip(found, wanted):
                    if one != other:
                        print(" ", one, "\n ", other)
                        break
        finally:
            shutil.rmtree(path)
    print(f"{cases} directories, {wrong} read otherwise than DeepSpeed does")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
