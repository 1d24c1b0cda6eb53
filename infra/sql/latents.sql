-- A page of latents for a person to read: how often each fires, its best context, its neighbours.
WITH best AS (
    SELECT latent, max_act, array_to_string(str_tokens, '') AS context, str_tokens[peak_pos + 1] AS peak_token
    FROM autointerp_candidates
    WHERE kind = 'top' AND rank = 0
    QUALIFY row_number() OVER (PARTITION BY latent ORDER BY max_act DESC, split) = 1
),
friends AS (
    SELECT latent, list(neighbour ORDER BY rank) FILTER (rank < 3) AS fires_with FROM coactivations GROUP BY latent
)
SELECT
    f.latent,
    round(a.density, 5) AS density,
    round(a.mean, 2) AS mean,
    round(a.max, 2) AS max,
    friends.fires_with,
    f.nearest[1].latent AS points_like,
    best.peak_token,
    best.context
FROM features f
JOIN activation_stats a USING (latent)
LEFT JOIN friends USING (latent)
LEFT JOIN best USING (latent)
WHERE NOT f.dead
ORDER BY a.density DESC, f.latent
LIMIT 20;
