"""Write checkpoints whose random number states and modules lie where `ckpt rename` may take their keys for names.

usage: python generate_answers.py OUT_DIR        (torch 2.15)

`expected.json` says of each file which keys are names: the path of the state dict (joined with dots) and its keys.
"""
import json
import os
import sys

import torch
import torch.nn as nn

EXPECTED = {}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def save(name, checkpoint, *state_dicts):
    torch.save(checkpoint, name)
    EXPECTED[name] = {key: sorted(checkpoint[key]) for key in state_dicts}


def generator(count):
    """A state as CUDA's generators give it: 16 bytes, 816 in torch 1.5 to 1.12."""
    return torch.zeros(count, dtype=torch.uint8)


def main(out_dir):
    os.makedirs(out_dir, exist_ok=True)
    os.chdir(out_dir)
    state = net().state_dict()
    save("module_beside.pt", {"state_dict": state, "criterion": nn.CrossEntropyLoss(torch.ones(2))}, "state_dict")
    save("devices.pt", {"model": state, "cuda": {"0": generator(16), "1": generator(16)}}, "model")
    save("old_devices.pt", {"model": state, "cuda": {"0": generator(816), "1": generator(816)}}, "model")
    save("old_device.pt", {"model": state, "states": {"cpu": torch.get_rng_state(), "gpu": generator(816)}}, "model")
    save("old_generators.pt", {"model": state, "generators": {"a": generator(816), "b": generator(816)}}, "model")
    # quantized weights have bytes too: their scales of any number are parameters
    quantized = {"fc.weight": generator(16), "fc.weight.absmax": generator(816), "fc.bias": torch.zeros(2)}
    save("quantized.pt", {"model": quantized}, "model")
    # a model that runs on a device is no state of one
    save("on_device.pt", {"cuda": state, "cpu": {"weight": torch.zeros(2, 2), "scale": generator(2)}}, "cuda", "cpu")
    # optimizers of all kinds by the names that scripts give them, with state that torch's have not
    moments = {"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}
    save("optimizers.pt", {"model": state, "optimG": moments, "optimizerD_state": moments, "optims": [moments]}, "model")
    with open("expected.json", "w") as file:
        json.dump(EXPECTED, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
