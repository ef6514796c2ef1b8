"""Write what modules of Python and torch have from elsewhere as data: reexports.txt, beside this script.

usage: python reexports.py [LIB...] [-o OUT]

Run it with the torch whose modules are wanted. LIB are `Lib` directories of further CPythons (3.8 to 3.13); that of the
Python that runs this is always taken. Nothing is imported: the sources are parsed. A row is a module, a name in it, and
what that is: a module, or a module and a name in it.
"""
import ast
import importlib.util
import os
import sys
import sysconfig

# Python's own modules that checkpoints name something of; of the others everything counts as dangerous anyway
STDLIB = """
argparse array bisect calendar collections contextlib copy copyreg dataclasses datetime decimal enum fractions
functools heapq http ipaddress itertools json logging math numbers operator pathlib queue random re statistics string
struct textwrap threading time types typing uuid weakref zoneinfo
""".split()
# what these have makes only types
PLAIN = {"typing", "typing_extensions", "__future__", "collections.abc", "abc", "enum", "numbers", "math"}


def sources(root, package):
    top = os.path.join(root, *package.split("."))
    if os.path.isfile(top + ".py"):
        yield package, top + ".py", False
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(f for f in folders if f not in ("test", "tests", "testing", "__pycache__"))
        for file in sorted(files):
            if file.endswith(".py"):
                parts = os.path.relpath(os.path.join(folder, file), root)[:-3].split(os.sep)
                is_package = parts[-1] == "__init__"
                yield ".".join(parts[:-1] if is_package else parts), os.path.join(folder, file), is_package


def top_level(body):
    """The statements that run on import, those in `if` and `try` too."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from top_level(getattr(node, part, []))


def rows(module, path, is_package):
    with open(path, "rb") as f:
        tree = ast.parse(f.read())
    package = module if is_package else module.rpartition(".")[0]
    for node in top_level(tree.body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                yield module, alias.asname or target, target
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")
                base = ".".join(up[: len(up) - node.level + 1] + ([base] if base else []))
            for alias in node.names:
                if alias.name != "*":
                    yield module, alias.asname or alias.name, f"{base}.{alias.name}"


def main():
    args = sys.argv[1:]
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reexports.txt")
    if "-o" in args:
        at = args.index("-o")
        out = args[at + 1]
        del args[at : at + 2]
    found = set()
    for lib in [sysconfig.get_path("stdlib")] + args:
        for name in STDLIB:
            for source in sources(lib, name):
                found.update(rows(*source))
    torch = os.path.dirname(os.path.dirname(importlib.util.find_spec("torch").origin))
    for source in sources(torch, "torch"):
        for row in rows(*source):
            if row[2].partition(".")[0] != "torch" and not row[0].startswith(("torch._dynamo", "torch._inductor")):
                found.add(row)
    groups = {}
    for module, name, target in found:
        # a module under its own name is known without a table
        if target in PLAIN or target.rpartition(".")[0] in PLAIN or name == target:
            continue
        groups.setdefault((name, target), set()).add(module)
    lines = ["# What modules have from elsewhere; written by reexports.py, do not edit. A name, what it is, where."]
    lines += [f"{name} {target} {' '.join(sorted(modules))}" for (name, target), modules in sorted(groups.items())]
    with open(out, "w", encoding="ascii", newline="\n") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
