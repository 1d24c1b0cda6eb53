-- The books of a run: every query returns no rows if they balance.

-- sums per latent: the shards' contributions add up to the table
(SELECT latent, sum(fires) AS fires, sum(contexts_with_fire) AS contexts, sum("sum") AS s, sum(sum_sq) AS sq,
    max("max") AS m, sum(fires_sampled) AS sampled
FROM partial_latents GROUP BY latent
EXCEPT
SELECT latent, fires, contexts_with_fire, "sum", sum_sq, "max", fires_sampled FROM activation_stats)
UNION ALL
(SELECT latent, fires, contexts_with_fire, "sum", sum_sq, "max", fires_sampled FROM activation_stats WHERE fires > 0
EXCEPT
SELECT latent, sum(fires), sum(contexts_with_fire), sum("sum"), sum(sum_sq), max("max"), sum(fires_sampled)
FROM partial_latents GROUP BY latent);

-- histograms: bin by bin
SELECT latent, list(n ORDER BY bin) AS histogram
FROM (
    SELECT latent, bin, sum(n)::BIGINT AS n
    FROM (SELECT latent, unnest(histogram) AS n, generate_subscripts(histogram, 1) AS bin FROM partial_latents)
    GROUP BY latent, bin
)
GROUP BY latent
EXCEPT
SELECT latent, histogram FROM activation_stats;

-- a histogram holds every fire once
SELECT latent FROM activation_stats WHERE list_sum(histogram) <> fires OR len(histogram) <> 40;

-- sums over rows: the shards' contributions add up to the table
SELECT split, sum(rows) AS rows, sum(nnz) AS nnz, sum(sum_error_sq) AS e, sum(sum_x_sq) AS x,
    sum(sum_x_dot_x_hat) AS d, sum(sum_x_hat_sq) AS h, sum(sum_cosine) AS c
FROM partial_quality GROUP BY split
EXCEPT
SELECT split, rows, nnz, sum_error_sq, sum_x_sq, sum_x_dot_x_hat, sum_x_hat_sq, sum_cosine FROM quality;

-- kept is train + heldout, all is kept + dropped
SELECT 'kept' AS split, sum(rows) AS rows, sum(nnz) AS nnz, sum(sum_error_sq) AS e, sum(sum_x_sq) AS x
FROM quality WHERE split IN ('train', 'heldout')
EXCEPT SELECT split, rows, nnz, sum_error_sq, sum_x_sq FROM quality
UNION ALL
(SELECT 'all', sum(rows), sum(nnz), sum(sum_error_sq), sum(sum_x_sq) FROM quality WHERE split IN ('kept', 'dropped')
EXCEPT SELECT split, rows, nnz, sum_error_sq, sum_x_sq FROM quality);

-- every code pair of a kept row is a fire of one latent
SELECT s.fires, q.nnz FROM (SELECT sum(fires) AS fires FROM activation_stats) s, quality q
WHERE q.split = 'kept' AND s.fires IS DISTINCT FROM q.nnz;

-- densities are what they say, in both tables that have them
SELECT a.latent FROM activation_stats a FULL JOIN features f USING (latent)
WHERE a.density IS DISTINCT FROM a.fires / a.rows
    OR a.context_density IS DISTINCT FROM a.contexts_with_fire / a.contexts
    OR f.density IS DISTINCT FROM a.density
    OR f.max_activation IS DISTINCT FROM a.max
    OR f.dead IS DISTINCT FROM (a.fires = 0)
    OR a.rows IS DISTINCT FROM (SELECT rows FROM quality WHERE split = 'kept')
    OR a.contexts IS DISTINCT FROM (SELECT sum(contexts) FROM partial_quality);

-- mean and deviation follow from the sums
SELECT latent, mean, std FROM (
    SELECT *, "sum" * power(2, -value_log2) / fires AS m, sum_sq * power(2, -square_log2) / fires AS sq
    FROM activation_stats WHERE fires > 0
)
WHERE abs(mean - m) > 1e-9 * abs(m) OR abs(std * std - (sq - m * m)) > 1e-6 * sq
UNION ALL
SELECT latent, mean, std FROM activation_stats WHERE fires = 0 AND (mean IS NOT NULL OR std IS NOT NULL);

