//! Checks of what counts codes where they are: [`crate::kernels::count`], [`crate::kernels::offer`],
//! [`crate::kernels::measure`], [`crate::kernels::some`].

use std::collections::BTreeMap;

use atomflow_workers::{
    card::digest::{Bound, Bounds, Candidate, LatentSums, Mark, Offered},
    codes::Codes,
    stats::RowSplit,
};

use super::{
    Report,
    numbers::{Csr, floats, mix, on_card, poison},
    read,
};
use crate::{
    Runtime,
    card::{Card, Floats, Ints},
    kernels::{
        by_latent::by_latent,
        codes::CodesOnCard,
        count::Counts,
        measure::{self, Decoder},
        offer::Offers,
        some::some,
    },
    pairs::PairsOnCard,
};

/// Sums of four products of one row, added in f32.
const TOLERANCE: f64 = 2e-6;

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, (n, code)) in [
        (3, Csr::of([vec![], vec![], vec![]])),
        (1, Csr::of([vec![0]])),
        (500, Csr::random(1, 70, 500, 30)),
        (4000, Csr::random(2, 300, 4000, 90)),
        (2, Csr::of((0..3000).map(|_| vec![0, 1]))),
        (70_001, Csr::random(3, 130, 70_001, 64)),
    ]
    .into_iter()
    .enumerate()
    {
        // Units from 2⁻¹¹ to 2⁻¹, 2⁻³ among them.
        for value_log2 in [20, 31, -17 + 4 * seed as i32] {
            Case::new(seed as u64, n, &code, value_log2).check(card, report);
        }
    }
    out_of_range(card, report);
    for (seed, &(rows, d)) in [(1, 1), (5, 7), (256, 33), (257, 300), (1, 513), (700, 20)].iter().enumerate()
    {
        coordinates(card, report, seed as u64, rows, d);
    }
}

/// Codes with values, and what is known of their rows.
struct Case<'a> {
    seed: u64,
    n: usize,
    code: &'a Csr,
    values: Vec<f32>,
    marks: Vec<Mark>,
    contexts: Vec<Offered>,
    bounds: Vec<Bounds>,
    value_log2: i32,
}

impl<'a> Case<'a> {
    #[allow(clippy::cast_possible_truncation, reason = "parts of hashes")]
    fn new(seed: u64, n: usize, code: &'a Csr, value_log2: i32) -> Self {
        let (marks, contexts) = marks(seed, code.rows());
        let bound = |at: u64| Bound {
            top: 1f32.to_bits() + (mix(at) as u32 & 0x7f_ffff),
            uniform: (mix(at + 1) as u32) >> 4,
            importance: if mix(at + 2).is_multiple_of(9) { u32::MAX } else { 0.02f32.to_bits() },
        };
        let bounds = (0..n as u64).map(|latent| [bound(latent << 3), bound(latent << 3 | 4)]).collect();
        let values = values(seed, code.latents.len(), value_log2);
        Case { seed, n, code, values, marks, contexts, bounds, value_log2 }
    }

    fn check<R: Runtime>(&self, card: &Card<R>, report: &mut Report) {
        let (rows, n, nnz) = (self.code.rows(), self.n, self.values.len());
        let shape = format!("rows {rows} n {n} nnz {nnz} at 2^{}", self.value_log2);
        let codes = CodesOnCard::upload(card, &self.code.offsets, &self.code.latents);
        let (values, marks) = (card.upload(&self.values), on(card, &self.marks));
        let lists = by_latent(card, &codes, n);
        poison(card, &[n * 44, n * 4, n, nnz, nnz, nnz, nnz, nnz + 1]);
        let counts = Counts::new(card, n, self.value_log2);
        let offers = Offers::upload(card, &self.contexts, &self.bounds);
        counts.add(card, &lists, &values, &marks);
        let found = offers.candidates(card, &lists, &values, &marks, &counts).unwrap_or_default();
        // Once more: the counts of a shard go on.
        counts.add(card, &lists, &values, &marks);
        let (sums, expected) = (counts.download(card).unwrap_or_default(), self.slow_counts());
        report.equal("counts of latents", shape.clone(), &sums, &expected);
        report.equal("candidates", shape.clone(), &found, &self.slow_candidates());
        self.check_some(card, report, shape.clone(), codes.clone(), &values);
        self.check_products(card, report, shape, &codes, &values);
    }

