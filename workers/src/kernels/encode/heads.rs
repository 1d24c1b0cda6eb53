//! Encoders whose latents are pairs: a head has `m` left and `n` right pre-activations, and `m·n` latents.
//!
//! `codes = √(ReLU(left)·ReLU(right))` (KronSAE's mAND): a product with `m + n` rows stands for `m·n` latents.

use super::{Blocks, Encoder, WIDEST_PANEL, sink::HeadTop};
use crate::{
    codes::Codes,
    kernels::{Path, Real},
};

/// How latents are made of rows: head after head, `m` left rows and then `n` right ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Left rows of a head.
    pub m: usize,
    /// Right rows of a head.
    pub n: usize,
}

impl Heads {
    /// Rows of a head.
    pub fn rows(self) -> usize {
        self.m + self.n
    }

    /// Latents of a head.
    pub fn latents(self) -> usize {
        self.m * self.n
    }

    /// The left and the right row of a latent.
    pub fn rows_of(self, latent: usize) -> (usize, usize) {
        let (head, inside) = (latent / self.latents(), latent % self.latents());
        let first = head * self.rows();
        (first + inside / self.n, first + self.m + inside % self.n)
    }
}

/// What was selected: per pair, its value and the two pre-activations it is made of, all positive.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadCodes<R> {
    /// The codes.
    pub codes: Codes,
    /// Their values in full precision.
    pub values: Vec<R>,
    /// Left pre-activations.
    pub left: Vec<R>,
    /// Right pre-activations.
    pub right: Vec<R>,
}

/// Pairs of consecutive rows: latent, left, right.
#[derive(Debug)]
pub(super) struct HeadRows<R> {
    pub(super) ends: Vec<usize>,
    pub(super) pairs: Vec<(u32, R, R)>,
}

impl<R: Real> Encoder<'_, R> {
    /// The `k` largest codes of each row of `x`, and the `k` largest among latents that `dead` marks where
    /// there are any: `dead` has one entry per latent, and a `k` of its own. Ties: lower latent. See
    /// [`Encoder::select`] for the rest.
    pub fn select_heads(
        &self,
        path: Path,
        x: &[R],
        b_dec: &[R],
        (heads, k): (Heads, usize),
        dead: Option<(&[bool], usize)>,
    ) -> [HeadCodes<R>; 2] {
        let n_latents = self.columns() / heads.rows() * heads.latents();
        let sink = |rows| HeadTop::new(rows, heads, k, dead, WIDEST_PANEL);
        let (blocks, _) = Blocks { encoder: self, path, x, b_dec, among: None }.each(sink);
        [0, 1].map(|which| {
            let mut all = HeadCodes {
                codes: Codes::new(n_latents),
                values: Vec::new(),
                left: Vec::new(),
                right: Vec::new(),
            };
            blocks.iter().for_each(|block: &[HeadRows<R>; 2]| all.append(&block[which]));
            all
        })
    }
}

impl<R: Real> HeadCodes<R> {
    #[allow(clippy::cast_possible_truncation, reason = "codes carry f32; f64 is for golden numbers")]
    fn append(&mut self, rows: &HeadRows<R>) {
        let before = self.codes.latents.len();
        self.codes.offsets.extend(rows.ends.iter().map(|end| before + end));
        for &(latent, left, right) in &rows.pairs {
            let value = (left * right).sqrt();
            self.codes.latents.push(latent);
            self.codes.values.push(value.f64() as f32);
            self.values.push(value);
            self.left.push(left);
            self.right.push(right);
        }
    }
}
