#!/bin/sh
# Times conversions and merges beside `cp FILE X; sync X`, in turns: the input is read into the page cache and the disk is synced
# before each run. Prints the best time of each, and its ratio to the best of `cp`.
# usage: benches/convert.sh DIR [TURNS]    DIR holds the files of make_files.py; outputs go to DIR/out and are removed
set -eu
dir=$1 turns=${2:-5} ckpt=$(dirname "$0")/../target/release/ckpt
out=$dir/out times=$(mktemp)
mkdir -p "$out"
other=$dir/other.pt
cp "$dir/weights.pt" "$other"

run() { # name, input, command...
    name=$1 input=$2
    shift 2
    cat "$input" >/dev/null
    sync
    begun=$(date +%s%N)
    "$@"
    echo "$name $(($(date +%s%N) - begun))" >>"$times"
    rm -f "$out"/*
    sync
}

for turn in $(seq "$turns"); do
    w=$dir/weights t=$dir/transposed.pt
    run cp "$w.pt" sh -c "cp $w.pt $out/x; sync $out/x"
    run zip-to-safetensors "$w.pt" "$ckpt" convert -q "$w.pt" "$out/x.safetensors"
    run safetensors-to-zip "$w.safetensors" "$ckpt" convert -q "$w.safetensors" "$out/x.pt"
    run legacy-to-zip "$w.legacy.pt" "$ckpt" convert -q "$w.legacy.pt" "$out/x.pt"
    run zip-to-zip "$w.pt" "$ckpt" convert -q "$w.pt" "$out/x.pt"
    run bfloat16 "$w.pt" "$ckpt" convert -q --dtype bfloat16 "$w.pt" "$out/x.pt"
    cat "$other" >/dev/null
    run cp-both "$w.pt" sh -c "cp $w.pt $out/x; cp $other $out/y; sync $out/x $out/y"
    cat "$other" >/dev/null
    run merge-two-keyed "$w.pt" "$ckpt" merge -q "a=$w.pt" "b=$other" -o "$out/x.pt"
    run cp-1-GiB "$t" sh -c "cp $t $out/x; sync $out/x"
    run transposed-to-safetensors "$t" "$ckpt" convert -q "$t" "$out/x.safetensors"
done
awk '
    !($1 in best) || $2 < best[$1] { best[$1] = $2 }
    END {
        for (name in best) {
            cp = best[name ~ /transposed|1-GiB/ ? "cp-1-GiB" : name ~ /merge|both/ ? "cp-both" : "cp"]
            printf "%-26s %6.2f s  %.2f x cp\n", name, best[name] / 1e9, best[name] / cp
        }
    }' "$times" | sort
rm -r "$times" "$out" "$other"
