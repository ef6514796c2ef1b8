"""Runs examples/ray_convert.py on two workers and compares what it writes with what one process writes, byte for byte.

usage: CKPT=target/release/ckpt python tests/ray_convert.py     # with ray installed
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent.parent
CKPT = str(Path(os.environ.get("CKPT", "ckpt")).resolve())
INPUT = str(HERE / "testdata" / "digest" / "checkpoint.tar")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


for options in (["--to", "safetensors"], ["--to", "torch", "--dtype", "bfloat16"]):
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder) / "one", Path(folder) / "many"
        size = ["--max-shard-size", "50"]
        subprocess.run([CKPT, "convert", "-q", INPUT, str(one), *size, *options], check=True)
        script = [sys.executable, str(HERE / "examples" / "ray_convert.py"), INPUT, str(many), *size]
        script += ["--jobs", "4", "--ckpt", CKPT, *options]
        run = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True)
        report = json.loads(run.stdout.splitlines()[-1])
        assert report["workers"] in (1, 2), "Ray gives small jobs to one worker now and then"
        assert contents(one) == contents(many), "other bytes than one process writes"
        assert len(report["files"]) == len(contents(one)) > 4
        print(f"ray: {len(report['files'])} files by {report['workers']} workers, {' '.join(options)}: as one process writes them")
