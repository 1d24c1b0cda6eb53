//! An autoencoder whose parameters lie on a card: what the skeleton of a learner asks for, step by step.

mod beside;
mod gradient;

use std::sync::{Mutex, MutexGuard, PoisonError};

use atomflow_workers::{
    card::{
        Against, Arithmetic, CardGradient, CardNested, CardResidual, CardRows, CardTerm, Matrix, OnCard,
        Scatter,
        wire::{Incoming, Sent},
    },
    codes::Codes,
    kernels::{
        adam::AdamStep,
        encode::{Among, Screening, Selected, Selection},
        lanes::Moments,
    },
    skeleton::{parameters::Parameters, update::Atoms},
};

use cubecl::device::DeviceId;
use gradient::Gradient;

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    encoder::{Encoder, selected},
    held,
    kernels::{
        adam::{self, Constants, Parameter},
        by_latent::by_latent,
        codes::CodesOnCard,
        columns,
        dense::{self, Dense},
        gather::{Batch, Gathered},
        lines::Lines,
        lists::Term,
        nested::{self, Prefixes},
        residual, rows,
        update::{self, Beside, Latents},
    },
    lost::Losses,
    stack::Stack,
    wire::Arrived,
};

/// See [`OnCard`].
#[derive(Debug)]
pub(crate) struct Autoencoder<R: Runtime> {
    pub(crate) card: Card<R>,
    arithmetic: Arithmetic,
    pub(crate) losses: Losses,
    pre_bias: bool,
    /// The cards with the same parameters, if they can add up among themselves.
    pub(crate) twins: Option<Vec<DeviceId>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    latents: Latents,
    b_dec: Parameter,
    /// What is subtracted before encoding where `b_dec` is not: zeros, `[d_in]`.
    zeros: Floats,
    rows: Option<Rows>,
    /// What codes of the batch leave.
    stack: Stack,
    /// The gradient of the batch.
    gradient: Option<Gradient>,
}

/// The batch.
#[derive(Debug, Clone)]
struct Rows {
    x: Floats,
    /// `x` without what is subtracted before encoding.
    centred: Floats,
    target: Floats,
}

impl<R: Runtime> Autoencoder<R> {
    pub(crate) fn new(
        card: Card<R>,
        arithmetic: Arithmetic,
        start: &Parameters<f32>,
        twins: Option<Vec<DeviceId>>,
        losses: Losses,
    ) -> Self {
        let state = Mutex::new(State::upload(&card, start, arithmetic));
        Autoencoder { card, arithmetic, losses, pre_bias: start.pre_bias, twins, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encoder<'a>(&self, state: &'a State) -> Encoder<'a> {
        let Latents { w_enc, b_enc, .. } = &state.latents;
        let (precision, d) = (self.arithmetic.precision, state.zeros.len());
        Encoder { w: w_enc.lines(), bias: &b_enc.value, d, precision, weights: None }
    }

    fn begun(&self, state: &mut State, x: Incoming, target: Option<&[f32]>) -> Result<Scatter, Lost> {
        let d_out = state.b_dec.value.len();
        let x_there = match x {
            Incoming::Here(x) => self.card.upload(x),
            Incoming::Sent(sent) => arrived(sent)?.rows_f32(&self.card),
        };
        let centred = match self.pre_bias {
            true => columns::centre(&self.card, &x_there, &state.b_dec.value),
            false => x_there.clone(),
        };
        let target = target.map_or_else(|| x_there.clone(), |target| self.card.upload(target));
        let count = x_there.len() / state.zeros.len().max(1);
        // Scatter does not change with a shift, and sums in f32 would lose it behind a large mean.
        let shift = target.part(0, d_out);
        let shifted = columns::centre(&self.card, &target, &shift);
        let moments = columns::moments(&self.card, &shifted, d_out);
        state.rows = Some(Rows { x: x_there, centred, target });
        state.stack.begin(count);
        if count == 0 {
            return Ok(Scatter::default());
        }
        let (shift, sums) = (self.card.download(&shift)?, wide(&self.card.download(&moments.sums)?));
        let squares = self.card.download(&moments.squares)?;
        let mean =
            shift.iter().zip(&sums).map(|(&shift, sum)| f64::from(shift) + sum / count as f64).collect();
        let moments = Moments { squared_norm: total(&squares), column_sums: sums };
        Ok(Scatter { rows: count, mean, about_mean: moments.scatter(count) })
    }

