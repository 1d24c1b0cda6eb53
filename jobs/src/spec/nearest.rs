//! "Did you mean": the valid name nearest to a wrong one.

/// The name nearest to `wrong`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(wrong: &str, valid: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let likeness = |name: &str| strsim::jaro_winkler(&wrong, name);
    let best = valid.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    let edits = strsim::damerau_levenshtein(&wrong, best);
    (edits <= 1 + best.len() / 4 || likeness(best) > 0.85).then_some(best)
}

/// `; did you mean `…`?`, or nothing.
pub(super) fn did_you_mean(wrong: &str, valid: &[&str]) -> String {
    nearest(wrong, valid).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let valid = ["batch_rows", "window_rows", "lanes", "passes", "heldout"];
        for (wrong, right) in [("batch-rows", "batch_rows"), ("held_out", "heldout"), ("lane", "lanes")] {
            assert_eq!(nearest(wrong, &valid), Some(right));
        }
        assert_eq!(nearest("colour", &valid), None);
        assert_eq!(nearest("", &[]), None);
    }
}
