//! Checks of [`crate::kernels::update`], [`crate::kernels::gather`] and [`crate::kernels::squares`]: three steps in a
//! row, against f64.

use super::{
    Report,
    adam::{STEPS, constants, descend},
    numbers::{Csr, floats, poison},
    read,
};
use crate::{
    Runtime,
    card::{Card, Floats},
    kernels::{
        adam::Parameter,
        by_latent::by_latent,
        codes::CodesOnCard,
        dense::{Dense, gradient, step_from},
        factors::{Factors, Rounding},
        gather::{Batch, Gathered},
        lists::Term,
        moments::Moments,
        squares::{squares, squares_of},
        update::{Beside, Latents, before_encoding, step},
        weights::Weights,
    },
};

const TOLERANCE: f64 = 1e-5;

/// What is stepped.
struct Case {
    rows: usize,
    n: usize,
    d_in: usize,
    d_out: usize,
    /// The most pairs of a row in each term, and how many parts of `y` it has.
    terms: &'static [(usize, usize)],
    beside: bool,
    unit_norm: bool,
}

const CASES: [Case; 10] = [
    Case { rows: 1, n: 1, d_in: 1, d_out: 1, terms: &[(1, 1)], beside: false, unit_norm: false },
    Case { rows: 9, n: 5, d_in: 7, d_out: 7, terms: &[(3, 1)], beside: true, unit_norm: true },
    Case { rows: 40, n: 30, d_in: 389, d_out: 389, terms: &[(9, 1)], beside: false, unit_norm: true },
    Case { rows: 33, n: 20, d_in: 31, d_out: 130, terms: &[(7, 1), (4, 1)], beside: true, unit_norm: true },
    Case { rows: 21, n: 9, d_in: 600, d_out: 5, terms: &[(4, 0)], beside: true, unit_norm: false },
    Case { rows: 12, n: 6, d_in: 16, d_out: 16, terms: &[(0, 1)], beside: true, unit_norm: true },
    Case { rows: 12, n: 6, d_in: 16, d_out: 16, terms: &[], beside: false, unit_norm: true },
    Case {
        rows: 1400,
        n: 7,
        d_in: 20,
        d_out: 33,
        terms: &[(4, 1), (3, 0), (5, 1)],
        beside: true,
        unit_norm: true,
    },
    Case {
        rows: 29,
        n: 11,
        d_in: 18,
        d_out: 21,
        terms: &[(2, 1), (6, 3), (1, 0), (4, 1), (2, 1), (0, 2), (3, 1)],
        beside: true,
        unit_norm: true,
    },
    Case { rows: 700, n: 3, d_in: 1100, d_out: 1030, terms: &[(2, 1)], beside: false, unit_norm: true },
];

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, case) in CASES.iter().enumerate() {
        let Case { rows, n, d_in, d_out, terms, .. } = case;
        let shape = format!("rows {rows} n {n} d {d_in} {d_out} terms {}", terms.len());
        let data = Data::new(seed as u64 * 16, case);
        let Found { latents: found, through, encoded, squares } = on_card(card, case, &data, false, false);
        let again = on_card(card, case, &data, false, false).latents;
        let Found { latents: in_halves, squares: squares_in_halves, .. } =
            on_card(card, case, &data, true, false);
        let expected = data.slow(case);
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        for (i, name) in ["w_enc", "b_enc", "w_dec"].into_iter().enumerate() {
            for (j, part) in found[i].iter().enumerate() {
                report.close(
                    name,
                    format!("{shape} {}", ["value", "m", "v"][j]),
                    part,
                    &expected.latents[i][j],
                    TOLERANCE,
                );
                report.equal("twice the same", shape.clone(), &bits(&again[i][j]), &bits(part));
                report.equal("in halves the same", shape.clone(), &bits(&in_halves[i][j]), &bits(part));
            }
        }
        let [whole, halves] =
            [false, true].map(|in_halves| on_card(card, case, &data, in_halves, true).latents);
        for (whole, halves) in whole.into_iter().zip(halves) {
            report.equal(
                "narrow in halves the same",
                shape.clone(),
                &bits(&halves.concat()),
                &bits(&whole.concat()),
            );
        }
        report.close("through", shape.clone(), &through, &expected.through, TOLERANCE);
        report.equal("squares in halves the same", shape.clone(), &bits(&squares_in_halves), &bits(&squares));
        report.close("squares of gradients", shape.clone(), &squares, &expected.squares, TOLERANCE);
        report.close("before encoding", shape, &encoded, &expected.encoded, TOLERANCE);
    }
}

/// Inputs of a term: code, decoder weights, encoder weights, `y` of the latents below each end.
type Pairs = (Csr, Vec<f32>, Vec<f32>, Vec<(u32, Vec<f32>)>);

