//! Loss and gradients of one batch: `∂z/∂u = √(v/u)/2` at the selected pairs, and nowhere else.

use std::ops::Range;

use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        csc::{self, ByLatent, SumRows},
        encode::{Encoder, HeadCodes, Heads},
        lanes::LaneStarts,
        residual::{Coded, Residual, residual},
        vector,
    },
    skeleton::{aux_k::AuxK, objective::Losses, rooms::Rooms},
};

/// The slope of √(u·v) is infinite at 0: factors count as at least this.
const LEAST: f64 = 1e-6;

/// One batch in front of the parameters.
#[derive(Debug)]
pub(super) struct Pass<'a, R> {
    pub(super) path: Path,
    pub(super) heads: Heads,
    pub(super) k: usize,
    pub(super) aux: AuxK,
    /// `[heads·(m + n), d]`.
    pub(super) w_enc: &'a [R],
    /// `[n_latents, d]`.
    pub(super) w_dec: &'a [R],
    pub(super) b_dec: &'a [R],
    pub(super) x: &'a [R],
    pub(super) lanes: LaneStarts<'a>,
    /// `Σ‖x − x̄‖²`.
    pub(super) scatter: f64,
    /// Who is dead, and how many.
    pub(super) dead: (&'a [bool], usize),
}

/// Gradients as sums over rows: of the main reconstruction, and of the dead latents'.
#[derive(Debug)]
pub(super) struct Gradients<R> {
    /// By row of the encoder, weights of `x − b_dec`.
    pub(super) encoder: [ByLatent<R>; 2],
    /// By latent, weights of the residuals.
    pub(super) decoder: [ByLatent<R>; 2],
    /// `[rows, d]`; the second is empty where nobody is dead.
    pub(super) residuals: [Vec<R>; 2],
    /// Gradient of `b_dec` through the decoder.
    pub(super) offset: Vec<f64>,
    pub(super) fired: Vec<bool>,
    pub(super) nnz: usize,
}

impl<R: Real> Pass<'_, R> {
    /// The loss of TopK with AuxK, divided by rows and variance.
    pub(super) fn run(&self, rooms: &mut Rooms<R>) -> (Losses, Gradients<R>) {
        let (scatter, d) = (if self.scatter > 0.0 { self.scatter } else { 1.0 }, self.b_dec.len());
        let rows = self.x.len() / d;
        let (dead, n_dead) = self.dead;
        let idle = n_dead == 0 || self.aux.k == 0 || self.aux.coefficient == 0.0;
        let ask = (!idle).then_some((dead, self.aux.k));
        let bias = vec![R::ZERO; self.w_enc.len() / d];
        let encoder = Encoder::all(self.w_enc, &bias, d);
        let [main, few] = encoder.select_heads(self.path, self.x, self.b_dec, (self.heads, self.k), ask);
        let left = self.residual(self.x, &main, self.b_dec, rooms);
        let squared_error = left.moments.squared_norm;
        let mut losses = Losses { squared_error, scatter: self.scatter, ..Losses::default() };
        losses.total = squared_error / scatter;
        let offset = left.moments.column_sums.iter().map(|sum| -2.0 / scatter * sum).collect();
        let mut fired = vec![false; dead.len()];
        main.codes.latents.iter().for_each(|&latent| fired[latent as usize] = true);
        let error_scatter = left.moments.scatter(rows);
        let [of_main, nothing] = [-2.0 / scatter, 0.0].map(R::of);
        let (encoder, decoder) = self.weigh(&main, &left.along_atoms, of_main);
        let explained = ask.filter(|_| error_scatter > 0.0 && error_scatter.is_finite());
        let (aux_encoder, aux_decoder, aux_left) = match explained {
            Some((_, k)) => {
                let missed = self.residual(&left.e, &few, &vec![R::ZERO; d], rooms);
                let share = (n_dead as f64 / k as f64).min(1.0) / error_scatter;
                losses.aux = share * missed.moments.squared_norm;
                losses.total += self.aux.coefficient * losses.aux;
                let rate = R::of(-2.0 * self.aux.coefficient * share);
                let (encoder, decoder) = self.weigh(&few, &missed.along_atoms, rate);
                (encoder, decoder, missed.e)
            }
            None => {
                let none = HeadCodes {
                    codes: none(rows, dead.len()),
                    values: Vec::new(),
                    left: Vec::new(),
                    right: Vec::new(),
                };
                let (encoder, decoder) = self.weigh(&none, &[], nothing);
                (encoder, decoder, Vec::new())
            }
        };
        let (encoder, decoder) = ([encoder, aux_encoder], [decoder, aux_decoder]);
        let residuals = [left.e, aux_left];
        (losses, Gradients { encoder, decoder, residuals, offset, fired, nnz: main.codes.nnz() })
    }

    fn residual(&self, target: &[R], of: &HeadCodes<R>, offset: &[R], rooms: &mut Rooms<R>) -> Residual<R> {
        let coded = Coded { codes: &of.codes, values: &of.values, w_dec: self.w_dec, offset };
        residual(self.path, target, &coded, self.lanes, rooms.take())
    }

    /// Weights of the sums over rows: by encoder row, and by latent.
    fn weigh(&self, of: &HeadCodes<R>, along_atoms: &[R], rate: R) -> (ByLatent<R>, ByLatent<R>) {
        let mut values = of.values.clone();
        vector::scale(rate, &mut values);
        let decoder = ByLatent::of(&of.codes, &values, &values);
        let (codes, slopes) = factors(self.heads, of, along_atoms, rate);
        (ByLatent::of(&codes, &slopes, &slopes), decoder)
    }
}

