"""Write checkpoints in which some mappings are state dicts and others must keep their keys, for `ckpt rename`.

usage: python generate_renames.py OUT_DIR        (torch 2.15, numpy 2, safetensors)

`expected.json` says of each file which keys are names: the path of the state dict (joined with dots) and its keys. Every
other key belongs to whoever looks it up: torch's, numpy's and Python's generators, optimizers, schedulers, callbacks.
tests/interop.py renames these files and resumes from them with a real torch.
"""
import argparse
import collections
import copy
import functools
import itertools
import json
import os
import random
import sys
import types

import numpy as np
import torch
import torch.nn as nn
from safetensors.torch import save_file, save_model

EXPECTED = {}


def net(wrapper=None):
    torch.manual_seed(0)
    model = nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2), fc=nn.Linear(2, 2)))
    return wrapper(model) if wrapper else model


def trained(kind=torch.optim.AdamW, **more):
    model = net()
    optimizer = kind(model.parameters(), lr=0.1, **more)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def cuda_state():
    return torch.arange(16, dtype=torch.uint8)


def random_states():
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def main(out):
    def save(name, obj, **names):
        torch.save(obj, os.path.join(out, name))
        EXPECTED[name] = {where.replace("__", "."): list(keys) for where, keys in names.items()}

    # what an object of a class was made with, and its attributes, are its own affair
    weights = {"w": torch.ones(2)}
    save("objects.pt", {"model": net().state_dict(), "repeat": itertools.repeat(weights, 2),
                        "partial": functools.partial(dict, weights), "user": collections.UserDict(weights),
                        "namespace": types.SimpleNamespace(weights={"w": torch.ones(2)})}, model=net().state_dict())
    model, optimizer = trained()
    state = model.state_dict()
    plain = dict(state)
    python, numpy, cpu = random_states()
    generator = np.random.default_rng(4)
    legacy = np.random.RandomState(5)

    # generators' states, as scripts and libraries put them together
    save("rng_dict.pt", {
        "model": state,
        "rng": {"python": python, "numpy": numpy, "torch": cpu, "cuda": [cuda_state()]},
        "rng_np": {"np": legacy.get_state(legacy=False), "pcg": generator.bit_generator.state, "torch": cpu},
    }, model=state)
    save("rng_flat.pt", {"model": plain, "torch": cpu, "numpy": numpy, "python": python, "cuda": cuda_state(), "epoch": 1},
         model=plain)
    save("rng_only.pth", {"python": python, "numpy": numpy, "cpu": cpu, "cuda": cuda_state()})
    save("rng_torch.pth", {"torch": cpu, "cuda": cuda_state()})
    save("rng_objects.pt", {"model": state, "numpy": legacy, "generator": generator, "python": random.Random(6)}, model=state)
    save("rng_megatron.pt", {
        "model": {"encoder": plain},
        "rng_state": [{"random_rng_state": python, "np_rng_state": numpy, "torch_rng_state": cpu,
                       "cuda_rng_state": cuda_state(), "rng_tracker_states": {"model-parallel-rng": cuda_state()}}],
    }, model__encoder=plain)
    save("rng_beside.pt", {**plain, "rng_state": cpu, "cuda_rng_state": cuda_state()}, **{"": plain})

    # what training scripts keep beside the weights
    save("imagenet.pth.tar", {"epoch": 5, "arch": "resnet18", "state_dict": state, "best_acc1": torch.tensor(71.5),
                              "optimizer": optimizer.state_dict(), "scheduler": {"last_epoch": 5}}, state_dict=state)
    save("values.pt", {
        "model": plain,
        "loss": torch.tensor(0.5),
        "best": torch.tensor([0.5]),
        "class_weights": torch.ones(4),
        "metrics": {"loss": torch.tensor(0.5), "confusion": torch.ones(2, 2)},
        "last": {"loss": torch.tensor(0.5), "acc": torch.tensor(0.25)},
        "normalizer": {"mean": torch.zeros(1), "std": torch.ones(1)},
        "mixed": {"centers": torch.ones(2, 2), "momentum": 0.9},
        "scaler": {"scale": torch.ones(1), "growth_tracker": torch.zeros(1)},
        "config": {"class_weights": torch.ones(4), "lr": 0.1},
        "namespace": argparse.Namespace(weights={"w": torch.ones(2)}, lr=0.1),
        "ema": {"decay": torch.tensor(0.999), "num_updates": torch.tensor(7), "shadow": copy.deepcopy(plain)},
        "ema_list": {"decay": 0.999, "shadow_params": list(model.parameters())},
    }, model=plain, ema__shadow=plain)
    save("optimizers.pt", {
        "net": plain,
        "optimizer": optimizer.state_dict(),
        "optim_list": [optimizer.state_dict(), trained(torch.optim.SGD, momentum=0.9)[1].state_dict()],
        "optimizer_states": [optimizer.state_dict()],
        "last_optimizer_state": {**optimizer.state_dict(), "loss_scale": 1.0},
        "moments": {name: {"step": torch.tensor(1.0), "exp_avg": p.detach(), "exp_avg_sq": p.detach()}
                    for name, p in model.named_parameters()},
        "flat": {**{"state.%s.exp_avg" % name: p.detach() for name, p in model.named_parameters()},
                 **{"param_groups.%s.lr" % name: 0.1 for name, p in model.named_parameters()}},
        "zero": {"optimizer_state_dict": {"base_optimizer_state": {"a": {"exp_avg": torch.ones(2)}}, "groups": [torch.ones(2)],
                                          "partition": {"w": torch.ones(2)}}},
    }, net=plain)
    callback = "ModelCheckpoint{'monitor': 'loss', 'mode': 'min'}"
    save("lightning.ckpt", {
        "epoch": 1, "global_step": 2, "state_dict": state, "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "best_k_models": {"/a/epoch=1.ckpt": torch.tensor(0.5)}},
                      "EMA": {"ema_state_dict": plain, "weights": {"w": torch.ones(2)}}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [{"_last_lr": [0.1], "scale": {"w": torch.ones(2)}}],
    }, **{"state_dict": state, "callbacks.EMA.ema_state_dict": plain})
    save("top_values.pt", {"epoch": 3, "loss": torch.tensor(0.5)})
    save("top_marked.pt", collections_with(state, epoch=3), **{"": state})
    loss = nn.Module()
    loss.register_buffer("center", torch.zeros(1, 4))
    save("loss_module.pt", {"student": state, "dino_loss": loss.state_dict()}, student=state, dino_loss=["center"])

    # prefixes
    wrapped = collections.OrderedDict(("module." + name, value) for name, value in state.items())
    save("wrapped.pt", wrapped, **{"": wrapped})
    save("dp_module.pt", nn.DataParallel(nn.Linear(3, 2)))
    half = {"model.layers.0.weight": torch.ones(2), "lm_head.weight": torch.zeros(2)}
    save("llama.pt", half, **{"": half})
    full = {"model." + name: value for name, value in half.items()}
    save("litllama.pt", full, **{"": full})
    odd = {".hidden": torch.ones(1), "a..b": torch.ones(1), "module.w": torch.ones(1)}
    save("empty_elements.pt", odd, **{"": odd})

    # aliases in __metadata__, as safetensors itself writes them
    tied = nn.Module()
    tied.emb, tied.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
    tied.head.weight = tied.emb.weight
    model = nn.Module()
    model.module = tied
    save_model(model, os.path.join(out, "tied.safetensors"), metadata={"format": "pt", "note": "kept"})
    save_file({"module.a": torch.ones(2), "module.b": torch.zeros(2)}, os.path.join(out, "plain.safetensors"),
              metadata={"module.a": "a name of ours", "alias": "nothing"})

    with open(os.path.join(out, "expected.json"), "w") as to:
        json.dump(EXPECTED, to, indent=1)
        to.write("\n")


def collections_with(state, **more):
    """What `state_dict()` gave, with keys that a script has added."""
    marked = collections.OrderedDict(state)
    marked._metadata = state._metadata
    marked.update(more)
    return marked


if __name__ == "__main__":
    main(sys.argv[1])
