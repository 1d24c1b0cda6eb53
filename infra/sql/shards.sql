-- What was read, what was left out and why.
SELECT url, status, rows, kept_train, heldout, dropped_pos + dropped_token_id + dropped_norm AS filtered, bad_rows, reason
FROM shards
ORDER BY url;
