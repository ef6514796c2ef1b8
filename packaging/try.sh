#!/usr/bin/env bash
# Installs each package of a directory into a fresh place and runs the README's first five commands there, the man page and the
# completions: bash packaging/try.sh DIR. What cannot be tried here is named, and the exit status is then 3.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$(cd "${1:?"usage: try.sh DIR"}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mapfile -t commands < <(sed -n '/^```console$/,/^```$/s/^\$ //p' README.md | head -5)
[ "${#commands[@]}" = 5 ] || { echo "try.sh: the README has no five commands" >&2; exit 1; }

# the five commands with the ckpt below the prefix $1, whose man pages and completions are below its share/
try() {
    local prefix=$1 files
    files=$(mktemp -d "$work/files.XXXX")
    cp -r testdata/readme/. "$files"
    for command in "${commands[@]}"; do
        local status=0
        (cd "$files" && PATH="$prefix/bin:$PATH" bash -c "$command" >"$work/out" 2>&1) || status=$?
        # 1 is an answer: files differ, something was found
        [ "$status" -le 1 ] && [ -s "$work/out" ] || [ "$status" = 0 ] || { cat "$work/out" >&2; echo "try.sh: $command: $status" >&2; exit 1; }
        echo "  $status  $command"
    done
    local page
    page=$(find "$prefix/share/man/man1" -name 'ckpt-ls.1*' | head -1)
    case $page in
        *.gz) gzip -dc "$page" ;;
        *) cat "$page" ;;
    esac | grep -q '^\.TH'
    local script="$prefix/share/bash-completion/completions/ckpt"
    bash -c "source '$script' && complete -p ckpt" | grep -q ckpt
    find "$prefix/share" -name _ckpt | grep -q . && find "$prefix/share" -name ckpt.fish | grep -q .
    echo "  man page and completions are there"
}

left=()
wheel=$(find "$dist" -name '*.whl' | head -1)
if [ -n "$wheel" ]; then
    echo "wheel: $(basename "$wheel")"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q --no-index "$wheel"
    try "$work/venv"
fi

deb=$(find "$dist" -name '*.deb' | head -1)
if [ -n "$deb" ]; then
    echo "deb: $(basename "$deb")"
    # installed as dpkg unpacks it, below a directory: the machine stays as it is
    dpkg-deb -x "$deb" "$work/deb"
    dpkg-deb -f "$deb" Package Version Depends
    try "$work/deb/usr"
fi

static=$(find "$dist" -name '*-musl.tar.gz' | head -1)
if [ -n "$static" ]; then
    echo "static: $(basename "$static")"
    mkdir "$work/static"
    tar -C "$work/static" --strip-components 1 -xzf "$static"
    mkdir "$work/static/bin"
    mv "$work/static/ckpt" "$work/static/bin/"
    if ldd "$work/static/bin/ckpt" 2>/dev/null | grep -q '=>'; then echo "try.sh: the binary needs libraries" >&2; exit 1; fi
    try "$work/static"
fi

for kind in "wheel:$wheel" "deb:$deb" "static:$static"; do
    [ -n "${kind#*:}" ] || left+=("${kind%%:*}")
done
if [ ${#left[@]} -gt 0 ]; then
    echo "try.sh: not in $dist, and so NOT tried: ${left[*]}" >&2
    exit 3
fi
echo "all packages work"
