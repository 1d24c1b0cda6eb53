"""What runs left behind, compared: bytes, loss curves, counts. Reads directories, runs nothing."""
import glob
import hashlib
import json
import os

# Of two runs of one job on two devices, that begin with the same bytes. Products are summed in another order
# (f32) or of rounded factors (tf32: 10 bits of mantissa, bf16: 7), so pre-activations differ in their last
# bits; where two of them are that near at the border of the k largest, another latent is chosen, and from
# there the curves drift apart slowly. `first` bounds the relative difference of the loss in the first twenty
# steps, `all` in every step, `fvu` the absolute difference of the held-out FVU at the end.
CURVES = {
    "f32": {"first": 1e-4, "all": 2e-2, "fvu": 5e-3},
    "tf32": {"first": 2e-3, "all": 3e-2, "fvu": 1e-2},
    "bf16": {"first": 1e-2, "all": 5e-2, "fvu": 2e-2},
}
# Of moments in 8 bits against moments in f32, on one card and in one precision: each step's direction has noise.
MOMENTS_8BIT = {"first": 5e-2, "all": 1e-1, "fvu": 2e-2}
FIRST = 20
# How several cards share a learner.
SPLITS = ("latents", "rows")

# Of one dictionary harvested on two devices: fires that stand with another latent, as a share of all fires
# (half the sum of the differences of the counts), and the absolute difference of the held-out FVU. Rows have
# the same number of latents on both. Exact agreement is not promised, in f32 neither: ties within rounding.
HARVEST = {
    "f32": {"moved": 1e-4, "fvu": 1e-4},
    "tf32": {"moved": 5e-3, "fvu": 1e-3},
    "bf16": {"moved": 3e-2, "fvu": 1e-2},
}

# Bytes


def result(directory):
    """Every file that must be the same however a run came about, with the hash of its bytes.

    As the tests compare runs: `gen/`, `checkpoint/` and `_probe/` tell of processes, `epoch/train-*` of how
    often checkpoints are taken, `…#1` is what a killed process was about to name; JSON loses the fields that
    tell of processes.
    """
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, directory)
            if relative.startswith(("gen/", "checkpoint/", "_probe/", "epoch/train-")) or "#" in relative:
                continue
            with open(path, "rb") as file:
                content = file.read()
            if relative.endswith(".json"):
                content = blanked(content.decode())
            found[relative] = hashlib.sha256(content).hexdigest()
    return found


def blanked(text):
    values, at, decoder = [], 0, json.JSONDecoder()
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        values.append(blank(value))
    return json.dumps(values, sort_keys=True).encode()


def blank(value):
    if isinstance(value, dict):
        gone = ("writer", "generation", "seconds", "encoder", "simd")
        return {key: blank(inner) for key, inner in value.items() if key not in gone}
    return value


def differing(one, other):
    """Names of the files in which two runs differ; the steps of their curves count as one more."""
    a, b = result(one), result(other)
    if not any(name.startswith("tables/") and name.endswith(".parquet") for name in a):
        return [f"{one} has no tables"]
    names = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    return names + (["the committed metrics of training"] if curve(one) != curve(other) else [])


# Curves


def curve(directory):
    """What each window reported, in order, from the commits of training."""
    windows = []
    for path in sorted(glob.glob(os.path.join(glob.escape(directory), "epoch", "train-*.json"))):
        with open(path) as file:
            windows += json.load(file)["body"]["metrics"]
    return sorted(windows, key=lambda window: window["window"])


def metrics(directory):
    with open(os.path.join(directory, "manifest.json")) as file:
        return json.load(file)["metrics"]


def apart(one, other):
    """How far two curves are apart: the figures that CURVES bounds, and the number of steps."""
    a, b = curve(one), curve(other)
    if not a or [w["step"] for w in a] != [w["step"] for w in b]:
        raise ValueError(f"the curves have {len(a)} and {len(b)} windows")
    far = [abs(x["loss"] - y["loss"]) / abs(y["loss"]) for x, y in zip(a, b)]
    fvu = abs(metrics(one)["heldout_fvu"] - metrics(other)["heldout_fvu"])
    return {"first": max(far[:FIRST]), "all": max(far), "fvu": fvu, "steps": a[-1]["step"]}


def beyond(figures, bounds):
    """What is not within its bound; not a number is not within any."""
    return [f"{name} {figures[name]:.2e} > {bound:g}" for name, bound in bounds.items() if not figures[name] <= bound]


# Counts


def fires(directory):
    """Fires per latent from the table activation_stats; None if nothing here can read Parquet."""
    files = sorted(glob.glob(os.path.join(glob.escape(directory), "tables", "activation_stats", "*.parquet")))
    for read in (with_pyarrow, with_duckdb, with_polars):
        try:
            return dict(read(files))
        except ImportError:
            continue
    return None


def with_pyarrow(files):
    import pyarrow.parquet

    tables = [pyarrow.parquet.read_table(file, columns=["latent", "fires"]).to_pydict() for file in files]
    return [pair for table in tables for pair in zip(table["latent"], table["fires"])]


def with_duckdb(files):
    import duckdb

    return duckdb.sql("SELECT latent, fires FROM read_parquet($files)", params={"files": files}).fetchall()


def with_polars(files):
    import polars

    return polars.read_parquet(files, columns=["latent", "fires"]).rows()


def moved(one, other):
    """Half the sum of differences of counts over all fires; None without a reader of Parquet."""
    a, b = fires(one), fires(other)
    if a is None or b is None:
        return None
    difference = sum(abs(a.get(latent, 0) - b.get(latent, 0)) for latent in a.keys() | b.keys())
    return difference / 2 / max(1, sum(b.values()))
