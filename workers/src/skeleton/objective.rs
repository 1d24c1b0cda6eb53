//! The loss and its gradient. This is the one place where loss terms are summed.
//!
//! A variant says which pre-activations become codes and adds terms; each term brings its gradient, in
//! closed form: with `S = 1/B` (or 1/(B·variance)), `g = −2S·e`, `gv = ⟨g, atom⟩`,
//! `dw_dec = Σ f·g`, `dw_enc = Σ gz·(x − b_dec)`, `db_enc = Σ gz`, `db_dec = Σ g − db_enc·w_enc`
//! (OpenAI `sparse_autoencoder/kernels.py`).

mod nested;
mod rows;
mod weights;

use rayon::prelude::*;

use super::{
    gradient::{Gradient, Term},
    parameters::Parameters,
    rooms::Rooms,
    rows::{Left, Rows},
};
use crate::{
    card::{Against, CardRows, CardTerm, OnCard},
    codes::Codes,
    kernels::{
        Path, Real,
        encode::{Among, Encoder, Screen, Selected, Selection},
        lanes::{self, Block, LaneStarts, Moments},
        residual::{Coded, Residual, residual, residual_of_few},
        vector,
    },
};

/// The value of the loss, term by term.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// `Σ‖e‖²` of the first reconstruction over the batch.
    pub squared_error: f64,
    /// `Σ‖y − ȳ‖²` over the batch, y what is reconstructed.
    pub scatter: f64,
    /// All reconstructions, weighted.
    pub reconstruction: f64,
    /// What codes cost, and whatever else a variant adds.
    pub penalty: f64,
    /// Auxiliary loss before its coefficient; 0 while no latent is dead.
    pub aux: f64,
    /// What is minimised.
    pub total: f64,
}

/// What a squared error is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The number of rows: penalties on codes are in proportion to the data's scale.
    Rows,
    /// Rows and variance of the batch: the loss is free of scale.
    Variance,
}

/// One batch in front of the parameters.
#[derive(Debug, Clone, Copy)]
pub struct Step<'batch, 'learner, R> {
    /// Instructions to use.
    pub path: Path,
    /// Whether integers look at the latents first.
    pub screen: Screen,
    /// Where the learner is, if not here: weights of `parameters` and rows lie there then.
    pub card: Option<&'learner dyn OnCard>,
    /// The parameters, before the step.
    pub parameters: &'learner Parameters<R>,
    /// Rows, `[rows, d_in]`, lane after lane; perhaps none where they are on the card.
    pub x: &'batch [R],
    /// What is reconstructed, `[rows, d_out]`.
    pub target: &'learner [R],
    /// The columns beside the rows that the learner asked for.
    pub beside: &'batch [Vec<R>],
    /// Where each lane starts.
    pub lanes: LaneStarts<'batch>,
    /// `Σ‖y − ȳ‖²`, y what is reconstructed.
    pub scatter: f64,
    /// Dead latents, ascending.
    pub dead: &'learner [u32],
    /// How many of them the auxiliary loss will want per row; 0 if there is none.
    pub k_aux: usize,
    /// Number of this step, counted from 1.
    pub number: u64,
    /// Steps of the whole run.
    pub steps: u64,
}

impl<R: Real> Step<'_, '_, R> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lanes.last().copied().unwrap_or(0)
    }

    /// Share of the run that is over before this step, 0 to 1.
    pub fn progress(&self) -> f64 {
        (self.number - 1) as f64 / self.steps.max(1) as f64
    }

    /// A coefficient that grows linearly from 0 during the first `share` of the run.
    pub fn warmed(&self, coefficient: f64, share: f64) -> f64 {
        let end = share * self.steps as f64;
        if end > 0.0 { coefficient * (self.number as f64 / end).min(1.0) } else { coefficient }
    }
}

