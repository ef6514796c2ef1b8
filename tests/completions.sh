#!/usr/bin/env bash
# Completions in the real shells, those of them that are here or that apt can install. One that cannot be had is named, and
# its completions are not tested; none at all is an error. The program is CKPT, or the one that cargo has built.
set -euo pipefail
cd "$(dirname "$0")/.."

root=""; [ "$(id -u)" = 0 ] || root=sudo
missing=()
for shell in bash zsh fish; do command -v "$shell" >/dev/null || missing+=("$shell"); done
if [ ${#missing[@]} -gt 0 ]; then
    echo "completions: installing ${missing[*]}"
    { $root apt-get update -qq && $root apt-get install -y -qq "${missing[@]}"; } >/dev/null 2>&1 || true
fi
shells=()
for shell in bash zsh fish; do
    if command -v "$shell" >/dev/null; then
        shells+=("$shell")
    else
        echo "completions: $shell is not here and cannot be installed: its completions were NOT tested" >&2
    fi
done
python3 tests/completions.py "${CKPT:-target/debug/ckpt}" "${shells[@]}"
