#!/usr/bin/env python3
"""Completions as a person meets them: real bash, zsh and fish, the first two typed at through a terminal.

usage: tests/completions.py CKPT SHELL...

CKPT is the program. Each SHELL must be there.
"""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

TESTDATA = Path(__file__).resolve().parent.parent / "testdata/torch-2.15-py311"
# a shell that is silent this long waits for somebody
SILENCE = 0.4
PATIENCE = 20.0
# for the names in a large file
MAX_SECONDS = 0.05

# What is typed before Tab, and the line after it.
LINES = [
    # files
    ("ckpt ls model.p", "ckpt ls model.pth "),
    ("ckpt diff model.pth chec", "ckpt diff model.pth checkpoint.tar "),
    ("ckpt strip-prefix module. mod", "ckpt strip-prefix module. model.pth "),
    ("ckpt convert model.pth -o sub", "ckpt convert model.pth -o sub/"),
    # commands, options and values
    ("ckpt strip-p", "ckpt strip-prefix "),
    ("ckpt digest --ignore-m", "ckpt digest --ignore-missing "),
    ("ckpt convert model.pth x.pt --dtype b", "ckpt convert model.pth x.pt --dtype bfloat16 "),
    ("ckpt ls --format j", "ckpt ls --format json "),
    ("ckpt ls --format=j", "ckpt ls --format=json "),
    ("ckpt convert --to s", "ckpt convert --to safetensors "),
    ("ckpt diff --ignore device,dt", "ckpt diff --ignore device,dtype "),
    ("ckpt man strip", "ckpt man strip-prefix "),
    ("ckpt help conv", "ckpt help convert "),
    ("ckpt completions fi", "ckpt completions fish "),
    # names in the file
    ("ckpt ls checkpoint.tar --root opt", "ckpt ls checkpoint.tar --root optimizer_state_dict"),
    ("ckpt ls checkpoint.tar --root=opt", "ckpt ls checkpoint.tar --root=optimizer_state_dict"),
    ("ckpt extract checkpoint.tar epo", "ckpt extract checkpoint.tar epoch "),
    ("ckpt extract a\\ file.pth module.st", "ckpt extract a\\ file.pth module.steps "),
    ("ckpt extract 'a file.pth' module.st", "ckpt extract 'a file.pth' module.steps "),
    ("ckpt ls checkpoint.tar --include model_state_dict.ste", "ckpt ls checkpoint.tar --include model_state_dict.steps "),
    ("ckpt rename model.pth --strip-prefix mo", "ckpt rename model.pth --strip-prefix module."),
    ("ckpt edit checkpoint.tar --set epo", "ckpt edit checkpoint.tar --set epoch="),
]
# What is typed, words that Tab lists, and one that it does not.
LISTS = [
    ("ckpt ls ", ["model.pth", "checkpoint.tar"], "strip-prefix"),
    ("ckpt extract model.pth -o ", ["model.pth"], "module.steps"),
    ("ckpt ", ["convert", "strip-prefix"], "complete "),
    ("ckpt ls --sort ", ["name", "size", "file"], "model.pth"),
    ("ckpt extract checkpoint.tar model_state_dict.features.0.", ["weight", "bias"], "epoch"),
]
# The same in the middle of a line: what stands before and behind the cursor, and the line after Tab.
MIDDLES = [
    ("ckpt strip-prefix modu", " model.pth", "ckpt strip-prefix module."),
    ("ckpt ls --root opt", " checkpoint.tar", "ckpt ls --root optimizer_state_dict"),
]

# Before Tab; the names are those of `hostile_file`.
HOSTILE = ["ckpt extract hostile.safetensors " + start for start in ["s", "b", "t", '"s', '"b', "'t", "'s"]]

SETUP = {
    "bash": [
        "bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'",
        "bind 'set enable-bracketed-paste off'; bind 'set completion-query-items 0'",
        """bind -x '"\\C-t": printf "<<%s>>" "$READLINE_LINE"'""",
        ". ./.script",
    ],
    "zsh": [
        "unset zle_bracketed_paste; unsetopt beep; LISTMAX=1000; fpath=(~/.zfunc $fpath)",
        'show() { print -rn -- "<<$BUFFER>>" }; zle -N show; bindkey "^T" show',
        "autoload -Uz compinit; compinit -u",
    ],
}


class Terminal:
    """A shell at a terminal."""

    def __init__(self, shell, folder, env):
        command = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        self.read()
        for line in SETUP[shell]:
            self.ask(line + "\r")

    def ask(self, keys):
        """Types, and reads until the shell is silent."""
        os.write(self.fd, keys.encode())
        return self.read()

    def read(self):
        out, begun = b"", time.monotonic()
        while time.monotonic() - begun < PATIENCE and select.select([self.fd], [], [], SILENCE)[0]:
            out += os.read(self.fd, 1 << 16)
        text = out.decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][AB0]|\x1b[=>]|\r", "", text)

    def line(self):
        found = re.findall(r"<<(.*?)>>", self.ask("\x14"), re.S)
        return found[-1] if found else None

    def after_tab(self, before, behind=""):
        """The line after Tab, and what was shown meanwhile."""
        self.ask("\x15")
        self.ask(before + behind + "\x02" * len(behind))
        shown = self.ask("\t")
        line = self.line()
        self.ask("\x05")
        self.ask("\x15")
        return line, shown

    def run_after_tab(self, typed):
        self.ask("\x15")
        self.ask(typed)
        self.ask("\t")
        self.ask("\r")
        # a quote that was left open
        self.ask("\x03")

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


