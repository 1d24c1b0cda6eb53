//! What several cards have selected, put together.

use crate::{
    codes::Codes,
    kernels::encode::{Screening, Selected},
};

/// Selections of some rows each, as one of all rows.
pub(super) fn beside_rows(parts: &[Selected<f32>]) -> Selected<f32> {
    let n_latents = parts.first().map_or(0, |part| part.codes.n_latents);
    let (mut codes, mut values) = (Codes::new(n_latents), Vec::new());
    for part in parts {
        let before = codes.nnz();
        codes.offsets.extend(part.codes.offsets.iter().skip(1).map(|end| before + end));
        codes.latents.extend_from_slice(&part.codes.latents);
        codes.values.extend_from_slice(&part.codes.values);
        values.extend_from_slice(&part.values);
    }
    Selected { codes, values, threshold: None, screening: Screening::default() }
}

/// The `k·rows` largest pairs of all rows (ties: lower row, lower latent), and the smallest value among them.
pub(super) fn largest_of_batch(codes: &Codes, values: &[f32], k: usize) -> Selected<f32> {
    let room = k.saturating_mul(codes.rows());
    let mut order: Vec<usize> = (0..values.len()).collect();
    if room < order.len() {
        let descending = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
        order.select_nth_unstable_by(room, descending);
        order.truncate(room);
    }
    let mut kept = vec![false; values.len()];
    order.iter().for_each(|&pair| kept[pair] = true);
    let (mut out, mut of_out) = (Codes::new(codes.n_latents), Vec::new());
    for row in codes.offsets.windows(2) {
        for pair in (row[0]..row[1]).filter(|&pair| kept[pair]) {
            out.latents.push(codes.latents[pair]);
            of_out.push(values[pair]);
        }
        out.offsets.push(of_out.len());
    }
    out.values.clone_from(&of_out);
    let threshold = of_out.iter().copied().reduce(f32::min);
    Selected { codes: out, values: of_out, threshold, screening: Screening::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(rows: &[&[(u32, f32)]], n: usize) -> Codes {
        let mut codes = Codes::new(n);
        rows.iter().for_each(|row| codes.push_row(row.iter().copied()));
        codes
    }

    #[test]
    fn the_largest_of_a_batch_are_those_of_the_kernel() {
        let all = codes(&[&[(0, 3.0), (4, 1.0), (7, 2.0)], &[(1, 2.0)], &[]], 9);
        let kept = largest_of_batch(&all, &all.values, 1);
        assert_eq!((&kept.codes.offsets, &kept.codes.latents), (&vec![0, 2, 3, 3], &vec![0, 7, 1]));
        assert_eq!((kept.values, kept.threshold), (vec![3.0, 2.0, 2.0], Some(2.0)));
        let kept = largest_of_batch(&all, &all.values, 2);
        assert_eq!((kept.codes.nnz(), kept.threshold), (4, Some(1.0)));
        assert_eq!(largest_of_batch(&codes(&[&[]], 9), &[], 2).threshold, None);
    }

    #[test]
    fn rows_of_several_cards_follow_each_other() {
        let whole = codes(&[&[(0, 3.0), (4, 1.0)], &[], &[(1, 2.0)], &[(2, 5.0)]], 9);
        let part = |rows| {
            let codes = whole.of_rows(rows);
            let values = codes.values.clone();
            Selected { codes, values, threshold: None, screening: Screening::default() }
        };
        let together = beside_rows(&[part(0..1), part(1..1), part(1..4)]);
        assert_eq!(together.codes, whole);
        assert_eq!(together.values, whole.values);
    }
}
