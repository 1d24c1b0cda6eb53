#!/usr/bin/env bash
# Checks atomflow on a graphics card and measures it, in ten minutes; prints one table, writes results.json.
#
#   infra/gpu/check.sh [--atomflow PROGRAM] [--data DIRECTORY] [--device cuda:0] [--out runs/gpu-check]
#   infra/gpu/check.sh --dry-run      everything but the card: which commands would run, and whether they exist
#   infra/gpu/check.sh --help         all options
#
# Needs an NVIDIA driver, a CUDA toolkit (NVRTC and headers) and python3; torch for the baselines beside ours.
# PROGRAM and DIRECTORY are found beside this script, where pack.sh puts them, or in the repository it lies in.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v python3 >/dev/null || {
    echo "check.sh: there is no python3 on the PATH; install Python 3.9 or newer" >&2
    exit 64
}
exec python3 "$here/check.py" "$@"