    fn check_some<R: Runtime>(
        &self,
        card: &Card<R>,
        report: &mut Report,
        shape: String,
        codes: CodesOnCard,
        values: &Floats,
    ) {
        let offsets = self.code.offsets.iter().map(|&offset| offset as usize).collect();
        let pairs = PairsOnCard { offsets, codes, values: values.clone() };
        let wanted = |row: usize| self.marks[row].has(Mark::BACK);
        let mut expected = Codes::new(self.n);
        for row in 0..self.code.rows() {
            let span = self.code.span(row).filter(|_| wanted(row));
            expected.push_row(span.map(|pair| (self.code.latents[pair], self.values[pair])));
        }
        let found = some(card, &pairs, wanted, self.n).unwrap_or_default();
        report.equal("codes of some rows", shape, &[found], &[expected]);
    }

    fn check_products<R: Runtime>(
        &self,
        card: &Card<R>,
        report: &mut Report,
        shape: String,
        codes: &CodesOnCard,
        values: &Floats,
    ) {
        for d in [3, 130, 1000] {
            // Atoms of many latents are many numbers: a software device takes its time.
            if self.n * d > 1 << 22 {
                continue;
            }
            let rows = self.code.rows();
            let (x, on_x) = on_card(card, self.seed + 600, rows * d);
            let (w_dec, on_w_dec) = on_card(card, self.seed + 700, self.n * d);
            let (b_dec, on_b_dec) = on_card(card, self.seed + 800, d);
            let scale = f32::powi(2.0, self.value_log2 - 20);
            let decoder = Decoder { w_dec: on_w_dec, b_dec: on_b_dec };
            poison(card, &[rows * 4]);
            let found = measure::products(card, &on_x, codes, values, &decoder, scale);
            let expected = self.slow_products(&x, &w_dec, &b_dec, f64::from(scale));
            let found: Vec<[f32; 4]> = read(card, &found).as_chunks::<4>().0.to_vec();
            // Beside what the vectors of a row are: x·x̂ may be next to nothing.
            let beside = |row: &[f64; 4]| row[1] + row[3] + f64::MIN_POSITIVE;
            let share = |(found, expected): (&[f32; 4], &[f64; 4])| {
                let beside = beside(expected);
                [0, 1, 2, 3].map(|i| ((f64::from(found[i]) - expected[i]) / beside) as f32)
            };
            let off: Vec<f32> = found.iter().zip(&expected).flat_map(share).collect();
            let zeros = vec![0.0; rows * 4];
            report.close("products of rows", format!("{shape} d {d}"), &off, &zeros, TOLERANCE);
        }
    }

    fn slow_products(&self, x: &[f32], w_dec: &[f32], b_dec: &[f32], scale: f64) -> Vec<[f64; 4]> {
        let d = b_dec.len();
        let of_row = |row: usize| {
            let mut products = [0.0; 4];
            for c in 0..d {
                let atom = |pair: usize| f64::from(w_dec[self.code.latents[pair] as usize * d + c]);
                let decoded = |sum: f64, pair: usize| sum + f64::from(self.values[pair]) * atom(pair);
                let x_hat = scale * self.code.span(row).fold(f64::from(b_dec[c]), decoded);
                let x = scale * f64::from(x[row * d + c]);
                let of_column = [(x - x_hat) * (x - x_hat), x * x, x * x_hat, x_hat * x_hat];
                products.iter_mut().zip(of_column).for_each(|(sum, product)| *sum += product);
            }
            products
        };
        (0..self.code.rows()).map(of_row).collect()
    }

