//! Several cards as one: each holds a share of the latents.
//!
//! Cards exchange candidates and residuals only: every card finds codes among its own latents, the best of
//! all are put together here; the residual goes from card to card, each taking away what its latents decode
//! to; each sums and steps its own weights. Weights and moments are divided by the number of cards. Against
//! data parallelism the traffic is about `0.6·rows/n_latents` of it, so this wins once there are more latents
//! than rows in a batch.

mod passing;

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    Against, CardGradient, CardNested, CardResidual, CardRows, CardTerm, Matrix, OnCard, Peer, Scatter,
    cluster::sent_to, pairs::largest_of_batch, wire::Incoming,
};
use crate::{
    codes::Codes,
    kernels::{
        adam::AdamStep,
        encode::{Among, Screening, Selected, Selection},
    },
    skeleton::{
        parameters::{Parameter, Parameters},
        update::Atoms,
    },
};

#[derive(Debug)]
struct Shard {
    latents: Range<usize>,
    on: Box<dyn OnCard>,
}

/// An autoencoder in shards of latents.
#[derive(Debug)]
pub(super) struct Sharded {
    n: usize,
    shards: Vec<Shard>,
}

/// Rows that every card has, in the order of the shards.
type Everywhere = Vec<CardRows>;

impl Shard {
    /// The pairs of a code whose latents are here, by their numbers here, and where they stand in the code.
    fn own(&self, codes: &Codes) -> (Codes, Vec<usize>) {
        self.own_among(codes, &(0..codes.n_latents))
    }

    /// Those of them among `latents`.
    fn own_among(&self, codes: &Codes, latents: &Range<usize>) -> (Codes, Vec<usize>) {
        let (first, n) = (self.latents.start, self.latents.len());
        let Range { start, end } = self.shared(latents);
        let (mut own, mut places) = (Codes::new(n), Vec::new());
        for row in codes.offsets.windows(2) {
            let here = &codes.latents[row[0]..row[1]];
            let from = row[0] + here.partition_point(|&latent| (latent as usize) < start);
            let to = row[0] + here.partition_point(|&latent| (latent as usize) < end);
            places.extend(from..to);
            #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
            own.latents.extend(codes.latents[from..to].iter().map(|&latent| latent - first as u32));
            own.values.extend_from_slice(&codes.values[from..to]);
            own.offsets.push(own.latents.len());
        }
        (own, places)
    }

    /// Which of `latents` are here.
    fn shared(&self, latents: &Range<usize>) -> Range<usize> {
        let start = latents.start.clamp(self.latents.start, self.latents.end);
        start..latents.end.clamp(start, self.latents.end)
    }

    /// What a gradient has of the latents that are here.
    fn with_own<T>(&self, gradient: &CardGradient, ask: impl FnOnce(&CardGradient) -> T) -> T {
        let own = |all: Option<&'_ [f32]>| all.map(|all| all[self.latents.clone()].to_vec());
        let (bias, pull) = (own(gradient.bias), own(gradient.pull));
        ask(&CardGradient { bias: bias.as_deref(), pull: pull.as_deref(), ..*gradient })
    }

    /// The latents of a list that are here, by their numbers here.
    fn listed(&self, latents: &[u32]) -> Vec<u32> {
        let own = latents.iter().filter(|&&latent| self.latents.contains(&(latent as usize)));
        #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
        own.map(|&latent| latent - self.latents.start as u32).collect()
    }
}

impl Sharded {
    /// `start`, shared out over the cards.
    pub(super) fn new(cards: &[Arc<dyn Peer>], start: &Parameters<f32>) -> Self {
        let (n, count) = (start.n_latents(), cards.len());
        let shard = |(at, card): (usize, &Arc<dyn Peer>)| {
            let latents = at * n / count..(at + 1) * n / count;
            Shard { on: card.autoencoder(&slice(start, &latents)), latents }
        };
        Sharded { n, shards: cards.iter().enumerate().map(shard).collect() }
    }

