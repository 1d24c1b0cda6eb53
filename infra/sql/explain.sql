-- What an explaining model is shown: ten strong contexts per latent, tokens above 30 % of the
-- latent's maximum marked << >>, with activations on delphi's scale of 0 to 10.
SELECT
    latent,
    kind,
    slice_index,
    array_to_string(
        list_transform(
            range(1, tokens + 1),
            i -> CASE WHEN activations[i] > 0.3 * latent_max THEN '<<' || str_tokens[i] || '>>' ELSE str_tokens[i] END
        ),
        ''
    ) AS example,
    list_filter(list_transform(activations, a -> ceil(10 * a / latent_max)::INTEGER), n -> n > 0) AS tenths
FROM autointerp_candidates
WHERE split = 'explain' AND kind IN ('top', 'quantile') AND str_tokens IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY latent ORDER BY kind DESC, slice_index, rank) <= 10
ORDER BY latent, kind DESC, slice_index, rank
LIMIT 50;