    /// What two blocks of the same rows come to, contexts counted once.
    fn slow_counts(&self) -> Vec<LatentSums> {
        let mut all = vec![LatentSums::ZERO; self.n];
        for (row, mark) in self.marks.iter().enumerate().filter(|(_, mark)| mark.has(Mark::KEPT)) {
            for pair in self.code.span(row) {
                self.slow_add(&mut all[self.code.latents[pair] as usize], self.values[pair], *mark);
            }
        }
        self.runs().keys().for_each(|&(latent, _)| all[latent as usize].contexts_with_fire += 1);
        all
    }

    #[allow(clippy::cast_possible_truncation, reason = "bins, and what the scales keep small")]
    fn slow_add(&self, sums: &mut LatentSums, value: f32, mark: Mark) {
        let (wide, unit) = (f64::from(value), 20 - self.value_log2);
        let squared = (wide * wide * f64::powi(2.0, 30 - 2 * unit)).round_ties_even();
        let scaled = wide * f64::powi(2.0, self.value_log2);
        let half_octaves = (2.0 * ((wide.abs()).log2() - f64::from(unit) + 14.0)).floor();
        let bin = if value == 0.0 { 0.0 } else { half_octaves.clamp(0.0, 39.0) };
        sums.fires += 2;
        sums.fires_sampled += 2 * i64::from(mark.has(Mark::SAMPLED));
        sums.sum += 2 * scaled.round_ties_even() as i64;
        sums.sum_sq += 2 * squared as i64;
        sums.max = sums.max.max(value.abs());
        sums.histogram[bin as usize] += 2;
    }

    /// Pairs of kept rows by latent and context.
    fn runs(&self) -> BTreeMap<(u32, usize), Vec<Candidate>> {
        let mut runs = BTreeMap::<_, Vec<Candidate>>::new();
        for (row, mark) in self.marks.iter().enumerate().filter(|(_, mark)| mark.has(Mark::KEPT)) {
            let Some(context) = mark.context() else { continue };
            for pair in self.code.span(row) {
                let (latent, value) = (self.code.latents[pair], self.values[pair]);
                let pair = Candidate { latent, row: row as u32, value };
                runs.entry((latent, context)).or_default().push(pair);
            }
        }
        runs
    }

    fn slow_candidates(&self) -> Vec<Candidate> {
        let passes = |latent: u32, context: usize, run: &[Candidate]| {
            let peak = run.iter().map(|c| c.value.abs()).fold(0.0, f32::max);
            let offered = self.contexts[context];
            self.bounds[latent as usize][offered.split as usize].may_take(offered.hash, latent, peak)
        };
        let runs = self.runs().into_iter();
        let passing = runs.filter(|((latent, context), run)| passes(*latent, *context, run));
        passing.flat_map(|(_, run)| run).collect()
    }
}

/// Rows in contexts of one to nine rows, some of which are none that a card looks at; some rows are not kept.
fn marks(seed: u64, rows: usize) -> (Vec<Mark>, Vec<Offered>) {
    let (mut marks, mut contexts) = (Vec::new(), Vec::new());
    while marks.len() < rows {
        let first = marks.len();
        let of = |i: u64| mix(seed << 48 | (first as u64) << 8 | i);
        let number = contexts.len() as u32 + 1;
        let looked_at = !of(0).is_multiple_of(4);
        if looked_at {
            contexts.push(Offered { hash: of(1), split: (of(2) % 2) as u32 });
        }
        for row in 0..(1 + of(3) % 9).min((rows - first) as u64) {
            let split = match mix(of(4) + row) % 8 {
                0 => RowSplit::Dropped,
                1 => RowSplit::Bad,
                2 | 3 => RowSplit::HeldOut,
                _ => RowSplit::Train,
            };
            let sampled = split.kept() && mix(of(5) + row).is_multiple_of(3);
            let Mark(mark) = Mark::new(split, sampled);
            let back = if looked_at || !split.kept() { 0 } else { Mark::BACK };
            let context = if looked_at { number << Mark::CONTEXT } else { 0 };
            marks.push(Mark(mark | back | context));
        }
    }
    (marks, contexts)
}

