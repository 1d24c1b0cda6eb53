//! "Did you mean": the valid name nearest to a wrong one.

/// The name nearest to `wrong`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(wrong: &str, valid: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let likeness = |name: &str| strsim::jaro_winkler(&wrong, name);
    let slip = |name: &str| strsim::damerau_levenshtein(&wrong, name) <= 1 + name.len() / 4;
    // Jaro-Winkler sees shared beginnings and misses two letters swapped; edits are the other way round.
    let score = |name: &str| likeness(name) + f64::from(u8::from(slip(name)));
    let best = valid.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.85).then_some(best)
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
        for (wrong, right) in [
            ("batch-rows", "batch_rows"),
            ("held_out", "heldout"),
            ("lane", "lanes"),
            ("window", "window_rows"),
        ] {
            assert_eq!(nearest(wrong, &valid), Some(right));
        }
        assert_eq!(nearest("rl", &["lr", "warmup_share"]), Some("lr"));
        assert_eq!(nearest("colour", &valid), None);
        assert_eq!(nearest("", &[]), None);
    }
}
