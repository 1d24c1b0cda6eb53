"""Held-out quality of a dictionary, as a peer's script would measure it.

quality.py ATOMFLOW DATA OUT

ATOMFLOW is the program, DATA a folder with train-*.parquet and test-*.parquet, OUT the run's place.
Trains tests/figures/quality.toml on the training shards, then encodes the rows of the test shards that
the norm rule keeps with the exported weights, in numpy, and prints FVU, L0 and dead latents.
"""
import glob
import json
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).parent
K = 32


def rows(path):
    """Kept rows of one shard: the norm rule of the spec, ten medians."""
    column = pq.read_table(path, columns=["activation"])["activation"].combine_chunks()
    x = column.values.to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float32)
    norms = np.linalg.norm(x, axis=1)
    return x[norms <= 10 * np.median(norms)]


def encode(x, weights):
    """Top-k codes of x, dense."""
    pre = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    kept = np.argpartition(-pre, K, axis=1)[:, :K]
    codes = np.zeros_like(pre)
    np.put_along_axis(codes, kept, np.maximum(np.take_along_axis(pre, kept, 1), 0), 1)
    return codes


def main():
    program, data, out = sys.argv[1:4]
    url = json.dumps(f"{data}/train-*.parquet")
    spec = [HERE / "quality.toml", "--set", f"source.url={url}", "--out", out]
    subprocess.run([program, "run", *spec], check=True)
    weights = load_file(f"{out}/dictionary/sae_weights.safetensors")
    x = np.concatenate([rows(path) for path in sorted(glob.glob(f"{data}/test-*.parquet"))])
    error = variance = fired = 0.0
    mean = x.mean(0, dtype=np.float64)
    active = np.zeros(weights["b_enc"].shape[0], bool)
    for start in range(0, len(x), 4096):
        block = x[start : start + 4096]
        codes = encode(block, weights)
        error += np.square(block - codes @ weights["W_dec"] - weights["b_dec"], dtype=np.float64).sum()
        variance += np.square(block - mean).sum()
        fired += np.count_nonzero(codes)
        active |= (codes > 0).any(0)
    figures = {"fvu": error / variance, "l0": fired / len(x), "dead": int((~active).sum()), "rows": len(x)}
    print(json.dumps(figures))


main()
