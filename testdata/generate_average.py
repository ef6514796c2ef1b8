"""Write small checkpoints and what torch's own mean, weighted mean and moving average in float64 make of them (torch 2.x).

usage: python generate_average.py OUT_DIR
"""
import collections
import os
import sys
import tarfile
import warnings
import zipfile

import torch
import torch.distributed.checkpoint
from safetensors.torch import save_file

warnings.simplefilter("ignore")

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.complex128]


def run(number):
    """A checkpoint as training leaves it. Tied, flat, transposed and gapped views are so in every one."""
    torch.manual_seed(number)
    model = collections.OrderedDict()
    for dtype in FLOATS:
        name = str(dtype).removeprefix("torch.")
        model[f"{name}.weight"] = torch.randn(7, 5, dtype=torch.complex128).to(dtype) if dtype.is_complex else torch.randn(7, 5, dtype=torch.float64).to(dtype)
    model["scalar"] = torch.randn(())
    model["empty"] = torch.empty(0, 3)
    model["embed.weight"] = torch.randn(4, 3)
    model["head.weight"] = model["embed.weight"]
    flat = torch.randn(20)
    model["flat"], model["flat_a"], model["flat_b"] = flat, flat[:6].view(2, 3), flat[6:]
    model["turned"] = torch.randn(3, 4).t()
    model["gapped"] = torch.randn(4, 6)[:, 1:3]
    model["expanded"] = torch.randn(3, 1).expand(3, 4)
    model["conj"] = torch.randn(3, dtype=torch.complex64).conj()
    model["imag"] = torch.randn(3, dtype=torch.complex64).conj().imag
    model["bn.num_batches_tracked"] = torch.tensor(100 + number)
    model["mask"] = torch.tensor([True, number % 2 == 0])
    model._metadata = collections.OrderedDict({"": {"version": 1}})
    return {"model": model, "optimizer": {"state": {0: {"step": torch.tensor(float(number)), "exp_avg": torch.randn(7, 5)}}, "param_groups": [{"lr": 0.1 * number, "params": [0]}]}, "epoch": number}


def wide(tensor):
    """In float64; complex elements by their parts, which is exact, where torch's own complex division is not."""
    if tensor.dtype.is_complex:
        return torch.view_as_real(tensor.to(torch.complex128).resolve_conj().resolve_neg())
    return tensor.to(torch.float64).resolve_neg()


def narrow(tensor, dtype):
    return (torch.view_as_complex(tensor) if dtype.is_complex else tensor).to(dtype)


def put(checkpoint, means):
    """The last checkpoint with these elements in its weights; what shares memory goes on sharing it."""
    for name, tensor in checkpoint["model"].items():
        if name in means:
            # an expanded view is written where its elements lie
            target = tensor[:, :1] if name == "expanded" else tensor
            target.copy_(means[name][:, :1] if name == "expanded" else means[name])
    return checkpoint


def blended(checkpoints, blend):
    models = [checkpoint["model"] for checkpoint in checkpoints]
    averaged = [name for name, tensor in models[-1].items() if tensor.dtype.is_floating_point or tensor.dtype.is_complex]
    means = {name: narrow(blend([wide(model[name]) for model in models]), models[-1][name].dtype) for name in averaged}
    return put(run(checkpoints[-1]["epoch"]), means)


def mean(tensors):
    return torch.stack(tensors).mean(0)


def weighted(weights):
    return lambda tensors: sum(weight * tensor for weight, tensor in zip(weights, tensors)) / sum(weights)


def moving(decay):
    def blend(tensors):
        average = tensors[0]
        for tensor in tensors[1:]:
            average = decay * average + (1 - decay) * tensor
        return average

    return blend


def state(number):
    """A small state dict, for many inputs and other containers."""
    torch.manual_seed(100 + number)
    return {"fc.weight": torch.randn(3, 4), "fc.bias": torch.randn(3).half(), "bn.steps": torch.tensor(number)}


def main(out):
    os.makedirs(out, exist_ok=True)

    def path(name):
        return os.path.join(out, name)

    runs = [run(number) for number in range(3)]
    for number, checkpoint in enumerate(runs):
        torch.save(checkpoint, path(f"run_{number}.pt"))
    torch.save(blended(runs, mean), path("run_mean.pt"))
    torch.save(blended(runs, weighted([0.5, 0.3, 0.2])), path("run_weighted.pt"))
    torch.save(blended(runs, moving(0.9)), path("run_ema.pt"))

    states = [state(number) for number in range(10)]
    for number, weights in enumerate(states):
        save_file(weights, path(f"state_{number}.safetensors"))
    torch.save(states[1], path("state_1.pt"))
    torch.distributed.checkpoint.save(states[0], checkpoint_id=path("state_0_dcp"), no_dist=True)
    with tarfile.open(path("state_1.tar.gz"), "w:gz") as archive:
        archive.add(path("state_1.pt"), "weights/state_1.pt")
    torch.save({"state_dict": states[2], "epoch": 2}, path("state_2_legacy.pth"), _use_new_zipfile_serialization=False)
    for count in (2, 3, 10):
        means = {name: mean([wide(weights[name]) for weights in states[:count]]).to(tensor.dtype) for name, tensor in states[0].items() if tensor.dtype.is_floating_point}
        save_file({**states[count - 1], **means}, path(f"state_mean_of_{count}.safetensors"))

    not_finite = {**states[3], "fc.weight": states[3]["fc.weight"].clone()}
    not_finite["fc.weight"][0, 0], not_finite["fc.weight"][1, 1] = float("nan"), float("inf")
    torch.save(not_finite, path("not_finite.pt"))
    other = {"fc.weight": torch.randn(3, 5), "fc.bias": states[0]["fc.bias"].float(), "extra": torch.ones(1)}
    torch.save(other, path("other.pt"))
    tied = torch.randn(2, 2)
    torch.save({"a.weight": tied, "b.weight": tied}, path("tied.pt"))
    torch.save({"a.weight": tied + 1, "b.weight": tied + 1}, path("equal.pt"))
    torch.save({"a.weight": tied + 1, "b.weight": tied + 2}, path("untied.pt"))
    shared = torch.randn(4)
    torch.save({"model": {"fc.weight": shared}, "log": {"kept": [shared]}}, path("shared.pt"))
    torch.save({"w.weight": torch.randn(4).to(torch.float8_e4m3fn)}, path("float8.pt"))
    torch.save({"only": torch.arange(3), "many": torch.arange(4)}, path("integers.pt"))
    packed = {"fc.weight": torch.randint(-128, 127, (4, 4), dtype=torch.int8), "fc.weight_scale": torch.rand(4), "norm.weight": torch.rand(4)}
    torch.save(packed, path("packed.pt"))
    fours = {"a.weight": torch.randn(5, 3), "b.weight": torch.randn(4, dtype=torch.complex64)}
    torch.save(fours, path("little_endian.pt"))
    with zipfile.ZipFile(path("little_endian.pt")) as little, zipfile.ZipFile(path("big_endian.pt"), "w") as big:
        for member in little.infolist():
            data = little.read(member)
            if "/data/" in member.filename:
                data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
            big.writestr(zipfile.ZipInfo(member.filename), b"big" if member.filename.endswith("/byteorder") else data)
    for folder, _, names in os.walk(out):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)


if __name__ == "__main__":
    main(sys.argv[1])
