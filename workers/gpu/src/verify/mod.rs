//! Every kernel against its slow reference, on the card itself: what `atomflow devices --verify` runs, and what
//! the tests run on a software device.

#![allow(
    clippy::type_complexity,
    clippy::needless_range_loop,
    reason = "references are plain loops over plain lists"
)]

mod adam;
mod best;
mod by_latent;
mod collect;
mod columns;
mod digest;
mod nested;
mod norms;
mod numbers;
mod product;
mod residual;
mod rows;
mod tensor_product;
mod transpose;
mod update;
mod weights;
mod widen;

use std::fmt::Debug;

use atomflow_workers::card::Verified;

use crate::{
    Runtime,
    card::{Buffer, Card, Lost, Plain},
    kernels::{
        best::{Best, Columns},
        product::Product,
    },
};

/// Whether a small product and its two largest sums per row are right.
///
/// # Errors
/// The card is lost.
pub fn computes<R: Runtime>(card: &Card<R>) -> Result<bool, Lost> {
    let (rows, d, n) = (3u8, 4u8, 8u8);
    let numbers = |len: u8, step: u8| (0..len).map(|i| f32::from(i * step % 11) - 4.0).collect::<Vec<_>>();
    let (x, w, bias) = (numbers(rows * d, 3), numbers(n * d, 5), numbers(n, 7));
    let [rows, d, n] = [rows, d, n].map(usize::from);
    let sum = |at: usize| {
        let (x, w) = (&x[at / n * d..][..d], &w[at % n * d..][..d]);
        bias[at % n] + x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>()
    };
    // Small whole numbers: exact in any order.
    let sums: Vec<f32> = (0..rows * n).map(sum).collect();
    let scores = card.room(rows * n);
    let [x, w, bias] = [&x, &w, &bias].map(|numbers| card.upload(numbers));
    Product { x: &x, w: &w, bias: &bias, d, rows, first: 0, width: n }.run(card, &scores);
    let mut best = Best::new(card, rows, 2, false);
    best.meet(card, &scores, n, Columns::From(0));
    let found = best.finish(card)?;
    let largest = |row: &[f32]| {
        let mut order: Vec<usize> = (0..n).filter(|&latent| row[latent] > 0.0).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        order.truncate(2);
        order.sort_unstable();
        order.into_iter().map(|latent| row[latent]).collect::<Vec<f32>>()
    };
    let expected: Vec<f32> = sums.chunks(n).flat_map(largest).collect();
    Ok(card.download(&scores)? == sums && found.values == expected)
}

/// Runs every kernel on shapes that do not fit its tiles.
pub fn all<R: Runtime>(card: &Card<R>) -> Report {
    let mut report = Report::default();
    product::check(card, &mut report);
    best::check(card, &mut report);
    collect::check(card, &mut report);
    tensor_product::check(card, &mut report);
    rows::check(card, &mut report);
    norms::check(card, &mut report);
    transpose::check(card, &mut report);
    residual::check(card, &mut report);
    nested::check(card, &mut report);
    columns::check(card, &mut report);
    by_latent::check(card, &mut report);
    digest::check(card, &mut report);
    adam::check(card, &mut report);
    update::check(card, &mut report);
    weights::check(card, &mut report);
    widen::check(card, &mut report);
    report
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Check {
    /// The kernel.
    pub name: &'static str,
    /// The shape it ran on.
    pub shape: String,
    /// The largest difference found, relative to 1 + the expected value.
    pub worst: f64,
    /// The largest one allowed.
    pub tolerance: f64,
    /// Whether it is within.
    pub fine: bool,
}

/// All comparisons.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// Notes the largest `|found − expected| / (1 + |expected|)`; what is not a number is infinitely far away.
    pub fn close(
        &mut self,
        name: &'static str,
        shape: String,
        found: &[f32],
        expected: &[f32],
        tolerance: f64,
    ) {
        let far = |(&a, &b): (&f32, &f32)| {
            let (a, b) = (f64::from(a), f64::from(b));
            let far = (a - b).abs() / (1.0 + b.abs());
            if far.is_nan() { f64::INFINITY } else { far }
        };
        let same_length = found.len() == expected.len();
        let worst = found.iter().zip(expected).map(far).fold(0.0, f64::max);
        let worst = if same_length { worst } else { f64::INFINITY };
        self.checks.push(Check { name, shape, worst, tolerance, fine: worst <= tolerance });
    }

    /// Notes whether two lists are the same.
    pub fn equal<T: PartialEq + Debug>(
        &mut self,
        name: &'static str,
        shape: String,
        found: &[T],
        expected: &[T],
    ) {
        let fine = found == expected;
        let worst = if fine { 0.0 } else { f64::INFINITY };
        self.checks.push(Check { name, shape, worst, tolerance: 0.0, fine });
    }

    /// The comparisons as `atomflow devices` tells them.
    pub fn verified(self) -> Vec<Verified> {
        let told = |Check { name, shape, worst, tolerance, fine }| {
            // JSON knows no infinity.
            Verified { name: String::from(name), shape, worst: worst.min(f64::MAX), tolerance, fine }
        };
        self.checks.into_iter().map(told).collect()
    }

    /// Whether all are fine.
    pub fn fine(&self) -> bool {
        self.checks.iter().all(|check| check.fine)
    }
}

/// What lies on the card; nothing if it is lost, which no comparison takes for fine.
fn read<R: Runtime, T: Plain>(card: &Card<R>, buffer: &Buffer<T>) -> Vec<T> {
    card.download(buffer).unwrap_or_default()
}
