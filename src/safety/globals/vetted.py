"""Write the classes and functions of libraries that do nothing but make data, as data: vetted.txt, beside this script.

    python vetted.py FOLDER          (Python 3.13, with pip and git)

FOLDER gets what vetted.packages.txt lists, as far as it is not there yet: wheels, which pip downloads, and checkouts.
Nothing is installed or imported: sources are parsed. Each package is gone through on its own, with the others to follow
bases and calls into, so that the result depends neither on their order nor on how many processors there are; where a class
is in two versions of a package, it counts only if it is harmless in both.

A class is taken when no method that a pickle makes Python call reaches a file, a process, the network, code, or a function
that the pickle chose; an unknown base or call means that it is not taken. What stands behind `|` is harmless only as pickles
make objects, without calling the class: its constructor was not found harmless.
"""
import ast
import builtins
import functools
import glob
import multiprocessing
import os
import re
import subprocess
import sys
import zipfile

sys.setrecursionlimit(20000)

# what a pickle makes Python call of an object that it does not construct by a call
NEW = """__new__ __setstate__ __reduce__ __reduce_ex__ __setattr__ __getattr__ __getattribute__ __hash__ __eq__ __del__
__setitem__ __missing__ append extend add __contains__ __len__ __bool__ __index__""".split()
# and of one that it does
INIT = ["__init__", "__post_init__", "_missing_"]
SKIP = re.compile(r"(^|[./_])(tests?|testing|conftest|examples?|benchmarks?|scripts?|cli|commands|_inductor|_dynamo|_vendor|"
                  r"_export|_higher_order_ops|vendor|antlr4|distributed\.rpc|distributed\.elastic|experimental_tests|setup|_C|jit|hub|onnx)([./_]|$)")
WORDS = set("""load loads reload open fopen popen read write save dump dumps exec execute eval evaluate run runs runcode
spawn system shell cmd command subprocess download downloads request urlopen urlretrieve import instantiate compile unlink
rmtree mkdir chmod chown symlink touch serve server launch install pickle unpickle deserialize marshal tofile fromfile memmap
extractall locate socket publish upload pretrained register_module_from_file call send kill unserialize fromstring parsestring
render uncompress unpack_from_file restore""".split())
OK_STDLIB = set("""math cmath copy collections enum typing typing_extensions dataclasses itertools operator functools numbers
datetime time decimal fractions random re string textwrap warnings abc uuid json struct array bisect heapq types statistics
logging weakref contextlib inspect __future__ colorsys calendar hashlib threading platform queue ipaddress""".split())
BAD_STDLIB = {"types.FunctionType", "types.CodeType", "types.MethodType", "types.ModuleType", "types.new_class",
              "functools.reduce", "operator.attrgetter", "operator.methodcaller", "operator.call", "logging.FileHandler",
              "logging.config", "logging.handlers", "logging.basicConfig", "weakref.finalize", "platform.popen",
              "inspect.getsource", "inspect.getmodule", "inspect.stack", "itertools.starmap", "threading.Thread",
              "threading.Timer", "itertools.accumulate"}
OK_OS = {"os.environ", "os.environ.get", "os.getenv", "os.path.join", "os.path.basename", "os.path.dirname",
         "os.path.splitext", "os.fspath", "os.PathLike", "os.sep", "os.getpid", "os.cpu_count", "os.path", "os", "sys",
         "os.path.exists", "os.path.isfile", "os.path.isdir", "os.path.expanduser", "os.path.abspath", "sys.version_info",
         "sys.maxsize", "sys.platform", "sys.float_info", "sys.byteorder", "pathlib.Path", "pathlib.PurePath", "pathlib"}
BAD_BUILTINS = {"open", "eval", "exec", "compile", "__import__", "input", "globals", "locals", "vars", "breakpoint",
                "__builtins__", "exit", "quit", "delattr", "execfile", "apply"}
