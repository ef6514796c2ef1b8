"""Run `ckpt check` and three scanners of pickles over the same files, and count what each gets wrong.

usage: python3 benches/scanners.py [--ckpt target/release/ckpt] [--picklescan DIR] [--modelscan DIR] [--list]

Installs the pinned scanners from PyPI, each into a virtual environment of its own that is removed again, and runs them as
their command lines do. DIR are checkouts of https://github.com/mmaitre314/picklescan and
https://github.com/protectai/modelscan at the pinned versions, whose tests/ hold files that are no part of the packages.
--list names the files that `ckpt` gets wrong.

What a file does is never `ckpt`'s own verdict, nor another scanner's:

  dangerous   pickles that call what testdata/globals/called_in_attacks.txt says is dangerous to call (protocols 0, 2, 4);
              testdata/tricks/, where a loader was seen to come to the hidden call (expected.json); files that the authors
              of picklescan and modelscan published as malicious
  harmless    checkpoints in testdata/ that torch, numpy and others wrote; pickles that name, and do not call, what
              testdata/globals/of_checkpoints.txt says checkpoints hold; tricks/benign_*; the scanners' benign files

No file is loaded. A file counts as flagged when the scanner reports an issue (`ckpt`: exit status 1), as not read when it
fails, gives up or leaves the file out without reporting one, and as passed otherwise. Dangerous files that pass are missed.
"""
import argparse
import collections
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TESTDATA = os.path.join(HERE, "..", "testdata")
SCANNERS = {
    "picklescan": ["picklescan==1.0.5"],
    "fickling": ["fickling==0.1.12", "typing_extensions"],
    "modelscan": ["modelscan==0.8.8"],
}
# folders of checkpoints that programs wrote to be loaded
CHECKPOINTS = [
    "torch-1.0-py27", "torch-1.5-py36", "torch-1.6-py37", "torch-1.13-py311", "torch-2.15-py311", "frameworks", "more",
    "numbers", "prints", "weights", "python2", "selection",
]
ENDINGS = (".pt", ".pth", ".pkl", ".bin", ".tar", ".npz", ".npy", ".ckpt", ".safetensors", ".joblib")
# of picklescan's files: what its tests say is clean; and what is no checkpoint, or nobody says what it does
BENIGN = ("benign", "int_array", "object_array", "pytorch_model.bin", "new_pytorch_model.bin")
NEITHER = ("not_a_pickle.bin", "bad_pytorch.pt", "broken_model.pkl", "benign_password_protected.zip")

# runs in a scanner's own environment: paths in, [path, "flagged" | "passed" | "not read"] out, a line each
DRIVER = '''
import contextlib, io, json, logging, signal, sys, tempfile, os
logging.disable(logging.CRITICAL)
name, report = sys.argv[1], os.fdopen(os.dup(1), "w")
if name == "picklescan":
    from picklescan.scanner import scan_file_path
    def scan(path):
        found = scan_file_path(path)
        return "flagged" if found.issues_count else "not read" if found.scan_err or not found.scanned_files else "passed"
elif name == "fickling":
    from fickling.cli import main
    os.chdir(tempfile.mkdtemp(dir=sys.argv[2]))
    def scan(path):
        return {0: "passed", 1: "flagged"}.get(main(["fickling", "--check-safety", path]), "not read")
else:
    from modelscan.modelscan import ModelScan
    def scan(path):
        found = ModelScan().scan(path)
        if found["issues"]:
            return "flagged"
        return "passed" if found["summary"]["scanned"]["total_scanned"] and not found["errors"] else "not read"
def stop(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, stop)
for path in sys.stdin.read().splitlines():
    signal.alarm(60)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            said = scan(path)
    except (Exception, SystemExit):
        said = "not read"
    signal.alarm(0)
    report.write(json.dumps([path, said]) + "\\n")
'''


