//! Sparse codes: per row, (latent, value) pairs in CSR. They run through the whole system.

/// The codes of a block of rows, compressed by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Codes {
    /// Number of latents the codes refer to.
    pub n_latents: usize,
    /// `rows + 1` positions into `latents` and `values`.
    pub offsets: Vec<usize>,
    /// Latent of each pair, ascending inside a row.
    pub latents: Vec<u32>,
    /// Value of each pair, never zero.
    pub values: Vec<f32>,
}

impl Codes {
    /// No rows yet.
    pub fn new(n_latents: usize) -> Self {
        Codes { n_latents, offsets: vec![0], ..Codes::default() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Latents and values of one row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let span = self.offsets[row]..self.offsets[row + 1];
        (&self.latents[span.clone()], &self.values[span])
    }

    /// Appends one row: pairs in ascending order of latent, zero values left out by the caller.
    pub fn push_row(&mut self, pairs: impl IntoIterator<Item = (u32, f32)>) {
        for (latent, value) in pairs {
            self.latents.push(latent);
            self.values.push(value);
        }
        self.offsets.push(self.latents.len());
    }

    /// Pairs in all rows.
    pub fn nnz(&self) -> usize {
        self.latents.len()
    }
}