/// Rows without pairs.
fn none(rows: usize, n_latents: usize) -> Codes {
    Codes { n_latents, offsets: vec![0; rows + 1], latents: Vec::new(), values: Vec::new() }
}

/// Slopes of the pre-activations: those that several pairs of a row share are added, pairs in order.
#[allow(clippy::cast_possible_truncation, reason = "encoder rows are counted in u32")]
fn factors<R: Real>(heads: Heads, of: &HeadCodes<R>, along_atoms: &[R], rate: R) -> (Codes, Vec<R>) {
    let (width, per_head) = (heads.rows(), heads.latents());
    let mut codes = Codes::new(of.codes.n_latents / per_head * width);
    let mut slopes = Vec::with_capacity(2 * of.values.len());
    let (mut sums, mut touched) = (vec![R::ZERO; width], vec![false; width]);
    let half = R::of(0.5);
    let at_least = |z: R| if z.f64() < LEAST { R::of(LEAST) } else { z };
    for row in 0..of.codes.rows() {
        let mut pair = of.codes.offsets[row];
        while pair < of.codes.offsets[row + 1] {
            let head = of.codes.latents[pair] as usize / per_head;
            while pair < of.codes.offsets[row + 1] && of.codes.latents[pair] as usize / per_head == head {
                let inside = of.codes.latents[pair] as usize % per_head;
                let (left, right) = (at_least(of.left[pair]), at_least(of.right[pair]));
                let (slope, z) = (rate * along_atoms[pair] * half, (left * right).sqrt());
                for (at, part) in [(inside / heads.n, z / left), (heads.m + inside % heads.n, z / right)] {
                    sums[at] = slope.fma(part, sums[at]);
                    touched[at] = true;
                }
                pair += 1;
            }
            for at in (0..width).filter(|&at| std::mem::take(&mut touched[at])) {
                codes.latents.push((head * width + at) as u32);
                slopes.push(std::mem::take(&mut sums[at]));
            }
        }
        codes.offsets.push(codes.latents.len());
    }
    codes.values = vec![0.0; codes.latents.len()];
    (codes, slopes)
}

/// Sums over rows, row of a parameter by row.
#[derive(Debug)]
pub(super) struct RowSums<'a, R> {
    pub(super) terms: &'a [ByLatent<R>; 2],
    /// What each term sums, `[rows, d]`.
    pub(super) y: &'a [&'a [R]; 2],
    pub(super) lanes: LaneStarts<'a>,
    /// Subtracted from every row.
    pub(super) centre: Option<&'a [R]>,
}

impl<R: Real> RowSums<'_, R> {
    /// Width of the rows: the encoder's and the atoms' are the same.
    pub(super) fn width(&self) -> usize {
        let rows = self.lanes.last().copied().unwrap_or(1);
        self.y[0].len() / rows.max(1)
    }

    /// The sum for one row of the parameter into `total`, overwritten; returns the sum of its weights.
    #[inline(always)]
    pub(super) fn row(&self, row: usize, runs: &mut Vec<Range<usize>>, total: &mut [R]) -> R {
        total.fill(R::ZERO);
        let mut weight = R::ZERO;
        for (term, y) in self.terms.iter().zip(self.y) {
            let entries = term.entries(row);
            csc::lane_runs(entries.rows, self.lanes, runs);
            let (rows, weights) = (entries.rows, entries.decoder);
            SumRows { runs, rows, weights, y, centre: self.centre, total }.run();
            weight += csc::sum_weights(runs, weights);
        }
        weight
    }
}
