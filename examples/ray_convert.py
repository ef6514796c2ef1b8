"""Converts a checkpoint into Hugging Face shards on all workers of a Ray cluster: each writes the shards that fall to it, then
one run writes the index. The result is byte for byte what one `ckpt convert` writes.

    python3 examples/ray_convert.py model.pth shards/ --max-shard-size 5GB --jobs 8
    python3 examples/ray_convert.py model.pth shards/ --jobs 8 --to torch --dtype bfloat16

Options that are not Ray's go to `ckpt convert`. Input and output lie on a file system that all workers see. Without a cluster (RAY_ADDRESS), two workers run on this machine.
"""

import argparse
import json
import os
import shutil
import subprocess

import ray


def ckpt(command):
    """Runs ckpt and gives its report; what it says on standard error is the error."""
    run = subprocess.run([*command, "--json"], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"exit status {run.returncode}: {run.stderr.strip()}")
    return json.loads(run.stdout)


@ray.remote(num_cpus=1, max_retries=3)
def shard(command, job, jobs):
    # --force: a job that Ray runs again after a lost node replaces its own shards
    return os.getpid(), ckpt([*command, "--shard", f"{job}/{jobs}", "--force"])


def main():
    layout = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    arguments.add_argument("input")
    arguments.add_argument("output", help="a directory")
    arguments.add_argument("--max-shard-size", default="5GB")
    arguments.add_argument("--jobs", type=int, default=8)
    arguments.add_argument("--ckpt", default=os.environ.get("CKPT") or shutil.which("ckpt") or "ckpt")
    args, options = arguments.parse_known_args()
    to = [] if "--to" in options else ["--to", "safetensors"]
    paths = [os.path.abspath(args.input), os.path.abspath(args.output)]
    command = [args.ckpt, "convert", *paths, "--max-shard-size", args.max_shard_size, *to, *options]

    ray.init(**({} if os.environ.get("RAY_ADDRESS") else {"num_cpus": 2, "include_dashboard": False}))
    reports = ray.get([shard.remote(command, job, args.jobs) for job in range(1, args.jobs + 1)])
    index = ckpt([*command, "--index-only"])
    files = [file["file"] for _, report in reports for file in report["files"]] + [index["files"][0]["file"]]
    print(json.dumps({"workers": len({process for process, _ in reports}), "files": sorted(files)}))


if __name__ == "__main__":
    main()
