"""Rows of the shards as the peers' scripts hold them (everything in memory), and the score of a dictionary."""
import glob
import json
import os
import resource
import time

import numpy as np
import pyarrow.parquet as pq


def rows(data, split, limit=None, columns=("activation",)):
    """{column: array} of the first `limit` rows of DATA/SPLIT-*.parquet; `activation` as float16 [rows, d]."""
    parts = {name: [] for name in columns}
    count = 0
    for path in sorted(glob.glob(f"{data}/{split}-*.parquet")):
        table = pq.read_table(path, columns=list(columns))
        for name in columns:
            column = table[name].combine_chunks()
            if name == "activation":
                values = column.values.to_numpy(zero_copy_only=False)
                parts[name].append(values.reshape(len(column), -1))
            else:
                parts[name].append(column.to_numpy(zero_copy_only=False))
        count += len(table)
        if limit and count >= limit:
            break
    return {name: np.concatenate(part)[:limit] for name, part in parts.items()}


def shuffled(x, seed=0):
    """The fixed order in which every peer sees the rows."""
    return x[np.random.default_rng(seed).permutation(len(x))]


class Score:
    """FVU, L0 and silent latents over batches, summed in float64."""

    def __init__(self, mean):
        self.mean, self.error, self.scatter, self.nnz, self.rows, self.fired = mean, 0.0, 0.0, 0, 0, None

    def add(self, x, x_hat, codes):
        self.error += float(np.square((x - x_hat).astype(np.float64)).sum())
        self.scatter += float(np.square((x - self.mean).astype(np.float64)).sum())
        self.nnz += int(np.count_nonzero(codes))
        self.rows += len(x)
        fired = (codes != 0).any(0)
        self.fired = fired if self.fired is None else self.fired | fired

    def figures(self):
        return {
            "fvu": self.error / self.scatter,
            "l0": self.nnz / self.rows,
            "silent": int((~self.fired).sum()),
            "heldout_rows": self.rows,
        }


def score(x, encode, decode, batch=4096):
    """The score of (encode, decode) on rows `x`, float32 arrays in and out."""
    x = x.astype(np.float32)
    total = Score(x.mean(0, dtype=np.float64).astype(np.float32))
    for start in range(0, len(x), batch):
        block = x[start : start + batch]
        codes = encode(block)
        total.add(block, decode(codes), codes)
    return total.figures()


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def age_s():
    """Seconds since this process started, imports included."""
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def threads(count):
    """Must run before numpy's and torch's pools start."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)


def tell(**figures):
    """One line of JSON: what the caller reads."""
    print("JSON " + json.dumps(figures, default=float), flush=True)
