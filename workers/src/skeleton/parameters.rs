//! The parameters of a sparse autoencoder and, beside each, its two Adam moments.

use rayon::prelude::*;

use crate::{
    kernels::{Real, adam::AdamStep},
    learner::Mismatch,
    state::LearnerState,
};

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

impl Parameter<f32> {
    /// Adds values and moments to a state, as `name`, `name.m` and `name.v`.
    pub fn save(&self, state: &mut LearnerState, name: &str, shape: &[usize]) {
        state.push_f32(name, shape.to_vec(), &self.value);
        state.push_f32(&format!("{name}.m"), shape.to_vec(), &self.m);
        state.push_f32(&format!("{name}.v"), shape.to_vec(), &self.v);
    }

    /// What [`Parameter::save`] wrote.
    ///
    /// # Errors
    /// One of the three is absent or of another shape.
    pub fn read(state: &LearnerState, name: &str, shape: &[usize]) -> Result<Self, Mismatch> {
        Ok(Parameter {
            value: state.f32(name, shape)?,
            m: state.f32(&format!("{name}.m"), shape)?,
            v: state.f32(&format!("{name}.v"), shape)?,
        })
    }
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

    /// Keeps gradient `g` in the place of the first moment, for values that are made of other parameters.
    #[inline(always)]
    pub fn hold(&mut self, g: &[R]) {
        self.m.copy_from_slice(g);
    }

    /// What [`Piece::hold`] kept.
    #[inline(always)]
    pub fn held(&self) -> &[R] {
        self.m
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
    /// Whether `b_dec` is subtracted before encoding, too; then `d_out` is `d_in`.
    pub pre_bias: bool,
    /// Encoder rows `[n_latents, d_in]`.
    pub w_enc: Parameter<R>,
    /// Encoder bias `[n_latents]`.
    pub b_enc: Parameter<R>,
    /// Atoms `[n_latents, d_out]`.
    pub w_dec: Parameter<R>,
    /// Decoder bias `[d_out]`.
    pub b_dec: Parameter<R>,
    /// What a variant learns beside these.
    pub extras: Vec<Extra<R>>,
}

/// A parameter of one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra<R> {
    /// Its name in checkpoints.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Values and moments.
    pub parameter: Parameter<R>,
}

impl<R: Real> Extra<R> {
    /// With these values.
    pub fn new(name: &'static str, shape: Vec<usize>, values: Vec<R>) -> Self {
        Extra { name, shape, parameter: Parameter::new(values) }
    }
}

impl<R: Real> Parameters<R> {
    /// Number of latents.
    pub fn n_latents(&self) -> usize {
        self.b_enc.value.len()
    }

    /// Width of what is reconstructed.
    pub fn d_out(&self) -> usize {
        self.b_dec.value.len()
    }

    /// What is subtracted before encoding, `[d_in]`.
    pub fn centre(&self) -> Vec<R> {
        if self.pre_bias { self.b_dec.value.clone() } else { vec![R::ZERO; self.d_in] }
    }

    /// One atom.
    pub fn atom(&self, latent: usize) -> &[R] {
        let d = self.d_out();
        &self.w_dec.value[latent * d..][..d]
    }

    /// Values of the `index`-th extra parameter.
    pub fn extra(&self, index: usize) -> &[R] {
        &self.extras[index].parameter.value
    }
}

impl Parameters<f32> {
    fn shapes(&self) -> [(&'static str, Vec<usize>); 4] {
        let (n, d, out) = (self.n_latents(), self.d_in, self.d_out());
        [("w_enc", vec![n, d]), ("b_enc", vec![n]), ("w_dec", vec![n, out]), ("b_dec", vec![out])]
    }

    /// Lets go of the weights, which are on a card from here on; the biases stay.
    pub fn leave_weights(&mut self) {
        for weights in [&mut self.w_enc, &mut self.w_dec] {
            *weights = Parameter { value: Vec::new(), m: Vec::new(), v: Vec::new() };
        }
    }

    /// Adds everything to a state.
    pub fn save(&self, state: &mut LearnerState) {
        let all = [&self.w_enc, &self.b_enc, &self.w_dec, &self.b_dec];
        for ((name, shape), parameter) in self.shapes().into_iter().zip(all) {
            parameter.save(state, name, &shape);
        }
        self.extras.iter().for_each(|extra| extra.parameter.save(state, extra.name, &extra.shape));
    }

    /// Parameters of the same shapes with the values of a state.
    ///
    /// # Errors
    /// One is absent or of another shape.
    pub fn read(&self, state: &LearnerState) -> Result<Self, Mismatch> {
        let [w_enc, b_enc, w_dec, b_dec] =
            self.shapes().map(|(name, shape)| Parameter::read(state, name, &shape));
        let extra = |extra: &Extra<f32>| {
            let parameter = Parameter::read(state, extra.name, &extra.shape)?;
            Ok(Extra { parameter, ..extra.clone() })
        };
        let extras = self.extras.iter().map(extra).collect::<Result<_, Mismatch>>()?;
        let (w_enc, b_enc, w_dec, b_dec) = (w_enc?, b_enc?, w_dec?, b_dec?);
        Ok(Parameters { d_in: self.d_in, pre_bias: self.pre_bias, w_enc, b_enc, w_dec, b_dec, extras })
    }
}
