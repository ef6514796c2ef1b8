#!/usr/bin/env bash
#SBATCH --job-name=ckpt-convert
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
# Converts a checkpoint into Hugging Face shards as an array of Slurm jobs, and writes the index when all of them are done:
#
#     bash examples/slurm_convert.sh model.pth shards/ --max-shard-size 5GB --to safetensors
#
# JOBS is how many (8). Input and output lie on a file system that all nodes see.
set -euo pipefail

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    # one task of the array; --force: a task that Slurm runs again replaces its own shards
    exec "${CKPT:-ckpt}" convert "$@" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --force
fi

array=$(sbatch --parsable --array="1-${JOBS:-8}" "$0" "$@")
sbatch --dependency="afterok:$array" --job-name=ckpt-index --wrap "$(printf '%q ' "${CKPT:-ckpt}" convert "$@" --index-only)"
