#!/usr/bin/env bash
# Runs the real SAELens on a small dictionary and on an export of every learner that it has an architecture
# for, and writes tests/fixtures/sae_lens again. Not part of tests/run.sh: it installs PyTorch. Usage: tests/python/sae_lens.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${ATOMFLOW_SAE_LENS_VENV:-target/sae-lens-venv}
if [[ ! -x $venv/bin/python ]]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch pyarrow safetensors numpy

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cargo run --release --package atomflow -- run jobs/specs/quickstart.toml --out "$run/small" \
    --set learner.n_latents=64 --set learner.k=8
"$venv/bin/python" tests/python/sae_lens_check.py "$run/small" tests/fixtures/sae_lens

ATOMFLOW_SAE_LENS_EXPORTS=$run/exports cargo test --release --package atomflow-tests --test it -- \
    --ignored writes_exports
"$venv/bin/python" tests/python/sae_lens_exports.py "$run/exports" tests/fixtures/sae_lens/exports