CALLERS = {"map", "filter", "sorted", "iter", "min", "max"}
OK_BASES = set("""object dict list tuple set frozenset int float str bytes complex abc.ABC enum.Enum enum.IntEnum enum.StrEnum
enum.Flag enum.IntFlag typing.Generic typing.Protocol typing.NamedTuple typing.TypedDict typing_extensions.TypedDict
typing_extensions.Protocol typing_extensions.NamedTuple collections.OrderedDict collections.defaultdict collections.UserDict
collections.UserList collections.Counter collections.deque datetime.datetime datetime.timedelta datetime.date
types.SimpleNamespace argparse.Namespace threading.local logging.Filter logging.Formatter""".split())
GENERIC = {"collections.abc", "typing"}
OK_METACLASSES = {"abc.ABCMeta", "enum.EnumMeta", "enum.EnumType", "type"}
# What the script does not decide itself, read by hand in torch 2.15 and torchmetrics 0.11.4 and 1.9.0. Module's
# `__setattr__` and `add_module`, through which the containers go too, call hooks that the program has registered;
# Parameter's `__new__` calls torch's own functions on a tensor; Optimizer's `__setstate__` and `__init__` wrap `step` of its
# class and call hooks that the program has registered; Metric's `__setstate__` and `__init__` look at the signature of its
# `update`, and wrap it and `compute` without calling them.
AXIOMS = set("""torch.nn.modules.module.Module torch.nn.parameter.Parameter torch.optim.optimizer.Optimizer
torch.nn.modules.container.Sequential torch.nn.modules.container.ModuleList torch.nn.modules.container.ModuleDict
torch.nn.modules.container.ParameterList torch.nn.modules.container.ParameterDict torchmetrics.metric.Metric""".split())
# TorchScript and documentation wrap what they decorate; these make another class or function of it
BAD_DECORATORS = {"singledispatch", "contextmanager", "compile", "delayed", "remote"}
# functions are taken of modules of these kinds only
FUNCTIONS = re.compile(r"(functional|activation|initiali[sz]|\.layers\.|loss|collat|metrics|weight_init|transforms|^torch\.nn\.init$)")
COMPILED = {"torch", "numpy", "scipy", "einops"}
ROADS = {"__globals__", "__code__", "__subclasses__", "__builtins__", "__dict__.__class__", "__mro__", "__bases__", "f_globals"}


class Source:
    def __init__(self, spec):
        self.files = {}
        if spec.endswith(".whl"):
            self.path, self.process = spec, os.getpid()
            self.zip = zipfile.ZipFile(spec)
            self.name, self.version = os.path.basename(spec).split("-")[:2]
            names = self.zip.namelist()
        else:
            self.name, self.version, self.root = re.fullmatch(r"([^=]+)==([^=]+)=(.+)", spec).groups()
            self.zip = None
            names = [os.path.relpath(os.path.join(folder, file), self.root)
                     for folder, _, files in os.walk(self.root) for file in files]
        for name in names:
            if not name.endswith(".py") or "-" in name or ".data/" in name:
                continue
            parts = name[:-3].split("/")
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            # what a build left behind, and projects that are installed under other names
            if module and parts[0] not in ("build", "projects"):
                self.files[module] = (name, is_package)

    def read(self, name):
        if self.zip:
            if self.process != os.getpid():
                # processes that share an open file share its position
                self.process, self.zip = os.getpid(), zipfile.ZipFile(self.path)
            return self.zip.read(name)
        with open(os.path.join(self.root, name), "rb") as f:
            return f.read()


class Module:
    """What a module defines at its top, and what its names come from."""

    def __init__(self, source, name):
        path, is_package = source.files[name]
        self.source, self.name = source, name
        self.defs, self.imports, self.stars, self.values = {}, {}, [], {}
        try:
            body = ast.parse(source.read(path)).body
        except (SyntaxError, ValueError):
            body = []
        self.package = name if is_package else name.rpartition(".")[0]
        self.take(body)

    def take(self, body):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.defs[node.name] = node
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self.alias(node, self.imports)
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self.values[node.targets[0].id] = node.value
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                for part in ("body", "orelse", "finalbody"):
                    self.take(getattr(node, part, []))
                for handler in getattr(node, "handlers", []):
                    other = dict(self.defs), dict(self.imports)
                    self.take(handler.body)
                    self.defs.update(other[0])
                    self.imports.update(other[1])

    def alias(self, node, into):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                into[alias.asname or top] = alias.name if alias.asname else top
            return
        base = node.module or ""
        if node.level:
            up = self.package.split(".")
            base = ".".join(up[: len(up) - node.level + 1] + ([base] if base else []))
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(base)
            else:
                into[alias.asname or alias.name] = f"{base}.{alias.name}"


