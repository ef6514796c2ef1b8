#!/bin/sh
# Times `ckpt average` of five files beside what any program must do: read all five, write one. In turns; the inputs are
# read into the page cache and the disk is synced before each run. Prints the best time of each, the ratio, and the
# largest resident set.
# usage: benches/average.sh DIR [TURNS]    DIR holds weights.pt of make_files.py; it is copied four times, and the copies
#                                          and outputs are removed again
set -eu
dir=$1 turns=${2:-5} ckpt=$(dirname "$0")/../target/release/ckpt
out=$dir/out times=$(mktemp) memory=$(mktemp)
mkdir -p "$out"
inputs=$dir/weights.pt
for copy in 1 2 3 4; do
    cp "$dir/weights.pt" "$out/in_$copy.pt"
    inputs="$inputs $out/in_$copy.pt"
done

run() { # name, command...
    name=$1
    shift
    # shellcheck disable=SC2086 # several files
    cat $inputs >/dev/null
    sync
    begun=$(date +%s%N)
    "$@"
    echo "$name $(($(date +%s%N) - begun))" >>"$times"
    rm -f "$out"/x*
    sync
}

for turn in $(seq "$turns"); do
    run beside sh -c "cat $inputs >/dev/null; cp $dir/weights.pt $out/x; sync $out/x"
    # shellcheck disable=SC2086
    run average /usr/bin/time -a -o "$memory" -f %M "$ckpt" average -q $inputs -o "$out/x.pt"
    # shellcheck disable=SC2086
    run to-safetensors /usr/bin/time -a -o "$memory" -f %M "$ckpt" average -q $inputs -o "$out/x.safetensors"
done
awk '
    !($1 in best) || $2 < best[$1] { best[$1] = $2 }
    END {
        for (name in best) printf "%-16s %6.2f s  %.2f x cat and cp\n", name, best[name] / 1e9, best[name] / best["beside"]
    }' "$times" | sort
echo "$(sort -n "$memory" | tail -1) KB"
rm -r "$times" "$memory" "$out"