/// A sparse code in the loss: what it decodes to has been compared with the target.
#[derive(Debug)]
pub struct Part<R> {
    /// Which latents.
    pub codes: Codes,
    /// What is decoded, parallel to `codes.latents`.
    pub values: Vec<R>,
    /// ∂loss/∂value of each pair. When the part is pushed, it is what multiplies `x − b_dec` in the
    /// gradient of the encoder: a variant whose values are not the pre-activations multiplies it by the
    /// slope between.
    pub slope: Vec<R>,
    /// What is unexplained, `[rows, d_out]`.
    pub e: Rows<R>,
    /// Its sums.
    pub moments: Moments,
    /// `−2·scale`: the gradient of what is decoded is this times `e`.
    rate: R,
}

impl<R: Copy> Part<R> {
    /// What `e` is multiplied by in the gradient of what is decoded: `−2·scale`.
    pub fn rate(&self) -> R {
        self.rate
    }
}

impl<R> Part<R> {
    /// Latents, values and slopes of the rows of each block of `lanes`.
    fn blocks(&mut self, lanes: LaneStarts) -> Vec<(&[u32], &[R], &mut [R])> {
        let (offsets, mut slope) = (&self.codes.offsets, &mut self.slope[..]);
        let mut blocks = Vec::new();
        for Block { rows, .. } in lanes::blocks(lanes) {
            let span = offsets[rows.start]..offsets[rows.end];
            let (here, rest) = slope.split_at_mut(span.len());
            slope = rest;
            blocks.push((&self.codes.latents[span.clone()], &self.values[span], here));
        }
        blocks
    }
}

/// Everything known after the forward pass, ready to be turned into gradients latent by latent.
#[derive(Debug)]
pub struct Backward<'batch, R> {
    /// The loss.
    pub losses: Losses,
    /// Pairs of the first code whose value is not zero.
    pub nnz: usize,
    /// Whether each latent has such a pair.
    pub fired: Vec<bool>,
    /// Its gradient.
    pub gradient: Gradient<'batch, R>,
}

/// The loss of one batch while it is summed.
#[derive(Debug)]
pub struct Loss<'batch, 'learner, 'rooms, R> {
    /// The batch and the parameters.
    pub step: Step<'batch, 'learner, R>,
    rooms: &'rooms mut Rooms<R>,
    losses: Losses,
    nnz: usize,
    fired: Vec<bool>,
    gradient: Gradient<'batch, R>,
    /// Dead latents that were selected with the main code, from the same product.
    dead: Option<Selected<R>>,
}

impl<'batch, 'learner, 'rooms, R: Real> Loss<'batch, 'learner, 'rooms, R> {
    /// Nothing is added yet. Terms hold memory of `rooms`.
    pub fn new(step: Step<'batch, 'learner, R>, rooms: &'rooms mut Rooms<R>) -> Self {
        let p = step.parameters;
        let zeros = |parameter: &super::parameters::Extra<R>| vec![R::ZERO; parameter.parameter.value.len()];
        let gradient = Gradient {
            lanes: step.lanes,
            x: step.x,
            centre: p.centre(),
            pre_bias: p.pre_bias,
            terms: Vec::new(),
            card_terms: Vec::new(),
            offset: vec![0.0; p.d_out()],
            bias: None,
            dense: None,
            pull: None,
            extras: p.extras.iter().map(zeros).collect(),
        };
        let losses = Losses { scatter: step.scatter, ..Losses::default() };
        Loss { step, rooms, losses, nnz: 0, fired: vec![false; p.n_latents()], gradient, dead: None }
    }