    fn chosen(
        &self,
        state: &State,
        selection: Selection<f32>,
        among: Option<Among>,
    ) -> Result<(Selected<f32>, Option<Selected<f32>>), Lost> {
        let (encoder, n) = (self.encoder(state), state.latents.b_enc.value.len());
        let rows = begun(state)?;
        let (pairs, threshold) = encoder.select(&self.card, &rows.centred, selection)?;
        let among = among.map(|among| self.chosen_among(state, among)).transpose()?;
        Ok((selected(pairs, threshold, n)?, among))
    }

    fn chosen_among(&self, state: &State, among: Among) -> Result<Selected<f32>, Lost> {
        let Latents { w_enc, b_enc, .. } = &state.latents;
        let latents = self.card.upload(among.latents);
        let d = state.zeros.len();
        let w = rows::gather(&self.card, w_enc.lines(), d, &latents);
        let bias = rows::gather(&self.card, Lines::Floats(&b_enc.value), 1, &latents);
        let precision = self.arithmetic.precision;
        let encoder = Encoder { w: Lines::Floats(&w), bias: &bias, d, precision, weights: None };
        let pairs = encoder.top(&self.card, &begun(state)?.centred, among.k, &latents)?;
        selected(pairs, None, b_enc.value.len())
    }

    fn left(
        &self,
        state: &mut State,
        against: Against,
        codes: &Codes,
        values: &[f32],
    ) -> Result<CardResidual, Lost> {
        // Before anything is looked up: parts move where there is no room for one more.
        let (rows, e) = state.stack.push(&self.card);
        let (target, offset) = match against {
            Against::Target => (begun(state)?.target.clone(), Some(&state.b_dec.value)),
            Against::Instead(rows) => (state.stack.find(rows)?, Some(&state.b_dec.value)),
            Against::Rows(rows) => (state.stack.find(rows)?, None),
        };
        let (there, values, w_dec) =
            (self.there(codes)?, self.card.upload(values), state.latents.w_dec.lines());
        let left = residual::residual(&self.card, &target, offset, &there, &values, w_dec, e);
        let sums = columns::sums(&self.card, &left.e, state.b_dec.value.len());
        let squares = self.card.download(&left.squares)?;
        let moments =
            Moments { squared_norm: total(&squares), column_sums: wide(&self.card.download(&sums)?) };
        let along_atoms = self.card.download(&left.along_atoms)?;
        Ok(CardResidual { e: rows, along_atoms, moments })
    }

    fn left_nested(
        &self,
        state: &mut State,
        codes: &Codes,
        values: &[f32],
        (ends, weights): (&[usize], &[f32]),
    ) -> Result<CardNested, Lost> {
        let (card, d) = (&self.card, state.b_dec.value.len());
        let (suffixes, sums) = state.stack.extend(card, ends.len());
        let (there, values) = (self.there(codes)?, card.upload(values));
        let ends = ends.iter().map(|&end| counted(end)).collect::<Result<Vec<u32>, Lost>>()?;
        let prefixes = Prefixes { ends: &ends, weights, part: state.stack.part() };
        let (target, offset, w_dec) =
            (&begun(state)?.target, &state.b_dec.value, state.latents.w_dec.lines());
        let left = nested::nested(card, target, offset, &there, &values, w_dec, &prefixes, &sums);
        let column_sums = |rows: Option<&CardRows>| match rows {
            Some(rows) => Ok(wide(&card.download(&columns::sums(card, &state.stack.find(rows)?, d))?)),
            None => Ok(vec![0.0; d]),
        };
        let squares = card.download(&left.squares)?;
        let squared_errors: Vec<f64> = squares.chunks(there.rows().max(1)).map(total).collect();
        let squared_norm = squared_errors.last().copied().unwrap_or_default();
        Ok(CardNested {
            moments: Moments { squared_norm, column_sums: column_sums(suffixes.last())? },
            column_sums: column_sums(suffixes.first())?,
            along_atoms: card.download(&left.along_atoms)?,
            suffixes,
            squared_errors,
        })
    }

