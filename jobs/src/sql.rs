//! The three SQL lines a run ends with, for pasting into DuckDB.
//!
//! The column names are those of `schemas/src/table.rs`; this is the only place outside it that
//! spells them.

use std::collections::BTreeMap;

/// One question and the query that answers it, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What it shows.
    pub question: &'static str,
    /// The query.
    pub sql: String,
}

/// The queries for a run with these tables (name → directory).
pub fn queries(tables: &BTreeMap<String, String>) -> Vec<Query> {
    TEMPLATES.iter().filter_map(|(question, template)| fill(question, template, tables)).collect()
}

/// The same read as one complete version, by way of the Delta log.
pub fn delta_hint(tables: &BTreeMap<String, String>) -> Option<String> {
    let path = quoted(tables.get("features")?);
    Some(format!("INSTALL delta; LOAD delta; SELECT count(*) FROM delta_scan('{path}');"))
}

/// `{table}` stands for a read of that table.
const TEMPLATES: [(&str, &str); 3] = [
    (
        "the features that fire most often",
        "SELECT latent, density, max_activation, nearest[1].latent AS nearest_latent \
         FROM {features} WHERE NOT dead ORDER BY density DESC LIMIT 10;",
    ),
    (
        "the strongest contexts of the latent with the strongest activation",
        "SELECT latent, max_act, array_to_string(str_tokens, '') AS context \
         FROM {autointerp_candidates} WHERE kind = 'top' AND latent = \
         (SELECT latent FROM {features} ORDER BY max_activation DESC, latent LIMIT 1) \
         ORDER BY max_act DESC LIMIT 5;",
    ),
    (
        "latents that fire together, and how often each fires",
        "SELECT c.latent, c.neighbour, c.n_both, c.jaccard, a.fires, b.fires AS neighbour_fires \
         FROM {coactivations} c JOIN {activation_stats} a ON a.latent = c.latent \
         JOIN {activation_stats} b ON b.latent = c.neighbour ORDER BY c.jaccard DESC, c.latent LIMIT 10;",
    ),
];

/// `None` if the run has not all of the tables.
fn fill(question: &'static str, template: &str, tables: &BTreeMap<String, String>) -> Option<Query> {
    let mut parts = template.split('{');
    let mut sql = parts.next()?.to_owned();
    for part in parts {
        let (table, rest) = part.split_once('}')?;
        let path = quoted(tables.get(table)?);
        sql.push_str(&format!("read_parquet('{path}/*.parquet'){rest}"));
    }
    Some(Query { question, sql })
}

/// A path inside a SQL string.
fn quoted(path: &str) -> String {
    path.trim_end_matches('/').replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_one_line_over_real_paths() {
        let names = ["features", "autointerp_candidates", "coactivations", "activation_stats"];
        let tables = names.map(|n| (n.to_owned(), format!("it's/tables/{n}"))).into();
        let queries = queries(&tables);
        assert_eq!(queries.len(), 3);
        for query in queries {
            assert!(!query.sql.contains('\n') && !query.sql.contains('{'), "{}", query.sql);
            assert!(query.sql.contains("read_parquet('it''s/tables/"), "{}", query.sql);
        }
    }

    #[test]
    fn a_run_without_tables_has_no_queries() {
        assert_eq!(queries(&BTreeMap::new()), []);
    }
}
