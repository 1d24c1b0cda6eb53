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

/// The queries for a run with these tables (name → directory, or a glob over those of `several`
/// learners, which the column `run_id` tells apart).
pub fn queries(tables: &BTreeMap<String, String>, several: bool) -> Vec<Query> {
    let templates = if several { &SEVERAL } else { &TEMPLATES };
    templates.iter().filter_map(|(question, template)| fill(question, template, tables)).collect()
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

/// The same over several learners: `run_id` is the run and the learner, `<run>/<name>`.
const SEVERAL: [(&str, &str); 3] = [
    (
        "how good each learner is; run_id ends in its name",
        "SELECT run_id, fvu, l0 FROM {quality} WHERE split = 'heldout' ORDER BY fvu;",
    ),
    (
        "the features of all learners that fire most often",
        "SELECT run_id, latent, density, max_activation, nearest[1].latent AS nearest_latent \
         FROM {features} WHERE NOT dead ORDER BY density DESC LIMIT 10;",
    ),
    (
        "latents that fire together, and how often each fires",
        "SELECT run_id, c.latent, c.neighbour, c.n_both, c.jaccard, a.fires, b.fires AS neighbour_fires \
         FROM {coactivations} c JOIN {activation_stats} a USING (run_id, latent) \
         JOIN (SELECT run_id, latent AS neighbour, fires FROM {activation_stats}) b \
         USING (run_id, neighbour) ORDER BY c.jaccard DESC, run_id, c.latent LIMIT 10;",
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
        let names = ["features", "autointerp_candidates", "coactivations", "activation_stats", "quality"];
        let tables = names.map(|n| (n.to_owned(), format!("it's/tables/{n}"))).into();
        let (one, several) = (queries(&tables, false), queries(&tables, true));
        assert_eq!((one.len(), several.len()), (3, 3));
        for query in one.into_iter().chain(several) {
            assert!(!query.sql.contains('\n') && !query.sql.contains('{'), "{}", query.sql);
            assert!(query.sql.contains("read_parquet('it''s/tables/"), "{}", query.sql);
        }
    }

    #[test]
    fn a_run_without_tables_has_no_queries() {
        assert_eq!(queries(&BTreeMap::new(), false), []);
    }
}