    fn there(&self, codes: &Codes) -> Result<CodesOnCard, Lost> {
        let offsets = codes.offsets.iter().map(|&at| counted(at)).collect::<Result<Vec<u32>, Lost>>()?;
        Ok(CodesOnCard::upload(&self.card, &offsets, &codes.latents))
    }

    fn term(&self, state: &State, term: &CardTerm) -> Result<Term, Lost> {
        let y = |(end, y): &(usize, CardRows)| Ok((counted(*end)?, state.stack.number(y)?));
        Ok(Term {
            by_latent: by_latent(&self.card, &self.there(&term.codes)?, state.latents.b_enc.value.len()),
            decoder: self.card.upload(&term.decoder),
            encoder: self.card.upload(&term.encoder),
            y: term.y.iter().map(y).collect::<Result<_, Lost>>()?,
        })
    }

    fn gathered(&self, state: &mut State, terms: &[CardTerm]) -> Result<Vec<f64>, Lost> {
        let n = state.latents.b_enc.value.len();
        let rows = begun(state)?;
        let batch = Batch {
            x: rows.x.clone(),
            centre: if self.pre_bias { state.b_dec.value.clone() } else { state.zeros.clone() },
            d_out: state.b_dec.value.len(),
            y: state.stack.all(),
            part: state.stack.part(),
            terms: terms.iter().map(|term| self.term(state, term)).collect::<Result<_, Lost>>()?,
        };
        let gathered = Gathered::of(&self.card, batch, n);
        let through = match self.pre_bias {
            true => {
                let there = update::before_encoding(&self.card, &gathered, &state.latents);
                wide(&self.card.download(&there)?)
            }
            false => vec![0.0; state.zeros.len()],
        };
        state.gradient = Some(Gradient::Pairs(gathered));
        Ok(through)
    }

    fn stepped(&self, gradient: &CardGradient, adam: &AdamStep<f32>, atoms: Atoms) -> Result<(), Lost> {
        let (mut state, card) = (self.state(), &self.card);
        let pairs = state.gradient.take().ok_or_else(no_gradient)?;
        let [bias, pull] = [gradient.bias, gradient.pull].map(|own| own.map(|own| card.upload(own)));
        let beside = Beside { bias: bias.as_ref(), pull: pull.as_ref() };
        if gradient.factor != 1.0 {
            pairs.scale(card, gradient.factor as f32);
        }
        let constants = constants(adam);
        pairs.step(card, &state.latents, beside, &constants, atoms == Atoms::UnitNorm);
        adam::adam(card, &state.b_dec, &card.upload(gradient.b_dec), &constants);
        card.flush()
    }

    /// The gradient in memory.
    pub(crate) fn dense(&self) -> Result<Dense, Lost> {
        let mut state = self.state();
        let dense = match state.gradient.take().ok_or_else(no_gradient)? {
            Gradient::Dense(dense) => dense,
            Gradient::Pairs(gathered) => {
                let (n, d_in) = (state.latents.b_enc.value.len(), state.zeros.len());
                let dense = Dense::room(&self.card, n, d_in, state.b_dec.value.len());
                dense::gradient(&self.card, &gathered, &dense);
                dense
            }
        };
        state.gradient = Some(Gradient::Dense(dense.clone()));
        Ok(dense)
    }

    /// Another gradient in its place.
    pub(crate) fn set_dense(&self, dense: Dense) {
        self.state().gradient = Some(Gradient::Dense(dense));
    }
}

