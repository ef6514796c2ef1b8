#!/bin/sh
# Merging a ZeRO-3 directory against `cat` of the files that hold its weights, in turns: sh benches/zero.sh DIR [TIMES]
# DIR holds what `make_files.py DIR zero3` writes. GNU time (package `time`) prints seconds and memory.
set -eu
dir=$1 times=${2:-3} ckpt=${CKPT:-target/release/ckpt}
parts="$dir/zero3/global_step1/*_optim_states.pt"

timed() { # what, command
    what=$1; shift
    /usr/bin/time -f "$what %e s %M KB" "$@"
    rm -f "$dir"/out.*
    sync
}

for _ in $(seq "$times"); do
    cat $parts > /dev/null
    sync
    timed "cat" sh -c "cat $parts > $dir/out.cat && sync $dir/out.cat"
    timed "safetensors" "$ckpt" convert -q "$dir/zero3" "$dir/out.safetensors"
    timed "zip" "$ckpt" convert -q "$dir/zero3" "$dir/out.pt"
    timed "ls" sh -c "$ckpt ls -q --json $dir/zero3 > /dev/null"
done