class Def:
    """A class or function, and the module that it stands in."""

    def __init__(self, module, node):
        self.module, self.node = module, node
        self.path = f"{module.name}.{node.name}"
        self.key = (module.source.name, module.source.version, self.path)
        self.is_class = isinstance(node, ast.ClassDef)


class World:
    def __init__(self, sources):
        self.sources = sources
        self.owner = {}
        for source in sources:
            for module in source.files:
                self.owner.setdefault(module, source)
        self.tops = {module.partition(".")[0] for module in self.owner}
        self.verdicts = {}
        self.busy = set()
        # what was taken for harmless while it was being looked at, and the verdicts in their order
        self.assumed, self.log = set(), []

    @functools.lru_cache(maxsize=6000)
    def module(self, source, name):
        owner = source if name in source.files else self.owner.get(name)
        return Module(owner, name) if owner else None

    def find(self, source, path, depth=0):
        """The Def of a dotted path, or the path that it comes to outside of the sources, or None."""
        if depth > 20:
            return None
        parts = path.split(".")
        for at in range(len(parts), 0, -1):
            name = ".".join(parts[:at])
            if name in source.files or name in self.owner:
                rest = parts[at:]
                if not rest:
                    return path
                return self.member(self.module(source, name), rest, depth + 1)
        return path

    def member(self, module, rest, depth):
        head = rest[0]
        if head in module.defs:
            found = Def(module, module.defs[head])
            return found if len(rest) == 1 else (found, rest[1:])
        if head in module.imports:
            target = ".".join([module.imports[head]] + rest[1:])
            if target == ".".join([module.name] + rest):
                return None
            return self.find(module.source, target, depth)
        if head in module.values and depth < 15:
            value = module.values[head]
            dotted = dotted_name(value)
            if dotted and dotted.split(".")[0] != head:
                return self.member(module, dotted.split(".") + rest[1:], depth + 1)
            return None
        for star in module.stars:
            other = self.module(module.source, star) if star != module.name else None
            if other and depth < 15:
                found = self.member(other, rest, depth + 1)
                if found is not None:
                    return found
        if len(rest) == 1 and module.name.partition(".")[0] in COMPILED:
            return f"{module.name}.{head}"
        return None

    def name(self, module, name):
        """What a bare name in a module is."""
        found = self.member(module, name.split("."), 0)
        if found is None or found == f"{module.name}.{name}":
            head = name.split(".")[0]
            known = head in module.defs or head in module.imports or head in module.values
            if not known and hasattr(builtins, head):
                return name
        return found

    # classes

    def bases(self, it):
        """Defs and paths of the bases; None for what is not understood."""
        out = []
        for base in it.node.bases:
            if isinstance(base, ast.Subscript):
                base = base.value
            dotted = dotted_name(base)
            out.append(self.name(it.module, dotted) if dotted else None)
        return out

    def mro(self, it, seen=None):
        seen = seen if seen is not None else set()
        if it.key in seen:
            return
        seen.add(it.key)
        yield it
        for base in self.bases(it):
            if isinstance(base, Def) and base.is_class:
                yield from self.mro(base, seen)

    def bases_are_known(self, it):
        for part in self.mro(it):
            if part.path in AXIOMS:
                continue
            for base in self.bases(part):
                if isinstance(base, Def) and base.is_class:
                    continue
                if isinstance(base, str) and (base in OK_BASES or base.rpartition(".")[0] in GENERIC or is_error(base)):
                    continue
                return False
            for keyword in part.node.keywords:
                if keyword.arg == "metaclass":
                    dotted = dotted_name(keyword.value)
                    meta = self.name(part.module, dotted) if dotted else None
                    if isinstance(meta, Def):
                        own = {n.name for n in meta.node.body if isinstance(n, ast.FunctionDef)}
                        if own & {"__call__", "__getattr__", "__getattribute__", "__new__"}:
                            return False
                    elif meta not in OK_METACLASSES:
                        return False
        return True

    def method(self, it, name, skip_own=False):
        """The Def of the class that has it, and the function; nothing where a base outside of the sources may have it."""
        for part in self.mro(it):
            if skip_own and part.key == it.key:
                continue
            for node in reversed(part.node.body):
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return part, node
                if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                    return part, node
        return None

    def class_is_harmless(self, it, is_called):
        key = (it.key, is_called)
        if key in self.verdicts:
            return self.verdicts[key]
        if it.path in AXIOMS:
            return True
        return self.judged(key, lambda: self.judge_class(it, is_called))

    def judged(self, key, judge):
        if key in self.busy:
            self.assumed.add(key)
            return True
        self.busy.add(key)
        begin = len(self.log)
        verdict = judge()
        self.busy.discard(key)
        if not verdict and key in self.assumed:
            # what came out well because this one was trusted is to be looked at again
            for other in self.log[begin:]:
                self.verdicts.pop(other, None)
            del self.log[begin:]
        self.assumed.discard(key)
        self.verdicts[key] = verdict
        if verdict:
            self.log.append(key)
        return verdict

    def judge_class(self, it, is_called):
        if not self.bases_are_known(it):
            return False
        for part in self.mro(it):
            if any(isinstance(n, ast.FunctionDef) and n.name == "__call__" for n in part.node.body) and it.node.name == "Meta":
                return False
        for name in NEW + (INIT if is_called else []):
            found = self.method(it, name)
            if not found or found[0].path in AXIOMS:
                continue
            part, node = found
            if isinstance(node, ast.Assign):
                dotted = dotted_name(node.value)
                if isinstance(node.value, ast.Constant) or dotted and self.method(it, dotted):
                    if dotted and not self.function_is_harmless(part, self.method(it, dotted)[1], it):
                        return False
                    continue
                if dotted and dotted.startswith(("dict.", "object.", "list.", "str.", "int.", "float.")):
                    continue
                return False
            if not self.function_is_harmless(part, node, it):
                return False
        if is_called:
            for part in self.mro(it):
                if part.path not in AXIOMS and not self.fields_are_harmless(part):
                    return False
        return True

    def fields_are_harmless(self, it):
        for node in it.node.body:
            value = getattr(node, "value", None)
            if isinstance(node, (ast.AnnAssign, ast.Assign)) and isinstance(value, ast.Call):
                for keyword in value.keywords:
                    if keyword.arg in ("default_factory", "factory", "converter"):
                        if not Walk(self, it.module, None, None).calls(keyword.value):
                            return False
        return True

    # functions

    def function_is_harmless(self, it, node, of=None):
        key = (it.key, of.key if of else None, node.name, node.lineno)
        if key in self.verdicts:
            return self.verdicts[key]
        if len(self.busy) > 200:
            return False
        return self.judged(key, lambda: Walk(self, it.module, of, node, it).is_harmless())

    def path_is_harmless(self, path):
        """A function or class outside of the sources."""
        top, _, _ = path.partition(".")
        if top in sys.stdlib_module_names:
            if path in OK_OS:
                return True
            if top not in OK_STDLIB or any(path == bad or path.startswith(bad + ".") for bad in BAD_STDLIB):
                return False
            return not is_word(path.rpartition(".")[2])
        if top in COMPILED:
            bad = ("torch._C", "torch.ops", "torch.jit", "torch.hub", "torch.package", "torch.library", "torch.classes",
                   "torch.serialization", "torch.utils.cpp", "torch.distributed", "numpy.lib", "numpy.ctypes",
                   "torch._dynamo", "torch._inductor", "torch.compile", "torch.multiprocessing", "torch.fx")
            return not path.startswith(bad) and not any(is_word(part) for part in path.split("."))
        return False


