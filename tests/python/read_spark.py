"""Spark reads every table of a run, joins them and checks their sums.

    read_spark.py RUN
"""

from published import SPARK, TABLES, Run, near, said, same, schema
from pyspark.sql import SparkSession


def main():
    run, spark = Run(), session()
    for table in TABLES:
        frame = spark.read.parquet(run.table(table))
        frame.createOrReplaceTempView(table)
        found = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
        same(f"types of {table}", found, schema(table, SPARK))
        # Every value is decoded, not only counted.
        rows = spark.sql(f"SELECT count(*), count(hash(*)) FROM {table}").first()
        same(f"{table} has rows", rows[0] > 0 and rows[0] == rows[1], True)
        said(f"{table}: {rows[0]} rows, types as documented")
    joins_add_up(spark)
    examples_stand_by_their_latents(spark)
    spark.stop()


def session():
    settings = {
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[2]").appName("atomflow")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def joins_add_up(spark):
    row = spark.sql(
        """
        SELECT sum(a.fires) AS fires, sum(aggregate(a.histogram, 0L, (s, n) -> s + n)) AS in_bins,
            max(abs(f.density - a.density)) AS gap, count(*) AS latents,
            (SELECT nnz FROM quality WHERE split = 'kept') AS nnz, (SELECT count(*) FROM features) AS n
        FROM features f JOIN activation_stats a USING (run_id, latent)
        """
    ).first()
    same("fires, histograms, nnz", (row.fires, row.in_bins), (row.nnz, row.nnz))
    same("latents and densities", (row.latents, row.gap), (row.n, 0.0))
    row = spark.sql(
        """
        SELECT max(abs(c.jaccard - c.n_both / (a.fires_sampled + b.fires_sampled - c.n_both))) AS gap
        FROM coactivations c JOIN activation_stats a ON a.latent = c.latent
            JOIN activation_stats b ON b.latent = c.neighbour
        """
    ).first()
    near("Jaccard", 1 + row.gap, 1.0)
    rows = spark.sql("SELECT sum(kept_train), sum(heldout) FROM shards").first()
    splits = dict(spark.sql("SELECT split, rows FROM quality").collect())
    same("rows of shards", tuple(rows), (splits["train"], splits["heldout"]))
    said("joins of features, activation_stats, coactivations, quality and shards add up")


def examples_stand_by_their_latents(spark):
    row = spark.sql(
        """
        SELECT count(*) AS n, sum(CAST(c.latent_max = a.max AS INT)) AS peaks,
            sum(CAST(array_max(transform(c.activations, x -> abs(x))) = c.max_act AS INT)) AS maxima,
            sum(CAST(s.status = 'read' AS INT)) AS shards
        FROM autointerp_candidates c JOIN activation_stats a USING (run_id, latent) JOIN shards s ON s.url = c.shard
        """
    ).first()
    same("examples", (row.peaks, row.maxima, row.shards), (row.n, row.n, row.n))
    said(f"{row.n} examples agree with their latents and shards")


main()