    /// Pre-activations that become codes. The first time, those of dead latents are kept for AuxK, too.
    pub fn select(&mut self, selection: Selection<R>) -> Selected<R> {
        let (step, p) = (self.step, self.step.parameters);
        let wanted = self.dead.is_none() && step.k_aux > 0 && !step.dead.is_empty();
        let among = wanted.then_some(Among { latents: step.dead, k: step.k_aux });
        if let Some(card) = step.card {
            let (selected, dead) = card.select(selection.narrow(&mut Vec::new()), among);
            self.dead = dead.map(Selected::widen).or(self.dead.take());
            return selected.widen();
        }
        let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, p.d_in);
        let centre = &self.gradient.centre;
        let (selected, dead) = encoder.select_also(step.path, step.screen, step.x, centre, selection, among);
        self.dead = dead.or(self.dead.take());
        selected
    }

    /// Pre-activations of dead latents that become codes of the auxiliary loss.
    pub(super) fn select_dead(&mut self) -> Selected<R> {
        let (step, p) = (self.step, self.step.parameters);
        let encoder = Encoder::subset(&p.w_enc.value, &p.b_enc.value, p.d_in, step.dead);
        let own = || {
            if let Some(card) = step.card {
                return card.select_among(Among { latents: step.dead, k: step.k_aux }).widen();
            }
            let selection = Selection::TopK(step.k_aux);
            encoder.select(step.path, step.screen, step.x, &self.gradient.centre, selection)
        };
        self.dead.take().unwrap_or_else(own)
    }

    /// What a code of dead latents alone leaves of `rows`.
    pub(super) fn residual_of_dead(&mut self, rows: &Rows<R>, codes: &Codes, values: &[R]) -> Left<R> {
        let (step, p) = (self.step, self.step.parameters);
        if let (Some(card), Rows::Card(rows)) = (step.card, rows) {
            return card.residual(Against::Rows(rows), codes, &R::narrow(values)).into();
        }
        let nothing = vec![R::ZERO; p.d_out()];
        let coded = Coded { codes, values, w_dec: &p.w_dec.value, offset: &nothing };
        residual_of_few(step.path, rows, &coded, step.dead, step.lanes, self.rooms.take()).into()
    }

    /// Factor of a squared error summed over the batch. A batch without variance counts as variance 1.
    pub fn scale(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Variance if self.step.scatter > 0.0 => 1.0 / self.step.scatter,
            _ => 1.0 / self.step.rows().max(1) as f64,
        }
    }

    /// Adds `scale·Σ‖target − b_dec − values·w_dec‖²`. The first reconstruction is the one that is
    /// reported. The part takes part in the gradient when it is pushed.
    pub fn reconstruct(&mut self, codes: Codes, values: Vec<R>, scale: f64) -> Part<R> {
        let left = self.left(&codes, &values);
        self.add_left(codes, values, left, scale)
    }

    /// [`Loss::reconstruct`] of another target of the same shape.
    pub fn reconstruct_from(
        &mut self,
        target: &Rows<R>,
        codes: Codes,
        values: Vec<R>,
        scale: f64,
    ) -> Part<R> {
        let (step, p) = (self.step, self.step.parameters);
        let left = match (step.card, target) {
            (Some(card), Rows::Card(target)) => {
                card.residual(Against::Instead(target), &codes, &R::narrow(&values)).into()
            }
            _ => {
                let (w_dec, offset) = (&p.w_dec.value, &p.b_dec.value);
                self.residual(target, &Coded { codes: &codes, values: &values, w_dec, offset }).into()
            }
        };
        self.add_left(codes, values, left, scale)
    }

    /// What a code leaves of the target, where the learner is.
    fn left(&mut self, codes: &Codes, values: &[R]) -> Left<R> {
        let (step, p) = (self.step, self.step.parameters);
        if let Some(card) = step.card {
            return card.residual(Against::Target, codes, &R::narrow(values)).into();
        }
        let coded = Coded { codes, values, w_dec: &p.w_dec.value, offset: &p.b_dec.value };
        self.residual(step.target, &coded).into()
    }

    fn add_left(&mut self, codes: Codes, values: Vec<R>, left: Left<R>, scale: f64) -> Part<R> {
        let Left { e, along_atoms, moments } = left;
        self.report(&codes, &values, moments.squared_norm);
        self.add_error(&moments, scale);
        let rate = R::of(-2.0 * scale);
        let mut slope = along_atoms;
        vector::scale(rate, &mut slope);
        Part { codes, values, slope, e, moments, rate }
    }

    /// The residual of any target against any code.
    pub fn residual(&mut self, target: &[R], coded: &Coded<R>) -> Residual<R> {
        residual(self.step.path, target, coded, self.step.lanes, self.rooms.take())
    }

    /// Pairs beside those of `part` that decode to nothing, with the slopes they would have: ∂loss/∂value
    /// at the value 0.
    pub fn silent(&self, codes: Codes, part: &Part<R>) -> Part<R> {
        let mut slope = match (self.step.card, &part.e) {
            (Some(card), Rows::Card(e)) => R::widen(card.along(e, &codes)),
            _ => self.against_atoms(&codes, &part.e).along_atoms,
        };
        vector::scale(part.rate, &mut slope);
        let values = vec![R::ZERO; slope.len()];
        Part { codes, values, slope, e: Rows::NONE, moments: part.moments.clone(), rate: part.rate }
    }

    /// What the report of the step says of codes and error: the first call counts.
    pub fn report(&mut self, codes: &Codes, values: &[R], squared_error: f64) {
        if self.nnz == 0 && self.losses.squared_error == 0.0 {
            self.losses.squared_error = squared_error;
            for (&latent, &value) in codes.latents.iter().zip(values) {
                let fires = value != R::ZERO;
                self.nnz += usize::from(fires);
                self.fired[latent as usize] |= fires;
            }
        }
    }

    /// Adds `scale·Σ‖e‖²` and its gradient with respect to `b_dec`.
    pub fn add_error(&mut self, moments: &Moments, scale: f64) {
        self.losses.reconstruction += scale * moments.squared_norm;
        let sums = self.gradient.offset.iter_mut().zip(&moments.column_sums);
        sums.for_each(|(offset, sum)| *offset -= 2.0 * scale * sum);
    }

    /// [`Loss::reconstruct`] with atoms and `b_dec` held fixed: only what makes the codes learns from it. The part
    /// keeps no `e`; its slopes go on in another part, or by [`Loss::push_encoder`].
    pub fn reconstruct_detached(&mut self, codes: Codes, values: Vec<R>, scale: f64) -> Part<R> {
        let Left { e, along_atoms: mut slope, moments } = self.left(&codes, &values);
        self.rooms.give(e.into_here());
        self.losses.reconstruction += scale * moments.squared_norm;
        let rate = R::of(-2.0 * scale);
        vector::scale(rate, &mut slope);
        Part { codes, values, slope, e: Rows::NONE, moments, rate }
    }

    /// Adds `weight/rows · Σ cost(latent, value)` over the pairs of a part, and its slope. Returns the sum.
    pub fn penalise(
        &mut self,
        part: &mut Part<R>,
        weight: f64,
        cost: impl Fn(usize, R) -> (R, R) + Sync,
    ) -> f64 {
        let weight = weight / self.step.rows().max(1) as f64;
        let rate = R::of(weight);
        let of = |(latents, values, slopes): (&[u32], &[R], &mut [R])| {
            let mut sum = 0f64;
            for ((&latent, &value), slope) in latents.iter().zip(values).zip(slopes) {
                let (cost, steepness) = cost(latent as usize, value);
                sum += cost.f64();
                *slope = steepness.fma(rate, *slope);
            }
            sum
        };
        let sums: Vec<f64> = part.blocks(self.step.lanes).into_par_iter().map(of).collect();
        let sum: f64 = sums.iter().sum();
        self.add(weight * sum);
        sum
    }

    /// Adds a number whose gradient the variant states itself.
    pub fn add(&mut self, penalty: f64) {
        self.losses.penalty += penalty;
    }

    /// Adds `weight` times each atom to the gradient of that atom, `[n_latents]`.
    pub fn pull_atoms(&mut self, weights: Vec<R>) {
        self.gradient.pull = Some(weights);
    }

    /// Adds to the gradient of the encoder bias, where that is more than the sum of the slopes,
    /// `[n_latents]`.
    pub fn add_bias_gradient(&mut self, gradient: Vec<R>) {
        self.gradient.bias = Some(gradient);
    }

    /// Adds to the gradients of the encoder what no list of pairs holds: of its rows, `[n_latents, d_in]`,
    /// and of its biases, `[n_latents]`.
    pub fn add_encoder_gradient(&mut self, rows: Vec<R>, biases: Vec<R>) {
        self.gradient.dense = Some((rows, biases));
    }

    /// Adds to the gradient of `b_dec` what reaches it neither by decoding nor by the encoder.
    pub fn add_offset_gradient(&mut self, gradient: &[f64]) {
        self.gradient.offset.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
    }

    /// Memory that steps reuse, with anything in it.
    pub fn room(&mut self, len: usize) -> Vec<R> {
        let mut room = self.rooms.take();
        room.resize(len, R::ZERO);
        room
    }

    /// Gradient of the `index`-th extra parameter, to be added to.
    pub fn extra_gradient(&mut self, index: usize) -> &mut [R] {
        &mut self.gradient.extras[index]
    }

    /// A part takes part in the gradient: of atoms with its values, of the encoder with its slopes.
    pub fn push(&mut self, part: Part<R>) {
        let Part { codes, mut values, slope, e, rate, .. } = part;
        vector::scale(rate, &mut values);
        self.push_pairs(codes, values, slope, e);
    }

    /// Pairs take part in the gradient: each adds `decoder·y` to that of its atom, `encoder·(x − b_dec)` to
    /// that of its encoder row. Without `y` no atom is concerned.
    fn push_pairs(&mut self, codes: Codes, decoder: Vec<R>, encoder: Vec<R>, y: Rows<R>) {
        if self.step.card.is_none() {
            return self.push_term(Term::new(&codes, &decoder, &encoder, y.into_here()));
        }
        let y = y.card().map(|y| (codes.n_latents, y.clone()));
        self.push_card_term(codes, [&decoder, &encoder], y.into_iter().collect());
    }

    fn push_card_term(&mut self, codes: Codes, weights: [&[R]; 2], y: Vec<(usize, CardRows)>) {
        let [decoder, encoder] = weights.map(|weights| R::narrow(weights).into_owned());
        self.gradient.card_terms.push(CardTerm { codes, decoder, encoder, y });
    }

    /// A part whose atoms are held fixed: only the encoder learns from it.
    pub fn push_encoder(&mut self, codes: &Codes, slope: &[R]) {
        let none = vec![R::ZERO; slope.len()];
        self.push_pairs(codes.clone(), none, slope.to_vec(), Rows::NONE);
    }

    /// Any term.
    pub fn push_term(&mut self, term: Term<R>) {
        self.gradient.terms.push(term);
    }

    /// Adds the auxiliary loss: before its coefficient for the report.
    pub(super) fn add_aux(&mut self, coefficient: f64, loss: f64) {
        self.losses.aux += loss;
        self.losses.total += coefficient * loss;
    }

    /// Pairs of dead latents take part in the gradient: there are few of them, each in many rows.
    pub(super) fn push_dead(&mut self, codes: Codes, decoder: Vec<R>, encoder: Vec<R>, y: Rows<R>) {
        let step = self.step;
        if step.card.is_some() {
            return self.push_pairs(codes, decoder, encoder, y);
        }
        let term = Term::new(&codes, &decoder, &encoder, y.into_here());
        let centre = &self.gradient.centre;
        let term = term.shared_rows(step.path, step.dead, step.lanes, step.x, centre);
        self.push_term(term);
    }

    /// What is subtracted from rows before they are encoded.
    pub fn centre(&self) -> &[R] {
        &self.gradient.centre
    }

    /// The sum, and everything the update needs.
    pub fn backward(mut self) -> Backward<'batch, R> {
        self.losses.total += self.losses.reconstruction + self.losses.penalty;
        Backward { losses: self.losses, nnz: self.nnz, fired: self.fired, gradient: self.gradient }
    }
}