impl State {
    fn upload<R: Runtime>(card: &Card<R>, start: &Parameters<f32>, arithmetic: Arithmetic) -> Self {
        State {
            latents: held::latents(card, start, arithmetic),
            b_dec: held::parameter(card, &start.b_dec),
            zeros: card.upload(&vec![0.0; start.d_in]),
            rows: None,
            stack: Stack::new(card, start.d_out()),
            gradient: None,
        }
    }
}

impl<R: Runtime> OnCard for Autoencoder<R> {
    fn begin(&self, x: Incoming, target: Option<&[f32]>) -> Scatter {
        let mut state = self.state();
        let (d_in, d_out) = (state.zeros.len().max(1), state.b_dec.value.len());
        let rows = || match x {
            Incoming::Here(x) => x.len() / d_in,
            Incoming::Sent(sent) => arrived(sent).map_or(0, Arrived::rows),
        };
        let nothing = || Scatter { rows: rows(), mean: vec![f64::NAN; d_out], about_mean: f64::NAN };
        self.losses.or_else(self.begun(&mut state, x, target), nothing)
    }

    fn select(
        &self,
        selection: Selection<f32>,
        among: Option<Among>,
    ) -> (Selected<f32>, Option<Selected<f32>>) {
        let state = self.state();
        let none = || self.nothing(&state);
        self.losses.or_else(self.chosen(&state, selection, among), || (none(), among.map(|_| none())))
    }

    fn select_weighted(&self, k: usize, weights: &[f32]) -> Selected<f32> {
        let state = self.state();
        self.losses.or_else(self.weighted(&state, k, weights), || self.nothing(&state))
    }

    fn select_among(&self, among: Among) -> Selected<f32> {
        let state = self.state();
        self.losses.or_else(self.chosen_among(&state, among), || self.nothing(&state))
    }

    fn residual(&self, against: Against, codes: &Codes, values: &[f32]) -> CardResidual {
        let mut state = self.state();
        let (d, left) = (state.b_dec.value.len(), self.left(&mut state, against, codes, values));
        drop(state);
        self.losses.or_else(left, || CardResidual {
            e: CardRows(std::sync::Arc::new(())),
            along_atoms: vec![f32::NAN; values.len()],
            moments: Moments { squared_norm: f64::NAN, column_sums: vec![f64::NAN; d] },
        })
    }

    fn nested(&self, codes: &Codes, values: &[f32], ends: &[usize], weights: &[f32]) -> CardNested {
        let mut state = self.state();
        let (d, left) =
            (state.b_dec.value.len(), self.left_nested(&mut state, codes, values, (ends, weights)));
        drop(state);
        self.losses.or_else(left, || CardNested {
            suffixes: vec![CardRows(std::sync::Arc::new(())); ends.len()],
            along_atoms: vec![f32::NAN; values.len()],
            squared_errors: vec![f64::NAN; ends.len()],
            moments: Moments { squared_norm: f64::NAN, column_sums: vec![f64::NAN; d] },
            column_sums: vec![f64::NAN; d],
        })
    }

    fn along(&self, y: &CardRows, codes: &Codes) -> Vec<f32> {
        let state = self.state();
        let along = || {
            let there = self.there(codes)?;
            let along =
                residual::along(&self.card, &state.stack.find(y)?, &there, state.latents.w_dec.lines());
            self.card.download(&along)
        };
        self.losses.or_else(along(), || vec![f32::NAN; codes.nnz()])
    }

    fn add(&self, to: &CardRows, factor: f32, rows: &CardRows) {
        self.losses.or_else(self.mixed(&self.state(), to, factor, rows), || ());
    }

    fn unmapped(&self, map: &[f32]) -> CardRows {
        let left = self.without_map(&mut self.state(), map);
        self.losses.or_else(left, || CardRows(std::sync::Arc::new(())))
    }

    fn cross(&self, y: &CardRows) -> Vec<f32> {
        let state = self.state();
        let len = state.zeros.len() * state.b_dec.value.len();
        self.losses.or_else(self.crossed(&state, y), || vec![f32::NAN; len])
    }