    /// What every card answers, all at once.
    fn each<T: Send>(&self, ask: impl Fn(usize, &Shard) -> T + Sync) -> Vec<T> {
        self.shards.par_iter().enumerate().map(|(at, shard)| ask(at, shard)).collect()
    }

    /// Codes of the shards side by side: `rows` in all of them, latents by their numbers in the whole.
    fn together(&self, parts: &[Selected<f32>]) -> (Codes, Vec<f32>) {
        let rows = parts.iter().map(|part| part.codes.rows()).min().unwrap_or(0);
        let (mut codes, mut values) = (Codes::new(self.n), Vec::new());
        for row in 0..rows {
            for (shard, part) in self.shards.iter().zip(parts) {
                let span = part.codes.offsets[row]..part.codes.offsets[row + 1];
                #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
                let first = shard.latents.start as u32;
                codes.latents.extend(part.codes.latents[span.clone()].iter().map(|latent| first + latent));
                values.extend_from_slice(&part.values[span]);
            }
            codes.offsets.push(codes.latents.len());
        }
        codes.values.clone_from(&values);
        (codes, values)
    }

    fn best(&self, parts: &[Selected<f32>], selection: Selection<f32>) -> Selected<f32> {
        let (codes, values) = self.together(parts);
        let (codes, values) = match selection {
            Selection::BatchTopK(k) => return largest_of_batch(&codes, &values, k),
            Selection::Above(_) => (codes, values),
            Selection::TopK(k) => codes.largest(&values, |_| k),
            Selection::AbsTopK(k) => {
                let magnitudes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
                codes.largest_by(&magnitudes, &values, |_| k)
            }
        };
        Selected { codes, values, threshold: None, screening: Screening::default() }
    }
}

fn everywhere(rows: &CardRows) -> Option<&Everywhere> {
    rows.0.downcast_ref()
}

fn rows_everywhere(rows: Everywhere) -> CardRows {
    CardRows(Arc::new(rows))
}

fn at(rows: &CardRows, shard: usize) -> CardRows {
    // Rows of another cluster: the card will say that it does not know them.
    everywhere(rows).and_then(|rows| rows.get(shard)).unwrap_or(rows).clone()
}

impl OnCard for Sharded {
    fn begin(&self, x: Incoming, target: Option<&[f32]>) -> Scatter {
        self.each(|at, shard| shard.on.begin(sent_to(x, at), target)).into_iter().next().unwrap_or_default()
    }

    fn select(
        &self,
        selection: Selection<f32>,
        among: Option<Among>,
    ) -> (Selected<f32>, Option<Selected<f32>>) {
        let parts = self.each(|_, shard| {
            let own = match selection {
                Selection::Above(t) if t.len() > 1 => Selection::Above(&t[shard.latents.clone()]),
                other => other,
            };
            let listed = among.map(|among| shard.listed(among.latents));
            let among = among.zip(listed.as_ref()).map(|(among, latents)| Among { latents, k: among.k });
            shard.on.select(own, among)
        });
        let (parts, dead): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let dead: Option<Vec<_>> = dead.into_iter().collect();
        let dead = among.zip(dead).map(|(among, dead)| self.best(&dead, Selection::TopK(among.k)));
        (self.best(&parts, selection), dead)
    }

    fn select_weighted(&self, k: usize, weights: &[f32]) -> Selected<f32> {
        let parts = self.each(|_, shard| shard.on.select_weighted(k, &weights[shard.latents.clone()]));
        self.best(&parts, Selection::BatchTopK(k))
    }

    fn select_among(&self, among: Among) -> Selected<f32> {
        let parts = self.each(|_, shard| {
            let latents = shard.listed(among.latents);
            shard.on.select_among(Among { latents: &latents, k: among.k })
        });
        self.best(&parts, Selection::TopK(among.k))
    }

    fn residual(&self, against: Against, codes: &Codes, values: &[f32]) -> CardResidual {
        self.passed(against, codes, values)
    }