-- the first and the last shard in which a latent fired were read
SELECT latent FROM activation_stats a
WHERE (fires > 0) <> (first_shard IS NOT NULL)
    OR (fires > 0) <> (last_shard IS NOT NULL)
    OR first_shard NOT IN (SELECT url FROM shards WHERE status = 'read')
    OR last_shard NOT IN (SELECT url FROM shards WHERE status = 'read');

-- pair counts behind the published neighbours
SELECT c.* FROM coactivations c
LEFT JOIN (SELECT latent, neighbour, sum(n_both) AS n FROM partial_pairs GROUP BY ALL) p
    ON p.latent = least(c.latent, c.neighbour) AND p.neighbour = greatest(c.latent, c.neighbour)
WHERE p.n IS DISTINCT FROM c.n_both;

-- counts and Jaccard of neighbours
SELECT c.* FROM coactivations c
JOIN activation_stats a ON a.latent = c.latent
JOIN activation_stats b ON b.latent = c.neighbour
WHERE c.n_latent <> a.fires_sampled
    OR c.n_neighbour <> b.fires_sampled
    OR c.n_both < 2
    OR c.n_both > least(c.n_latent, c.n_neighbour)
    OR abs(c.jaccard - c.n_both / (c.n_latent + c.n_neighbour - c.n_both)) > 1e-12
    OR c.tokens_sampled <> (SELECT sum(rows_sampled) FROM partial_quality);

-- ranks of neighbours: 0, 1, 2 … by Jaccard
SELECT latent FROM (
    SELECT latent, rank, row_number() OVER (PARTITION BY latent ORDER BY rank) - 1 AS place,
        jaccard, lag(jaccard) OVER (PARTITION BY latent ORDER BY rank) AS better
    FROM coactivations
)
WHERE rank <> place OR jaccard > better + power(2, -32);

-- what the explainer sees is never scored
SELECT seq_id, doc_id, start FROM autointerp_candidates WHERE seq_id IS NOT NULL
GROUP BY seq_id, doc_id, start HAVING count(DISTINCT split) > 1
UNION ALL
SELECT NULL, NULL, row FROM autointerp_candidates
GROUP BY shard, row HAVING count(DISTINCT split) > 1;

-- a context occurs once inside a kind
SELECT latent, kind, shard, row FROM autointerp_candidates
GROUP BY latent, kind, shard, row HAVING count(*) > 1;

-- ranks of examples: 0, 1, 2 … inside latent, split, kind and slice
SELECT latent, split, kind, slice_index FROM autointerp_candidates
GROUP BY latent, split, kind, slice_index
HAVING min(rank) <> 0 OR max(rank) <> count(*) - 1 OR count(DISTINCT rank) <> count(*);

-- slices have equal counts (as far as they divide) and follow one another in strength
SELECT latent, split FROM (
    SELECT latent, split, slice_index, count(*) AS n, max(max_act) AS high,
        lag(min(max_act)) OVER (PARTITION BY latent, split ORDER BY slice_index) AS low_before
    FROM autointerp_candidates WHERE kind = 'quantile' GROUP BY latent, split, slice_index
)
GROUP BY latent, split
HAVING max(n) - min(n) > 1 OR bool_or(high > low_before);

-- one value per token, and the peak is where it is said to be
SELECT latent, kind, rank FROM autointerp_candidates
WHERE len(activations) <> tokens
    OR len(token_ids) <> tokens
    OR len(str_tokens) <> tokens
    OR len(neighbour_activations) <> tokens
    OR max_act <> list_max(list_transform(activations, a -> abs(a)))
    OR peak_pos <> list_position(list_transform(activations, a -> abs(a)), max_act) - 1
    OR (kind = 'quantile') <> (slice_index IS NOT NULL)
    OR (kind = 'hard_negative') <> (neighbour_latent IS NOT NULL)
    OR (kind = 'hard_negative') <> (neighbour_activations IS NOT NULL)
    OR (kind IN ('random_inactive', 'hard_negative')) <> (max_act = 0)
    OR (kind IN ('random_inactive', 'hard_negative')) <> (peak_pos IS NULL)
    OR list_bool_or(list_transform(dropped, i -> activations[i + 1] <> 0 OR i < 0 OR i >= tokens));

