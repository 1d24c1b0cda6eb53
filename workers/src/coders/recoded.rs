//! Any frozen dictionary with a coder in the place of its encoder.
//!
//! What an encoder misses of what its own atoms could say is its amortisation gap: FVU of the encoder
//! less FVU of a coder at the same number of pairs.

use std::sync::Arc;

use super::{AnyCoder, CodedAtoms, CoderSpec};
use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::vector,
    learner::{Dictionary, LinearEncoder, Mismatch},
    threads::Threads,
};

/// A dictionary whose codes a coder finds. Atoms, exported files and latents are those of the dictionary.
pub struct Recoded {
    inner: Arc<dyn Dictionary>,
    /// At norm 1, as pursuits want them: a method may leave norms free.
    atoms: CodedAtoms,
    /// What the codes for those are divided by, `[n_latents]`.
    norms: Vec<f32>,
    coder: AnyCoder<f32>,
}

/// Latents that are decoded to see whether a dictionary adds its atoms up.
const PROBED: usize = 64;

impl Recoded {
    /// `inner` coded by `spec`. Its decoder bias is what it makes of no codes.
    ///
    /// # Errors
    /// `inner` reconstructs something else than its input, or not as a sum of atoms. A target that is as
    /// wide as the input does not show: `LearnerSpec::uncodable` knows of it.
    pub fn new(inner: Arc<dyn Dictionary>, spec: &CoderSpec, threads: Threads) -> Result<Self, Mismatch> {
        if inner.d_out() != inner.d_in() {
            return Err(Mismatch("a dictionary with a target of its own cannot be coded by search".into()));
        }
        let b_dec = Recoded::bias(&*inner);
        Recoded::check(&*inner, &b_dec)?;
        let (mut atoms, mut norms) = (inner.atoms().to_vec(), Vec::new());
        for atom in atoms.chunks_exact_mut(b_dec.len().max(1)) {
            norms.push(vector::dot(atom, atom).sqrt());
            vector::normalize(atom);
        }
        let atoms = CodedAtoms::new(atoms, b_dec, threads);
        Ok(Recoded { inner, atoms, norms, coder: spec.chosen() })
    }

    /// The reconstruction of a row without codes.
    fn bias(inner: &dyn Dictionary) -> Vec<f32> {
        let mut codes = Codes::new(inner.n_latents());
        codes.push_row([]);
        let mut b_dec = vec![0f32; inner.d_in()];
        inner.decode(&codes, &mut b_dec);
        b_dec
    }

    /// Whether latents from all over the dictionary decode to the sum of their atoms, and the row itself
    /// adds nothing to them.
    fn check(inner: &dyn Dictionary, b_dec: &[f32]) -> Result<(), Mismatch> {
        let (n, d) = (inner.n_latents(), b_dec.len());
        let (mut codes, mut sums) = (Codes::new(n), Vec::new());
        for at in 0..n.min(PROBED) {
            let pair = [at * n / n.min(PROBED), (at * n / n.min(PROBED)) / 2 + n / 2];
            let pair = if pair[0] < pair[1] { &pair[..] } else { &pair[..1] };
            #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
            codes.push_row(pair.iter().map(|&latent| (latent as u32, 1.0)));
            let atoms = |c: usize| pair.iter().map(|latent| inner.atoms()[latent * d + c]).sum::<f32>();
            sums.extend((0..d).map(|c| b_dec[c] + atoms(c)));
        }
        let mut own = vec![0f32; sums.len()];
        inner.reconstruct(&sums, &codes, &mut own);
        let alike = own.iter().zip(&sums).all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + b.abs()));
        if alike { Ok(()) } else { Err(Mismatch("this dictionary does not add its atoms up".into())) }
    }

    /// Codes for atoms of norm 1 as codes for the atoms as they are.
    fn for_own_norms(&self, codes: &Codes) -> Codes {
        let mut own = Codes::new(codes.n_latents);
        for row in 0..codes.rows() {
            let (latents, values) = codes.row(row);
            let value = |(&latent, value): (&u32, &f32)| (latent, value / self.norms[latent as usize]);
            own.push_row(latents.iter().zip(values).map(value).filter(|(_, value)| *value != 0.0));
        }
        own
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
        self.for_own_norms(&self.atoms.encode(&self.coder, true, x))
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
