-- How many latents fire how often: one row per power of ten of the density.
SELECT
    CASE WHEN fires > 0 THEN floor(log10(density))::INTEGER END AS density_log10,
    count(*) AS latents,
    sum(fires) AS fires,
    round(avg(fires / nullif(contexts_with_fire, 0)), 2) AS fires_per_context,
    bar(count(*), 0, max(count(*)) OVER (), 40) AS picture
FROM activation_stats
GROUP BY density_log10
ORDER BY density_log10 DESC NULLS LAST;
