//! Sets of active candidates, each with a sign.

/// Positions among the candidates, ascending, and signs.
pub type Set = Vec<(usize, f64)>;

/// All sets of two to `active` of `candidates`, each member with each of `signs`.
pub fn sets(candidates: usize, active: usize, signs: &[f64]) -> Vec<Set> {
    let mut all: Vec<Set> = vec![Vec::new()];
    let mut of_size: Vec<Set> = all.clone();
    for _ in 0..active {
        of_size = of_size.iter().flat_map(|set| extended(set, candidates, signs)).collect();
        all.extend(of_size.iter().cloned());
    }
    all.retain(|set| set.len() > 1);
    all
}

/// The set with one more member, after its last one.
fn extended(set: &Set, candidates: usize, signs: &[f64]) -> Vec<Set> {
    let first = set.last().map_or(0, |last| last.0 + 1);
    let one = |(next, sign): (usize, f64)| {
        let mut set = set.clone();
        set.push((next, sign));
        set
    };
    (first..candidates).flat_map(|next| signs.iter().map(move |&sign| (next, sign))).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_once() {
        // C(6,2) + C(6,3) + C(6,4), and with two signs each times 2^size.
        assert_eq!(sets(6, 4, &[1.0]).len(), 15 + 20 + 15);
        assert_eq!(sets(4, 3, &[-1.0, 1.0]).len(), 6 * 4 + 4 * 8);
        let mut seen: Vec<String> = sets(4, 4, &[-1.0, 1.0]).iter().map(|set| format!("{set:?}")).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 6 * 4 + 4 * 8 + 16);
        assert!(sets(3, 1, &[1.0]).is_empty());
    }
}