class Walk:
    """One function: whether anything that it does reaches further than its own data."""

    def __init__(self, world, module, cls, node, owner=None):
        self.world, self.module, self.cls, self.node, self.owner = world, module, cls, node, owner
        self.aliases, self.params, self.own = {}, [], set()
        self.me = None
        if isinstance(node, ast.FunctionDef):
            args = node.args
            self.params = [a.arg for a in args.posonlyargs + args.args + args.kwonlyargs]
            self.params += [a.arg for a in (args.vararg, args.kwarg) if a]
            static = any(dotted_name(d) == "staticmethod" for d in node.decorator_list)
            if cls is not None and self.params and not static:
                self.me = self.params[0]
        if node is not None:
            self.locals = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            for inner in ast.walk(node):
                if inner is not node and isinstance(inner, (ast.FunctionDef, ast.Lambda)):
                    a = inner.args
                    self.locals |= {x.arg for x in a.posonlyargs + a.args + a.kwonlyargs + [y for y in (a.vararg, a.kwarg) if y]}
                if inner is not node and isinstance(inner, ast.FunctionDef):
                    self.own.add(inner.name)
                if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Lambda):
                    self.own |= {t.id for t in inner.targets if isinstance(t, ast.Name)}
                if isinstance(inner, (ast.Import, ast.ImportFrom)):
                    self.module.alias(inner, self.aliases)
        else:
            self.locals = set()

    def is_harmless(self):
        parts = self.node.body + self.node.args.defaults
        return all(self.node_is_harmless(n) for part in parts for n in ast.walk(part))

    def node_is_harmless(self, n):
        if isinstance(n, ast.Call):
            return self.call(n)
        if isinstance(n, ast.Global):
            return False
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            return not (n.id in BAD_BUILTINS and not self.is_local(n.id) and n.id not in self.module.defs)
        if isinstance(n, ast.Attribute):
            if n.attr in ROADS:
                return False
            if isinstance(n.value, ast.Name):
                root = n.value.id
                if root == self.me and self.cls is not None:
                    found = self.world.method(self.cls, n.attr)
                    if found and isinstance(found[1], ast.FunctionDef) and isinstance(n.ctx, ast.Load):
                        return self.follow_method(found, n.attr)
                    return True
                if isinstance(n.ctx, (ast.Store, ast.Del)):
                    # the attributes of modules and classes are not its own data
                    return self.is_local(root)
        if isinstance(n, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            return False
        return True

    def is_local(self, name):
        return name in self.params or name in self.locals or name in self.own

    def follow_method(self, found, name):
        part, node = found
        if part.path in AXIOMS:
            return name in ("eval",) or not is_word(name)
        return self.world.function_is_harmless(part, node, self.cls)

    def calls(self, value):
        """Whether calling this expression is harmless."""
        if isinstance(value, ast.Lambda):
            return all(self.node_is_harmless(n) for n in ast.walk(value.body))
        dotted = dotted_name(value)
        return bool(dotted) and self.named(dotted)

    def named(self, dotted):
        """Whether calling what a dotted name of the module stands for is harmless."""
        head, _, rest = dotted.partition(".")
        if head in self.aliases:
            found = self.world.find(self.module.source, self.aliases[head] + ("." + rest if rest else ""))
        else:
            found = self.world.name(self.module, dotted)
        if isinstance(found, tuple):
            cls, attrs = found
            if not cls.is_class or len(attrs) != 1:
                return False
            method = self.world.method(cls, attrs[0])
            if not method or not isinstance(method[1], ast.FunctionDef):
                # a member of an enumeration, called: no
                return False
            if method[0].path in AXIOMS:
                return not is_word(attrs[0])
            return self.world.function_is_harmless(method[0], method[1], cls)
        if isinstance(found, Def):
            if found.is_class:
                return self.world.class_is_harmless(found, True)
            if any((dotted_name(d.func if isinstance(d, ast.Call) else d) or "").rpartition(".")[2] in BAD_DECORATORS
                   for d in found.node.decorator_list):
                return False
            return self.world.function_is_harmless(found, found.node)
        if isinstance(found, str):
            if "." not in found and hasattr(builtins, found):
                return found not in BAD_BUILTINS
            return self.world.path_is_harmless(found)
        # a method of a value of the module: its logger, a table
        if rest and head in self.module.values:
            return not is_word(rest.rpartition(".")[2])
        return False

    def call(self, n):
        f = n.func
        if isinstance(f, ast.Name):
            name = f.id
            if name in self.own:
                return True
            if name in self.aliases:
                return self.named(name)
            if name == self.me and self.cls is not None:
                return self.world.class_is_harmless(self.cls, True)
            if self.is_local(name):
                return False
            if name in CALLERS and not (name in self.module.defs):
                functions = [k.value for k in n.keywords if k.arg == "key"]
                if name in ("map", "filter"):
                    functions += n.args[:1]
                if name == "iter" and len(n.args) > 1:
                    return False
                return all(isinstance(x, ast.Lambda) or isinstance(x, ast.Constant) or
                           isinstance(x, ast.Name) and not self.is_local(x.id) and self.named(x.id) or
                           isinstance(x, ast.Attribute) and self.calls(x) for x in functions)
            if name == "setattr":
                return bool(n.args) and isinstance(n.args[0], ast.Name) and n.args[0].id == self.me
            if name == "super":
                return True
            return self.named(name)
        if isinstance(f, ast.Attribute):
            root = f.value
            if isinstance(root, ast.Call) and isinstance(root.func, ast.Name) and root.func.id == "super":
                if self.cls is None:
                    return False
                found = self.world.method(self.cls, f.attr, skip_own=self.owner is not None and self.owner.key == self.cls.key)
                if self.owner is not None and self.owner.key != self.cls.key:
                    found = self.world.method(self.owner, f.attr, skip_own=True)
                if found is None:
                    return not is_word(f.attr)
                return isinstance(found[1], ast.FunctionDef) and self.follow_method(found, f.attr)
            if isinstance(root, ast.Name) and root.id == self.me and self.cls is not None:
                found = self.world.method(self.cls, f.attr)
                if found is None:
                    builtin = any(isinstance(b, str) for part in self.world.mro(self.cls) for b in self.world.bases(part))
                    return builtin and f.attr in {*dir(dict), *dir(list), *dir(str), *dir(set), "_asdict", "_replace"}
                return isinstance(found[1], ast.FunctionDef) and self.follow_method(found, f.attr)
            dotted = dotted_name(f)
            if dotted:
                head = dotted.partition(".")[0]
                if not self.is_local(head) and head != self.me:
                    return self.named(dotted)
            # a method of a value
            return not is_word(f.attr) and not f.attr.startswith("__call__")
        return False


def dotted_name(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id] + parts[::-1])


