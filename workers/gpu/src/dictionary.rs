//! A frozen dictionary that finds codes on a card.

use std::sync::Mutex;

use atomflow_workers::{
    card::{Encodes, Precision},
    codes::Codes,
    kernels::encode::Selection,
    skeleton::{FrozenParameters, Inference},
};

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    encoder::{Encoder, selected},
    kernels::columns,
    lost::Losses,
};

/// Rows that are encoded at a time: codes do not depend on how rows are grouped.
const ROWS: usize = 16_384;

/// Encoder rows on a card.
#[derive(Debug)]
pub(crate) struct Dictionary<R: Runtime> {
    card: Card<R>,
    precision: Precision,
    inference: Inference,
    d: usize,
    w_enc: Floats,
    b_enc: Floats,
    /// What is subtracted from rows first.
    centre: Option<Floats>,
    losses: Losses,
    /// Harvest encodes on several threads; their work shares one stream and its memory.
    turn: Mutex<()>,
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
            turn: Mutex::default(),
            card,
        }
    }

    fn selection(&self) -> Selection<'_, f32> {
        match &self.inference {
            Inference::TopK(k) => Selection::TopK(*k),
            Inference::AbsTopK(k) => Selection::AbsTopK(*k),
            Inference::Above(thresholds) => Selection::Above(thresholds),
        }
    }

    fn codes(&self, x: &[f32]) -> Result<Codes, Lost> {
        let n = self.b_enc.len();
        let mut codes = Codes::new(n);
        for x in x.chunks(ROWS * self.d.max(1)) {
            let mut rows = self.card.upload(x);
            if let Some(centre) = &self.centre {
                rows = columns::centre(&self.card, &rows, centre);
            }
            let encoder = Encoder {
                w: &self.w_enc,
                bias: &self.b_enc,
                d: self.d,
                precision: self.precision,
                weights: None,
            };
            let (pairs, _) = encoder.select(&self.card, &rows, self.selection())?;
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
        let _turn = self.turn.lock();
        let nothing = || Codes {
            n_latents: self.b_enc.len(),
            offsets: vec![0; x.len() / self.d.max(1) + 1],
            ..Codes::default()
        };
        self.losses.or_else(self.codes(x), nothing)
    }
}
