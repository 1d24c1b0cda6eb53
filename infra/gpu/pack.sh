#!/usr/bin/env bash
# Makes the folder that check.sh needs on a bare machine: program, scripts, job, shards. Fails above 64 MiB.
#
#   infra/gpu/pack.sh [--atomflow target/release/atomflow] [--out target/gpu-check]
#
# The program is stripped and compressed; build it first: cargo build --release -p atomflow --features cuda.
# Then, there:  FOLDER/check.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
program=$root/target/release/atomflow
out=$root/target/gpu-check
limit=$((64 * 1024 * 1024))

usage() {
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

while (($#)); do
    case $1 in
    --atomflow | --out)
        if (($# < 2)); then
            echo "pack.sh: $1 needs a path" >&2
            exit 64
        fi
        if [[ $1 == --out ]]; then out=$2; else program=$2; fi
        shift 2
        ;;
    -h | --help) usage && exit 0 ;;
    *)
        usage >&2
        exit 64
        ;;
    esac
done

if [[ ! -f $program || ! -x $program ]]; then
    echo "pack.sh: $program is missing; build it with: cargo build --release -p atomflow --features cuda" >&2
    exit 64
fi
if ! devices=$("$program" --json devices) || [[ $devices == *"built without CUDA"* || $devices != *'"cuda'* ]]; then
    echo "pack.sh: $program was not built with --features cuda" >&2
    exit 64
fi
if [[ -e $out && ! -e $out/check.sh ]]; then
    echo "pack.sh: $out exists and is not a folder of this script; name another with --out" >&2
    exit 64
fi

rm -rf "$out"
mkdir -p "$out/data"
cp "$here"/*.sh "$here"/*.py "$here/job.toml" "$out/"
rm "$out/pack.sh"
cp "$root"/jobs/data/smollm2-l15-sample/*.parquet "$out/data/"
if command -v strip >/dev/null; then
    strip -o "$out/atomflow" "$program"
else
    echo "pack.sh: there is no strip here; the program is packed with its symbols" >&2
    cp "$program" "$out/atomflow"
fi
gzip -9 "$out/atomflow"

size=$(find "$out" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
(cd "$out" && find . -type f -printf '%9s  %P\n' | sort -k2)
awk -v size="$size" -v limit="$limit" -v out="$out" \
    'BEGIN { printf "%s: %.1f MiB of %d\n", out, size / 1048576, limit / 1048576 }'
if ((size > limit)); then
    echo "pack.sh: that is more than may travel; is the program built with --release?" >&2
    exit 1
fi
