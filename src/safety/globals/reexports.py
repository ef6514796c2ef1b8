"""Write what modules of Python and torch have from elsewhere as data: reexports.txt, beside this script.

    python reexports.py FOLDER... [-o OUT]

Run it with Python 3.13, which reads the syntax of all of them. A FOLDER is `site-packages` with torch in it, or `Lib` of a
CPython: of a checkout of CPython at tag v3.x, or `lib/python3.x` where that is installed. The table was made from 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0,
and torch 2.15. Nothing is imported: the sources are parsed. A row is a name, what it is (a module, or a module and a name in
it), and the modules that have it.
"""
import ast
import os
import sys

# Python's own modules that checkpoints name something of; of the others everything counts as dangerous anyway
STDLIB = """
__future__ _collections_abc _py_abc _pydatetime _pydecimal _strptime _weakrefset abc argparse array bisect calendar
collections colorsys contextlib copy copyreg dataclasses datetime decimal enum fractions functools graphlib heapq html http
ipaddress itertools json keyword logging math numbers operator pathlib queue random re secrets statistics string struct
textwrap threading time types typing uuid weakref zoneinfo
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


def of_stars(lib, module, path, is_package):
    """What `from x import *` brings, where x is a source: what its `__all__` lists, else what it has from elsewhere."""
    with open(path, "rb") as f:
        body = list(top_level(ast.parse(f.read()).body))
    for node in body:
        if not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*" and not node.level):
            continue
        for name, other, other_is_package in sources(lib, node.module):
            if name != node.module:
                continue
            listed = all_of(other)
            for _, what, target in rows(name, other, other_is_package):
                if what in listed if listed is not None else not what.startswith("_"):
                    yield module, what, target


def all_of(path):
    with open(path, "rb") as f:
        tree = ast.parse(f.read())
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            try:
                return set(ast.literal_eval(node.value))
            except ValueError:
                return set()
    return None


def main():
    args = sys.argv[1:]
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reexports.txt")
    if "-o" in args:
        at = args.index("-o")
        out = args[at + 1]
        del args[at : at + 2]
    found = set()
    for lib in args:
        if os.path.isdir(os.path.join(lib, "torch")):
            for source in sources(lib, "torch"):
                outside = not source[0].startswith(("torch._dynamo", "torch._inductor"))
                found.update(row for row in rows(*source) if outside and row[2].partition(".")[0] != "torch")
            continue
        for name in STDLIB:
            for source in sources(lib, name):
                found.update(rows(*source))
                found.update(of_stars(lib, *source))
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
