"""Models and training checkpoints, with torch's own counts of parameters and buffers, and the parameter that each tensor
of an optimizer's state belongs to. Usage: generate_numbers.py FOLDER"""

import json
import os
import sys
import zipfile

import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

FOLDER = sys.argv[1]
NUMBERS, OWNERS = {}, {}


def without_stack_traces(path):
    """Takes the places of this machine's sources out of an export archive."""
    def strip(value):
        if isinstance(value, dict):
            return {key: "" if key == "stack_trace" else strip(item) for key, item in value.items()}
        return [strip(item) for item in value] if isinstance(value, list) else value
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            if name.endswith("models/model.json"):
                data = json.dumps(strip(json.loads(data))).encode()
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


class Block(nn.Module):
    def __init__(self, inward, outward, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outward)
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward))


class ResNet18(nn.Module):
    """The architecture of torchvision's."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inward = 64
        for number, (outward, stride) in enumerate([(64, 1), (128, 2), (256, 2), (512, 2)], 1):
            blocks = nn.Sequential(Block(inward, outward, stride), Block(outward, outward, 1))
            setattr(self, "layer%d" % number, blocks)
            inward = outward
        self.fc = nn.Linear(512, 1000)


class Net(nn.Module):
    """Tied weights, buffers of every kind."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.lower = nn.Linear(4, 4)
        self.upper = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("position_ids", torch.arange(5))
        self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool))

    def forward(self, ids):
        return self.head(self.upper(self.lower(self.norm(self.embed(ids)))))


class WithHidden(Net):
    """And what state_dict() does not give."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(3), persistent=False)
        self.note = torch.zeros(11)


def path(name):
    return os.path.join(FOLDER, name)


def counts(*models):
    parameters = sum(p.numel() for model in models for p in model.parameters())
    return {"parameters": parameters, "buffers": sum(b.numel() for model in models for b in model.buffers())}


def save(name, what, *models):
    torch.save(what, path(name))
    NUMBERS[name] = counts(*models)


def train(model, optimizer):
    optimizer.zero_grad()
    model(torch.arange(6)).square().sum().backward()
    optimizer.step()
    return optimizer


def owners(optimizer, model, at):
    """The full name of every tensor in the state, and the parameter of the model that it is of."""
    names = {id(p): name for name, p in model.named_parameters()}
    number, found = 0, {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            for moment, value in optimizer.state.get(p, {}).items():
                if torch.is_tensor(value):
                    found["%s.state.%d.%s" % (at, number, moment)] = names[id(p)]
            number += 1
    return found


def trained(name, optimizer_of, at="optimizer", settled=True, model=None, **more):
    model = model or Net()
    optimizer = train(model, optimizer_of(model))
    save(name, {"model": model.state_dict(), at: optimizer.state_dict(), "epoch": 3, **more}, model)
    OWNERS[name] = owners(optimizer, model, at) if settled else {}


def decay_groups(model):
    """Matrices decay, everything else does not, as most fine-tuning scripts have it."""
    parameters = list(model.parameters())
    matrices, rest = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() < 2]
    return [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]


class Stack(nn.Module):
    """Nearly every shape once."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 2)
        self.one = nn.Linear(2, 3)
        self.two = nn.Linear(3, 5)
        self.three = nn.Linear(5, 5)

    def forward(self, ids):
        return self.three(self.two(self.one(self.embed(ids))))


def frozen(model, *names):
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(names))
    return [p for p in model.parameters() if p.requires_grad]


def main():
    torch.manual_seed(0)
    os.makedirs(FOLDER, exist_ok=True)
    with torch.device("meta"):
        resnet = ResNet18()
    assert counts(resnet) == {"parameters": 11689512, "buffers": 9620}
    save("resnet18_state.pt", resnet.state_dict(), resnet)
    save("resnet18_full.pt", resnet, resnet)

    net = Net()
    save("net_state.pt", net.state_dict(), net)
    save("net_plain_dict.pt", dict(net.state_dict()), net)
    save("net_full.pt", WithHidden(), WithHidden())
    torch.jit.script(net).save(path("net_scripted.pt"))
    NUMBERS["net_scripted.pt"] = counts(net)
    save_file({k: v for k, v in net.state_dict().items() if k != "head.weight"}, path("net.safetensors"))
    NUMBERS["net.safetensors"] = counts(net)
    torch.export.save(torch.export.export(net.eval(), (torch.arange(6),)), path("net.pt2"))
    without_stack_traces(path("net.pt2"))
    NUMBERS["net.pt2"] = counts(net)
    ema = Net()
    save("model_and_ema.pt", {"model": net.state_dict(), "ema": ema.state_dict()}, net, ema)
    rng = {"rng_state": torch.get_rng_state(), "rng": {"torch": torch.get_rng_state()}}
    save("random_states.pt", {"model": net.state_dict(), **rng, "best": torch.tensor(3)}, net)

    adam = torch.optim.Adam
    trained("adam.pt", lambda m: adam(m.parameters(), amsgrad=True))
    trained("adam_named.pt", lambda m: adam(m.named_parameters()))
    trained("momentum.pt", lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9), at="optimizer_state_dict")
    trained("adafactor.pt", lambda m: torch.optim.Adafactor(m.parameters()))
    trained("asgd.pt", lambda m: torch.optim.ASGD(m.parameters()))
    # each shape lies in one group; then vectors of one size lie in both
    trained("groups.pt", lambda m: adam(decay_groups(m)), model=Stack(), settled=True)
    split = lambda m: [{"params": [m.norm.weight, m.lower.bias]}, {"params": [m.norm.bias, m.upper.bias]}]
    trained("groups_unclear.pt", lambda m: adam(split(m)), settled=False)
    trained("frozen.pt", lambda m: adam(frozen(m, "one", "embed")), model=Stack())
    trained("frozen_unclear.pt", lambda m: adam(frozen(m, "norm.weight")), settled=False)

    model = Net()
    optimizer = train(model, adam(model.parameters()))
    for name, flat in [("by_name.pt", False), ("flattened.pt", True)]:
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        state = get_optimizer_state_dict(model, optimizer, options=options)
        save(name, {"model": model.state_dict(), "optim": state}, model)
        names = [key for key, _ in model.named_parameters()]
        OWNERS[name] = {"optim.state.%s.%s" % (n, m): n for n in names for m in ("step", "exp_avg", "exp_avg_sq")}

    lightning, model = "lightning.ckpt", Net()
    optimizer = train(model, adam(model.parameters()))
    save(lightning, {"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, model)
    OWNERS[lightning] = owners(optimizer, model, "optimizer_states.0")

    one, other = Net(), Stack()
    first, second = train(one, adam(one.parameters())), train(other, adam(other.parameters()))
    gan = {"G": one.state_dict(), "D": other.state_dict(), "opt_D": second.state_dict(), "opt_G": first.state_dict()}
    save("two_models.pt", gan, one, other)
    OWNERS["two_models.pt"] = {**owners(second, other, "opt_D"), **owners(first, one, "opt_G")}

    # shapes that are no parameter's
    model = Net()
    state = train(model, adam(model.parameters())).state_dict()
    state["state"][2]["exp_avg"] = torch.zeros(5)
    save("shapes_disagree.pt", {"model": model.state_dict(), "optimizer": state}, model)
    OWNERS["shapes_disagree.pt"] = {}

    for name, what in [("numbers.json", NUMBERS), ("owners.json", OWNERS)]:
        with open(path(name), "w") as out:
            json.dump(what, out, indent=1, sort_keys=True)
            out.write("\n")


main()
