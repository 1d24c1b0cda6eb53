-- Names for the tables of one run. In DuckDB, from the folder the run lies below:
--
--   SET VARIABLE run = 'runs/quickstart';
--   .read infra/sql/views.sql
--   .read infra/sql/quality.sql
--
-- The views read the Parquet files directly, which needs no extension. A table that is being
-- written, or was left half-written, is read correctly by delta_scan('…/tables/features') only.

CREATE OR REPLACE VIEW features AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/features/*.parquet');

CREATE OR REPLACE VIEW activation_stats AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/activation_stats/*.parquet');

CREATE OR REPLACE VIEW coactivations AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/coactivations/*.parquet');

CREATE OR REPLACE VIEW autointerp_candidates AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/autointerp_candidates/*.parquet');

CREATE OR REPLACE VIEW train_metrics AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/train_metrics/*.parquet');

CREATE OR REPLACE VIEW feature_lineage AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/feature_lineage/*.parquet');

CREATE OR REPLACE VIEW shards AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/shards/*.parquet');

CREATE OR REPLACE VIEW operator_stats AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/operator_stats/*.parquet');

CREATE OR REPLACE VIEW quality AS
SELECT * FROM read_parquet(getvariable('run') || '/tables/quality/*.parquet');

-- What each shard contributed.
CREATE OR REPLACE VIEW partial_latents AS
SELECT * FROM read_parquet(getvariable('run') || '/partials/*/latents.parquet');

CREATE OR REPLACE VIEW partial_quality AS
SELECT * FROM read_parquet(getvariable('run') || '/partials/*/quality.parquet');

CREATE OR REPLACE VIEW partial_pairs AS
SELECT * FROM read_parquet(getvariable('run') || '/partials/*/pairs.parquet');