/// Activations of both signs: of every size that a bin has, powers of two and ties among them, and a zero.
fn values(seed: u64, len: usize, value_log2: i32) -> Vec<f32> {
    let unit = f32::powi(2.0, 20 - value_log2);
    let of = |(at, number): (usize, f32)| {
        let hash = mix(seed << 44 | at as u64);
        let size = f32::powi(2.0, (hash % 24) as i32 - 18);
        match hash >> 32 & 15 {
            // A whole number and a half, in steps.
            0 => f32::powi(2.0, -value_log2) * ((hash >> 40 & 0xff) as f32 + 0.5),
            1 => unit * size,
            2 if at == 0 => 0.0,
            _ => unit * size * number,
        }
    };
    floats(seed + 900, len).into_iter().enumerate().map(of).collect()
}

fn on<R: Runtime>(card: &Card<R>, marks: &[Mark]) -> Ints {
    card.upload(&marks.iter().map(|mark| mark.0).collect::<Vec<u32>>())
}

/// Σx of each split, in whole numbers.
fn coordinates<R: Runtime>(card: &Card<R>, report: &mut Report, seed: u64, rows: usize, d: usize) {
    for value_log2 in [20, 9, 33] {
        let x: Vec<f32> = values(seed + 50, rows * d, value_log2);
        let (marks, _) = marks(seed + 60, rows);
        poison(card, &[d * 6 * rows.div_ceil(256), d * 6]);
        let found = measure::sums(card, &card.upload(&x), &on(card, &marks), d, value_log2);
        let mut expected = vec![0i64; 3 * d];
        for (row, mark) in marks.iter().enumerate() {
            let split = (mark.0 >> Mark::SPLIT & 3) as usize;
            for c in (0..d).filter(|_| split < 3) {
                let scaled = f64::from(x[row * d + c]) * f64::powi(2.0, value_log2);
                #[allow(clippy::cast_possible_truncation, reason = "what the scales keep small")]
                let whole = scaled.round_ties_even() as i64;
                expected[split * d + c] += whole;
            }
        }
        let found: Vec<i64> = read(card, &found).into_iter().map(u64::cast_signed).collect();
        report.equal("Σx by split", format!("rows {rows} d {d} at 2^{value_log2}"), &found, &expected);
    }
}

/// Squares of 63 bits and more, and what is no number, are told; what just fits is not.
fn out_of_range<R: Runtime>(card: &Card<R>, report: &mut Report) {
    // 2^16.5 is 92,681.9: its square, at 2^30, is 2^63.
    let (fits, beyond) = (92_681.89f32, 92_682.0f32);
    let alone = [fits, beyond, -beyond, f32::INFINITY, f32::NAN, -fits, 1e-30, 65_536.0];
    let mut rows: Vec<Vec<u32>> = (0..alone.len() as u32).map(|latent| vec![latent]).collect();
    // The last latent has one more, in another thread's hands.
    rows.push(vec![alone.len() as u32 - 1]);
    let values: Vec<f32> = alone.into_iter().chain([65_536.0]).collect();
    let code = Csr::of(rows);
    let codes = CodesOnCard::upload(card, &code.offsets, &code.latents);
    let lists = by_latent(card, &codes, alone.len());
    let marks = on(card, &vec![Mark::new(RowSplit::Train, false); values.len()]);
    let counts = Counts::new(card, alone.len(), 20);
    counts.add(card, &lists, &card.upload(&values), &marks);
    let over = |sums: Vec<LatentSums>| sums.iter().map(|sums| sums.overflow).collect::<Vec<bool>>();
    let once = over(counts.download(card).unwrap_or_default());
    let expected = [false, true, true, true, true, false, false, true];
    report.equal("sums out of range", "alone".to_owned(), &once, &expected);
    counts.add(card, &lists, &card.upload(&values), &marks);
    let twice = over(counts.download(card).unwrap_or_default());
    report.equal(
        "sums out of range",
        "twice".to_owned(),
        &twice,
        &[true, true, true, true, true, true, false, true],
    );
}