-- the largest activation is the same in every table
SELECT c.latent FROM autointerp_candidates c JOIN activation_stats a USING (latent)
WHERE c.latent_max <> a.max OR c.max_act > a.max
UNION ALL
SELECT a.latent FROM activation_stats a
LEFT JOIN (SELECT latent, max(max_act) AS m FROM autointerp_candidates WHERE kind = 'top' GROUP BY latent) c USING (latent)
WHERE a.fires > 0 AND c.m IS DISTINCT FROM a.max;

-- hard negatives: a co-firing neighbour fires where the latent does not
SELECT h.latent, h.neighbour_latent FROM autointerp_candidates h
LEFT JOIN coactivations c ON c.latent = h.latent AND c.neighbour = h.neighbour_latent
WHERE h.kind = 'hard_negative' AND (c.latent IS NULL OR list_max(list_transform(h.neighbour_activations, a -> abs(a))) = 0);

-- no context is both a hard negative and a random inactive one
SELECT latent, shard, row FROM autointerp_candidates WHERE kind IN ('random_inactive', 'hard_negative')
GROUP BY latent, shard, row HAVING count(DISTINCT kind) > 1;

-- latents that never fired have no examples
SELECT c.latent FROM autointerp_candidates c JOIN activation_stats a USING (latent) WHERE a.fires = 0;

-- every row of a shard is counted once, and the totals are those of quality
SELECT url FROM shards
WHERE status = 'read' AND rows <> kept_train + heldout + dropped_pos + dropped_token_id + dropped_norm + bad_rows
UNION ALL
SELECT q.split FROM quality q, (
    SELECT sum(kept_train) AS train, sum(heldout) AS heldout,
        sum(dropped_pos + dropped_token_id + dropped_norm) AS dropped
    FROM shards WHERE status = 'read'
) s
WHERE (q.split = 'train' AND q.rows <> s.train)
    OR (q.split = 'heldout' AND q.rows <> s.heldout)
    OR (q.split = 'dropped' AND q.rows <> s.dropped);

-- every example comes from a shard that was read, and from rows that it has
SELECT c.latent, c.shard FROM autointerp_candidates c LEFT JOIN shards s ON s.url = c.shard
WHERE s.status IS DISTINCT FROM 'read' OR c.row < 0 OR c.row + c.tokens > s.rows OR c.row_in_group > c.row
    OR c.row_group >= s.row_groups;

-- atoms have length one, and neighbours point as said
SELECT latent FROM features WHERE abs(list_inner_product(decoder, decoder) - 1) > 1e-5
UNION ALL
SELECT f.latent FROM (SELECT latent, decoder, unnest(nearest) AS near FROM features) f
JOIN features g ON g.latent = f.near.latent
WHERE f.latent = g.latent OR abs(list_inner_product(f.decoder, g.decoder) - f.near.cosine) > 1e-4;

-- one line of descent per feature
SELECT f.latent FROM features f FULL JOIN feature_lineage l USING (run_id, latent)
WHERE f.feature_id IS DISTINCT FROM l.feature_id OR f.feature_id < 0
UNION ALL
SELECT min(latent) FROM features GROUP BY feature_id HAVING count(*) > 1;

-- latents are numbered 0, 1, 2 … in both tables of latents
SELECT 'features' AS "table" FROM features HAVING min(latent) <> 0 OR max(latent) <> count(*) - 1
UNION ALL
SELECT 'activation_stats' FROM activation_stats HAVING min(latent) <> 0 OR max(latent) <> count(*) - 1;

-- steps are numbered 1, 2, 3 … as far as they are reported, and tokens grow
SELECT step FROM (SELECT *, lag(step) OVER w AS s, lag(tokens) OVER w AS t FROM train_metrics WINDOW w AS (ORDER BY step))
WHERE step < 1 OR step <= s OR tokens <= t OR NOT isfinite(loss) OR NOT isfinite(fvu);

-- one run wrote all of it
SELECT count(DISTINCT run_id) AS runs FROM (
    SELECT run_id FROM features UNION SELECT run_id FROM activation_stats UNION SELECT run_id FROM coactivations
    UNION SELECT run_id FROM autointerp_candidates UNION SELECT run_id FROM train_metrics
    UNION SELECT run_id FROM feature_lineage UNION SELECT run_id FROM shards
    UNION SELECT run_id FROM operator_stats UNION SELECT run_id FROM quality
)
HAVING runs <> 1;
