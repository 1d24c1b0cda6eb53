//! From per-shard partials to published tables: differential totals and the rows made from them.