def lines_of(name):
    with open(os.path.join(TESTDATA, "globals", name), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, colon, note = line.rstrip("\n").partition(": ")
                yield (*name.split(" ", 1), note if colon else None)


def text(protocol, value):
    raw = value.encode()
    if protocol == 0:
        return b"V" + raw + b"\n"
    return b"\x8c" + bytes([len(raw)]) + raw if protocol == 4 else b"X" + struct.pack("<I", len(raw)) + raw


def reference(protocol, module, name):
    if protocol == 4:
        return text(4, module) + text(4, name) + b"\x93"
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def pickled(protocol, content):
    return (b"\x80" + bytes([protocol]) if protocol else b"") + content + b"."


def generated(directory):
    """Sets of files: (set, is dangerous, paths)."""
    def write(folder, number, protocol, content):
        path = os.path.join(directory, folder, "%04d-%d.pkl" % (number, protocol))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(pickled(protocol, content))
        return path

    calls, names = [], []
    for number, (module, name, note) in enumerate(lines_of("called_in_attacks.txt")):
        for protocol in (0, 2, 4) if note is None else ():
            call = b"(" + text(protocol, "x") + b"tR"
            calls.append(write("calls", number, protocol, reference(protocol, module, name) + call))
    for number, (module, name, _) in enumerate(lines_of("of_checkpoints.txt")):
        for protocol in (0, 2, 4):
            names.append(write("names", number, protocol, b"(l" + reference(protocol, module, name) + b"a"))
    with open(os.path.join(TESTDATA, "tricks", "expected.json"), encoding="utf-8") as file:
        tricks = json.load(file)
    tricks = {os.path.join(TESTDATA, "tricks", name): loaders for name, loaders in tricks.items()}
    checkpoints = []
    for folder in CHECKPOINTS:
        for parent, _, files in sorted(os.walk(os.path.join(TESTDATA, folder))):
            checkpoints += [os.path.join(parent, name) for name in sorted(files) if name.endswith(ENDINGS)]
    return [
        ("calls of dangerous globals", True, calls),
        ("tricks", True, [path for path, loaders in tricks.items() if loaders]),
        ("tricks", False, [path for path in tricks if os.path.basename(path).startswith("benign_")]),
        ("names of harmless globals", False, names),
        ("checkpoints", False, checkpoints),
    ]


def published(options):
    sets = []
    if options.picklescan:
        paths = []
        for folder in ("data", "data2"):
            root = os.path.join(options.picklescan, "tests", folder)
            paths += [os.path.join(root, name) for name in sorted(os.listdir(root)) if name not in NEITHER]
        is_benign = lambda path: os.path.basename(path).startswith(BENIGN)
        sets.append(("picklescan's tests", True, [path for path in paths if not is_benign(path)]))
        sets.append(("picklescan's tests", False, [path for path in paths if is_benign(path)]))
    if options.modelscan:
        sets.append(("modelscan's tests", True, [os.path.join(options.modelscan, "tests", "data", "unsafe_zip_pytorch.pt")]))
    return sets


def run_scanner(name, paths, directory):
    venv = os.path.join(directory, name)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = os.path.join(venv, "bin", "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *SCANNERS[name]], check=True)
    run = subprocess.run([python, "-c", DRIVER, name, directory], input="\n".join(paths), stdout=subprocess.PIPE, text=True, check=True)
    said = dict(map(json.loads, run.stdout.splitlines()))
    assert set(said) == set(paths), "%s left out %d files" % (name, len(set(paths) - set(said)))
    return said


def run_ckpt(ckpt, paths, fail_on):
    said = {}
    for path in paths:
        run = subprocess.run([ckpt, "check", "-q", "--json", "--fail-on", fail_on, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        said[path] = {0: "passed", 1: "flagged"}.get(run.returncode, "not read")
    return said


def main():
    options = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][7:])
    options.add_argument("--ckpt", default=os.path.join(HERE, "..", "target", "release", "ckpt"))
    options.add_argument("--picklescan")
    options.add_argument("--modelscan")
    options.add_argument("--list", action="store_true")
    options = options.parse_args()
    directory = tempfile.mkdtemp(prefix="scanners-")
    try:
        sets = [(name, bad, [os.path.abspath(path) for path in paths]) for name, bad, paths in generated(directory) + published(options)]
        paths = [path for _, _, some in sets for path in some]
        version = subprocess.run([options.ckpt, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        scanned = {
            "%s: `check`" % version: run_ckpt(options.ckpt, paths, "warning"),
            "%s: `check --fail-on danger`" % version: run_ckpt(options.ckpt, paths, "danger"),
        }
        for name, packages in SCANNERS.items():
            scanned[packages[0].replace("==", " ")] = run_scanner(name, paths, directory)
        report(sets, scanned, options.list)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def report(sets, scanned, is_listed):
    totals = collections.Counter()
    for _, is_dangerous, paths in sets:
        totals[is_dangerous] += len(paths)
    print("| scanner | dangerous files missed, of %d | harmless files flagged, of %d | not read: dangerous, harmless |" % (totals[True], totals[False]))
    print("| --- | --- | --- | --- |")
    for scanner, said in scanned.items():
        cells = collections.Counter((bad, said[path]) for _, bad, paths in sets for path in paths)
        print("| %s | %d | %d | %d, %d |" % (scanner, cells[True, "passed"], cells[False, "flagged"], cells[True, "not read"], cells[False, "not read"]))
    print()
    for name, is_dangerous, paths in sets:
        wrong = "passed" if is_dangerous else "flagged"
        figures = ["%s %d" % (scanner.split(":")[-1].strip(), sum(said[path] == wrong for path in paths)) for scanner, said in scanned.items()]
        print("%s, %s (%d): %s" % (name, "dangerous, missed" if is_dangerous else "harmless, flagged", len(paths), ", ".join(figures)))
    for name, is_dangerous, paths in sets if is_listed else ():
        for scanner, said in list(scanned.items())[:2]:
            for path in paths:
                if said[path] != ("flagged" if is_dangerous else "passed"):
                    print("%s: %s, %s: %s" % (scanner, name, said[path], path))


if __name__ == "__main__":
    main()
