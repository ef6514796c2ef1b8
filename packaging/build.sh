#!/usr/bin/env bash
# Builds packages into a directory: bash packaging/build.sh KIND... -o DIR
#   wheel   the program for `pip install`, with man pages and completions; needs maturin
#   deb     a Debian package; needs cargo-deb and dpkg
#   static  a binary that needs no C library, in a .tar.gz; needs the target of $TARGET (x86_64-unknown-linux-musl)
# PROFILE=dev builds what is only to be tried, in the time of a debug build.
set -euo pipefail
cd "$(dirname "$0")/.."

kinds=()
out=""
while [ $# -gt 0 ]; do
    case $1 in
        wheel | deb | static) kinds+=("$1") ;;
        -o) out=${2:?"-o needs a directory"}; shift ;;
        *) echo "build.sh: unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done
[ -n "$out" ] && [ ${#kinds[@]} -gt 0 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
profile=${PROFILE:-release}
folder=$profile
[ "$profile" != dev ] || folder=debug

# man pages and completions where each shell and `man` look, below the prefix $1
install_shared() {
    mkdir -p "$1/man/man1" "$1/bash-completion/completions" "$1/zsh/site-functions" "$1/fish/vendor_completions.d"
    cp man/*.1 "$1/man/man1/"
    cp completions/ckpt.bash "$1/bash-completion/completions/ckpt"
    cp completions/_ckpt "$1/zsh/site-functions/_ckpt"
    cp completions/ckpt.fish "$1/fish/vendor_completions.d/ckpt.fish"
}

for kind in "${kinds[@]}"; do
    case $kind in
        wheel)
            rm -rf packaging/wheel/data
            install_shared packaging/wheel/data/data/share
            (cd packaging/wheel && maturin build --profile "$profile" --locked --out "$out")
            ;;
        deb)
            cargo build --profile "$profile" --locked --bin ckpt
            cargo deb --no-build --profile "$profile" --output "$out/"
            ;;
        static)
            target=${TARGET:-x86_64-unknown-linux-musl}
            cargo build --profile "$profile" --locked --bin ckpt --target "$target"
            name=ckpt-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)-$target
            rm -rf "target/$name"
            mkdir -p "target/$name"
            cp "target/$target/$folder/ckpt" README.md CHANGELOG.md LICENSE-* "target/$name/"
            install_shared "target/$name/share"
            tar -C target -czf "$out/$name.tar.gz" "$name"
            ;;
    esac
done
ls -l "$out"
