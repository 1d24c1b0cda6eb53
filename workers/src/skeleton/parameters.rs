//! The parameters of a sparse autoencoder and, beside each, its two Adam moments.

use rayon::prelude::*;

use crate::kernels::{Real, adam::AdamStep};

/// A parameter tensor with its moments, all of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter<R> {
    /// The values.
    pub value: Vec<R>,
    /// First moment.
    pub m: Vec<R>,
    /// Second moment.
    pub v: Vec<R>,
}

/// A mutable piece of a [`Parameter`].
pub struct Piece<'a, R> {
    /// Values of the piece.
    pub value: &'a mut [R],
    m: &'a mut [R],
    v: &'a mut [R],
}

impl<R: Real> Parameter<R> {
    /// Values with zero moments.
    pub fn new(value: Vec<R>) -> Self {
        let zeros = vec![R::ZERO; value.len()];
        Parameter { value, m: zeros.clone(), v: zeros }
    }

    /// All of it as one piece.
    pub fn whole(&mut self) -> Piece<'_, R> {
        Piece { value: &mut self.value, m: &mut self.m, v: &mut self.v }
    }

    /// Consecutive pieces of `len` elements, for parallel work.
    pub fn pieces(&mut self, len: usize) -> impl IndexedParallelIterator<Item = Piece<'_, R>> {
        let moments = self.m.par_chunks_mut(len).zip(self.v.par_chunks_mut(len));
        self.value.par_chunks_mut(len).zip(moments).map(|(value, (m, v))| Piece { value, m, v })
    }
}

impl<R: Real> Piece<'_, R> {
    /// Row `index` of a piece that holds rows of `len`.
    #[inline(always)]
    pub fn row(&mut self, index: usize, len: usize) -> Piece<'_, R> {
        let span = index * len..(index + 1) * len;
        Piece { value: &mut self.value[span.clone()], m: &mut self.m[span.clone()], v: &mut self.v[span] }
    }

    /// One Adam step with gradient `g`.
    #[inline(always)]
    pub fn descend(&mut self, step: &AdamStep<R>, g: &[R]) {
        step.apply(g, self.value, self.m, self.v);
    }
}

/// Everything a sparse autoencoder learns.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters<R> {
    /// Width of the vectors.
    pub d_in: usize,
    /// Encoder rows `[n_latents, d_in]`.
    pub w_enc: Parameter<R>,
    /// Encoder bias `[n_latents]`.
    pub b_enc: Parameter<R>,
    /// Atoms `[n_latents, d_in]`, unit norm.
    pub w_dec: Parameter<R>,
    /// Decoder bias, subtracted before encoding too, `[d_in]`.
    pub b_dec: Parameter<R>,
}

impl<R: Real> Parameters<R> {
    /// Number of latents.
    pub fn n_latents(&self) -> usize {
        self.b_enc.value.len()
    }

    /// The four tensors with their names and shapes, in the order they are saved.
    pub fn named(&self) -> [(&'static str, Vec<usize>, &Parameter<R>); 4] {
        let (n, d) = (self.n_latents(), self.d_in);
        [
            ("w_enc", vec![n, d], &self.w_enc),
            ("b_enc", vec![n], &self.b_enc),
            ("w_dec", vec![n, d], &self.w_dec),
            ("b_dec", vec![d], &self.b_dec),
        ]
    }
}