# what wheels are for, all of which are read
PLATFORMS = ["manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux2010", "manylinux1"]


def is_error(name):
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def is_word(name):
    if name in ("register_load_state_dict_pre_hook", "_register_load_state_dict_pre_hook", "load_state_dict", "readonly"):
        return False
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
    return any(word in WORDS for word in words)


def is_type(world, module, value):
    """namedtuple('A', ...), at the top of a module."""
    if not isinstance(value, ast.Call):
        return False
    dotted = dotted_name(value.func)
    return bool(dotted) and world.name(module, dotted) in ("collections.namedtuple", "typing.NamedTuple")


def with_old_pip(folder):
    """The environment of the last pip that takes wheels whose requirements are written in the old way, as omegaconf 2.0.6's."""
    pip = os.path.join(folder, ".pip")
    if not os.path.isdir(pip):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", pip, "pip==24.0"], check=True)
    return {**os.environ, "PYTHONPATH": pip}


def packages(folder):
    """The sources that vetted.packages.txt lists, downloaded where they are missing."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "vetted.packages.txt"), encoding="ascii") as f:
        rows = [line.split() for line in f if line.strip() and not line.startswith("#")]
    sources = []
    for spec, *how in rows:
        name, version = spec.split("==")
        if how[:1] == ["git"]:
            checkout = os.path.join(folder, spec)
            if not os.path.isdir(checkout):
                subprocess.run(["git", "clone", "-q", how[1], checkout], check=True)
                subprocess.run(["git", "-C", checkout, "checkout", "-q", version], check=True)
            sources.append(Source(f"{spec}={checkout}"))
            continue
        wheel = os.path.join(folder, f"{re.sub('[-_.]+', '[-_.]', name)}-{version}-*.whl")
        if not glob.glob(wheel):
            python = how[0] if how else "3.11"
            platforms = [f"--platform={kind}_x86_64" for kind in PLATFORMS]
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder,
                            f"--python-version={python}", *platforms, spec], env=with_old_pip(folder), check=True)
        sources.append(Source(glob.glob(wheel)[0]))
    return sources


WORLD = None


def of_source(at):
    """What one source has: 2 for harmless, also when it is called; 1: as pickles make objects; 0: not."""
    world, source = WORLD, WORLD.sources[at]
    found = {}
    world.verdicts, world.busy, world.assumed, world.log = {}, set(), set(), []
    world.module.cache_clear()
    for name in sorted(source.files):
        if SKIP.search(name):
            continue
        module = world.module(source, name)
        for what, node in sorted(module.defs.items()):
            it = Def(module, node)
            if not it.is_class and not FUNCTIONS.search(name):
                continue
            if it.is_class:
                level = 0
                if world.class_is_harmless(it, False):
                    level = 2 if world.class_is_harmless(it, True) else 1
            else:
                if what.startswith("_") or is_word(what):
                    continue
                level = 2 if world.function_is_harmless(it, node) else 0
            found[(name, what)] = min(found.get((name, what), 2), level)
        for what, value in module.values.items():
            if what not in module.defs and is_type(world, module, value):
                found.setdefault((name, what), 2)
    print(source.name, source.version, len(found), file=sys.stderr, flush=True)
    return found


def shared(before, text):
    """A text without the beginning that it shares with the one before it, whose length stands there instead. Names never
    begin with a digit, so that what is left must not either."""
    same = len(os.path.commonprefix([before, text]))
    while same and text[same : same + 1].isdigit():
        same -= 1
    return f"{same}{text[same:]}" if same > 1 else text


# each so many rows one begins with its whole module
EACH = 24


def lines_of(modules):
    lines, before = [], ""
    for at, module in enumerate(sorted(modules)):
        words = [shared("" if at % EACH == 0 else before, module)]
        before = module
        for names, mark in zip(modules[module], ([], ["|"])):
            last = ""
            words += mark if names else []
            for name in sorted(names):
                words.append(shared(last, name))
                last = name
        lines.append(" ".join(words))
    return lines


def main():
    global WORLD
    args = sys.argv[1:]
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vetted.txt")
    if "-o" in args:
        at = args.index("-o")
        out = args[at + 1]
        del args[at : at + 2]
    WORLD = World(packages(args[0]))
    with multiprocessing.get_context("fork").Pool() as pool:
        results = pool.map(of_source, range(len(WORLD.sources)), chunksize=1)
    found = {}
    for result in results:
        for key, level in result.items():
            found[key] = min(found.get(key, 2), level)
    modules = {}
    for (module, name), level in found.items():
        if level:
            modules.setdefault(module, ([], []))[2 - level].append(name)
    versions = sorted(f"{s.name}=={s.version}" for s in WORLD.sources)
    lines = ["# What makes data and nothing else; written by vetted.py, do not edit. Rows are sorted: a module, its classes and",
             "# functions; behind `|` classes that do more when they are called. A number stands for so many letters of the",
             f"# module or name before it; every {EACH} rows one begins with its whole module.",
             "# Of: " + " ".join(versions)]
    lines += lines_of(modules)
    with open(out, "w", encoding="ascii", newline="\n") as f:
        f.write("\n".join(lines) + "\n")
    levels = list(found.values())
    print(f"{levels.count(2)} harmless, {levels.count(1)} when not called, {levels.count(0)} not taken", file=sys.stderr)


if __name__ == "__main__":
    main()
