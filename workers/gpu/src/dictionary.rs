//! A frozen dictionary that finds codes on a card.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atomflow_workers::{
    card::{Encodes, Precision, digest::Digests},
    codes::Codes,
    kernels::encode::Selection,
    skeleton::{FrozenParameters, Inference},
    stats::FixedPoint,
};

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    digest::Digesting,
    encoder::{Encoder, selected},
    kernels::{
        columns,
        factors::{Beyond, Factors, LINES, Rounding},
        lines::Lines,
        measure::Decoder,
    },
    lost::Losses,
    pairs::PairsOnCard,
};

/// Rows that are encoded at a time: codes do not depend on how rows are grouped.
const ROWS: usize = 16_384;

/// Encoder rows as products take them: rounded to bf16 they are half as large.
#[derive(Debug, Clone)]
enum Held {
    Floats(Floats),
    Rounded(Factors),
}

/// Encoder rows on a card. Copies share what lies there.
#[derive(Debug, Clone)]
pub(crate) struct Dictionary<R: Runtime> {
    pub(crate) card: Card<R>,
    pub(crate) losses: Losses,
    precision: Precision,
    inference: Inference,
    d: usize,
    w_enc: Held,
    b_enc: Floats,
    /// What is subtracted from rows first.
    centre: Option<Floats>,
    /// Harvest encodes on several threads; their work shares one stream and its memory. Whose turn it is finds what
    /// decodes here, once somebody has asked for it.
    turn: Arc<Mutex<Option<Decoder>>>,
}

impl<R: Runtime> Dictionary<R> {
    pub(crate) fn new(
        card: Card<R>,
        precision: Precision,
        frozen: &FrozenParameters,
        inference: &Inference,
        losses: Losses,
    ) -> Self {
        let centre = frozen.pre_bias.then(|| card.upload(&frozen.b_dec));
        let b_enc = card.upload(&frozen.b_enc);
        let w_enc = match precision {
            Precision::Bf16 => Held::Rounded(rounded(&card, frozen, &b_enc)),
            Precision::F32 | Precision::Tf32 => Held::Floats(card.upload(&frozen.w_enc)),
        };
        Dictionary {
            precision,
            inference: inference.clone(),
            d: frozen.d_in,
            w_enc,
            b_enc,
            centre,
            losses,
            turn: Arc::default(),
            card,
        }
    }

    /// Nobody else works with the card until this is dropped.
    pub(crate) fn turn(&self) -> MutexGuard<'_, Option<Decoder>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of latents.
    pub(crate) fn n(&self) -> usize {
        self.b_enc.len()
    }

    fn selection(&self) -> Selection<'_, f32> {
        match &self.inference {
            Inference::TopK(k) => Selection::TopK(*k),
            Inference::AbsTopK(k) => Selection::AbsTopK(*k),
            Inference::Above(thresholds) => Selection::Above(thresholds),
        }
    }

    /// Codes of rows that lie on the card, `[rows, d]`, as many as are encoded at a time.
    pub(crate) fn find(&self, x: &Floats) -> Result<PairsOnCard, Lost> {
        let centred = self.centre.as_ref().map(|centre| columns::centre(&self.card, x, centre));
        let w = match &self.w_enc {
            Held::Floats(w) => Lines::Floats(w),
            Held::Rounded(w) => Lines::Rounded(w),
        };
        let (bias, precision) = (&self.b_enc, self.precision);
        let encoder = Encoder { w, bias, d: self.d, precision, weights: None };
        encoder.find(&self.card, centred.as_ref().unwrap_or(x), self.selection())
    }

    fn codes(&self, x: &[f32]) -> Result<Codes, Lost> {
        let n = self.n();
        let mut codes = Codes::new(n);
        for x in x.chunks(ROWS * self.d.max(1)) {
            let pairs = self.find(&self.card.upload(x))?.download(&self.card)?;
            let here = selected(pairs, None, n)?.codes;
            let before = codes.nnz();
            codes.offsets.extend(here.offsets.iter().skip(1).map(|end| before + end));
            codes.latents.extend(here.latents);
            codes.values.extend(here.values);
        }
        Ok(codes)
    }
}

/// Rounds encoder rows some at a time, so that all of them in f32 never lie on the card.
fn rounded<R: Runtime>(card: &Card<R>, frozen: &FrozenParameters, bias: &Floats) -> Factors {
    let (d, n) = (frozen.d_in, frozen.b_enc.len());
    let all = Factors::with_bias(card, Rounding::Bf16, n, d);
    for (number, w) in frozen.w_enc.chunks((LINES * d).max(1)).enumerate() {
        let (first, lines) = (number * LINES, w.len() / d);
        let bias = bias.part(first, lines);
        all.part(first, lines).fill(card, &card.upload(w), 0, lines, Beyond::Bias(&bias));
    }
    all
}

impl<R: Runtime> Encodes for Dictionary<R> {
    fn encode(&self, x: &[f32]) -> Codes {
        let _turn = self.turn();
        let nothing = || Codes {
            n_latents: self.n(),
            offsets: vec![0; x.len() / self.d.max(1) + 1],
            ..Codes::default()
        };
        self.losses.or_else(self.codes(x), nothing)
    }

    fn digests(&self, frozen: &FrozenParameters, fixed: FixedPoint) -> Option<Box<dyn Digests>> {
        let upload = |numbers: &[f32]| self.card.upload(numbers);
        let make = || Decoder { w_dec: upload(&frozen.w_dec), b_dec: upload(&frozen.b_dec) };
        let mut turn = self.turn();
        let decoder = turn.get_or_insert_with(make).clone();
        Some(Box::new(Digesting::new(self.clone(), decoder, fixed)))
    }
}
