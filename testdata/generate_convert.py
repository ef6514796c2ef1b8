"""Write state dicts with attributes that weights_only refuses, wrapper tensors, values, aliases of views (torch 2.x).

usage: python generate_convert.py OUT_DIR
"""
import fractions
import os
import sys
import warnings

import torch
import torch.nn as nn
from safetensors.torch import save_model

warnings.simplefilter("ignore")


def linear():
    torch.manual_seed(0)
    return nn.Linear(2, 3)


class Views(nn.Module):
    """A part of a weight under a name of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(3, 2))
        self.row = nn.Parameter(self.weight.detach()[0])


def main(out):
    os.makedirs(out, exist_ok=True)

    def path(name):
        return os.path.join(out, name)

    marked = linear().state_dict()
    marked.origin = fractions.Fraction(1, 2)
    torch.save({"model": marked, "epoch": 3}, path("attribute.pt"))
    odd = linear().state_dict()
    odd._metadata["odd"] = fractions.Fraction(1, 2)
    torch.save(odd, path("odd_metadata.pt"))
    torch.save({"model": {"w": torch.ones(2, 2), "lr": 0.1, "note": "x"}, "epoch": 3, "cfg": {"a": 1, "b": 2}}, path("values.pt"))
    masked = torch.masked.masked_tensor
    mask = torch.tensor([True, False])
    torch.save({"a": masked(torch.ones(2), mask), "b": masked(torch.zeros(2), mask)}, path("two_wrappers.pt"))
    save_model(Views(), path("views.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1])