    fn nested(&self, codes: &Codes, values: &[f32], ends: &[usize], weights: &[f32]) -> CardNested {
        self.passed_nested(codes, values, ends, weights)
    }

    fn along(&self, y: &CardRows, codes: &Codes) -> Vec<f32> {
        let parts = self.each(|number, shard| {
            let (own, places) = shard.own(codes);
            (shard.on.along(&at(y, number), &own), places)
        });
        let mut along = vec![0.0; codes.nnz()];
        for (part, places) in parts {
            places.into_iter().zip(part).for_each(|(place, value)| along[place] = value);
        }
        along
    }

    fn gather(&self, terms: &[CardTerm]) -> Vec<f64> {
        let parts = self.each(|number, shard| {
            let own = |term: &CardTerm| {
                let (codes, places) = shard.own(&term.codes);
                let of = |weights: &[f32]| places.iter().map(|&pair| weights[pair]).collect();
                let mut begin = 0;
                let here = |(end, y): &(usize, CardRows)| {
                    let here = shard.shared(&(std::mem::replace(&mut begin, *end)..*end));
                    (!here.is_empty()).then(|| (here.end - shard.latents.start, at(y, number)))
                };
                let y = term.y.iter().filter_map(here).collect();
                CardTerm { codes, decoder: of(&term.decoder), encoder: of(&term.encoder), y }
            };
            shard.on.gather(&terms.iter().map(own).collect::<Vec<_>>())
        });
        let sum = |mut total: Vec<f64>, part: Vec<f64>| {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            total
        };
        parts.into_iter().reduce(sum).unwrap_or_default()
    }

    fn add(&self, to: &CardRows, factor: f32, rows: &CardRows) {
        self.each(|number, shard| shard.on.add(&at(to, number), factor, &at(rows, number)));
    }

    fn unmapped(&self, map: &[f32]) -> CardRows {
        rows_everywhere(self.each(|_, shard| shard.on.unmapped(map)))
    }

    fn cross(&self, y: &CardRows) -> Vec<f32> {
        self.shards.first().map_or_else(Vec::new, |shard| shard.on.cross(&at(y, 0)))
    }

    fn norms(&self, of: Matrix, widths: &[usize]) -> Vec<f32> {
        self.each(|_, shard| shard.on.norms(of, widths)).concat()
    }

    fn encoder(&self, latents: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let parts = self.each(|_, shard| shard.on.encoder(&shard.listed(latents)));
        let (rows, biases): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (rows.concat(), biases.concat())
    }

    fn squares(&self, gradient: &CardGradient) -> f64 {
        self.each(|_, shard| shard.with_own(gradient, |own| shard.on.squares(own))).into_iter().sum()
    }

    fn update(&self, gradient: &CardGradient, adam: &AdamStep<f32>, atoms: Atoms) {
        self.each(|_, shard| {
            shard.with_own(gradient, |own| shard.on.update(own, adam, atoms));
        });
    }

    fn restart(&self, latents: &[u32], encoder: &[f32], atoms: &[f32]) {
        let (d_in, d_out) = (encoder.len() / latents.len().max(1), atoms.len() / latents.len().max(1));
        self.each(|_, shard| {
            let from = latents.partition_point(|&latent| (latent as usize) < shard.latents.start);
            let to = latents.partition_point(|&latent| (latent as usize) < shard.latents.end);
            let (encoder, atoms) = (&encoder[from * d_in..to * d_in], &atoms[from * d_out..to * d_out]);
            shard.on.restart(&shard.listed(latents), encoder, atoms);
        });
    }

    fn set_b_dec(&self, b_dec: &[f32]) {
        self.each(|_, shard| shard.on.set_b_dec(b_dec));
    }

    fn download(&self, rows: &CardRows) -> Vec<f32> {
        self.shards.first().map_or_else(Vec::new, |shard| shard.on.download(&at(rows, 0)))
    }

