//! A stack that no longer changes.

use super::{
    search::Search,
    stack::{Packed, Stack},
};
use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    kernels::Path,
    learner::{Dictionary, LinearEncoder, Mismatch},
    state::LearnerState,
    threads::Threads,
};

/// Rows decoded at a time.
const BLOCK_ROWS: usize = 960;

/// The stack as a dictionary of its top level. An atom is what code 1 of its latent alone decodes to,
/// at unit norm; a code is the stack's, times the norm. Through a ReLU, atoms do not add up exactly.
#[derive(Debug)]
pub(super) struct FrozenStack {
    packed: Packed<f32>,
    curvature: f32,
    search: Search,
    centre: Vec<f32>,
    /// What the stack makes of code 1, `[n_latents]`.
    norms: Vec<f32>,
    /// `[n_latents, d_in]`.
    atoms: Vec<f32>,
    threads: Threads,
    export: (serde_json::Value, LearnerState),
}

impl FrozenStack {
    /// In the units of the data: `search.lambda` and `centre` are; `cfg` goes into the export.
    pub(super) fn new(
        stack: &Stack<f32>,
        search: Search,
        centre: Vec<f32>,
        cfg: serde_json::Value,
        threads: Threads,
    ) -> Self {
        let (n, d, packed) =
            (stack.n_latents(), centre.len(), stack.packed(Path::best(), stack.levels.len()));
        let unit = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
        let mut atoms = packed.forward(unit).x_hat;
        let norms = atoms.chunks_exact_mut(d).map(normalise).collect();
        let mut tensors = LearnerState::default();
        for (at, level) in stack.levels.iter().enumerate() {
            tensors.push_f32(&format!("level.{}", at + 1), vec![level.n, level.width], &level.atoms);
        }
        let curvature = packed.curvature();
        FrozenStack { packed, curvature, search, centre, norms, atoms, threads, export: (cfg, tensors) }
    }

    fn encode_here(&self, x: &[f32]) -> Codes {
        let (n, d) = (self.norms.len(), self.centre.len());
        let mut codes = Codes::new(n);
        for x in x.chunks(BLOCK_ROWS * d) {
            let centred = crate::coders::rows::centred(x, &self.centre);
            for row in self.search.codes(&self.packed, self.curvature, &centred).chunks_exact(n) {
                let pairs = row.iter().zip(&self.norms).enumerate();
                #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
                let pairs = pairs.map(|(latent, (z, norm))| (latent as u32, z * norm));
                codes.push_row(pairs.filter(|&(_, value)| value != 0.0));
            }
        }
        codes
    }

    fn decode_here(&self, codes: &Codes, x_hat: &mut [f32]) {
        let (n, d) = (self.norms.len(), self.centre.len());
        for (block, out) in x_hat.chunks_mut(BLOCK_ROWS * d).enumerate() {
            let mut dense = vec![0f32; out.len() / d * n];
            for (row, dense) in dense.chunks_exact_mut(n).enumerate() {
                let (latents, values) = codes.row(block * BLOCK_ROWS + row);
                for (&latent, value) in latents.iter().zip(values) {
                    dense[latent as usize] = value / self.norms[latent as usize];
                }
            }
            let decoded = self.packed.forward(dense).x_hat;
            for (out, row) in out.chunks_exact_mut(d).zip(decoded.chunks_exact(d)) {
                out.iter_mut().zip(row).zip(&self.centre).for_each(|((out, v), c)| *out = v + c);
            }
        }
    }
}

/// Scales to norm 1 and returns what the norm was; 1 for an atom that is zero.
#[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
fn normalise(atom: &mut [f32]) -> f32 {
    let norm = atom.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32;
    let norm = if norm > 0.0 { norm } else { 1.0 };
    atom.iter_mut().for_each(|v| *v /= norm);
    norm
}

impl Dictionary for FrozenStack {
    fn d_in(&self) -> usize {
        self.centre.len()
    }

    fn n_latents(&self) -> usize {
        self.norms.len()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.threads.install(|| self.encode_here(x))
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.threads.install(|| self.decode_here(codes, x_hat));
    }

    fn atoms(&self) -> &[f32] {
        &self.atoms
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        None
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let ((n, d), (cfg, tensors)) = ((self.n_latents(), self.d_in()), &self.export);
        let mut tensors = tensors.clone();
        tensors.push_f32("W_dec", vec![n, d], &self.atoms);
        tensors.push_f32("b_dec", vec![d], &self.centre);
        tensors.push_f32("norms", vec![n], &self.norms);
        export::plain(super::INFO.kind, (d, n), &tensors, cfg)
    }
}