/// Inputs of a case.
struct Data {
    x: Vec<f32>,
    centre: Vec<f32>,
    terms: Vec<Pairs>,
    bias: Vec<f32>,
    pull: Vec<f32>,
    /// `w_enc`, `b_enc`, `w_dec`.
    start: [Vec<f32>; 3],
}

/// Numbers to compare: value and moments of `w_enc`, `b_enc` and `w_dec`, and of the last step what came before it.
struct Found {
    latents: [[Vec<f32>; 3]; 3],
    through: Vec<f32>,
    encoded: Vec<f32>,
    squares: Vec<f32>,
}

/// What pairs are multiplied by before a step.
fn factor(case: &Case) -> f32 {
    if case.beside { 0.75 } else { 1.0 }
}

impl Data {
    fn new(seed: u64, case: &Case) -> Self {
        let &Case { rows, n, d_in, d_out, .. } = case;
        let term = |(i, &(most, parts)): (usize, &(usize, usize))| {
            let seed = seed + i as u64;
            let code = Csr::random(seed, rows, n, most);
            let nnz = code.latents.len();
            let y = |part: usize| {
                // Of several, the last leaves some latents without.
                let end = if parts > 1 { n * (part + 1) / (parts + 1) } else { n };
                (end as u32, floats(seed + 2000 + 4000 * part as u64, rows * d_out))
            };
            (code, floats(seed + 1000, nnz), floats(seed + 3000, nnz), (0..parts).map(y).collect())
        };
        let mut w_dec = floats(seed + 4, n * d_out);
        w_dec[..d_out].fill(0.0); // An atom of zeros.
        Data {
            x: floats(seed + 5, rows * d_in),
            centre: floats(seed + 6, d_in),
            terms: case.terms.iter().enumerate().map(term).collect(),
            bias: floats(seed + 7, n),
            pull: floats(seed + 8, n),
            start: [floats(seed + 9, n * d_in), floats(seed + 10, n), w_dec],
        }
    }

    fn slow(&self, case: &Case) -> Found {
        let &Case { n, d_in, d_out, .. } = case;
        let wide = |numbers: &Vec<f32>| numbers.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let mut latents = [0, 1, 2].map(|i| {
            let value = wide(&self.start[i]);
            let zeros = vec![0.0; value.len()];
            [value, zeros.clone(), zeros]
        });
        let (mut through, mut encoded, mut squares) = (vec![0.0; n], vec![0.0; d_in], vec![0.0; n]);
        for t in 1..=STEPS {
            encoded.fill(0.0);
            for latent in 0..n {
                let [mut g_enc, mut g_dec] = [vec![0.0; d_in], vec![0.0; d_out]];
                through[latent] = self.sum(case, latent, &mut g_enc, &mut g_dec);
                let row = |d: usize| latent * d..(latent + 1) * d;
                let encoder = &latents[0][0][row(d_in)];
                encoded.iter_mut().zip(encoder).for_each(|(sum, w)| *sum += through[latent] * w);
                let atom = latents[2][0][row(d_out)].to_vec();
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let pull = if case.beside { f64::from(self.pull[latent]) } else { 0.0 };
                let bias = if case.beside { f64::from(self.bias[latent]) } else { 0.0 };
                let pulled: Vec<f64> = g_dec.iter().zip(&atom).map(|(g, a)| g + pull * a).collect();
                squares[latent] =
                    dot(&g_enc, &g_enc) + dot(&pulled, &pulled) + (through[latent] + bias).powi(2);
                let factor = f64::from(factor(case));
                through[latent] *= factor;
                g_enc.iter_mut().chain(&mut g_dec).for_each(|g| *g *= factor);
                g_dec.iter_mut().zip(&atom).for_each(|(g, a)| *g += pull * a);
                if case.unit_norm {
                    let parallel = dot(&g_dec, &atom);
                    g_dec.iter_mut().zip(&atom).for_each(|(g, a)| *g -= parallel * a);
                }
                descend(&mut latents[0], row(d_in), &g_enc, t);
                descend(&mut latents[1], row(1), &[through[latent] + bias], t);
                descend(&mut latents[2], row(d_out), &g_dec, t);
                let atom = &mut latents[2][0][row(d_out)];
                let norm = dot(atom, atom).sqrt();
                if case.unit_norm && norm > 0.0 {
                    atom.iter_mut().for_each(|a| *a /= norm);
                }
            }
        }
        let narrow = |numbers: Vec<f64>| numbers.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        Found {
            latents: latents.map(|parts| parts.map(narrow)),
            through: narrow(through),
            encoded: narrow(encoded),
            squares: narrow(squares),
        }
    }