    fn upload(&self, rows: &[f32]) -> CardRows {
        rows_everywhere(self.each(|_, shard| shard.on.upload(rows)))
    }

    fn biases(&self) -> (Vec<f32>, Vec<f32>) {
        let (b_enc, mut b_dec): (Vec<_>, Vec<_>) =
            self.each(|_, shard| shard.on.biases()).into_iter().unzip();
        // Every card steps the same decoder bias with the same gradient.
        (b_enc.concat(), b_dec.pop().unwrap_or_default())
    }

    fn read(&self, parameters: &mut Parameters<f32>) {
        let shells = self.shards.iter().map(|shard| shell(parameters, &shard.latents)).collect::<Vec<_>>();
        let parts = self.each(|number, shard| {
            let mut part = shells[number].clone();
            shard.on.read(&mut part);
            part
        });
        join(parameters, &parts);
    }

    fn write(&self, parameters: &Parameters<f32>) {
        self.each(|_, shard| shard.on.write(&slice(parameters, &shard.latents)));
    }
}

/// The parameters of some latents, and `b_dec`.
fn slice(all: &Parameters<f32>, latents: &Range<usize>) -> Parameters<f32> {
    let rows = |of: &Parameter<f32>, width: usize| {
        let span = latents.start * width..latents.end * width;
        let part = |values: &[f32]| values[span.clone()].to_vec();
        Parameter { value: part(&of.value), m: part(&of.m), v: part(&of.v) }
    };
    Parameters {
        d_in: all.d_in,
        pre_bias: all.pre_bias,
        w_enc: rows(&all.w_enc, all.d_in),
        b_enc: rows(&all.b_enc, 1),
        w_dec: rows(&all.w_dec, all.d_out()),
        b_dec: all.b_dec.clone(),
        extras: Vec::new(),
    }
}

/// Parameters of the shape of [`slice`] whose weights are elsewhere.
fn shell(all: &Parameters<f32>, latents: &Range<usize>) -> Parameters<f32> {
    let nothing = || Parameter { value: Vec::new(), m: Vec::new(), v: Vec::new() };
    Parameters {
        d_in: all.d_in,
        pre_bias: all.pre_bias,
        w_enc: nothing(),
        b_enc: Parameter::new(vec![0.0; latents.len()]),
        w_dec: nothing(),
        b_dec: Parameter::new(vec![0.0; all.d_out()]),
        extras: Vec::new(),
    }
}

/// The parameters of all shards, in their order.
fn join(all: &mut Parameters<f32>, parts: &[Parameters<f32>]) {
    let joined = |of: fn(&Parameters<f32>) -> &Parameter<f32>| Parameter {
        value: parts.iter().flat_map(|part| of(part).value.iter().copied()).collect(),
        m: parts.iter().flat_map(|part| of(part).m.iter().copied()).collect(),
        v: parts.iter().flat_map(|part| of(part).v.iter().copied()).collect(),
    };
    all.w_enc = joined(|part| &part.w_enc);
    all.b_enc = joined(|part| &part.b_enc);
    all.w_dec = joined(|part| &part.w_dec);
    if let Some(first) = parts.first() {
        all.b_dec = first.b_dec.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_cut_and_joined() {
        let numbers = |from: u16, len: u16| (from..from + len).map(f32::from).collect::<Vec<_>>();
        let parameter =
            |from, len| Parameter { m: numbers(from + 1, len), ..Parameter::new(numbers(from, len)) };
        let all = Parameters {
            d_in: 2,
            pre_bias: true,
            w_enc: parameter(0, 10),
            b_enc: parameter(100, 5),
            w_dec: parameter(200, 10),
            b_dec: parameter(300, 2),
            extras: Vec::new(),
        };
        let parts = [0..2, 2..5].map(|latents| slice(&all, &latents));
        assert_eq!(parts[1].b_enc.value, [102.0, 103.0, 104.0]);
        let mut again = shell(&all, &(0..5));
        join(&mut again, &parts);
        assert_eq!(again, all);
    }
}
