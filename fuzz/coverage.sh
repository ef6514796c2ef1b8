#!/bin/sh
# Lines that the corpora reach, for each target whose `cargo fuzz coverage` was run, and for all of them together: in per
# cent of all lines, and in brackets of those that make no error. `sh coverage.sh --missed ROOM` lists what is not reached.
set -eu
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
rooms="pickle container checkpoint data safety write"
wanted=$rooms

# for one profile: percentages of the rooms' lines; the second argument and on are the programs
lines() {
    profile=$1; shift
    first=$1; shift
    more=""; for program in "$@"; do more="$more -object $program"; done
    # shellcheck disable=SC2086
    "$tools/llvm-cov" export -format=lcov "$first" $more -instr-profile="$profile" 2>/dev/null |
        python3 coverage.py $wanted
}

programs=""; profiles=""
[ $# -gt 0 ] || { printf '%-14s' target; for room in $rooms; do printf '%13s' "$room"; done; echo; }
for target in $(cargo fuzz list); do
    profile=coverage/$target/coverage.profdata
    program=target/$host/coverage/$host/release/$target
    [ -f "$profile" ] && [ -f "$program" ] || continue
    [ $# -gt 0 ] || { printf '%-14s' "$target"; lines "$profile" "$program"; }
    programs="$programs $program"; profiles="$profiles $profile"
done
# shellcheck disable=SC2086
"$tools/llvm-profdata" merge -o coverage/all.profdata $profiles
if [ $# -gt 0 ]; then wanted="$*"; else printf '%-14s' all; fi
# shellcheck disable=SC2086
lines coverage/all.profdata $programs