    fn norms(&self, of: Matrix, widths: &[usize]) -> Vec<f32> {
        let state = self.state();
        let n = state.latents.b_enc.value.len();
        self.losses.or_else(self.lengths(&state, of, widths), || vec![f32::NAN; n])
    }

    fn encoder(&self, latents: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let state = self.state();
        let (n, d) = (latents.len(), state.zeros.len());
        self.losses.or_else(self.encoder_of(&state, latents), || (vec![f32::NAN; n * d], vec![f32::NAN; n]))
    }

    fn gather(&self, terms: &[CardTerm]) -> Vec<f64> {
        let mut state = self.state();
        let (d, gathered) = (state.zeros.len(), self.gathered(&mut state, terms));
        drop(state);
        self.losses.or_else(gathered, || vec![f64::NAN; d])
    }

    fn download(&self, rows: &CardRows) -> Vec<f32> {
        let there = self.state().stack.find(rows).and_then(|rows| self.card.download(&rows));
        self.losses.or_else(there, Vec::new)
    }

    fn upload(&self, rows: &[f32]) -> CardRows {
        let (there, into) = self.state().stack.push(&self.card);
        rows::copy(&self.card, &self.card.upload(rows), &into);
        there
    }

    fn squares(&self, gradient: &CardGradient) -> f64 {
        self.losses.or_else(self.squared(&self.state(), gradient), || f64::NAN)
    }

    fn update(&self, gradient: &CardGradient, adam: &AdamStep<f32>, atoms: Atoms) {
        self.losses.or_else(self.stepped(gradient, adam, atoms), || ());
    }

    fn restart(&self, latents: &[u32], encoder: &[f32], atoms: &[f32]) {
        self.begin_again(&self.state(), latents, encoder, atoms);
    }

    fn set_b_dec(&self, b_dec: &[f32]) {
        self.state().b_dec.value = self.card.upload(b_dec);
    }

    fn biases(&self) -> (Vec<f32>, Vec<f32>) {
        let state = self.state();
        let of =
            |there: &Floats| self.losses.or_else(self.card.download(there), || vec![f32::NAN; there.len()]);
        (of(&state.latents.b_enc.value), of(&state.b_dec.value))
    }

    fn read(&self, parameters: &mut Parameters<f32>) {
        let state = self.state();
        let fetched = held::fetch(&self.card, &state.latents, &state.b_dec, parameters);
        self.losses.or_else(fetched, || ());
    }

    fn write(&self, parameters: &Parameters<f32>) {
        let mut state = self.state();
        (state.rows, state.gradient) = (None, None);
        // Lets go first: both at once need not fit.
        state.latents = Latents::none(&self.card);
        state.latents = held::latents(&self.card, parameters, self.arithmetic);
        state.b_dec = held::parameter(&self.card, &parameters.b_dec);
    }
}

impl<R: Runtime> Autoencoder<R> {
    /// Rows without codes.
    fn nothing(&self, state: &State) -> Selected<f32> {
        let rows = state.stack.rows();
        let codes = Codes {
            n_latents: state.latents.b_enc.value.len(),
            offsets: vec![0; rows + 1],
            ..Codes::default()
        };
        Selected { codes, values: Vec::new(), threshold: None, screening: Screening::default() }
    }
}

fn no_gradient() -> Lost {
    Lost("no gradient was gathered".to_owned())
}

fn begun(state: &State) -> Result<&Rows, Lost> {
    state.rows.as_ref().ok_or_else(|| Lost("no batch has begun".to_owned()))
}

fn arrived(sent: &Sent) -> Result<&Arrived, Lost> {
    sent.0.downcast_ref().ok_or_else(|| Lost("a batch of another card".to_owned()))
}

fn counted(at: usize) -> Result<u32, Lost> {
    u32::try_from(at).map_err(|_| Lost("more than 2³² pairs or latents".to_owned()))
}

fn constants(adam: &AdamStep<f32>) -> Constants {
    let AdamStep { beta1, beta2, rest: (rest1, rest2), rate, unbias2, eps } = *adam;
    Constants { beta1, beta2, rest1, rest2, rate, unbias2, eps }
}

fn total(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}
