-- What a scoring model is asked (detection): per latent, contexts where it fires and contexts
-- where it does not, the hard ones among them, none of which the explainer has seen.
SELECT latent, kind IN ('top', 'quantile', 'importance', 'random_active') AS fires, kind,
    array_to_string(str_tokens, '') AS context
FROM autointerp_candidates
WHERE split = 'score' AND kind IN ('quantile', 'random_inactive', 'hard_negative') AND str_tokens IS NOT NULL
ORDER BY latent, kind, slice_index, rank
LIMIT 50;
