//! Any frozen dictionary with a coder in the place of its encoder.
//!
//! What an encoder misses of what its own atoms could say is its amortisation gap: FVU of the encoder
//! less FVU of a coder at the same number of pairs.

use super::{AnyCoder, CodedAtoms, CoderSpec};
use crate::{
    codes::Codes,
    export::ExportedFile,
    learner::{Dictionary, LinearEncoder, Mismatch},
    threads::Threads,
};

/// A dictionary whose codes a coder finds. Atoms, exported files and latents are those of the dictionary.
pub struct Recoded {
    inner: Box<dyn Dictionary>,
    atoms: CodedAtoms,
    coder: AnyCoder<f32>,
}

impl Recoded {
    /// `inner` coded by `spec`. Its decoder bias is what it makes of no codes.
    ///
    /// # Errors
    /// `inner` reconstructs something else than its input, or not as a sum of atoms.
    pub fn new(inner: Box<dyn Dictionary>, spec: &CoderSpec, threads: Threads) -> Result<Self, Mismatch> {
        if inner.d_out() != inner.d_in() {
            return Err(Mismatch("a dictionary with a target of its own cannot be coded by search".into()));
        }
        let b_dec = Recoded::bias(&*inner);
        let atoms = CodedAtoms::new(inner.atoms().to_vec(), b_dec, threads);
        Recoded::check(&*inner, &atoms)?;
        Ok(Recoded { inner, atoms, coder: spec.chosen() })
    }

    /// The reconstruction of a row without codes.
    fn bias(inner: &dyn Dictionary) -> Vec<f32> {
        let mut codes = Codes::new(inner.n_latents());
        codes.push_row([]);
        let mut b_dec = vec![0f32; inner.d_in()];
        inner.decode(&codes, &mut b_dec);
        b_dec
    }

    /// Whether the first two latents decode to the sum of their atoms.
    fn check(inner: &dyn Dictionary, atoms: &CodedAtoms) -> Result<(), Mismatch> {
        let (mut codes, mut own, mut sum) =
            (Codes::new(inner.n_latents()), vec![0f32; atoms.d()], vec![0f32; atoms.d()]);
        codes.push_row((0..inner.n_latents().min(2) as u32).map(|latent| (latent, 1.0)));
        inner.decode(&codes, &mut own);
        atoms.decode(&codes, &mut sum);
        let alike = own.iter().zip(&sum).all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + b.abs()));
        if alike { Ok(()) } else { Err(Mismatch("this dictionary does not add its atoms up".into())) }
    }
}

impl Dictionary for Recoded {
    fn d_in(&self) -> usize {
        self.inner.d_in()
    }

    fn n_latents(&self) -> usize {
        self.inner.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.atoms.encode(&self.coder, true, x)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.inner.decode(codes, x_hat);
    }

    fn atoms(&self) -> &[f32] {
        self.inner.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        None
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        self.inner.export()
    }
}
