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
    kernels::{columns, measure::Decoder},
    lost::Losses,
    pairs::PairsOnCard,
};

/// Rows that are encoded at a time: codes do not depend on how rows are grouped.
const ROWS: usize = 16_384;

/// Encoder rows on a card. Copies share what lies there.
#[derive(Debug, Clone)]
pub(crate) struct Dictionary<R: Runtime> {
    pub(crate) card: Card<R>,
    pub(crate) losses: Losses,
    precision: Precision,
    inference: Inference,
    d: usize,
    w_enc: Floats,
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
        Dictionary {
            precision,
            inference: inference.clone(),
            d: frozen.d_in,
            w_enc: card.upload(&frozen.w_enc),
            b_enc: card.upload(&frozen.b_enc),
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
        let encoder = Encoder {
            w: &self.w_enc,
            bias: &self.b_enc,
            d: self.d,
            precision: self.precision,
            weights: None,
        };
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
