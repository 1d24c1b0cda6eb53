"""Polars reads every table of a run, with and without the Delta log, and joins them.

    read_polars.py RUN
"""

import polars as pl
from published import POLARS, TABLES, Run, said, same, schema


def main():
    run = Run()
    tables_have_their_types(run)
    joins_add_up(run)


def tables_have_their_types(run):
    for table in TABLES:
        whole, log = pl.read_parquet(run.parts(table)), pl.scan_delta(run.table(table)).collect()
        for way, frame in (("read_parquet", whole), ("scan_delta", log)):
            found = {name: str(kind) for name, kind in frame.schema.items()}
            same(f"types of {table} by {way}", found, schema(table, POLARS))
        same(f"rows of {table}", whole.equals(log), True)
        said(f"{table}: {whole.height} rows, types as documented, equal by 2 ways")


def joins_add_up(run):
    features, stats = pl.scan_delta(run.table("features")), pl.scan_delta(run.table("activation_stats"))
    quality = pl.read_parquet(run.parts("quality")).filter(pl.col("split") == "kept")
    joined = features.join(stats, on=["run_id", "latent"]).collect()
    same("latents", joined.height, features.collect().height)
    same("fires of all latents", joined["fires"].sum(), quality["nnz"].item())
    same("histograms", joined["histogram"].list.sum().equals(joined["fires"], check_names=False), True)
    same("densities", (joined["density"] == joined["density_right"]).all(), True)

    examples = pl.scan_parquet(run.parts("autointerp_candidates"))
    active = examples.filter(pl.col("max_act") > 0).select("latent", "latent_max").unique().collect()
    check = active.join(joined, on="latent")
    same("latents with examples", check.height, joined.filter(pl.col("fires") > 0).height)
    same("latent_max", (check["latent_max"] == check["max"]).all(), True)
    said("joins of features, activation_stats, quality and autointerp_candidates add up")


main()