class Fish:
    """fish says itself what it would make of a line."""

    def __init__(self, folder, env):
        self.folder, self.env = folder, env

    def offers(self, typed):
        quoted = typed.replace("\\", "\\\\").replace("'", "\\'")
        command = ["fish", "--private", "-c", f"complete -C '{quoted}'"]
        out = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE)
        return [line.split("\t")[0] for line in out.stdout.splitlines()]

    def after_tab(self, before, behind=""):
        if behind:
            return None, ""
        offers = self.offers(before)
        start = re.split(r"(?<!\\) ", before)[-1]
        # fish inserts what all offers have in common
        return before[: len(before) - len(start)] + os.path.commonprefix(offers), "\n".join(offers)

    def close(self):
        pass


def drive(shell, ckpt, folder):
    env = {"PATH": f"{Path(ckpt).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TERM": "xterm"}
    env |= {"LC_ALL": "C.UTF-8", "PS1": "> ", "INPUTRC": "/dev/null", "XDG_CONFIG_HOME": str(folder / ".config")}
    script = subprocess.run([ckpt, "completions", shell], check=True, capture_output=True).stdout
    place = {"bash": ".script", "zsh": ".zfunc/_ckpt", "fish": ".config/fish/completions/ckpt.fish"}[shell]
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_bytes(script)
    session = Fish(folder, env) if shell == "fish" else Terminal(shell, folder, env)
    wrong = []
    for typed, wanted in LINES:
        line, shown = session.after_tab(typed)
        # a blank may follow what is complete
        if (line or "").rstrip() != wanted.rstrip():
            wrong.append(f"{shell}: `{typed}` Tab gives `{line}`, not `{wanted}`: {shown!r}")
    for typed, words, other in LISTS:
        _, shown = session.after_tab(typed)
        shown = shown.replace(typed, "", 1)
        if not all(word in shown for word in words) or other in shown:
            wrong.append(f"{shell}: `{typed}` Tab lists {shown!r}, not {words}")
    for before, behind, wanted in MIDDLES:
        line, shown = session.after_tab(before, behind)
        if shell != "fish" and not (line or "").startswith(wanted):
            wrong.append(f"{shell}: `{before}|{behind}` Tab gives `{line}`, not `{wanted}`: {shown!r}")
    if shell != "fish":
        for typed in HOSTILE:
            session.run_after_tab(typed)
            if (folder / "pwned").exists():
                wrong.append(f"{shell}: `{typed}` Tab Enter runs what a name in the file says")
                (folder / "pwned").unlink()
    session.close()
    return wrong


def hostile_file(folder):
    """Names that a shell would run."""
    names = ["s$(touch pwned)", "b`touch pwned`", "t;touch pwned", "t';touch pwned;'"]
    header = {name: {"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]} for at, name in enumerate(names)}
    text = json.dumps(header).encode()
    (folder / "hostile.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(len(names)))


def large_file(folder):
    """3.6 GB of weights, in a file of holes."""
    header, end = {}, 0
    for layer in range(100):
        for name, extents in [("attn.weight", [1500, 1500]), ("mlp.weight", [1500, 4500]), ("norm.weight", [1500])]:
            begin, end = end, end + 4 * extents[0] * (extents[1] if len(extents) > 1 else 1)
            header[f"layers.{layer}.{name}"] = {"dtype": "F32", "shape": extents, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path = folder / "large.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def is_quick(ckpt, folder):
    """Names in a large file within MAX_SECONDS: the quickest of ten, as others may keep the machine busy."""
    words = ["ckpt", "extract", str(large_file(folder)), "layers.99."]
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        out = subprocess.run([ckpt, "complete", "bash", "3", "--", *words], check=True, capture_output=True, text=True).stdout
        seconds.append(time.perf_counter() - begun)
        assert out.splitlines() == ["words", "layers.99.attn.weight", "layers.99.mlp.weight", "layers.99.norm.weight"], out
    print(f"completions: names in a file of 3.6 GB: {min(seconds) * 1e3:.0f} ms")
    return min(seconds) < MAX_SECONDS


def main():
    ckpt, shells = str(Path(sys.argv[1]).resolve()), sys.argv[2:]
    missing = [shell for shell in shells if not shutil.which(shell)]
    if missing or not shells:
        sys.exit(f"completions: no such shell: {', '.join(missing) or '(none named)'}")
    wrong = []
    for shell in shells:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "sub").mkdir()
            for file, of in [("model.pth", "dataparallel_state.pth"), ("a file.pth", "dataparallel_state.pth"), ("checkpoint.tar", "checkpoint.tar")]:
                shutil.copy(TESTDATA / of, folder / file)
            hostile_file(folder)
            found = drive(shell, ckpt, folder)
        print(f"completions: {shell}: {len(LINES) + len(LISTS) + len(MIDDLES) - len(found)} right, {len(found)} wrong")
        wrong += found
    with tempfile.TemporaryDirectory() as name:
        if not is_quick(ckpt, Path(name)):
            wrong.append("names in a large file take too long")
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
