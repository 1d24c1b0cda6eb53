"""The real SAELens loads an exported dictionary; its codes and reconstructions become a fixture.

    pip install sae-lens==6.54.12 torch pyarrow
    sae_lens_check.py RUN [FIXTURE]

Encodes and decodes 64 rows of the shipped sample with the dictionary of RUN and compares with an
independent calculation. With FIXTURE, writes there the dictionary and what SAELens made of it; the
tests of the repository compare atomflow with that.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
from sae_lens import SAE, __version__
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "jobs" / "data" / "smollm2-l15-sample" / "shard-00000.parquet"
ROWS = 64


def main():
    dictionary = Path(sys.argv[1]) / "dictionary"
    x = real_rows()
    sae = SAE.load_from_disk(dictionary, device="cpu")
    with torch.no_grad():
        codes = sae.encode(torch.from_numpy(x))
        x_hat = sae.decode(codes)
    codes, x_hat = codes.numpy(), x_hat.numpy()
    compare(sae, x, codes, x_hat)
    print(f"checked: SAELens {__version__} loads {sae.cfg.architecture()} {sae.cfg.d_in} x {sae.cfg.d_sae}")
    if len(sys.argv) > 2:
        write(Path(sys.argv[2]), dictionary, {"x": x, "codes": codes, "x_hat": x_hat})


def real_rows():
    """Every 61st row: several sequences and positions, no attention sink."""
    column = parquet.read_table(SAMPLE, columns=["activation"])["activation"].combine_chunks()
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)[1::61][:ROWS]
    return np.ascontiguousarray(rows, dtype=np.float32)


def compare(sae, x, codes, x_hat):
    """TopK by hand, in float64."""
    w_enc, b_enc, w_dec, b_dec = (
        getattr(sae, name).detach().double().numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec")
    )
    pre = (x - b_dec) @ w_enc + b_enc
    keep = np.argsort(-pre, axis=1, kind="stable")[:, : sae.cfg.k]
    wanted = np.zeros_like(pre)
    np.put_along_axis(wanted, keep, np.maximum(np.take_along_axis(pre, keep, axis=1), 0), axis=1)
    for what, found, right in (("codes", codes, wanted), ("x_hat", x_hat, wanted @ w_dec + b_dec)):
        gap = np.abs(found - right).max() / np.abs(right).max()
        print(f"{what}: largest difference {gap:.1e} of the largest value")
        if gap > 1e-5:
            sys.exit(f"FAILED: {what} differ")


def write(fixture, dictionary, outputs):
    fixture.mkdir(parents=True, exist_ok=True)
    for name in ("cfg.json", "sae_weights.safetensors"):
        shutil.copyfile(dictionary / name, fixture / name)
    outputs["x"] = outputs["x"].astype(np.float16)  # what the shards hold: nothing is lost
    file = fixture / "outputs.safetensors"
    save_file(outputs, file, metadata={"sae_lens_version": __version__})
    file.chmod(0o644)
    print(f"wrote {fixture}")


main()
