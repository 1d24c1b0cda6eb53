//! The scores of a chunk of latents, in the precision that was asked for: on tensor cores, or exactly. Where a device
//! has no tensor cores for it, products of the same rounded factors are exact, so a software device learns in bf16.

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    encoder::{Encoder, rounding},
    kernels::{
        factors::{Beyond, Factors, Rounding},
        lines::Lines,
        product::Product,
        rows,
        tensor_product::{TensorProduct, available},
    },
};

/// Rows as products take them.
pub(crate) enum Rows {
    /// For an exact product: as they are, or rounded.
    Exact { x: Floats, rounding: Option<Rounding> },
    /// For tensor cores, with room for a chunk of an encoder that is not rounded.
    Tensor { x: Factors, room: Option<Factors> },
}

impl Rows {
    /// `x`, `[rows, d]`, for chunks of at most `most` latents.
    pub(crate) fn of<R: Runtime>(card: &Card<R>, encoder: &Encoder, x: &Floats, most: usize) -> Self {
        let (d, rows) = (encoder.d, x.len() / encoder.d.max(1));
        match rounding(encoder.precision) {
            None => Rows::Exact { x: x.clone(), rounding: None },
            Some(rounding) if available(card, rounding).is_err() => {
                let x = rows::widen(card, &Factors::of(card, rounding, x, d, None), d);
                Rows::Exact { x, rounding: Some(rounding) }
            }
            Some(rounding) => {
                let rounded = Factors::with_bias(card, rounding, rows, d);
                rounded.fill(card, x, 0, rows, Beyond::Ones);
                let room = match (encoder.w, encoder.weights) {
                    (Lines::Rounded(_), None) => None,
                    _ => Some(Factors::with_bias(card, rounding, most, d)),
                };
                Rows::Tensor { x: rounded, room }
            }
        }
    }

    /// The scores of `width` latents from `first` on, a multiple of eight, into `scores`, `[rows, width]`.
    ///
    /// # Errors
    /// The card cannot multiply so.
    pub(crate) fn multiply<R: Runtime>(
        &self,
        card: &Card<R>,
        encoder: &Encoder,
        (first, width): (usize, usize),
        scores: &Floats,
    ) -> Result<(), Lost> {
        if let Some(weights) = encoder.weights {
            // A chunk of latents is smaller than their scores: it is weighed before the product.
            let own = |from, d| rows::weighted(card, from, d, (first, width), weights);
            let (w, bias) = (own(encoder.w, encoder.d), own(Lines::Floats(encoder.bias), 1));
            let weighed = Encoder { w: Lines::Floats(&w), bias: &bias, weights: None, ..*encoder };
            return self.multiply(card, &weighed, (0, width), scores);
        }
        let Encoder { w, bias, d, .. } = *encoder;
        let rows = scores.len() / width.max(1);
        match self {
            Rows::Tensor { x, room } => {
                let w = match (w, room) {
                    (Lines::Floats(w), Some(room)) => {
                        room.fill(card, w, first, width, Beyond::Bias(bias));
                        room.clone()
                    }
                    (Lines::Rounded(all), _) => all.part(first, width),
                    (Lines::Floats(_), None) => {
                        return Err(Lost("no room for a chunk of weights".to_owned()));
                    }
                };
                let product = TensorProduct { x, w: &w, rows, width };
                product.run(card, scores).map_err(|error| Lost(error.to_string()))
            }
            Rows::Exact { x, rounding } => {
                let wide = match (w, rounding) {
                    (Lines::Floats(w), None) => {
                        Product { x, w, bias, d, rows, first, width }.run(card, scores);
                        return Ok(());
                    }
                    (Lines::Floats(w), Some(rounding)) => {
                        let room = Factors::room(card, *rounding, width, d);
                        room.fill(card, w, first, width, Beyond::Zeros);
                        rows::widen(card, &room, d)
                    }
                    (Lines::Rounded(all), _) => rows::widen(card, &all.part(first, width), d),
                };
                let bias = &bias.part(first, width);
                Product { x, w: &wide, bias, d, rows, first: 0, width }.run(card, scores);
                Ok(())
            }
        }
    }
}
