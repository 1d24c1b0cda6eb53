//! Checks of [`crate::kernels::by_latent`].

use super::{
    Report,
    numbers::{Csr, poison},
    read,
};
use crate::{
    Runtime,
    card::Card,
    kernels::{by_latent::by_latent, codes::CodesOnCard},
};

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    let whole = |rows: u32, n: u32| Csr::of((0..rows).map(|_| (0..n).collect()));
    let one = |rows: u32, latent: u32| Csr::of((0..rows).map(|_| vec![latent]));
    for (n, code) in [
        (1, Csr::of([vec![0]])),
        (5, Csr::of([vec![], vec![], vec![]])),
        (2000, Csr::random(1, 40, 2000, 30)),
        (1024, Csr::random(2, 600, 1024, 5)),
        (1025, Csr::random(3, 3000, 1025, 40)),
        (3, whole(255, 3)),
        (3, whole(256, 3)),
        (3, whole(257, 3)),
        (9, one(5000, 8)),
        (2, one(70_001, 1)),
        (1_000_003, Csr::random(4, 50, 1_000_003, 64)),
    ] {
        let rows = code.rows();
        let shape = format!("rows {rows} n {n} nnz {}", code.latents.len());
        let codes = CodesOnCard::upload(card, &code.offsets, &code.latents);
        poison(card, &[n, n + 1, codes.nnz(), codes.nnz(), codes.nnz(), codes.nnz()]);
        let found = by_latent(card, &codes, n);
        let (starts, pairs, of_rows) = slow(&code, n);
        report.equal("list starts", shape.clone(), &read(card, &found.starts), &starts);
        report.equal("list pairs", shape.clone(), &read(card, &found.pairs), &pairs);
        report.equal("list rows", shape, &read(card, &found.rows), &of_rows);
    }
}

/// Starts, pairs and rows.
#[allow(clippy::cast_possible_truncation, reason = "small")]
fn slow(code: &Csr, n: usize) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let mut lists = vec![Vec::new(); n];
    for row in 0..code.rows() {
        for pair in code.span(row) {
            lists[code.latents[pair] as usize].push((pair as u32, row as u32));
        }
    }
    let mut starts = vec![0u32];
    for list in &lists {
        starts.push(starts[starts.len() - 1] + list.len() as u32);
    }
    let (pairs, rows) = lists.into_iter().flatten().unzip();
    (starts, pairs, rows)
}