    /// Adds the pairs of a latent to its gradients and returns the sum of their encoder weights.
    fn sum(&self, case: &Case, latent: usize, g_enc: &mut [f64], g_dec: &mut [f64]) -> f64 {
        let (d_in, d_out, mut through) = (case.d_in, case.d_out, 0.0);
        for (code, decoder, encoder, y) in &self.terms {
            for row in 0..case.rows {
                for p in code.span(row).filter(|&p| code.latents[p] as usize == latent) {
                    through += f64::from(encoder[p]);
                    for (c, g) in g_enc.iter_mut().enumerate() {
                        let centred = f64::from(self.x[row * d_in + c]) - f64::from(self.centre[c]);
                        *g += f64::from(encoder[p]) * centred;
                    }
                    let Some((_, y)) = y.iter().find(|(end, _)| latent < *end as usize) else { continue };
                    for (c, g) in g_dec.iter_mut().enumerate() {
                        *g += f64::from(decoder[p]) * f64::from(y[row * d_out + c]);
                    }
                }
            }
        }
        through
    }
}

/// Rows that parts have more than the batch.
fn seam(case: &Case) -> usize {
    case.rows % 3
}

/// The same on the card, each step at once or in halves; `narrow` with moments in bytes and weights in bf16.
fn on_card<R: Runtime>(card: &Card<R>, case: &Case, data: &Data, in_halves: bool, narrow: bool) -> Found {
    let value = |i: usize| card.upload(&data.start[i]);
    let zeros = |i: usize| card.upload(&vec![0.0f32; data.start[i].len()]);
    let b_enc = Parameter { value: value(1), m: zeros(1), v: zeros(1) };
    let weights = |i: usize, d: usize, bias| {
        let (value, none) = (value(i), vec![0.0; data.start[i].len()]);
        match narrow {
            false => Weights { value, moments: Moments::floats(card, &none, &none), rounded: None },
            true => Weights {
                moments: Moments::bytes(card, &none, &none, d),
                rounded: Some(Factors::of(card, Rounding::Bf16, &value, d, bias)),
                value,
            },
        }
    };
    let latents = Latents {
        w_enc: weights(0, case.d_in, Some(&b_enc.value)),
        w_dec: weights(2, case.d_out, None),
        b_enc,
    };
    // Between the rows of a part and the next part lies what nobody should read.
    let (part, mut stacked) = (case.rows + seam(case), Vec::new());
    let mut term = |(code, decoder, encoder, y): &Pairs| {
        let codes = CodesOnCard::upload(card, &code.offsets, &code.latents);
        let mut stack = |(end, y): &(u32, Vec<f32>)| {
            let number = stacked.len() / (part * case.d_out);
            stacked.extend_from_slice(y);
            stacked.resize((number + 1) * part * case.d_out, f32::NAN);
            (*end, number)
        };
        let y = y.iter().map(&mut stack).collect();
        Term {
            by_latent: by_latent(card, &codes, case.n),
            decoder: card.upload(decoder),
            encoder: card.upload(encoder),
            y,
        }
    };
    let terms = data.terms.iter().map(&mut term).collect();
    let batch = Batch {
        x: card.upload(&data.x),
        centre: card.upload(&data.centre),
        d_out: case.d_out,
        y: card.upload(&stacked),
        part,
        terms,
    };
    let (bias, pull) = (card.upload(&data.bias), card.upload(&data.pull));
    let beside = Beside { bias: case.beside.then_some(&bias), pull: case.beside.then_some(&pull) };
    let [mut through, mut encoded, mut measured] = [0; 3].map(|_| card.room(0));
    for t in 1..=STEPS {
        let pairs = batch.terms.iter().map(|term| term.encoder.len()).sum();
        poison(card, &[pairs, pairs, pairs, case.n, case.n + 1, case.d_in, 8 * (case.d_in + case.d_out + 1)]);
        let gathered = Gathered::of(card, batch.clone(), case.n);
        encoded = before_encoding(card, &gathered, &latents);
        let dense = || {
            let [w_enc, b_enc, w_dec] = [0, 1, 2].map(|i| card.upload(&vec![f32::NAN; data.start[i].len()]));
            let dense = Dense { w_enc, b_enc, w_dec };
            gradient(card, &gathered, &dense);
            dense
        };
        let w_dec = &latents.w_dec.value;
        measured = match in_halves {
            true => squares_of(card, &dense(), w_dec, beside),
            false => squares(card, &gathered, w_dec, beside),
        };
        gathered.scale(card, factor(case));
        match in_halves {
            true => step_from(card, &dense(), &latents, beside, &constants(t), case.unit_norm),
            false => step(card, &gathered, &latents, beside, &constants(t), case.unit_norm),
        }
        through = gathered.through;
    }
    let parts = |of: &Weights| {
        let (m, v) = of.moments.download(card).unwrap_or_default();
        [read(card, &of.value), m, v]
    };
    let Parameter { value, m, v } = &latents.b_enc;
    let b_enc = [value, m, v].map(|part: &Floats| read(card, part));
    let found = [parts(&latents.w_enc), b_enc, parts(&latents.w_dec)];
    let [through, encoded, squares] = [through, encoded, measured].map(|part| read(card, &part));
    Found { latents: found, through, encoded, squares }
}
