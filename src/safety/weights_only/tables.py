"""Write what torch's weights-only unpickler knows as data: tables.txt, beside this script.

usage: python tables.py [OUT]

Run it with the torch whose rules are wanted. The rules themselves (torch/_weights_only_unpickler.py, `Unpickler.load`)
are in replay.rs; here are the tables they use: opcodes, blocked modules, renamed modules and names, and the globals that
are allowed with what each of them is.
"""
import ast
import inspect
import os
import pickle
import sys

import torch
import torch._utils
import torch._weights_only_unpickler as unpickler


def opcodes():
    """The opcodes that `Unpickler.load` compares with, by the names it imports from `pickle`."""
    tree = ast.parse(inspect.getsource(unpickler.Unpickler).lstrip())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return sorted(name for name in names if isinstance(getattr(pickle, name, None), bytes))


def kind(value):
    if isinstance(value, torch.dtype):
        return "dtype"
    if isinstance(value, torch.qscheme):
        return "qscheme"
    if isinstance(value, torch.serialization.StorageType):
        return f"storage {str(value.dtype).removeprefix('torch.')}"
    if value in (torch.storage.TypedStorage, torch.storage.UntypedStorage):
        return "storage uint8" if value is torch.storage.UntypedStorage else "storage -"
    if value in torch._tensor_classes:
        return "tensor_class"
    if isinstance(value, type):
        return "type"
    return "function"


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "tables.txt")
    version = torch.__version__.split("+")[0]
    lines = [
        "# What torch's weights-only unpickler knows; written by tables.py, do not edit.",
        f"torch {version}",
    ]
    lines += [f"opcode {name}" for name in opcodes()]
    lines += [f"blocked {module}" for module in unpickler._blocklisted_modules]
    lines += [f"module {old} {new}" for old, new in torch._utils.IMPORT_MAPPING.items()]
    lines += [f"name {'.'.join(old)} {new[0]} {new[1]}" for old, new in torch._utils.NAME_MAPPING.items()]
    # `import torch` itself adds some with `add_safe_globals`
    allowed = unpickler._get_allowed_globals() | unpickler._get_user_allowed_globals()
    lines += sorted(f"global {name} {kind(value)}" for name, value in allowed.items())
    with open(out, "w", encoding="ascii", newline="\n") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
