//! Two dictionaries side by side: one for each half of a row.

use serde_json::json;

use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    learner::{Dictionary, LinearEncoder, Mismatch},
    state::LearnerState,
};

/// Latents of users, then those of items; their atoms are zero in the half that is not theirs.
pub(super) struct PairDictionary {
    sides: [Box<dyn Dictionary>; 2],
    atoms: Vec<f32>,
    encoder: Option<(Vec<f32>, Vec<f32>)>,
}

impl PairDictionary {
    /// Of dictionaries of one shape.
    pub(super) fn new(sides: [Box<dyn Dictionary>; 2]) -> Self {
        let d = sides[0].d_in();
        let atoms = beside(&sides.each_ref().map(|side| side.atoms()), d);
        let linear = sides.each_ref().map(|side| side.linear_encoder());
        let encoder = match linear {
            [Some(user), Some(item)] => {
                Some((beside(&[user.rows, item.rows], d), [user.bias, item.bias].concat()))
            }
            _ => None,
        };
        PairDictionary { sides, atoms, encoder }
    }

    /// The two halves of rows, each `[rows, d]`.
    fn halves(&self, x: &[f32]) -> [Vec<f32>; 2] {
        let d = self.sides[0].d_in();
        [0, 1].map(|side| x.chunks_exact(2 * d).flat_map(|row| &row[side * d..][..d]).copied().collect())
    }

    /// What the decoder adds to all rows, of one side.
    fn offset(&self, side: usize) -> Vec<f32> {
        let none = Codes { n_latents: self.sides[side].n_latents(), offsets: vec![0, 0], ..Codes::default() };
        let mut offset = vec![0.0; self.sides[side].d_in()];
        self.sides[side].decode(&none, &mut offset);
        offset
    }
}

/// Rows of both, each filled up with zeros.
fn beside(sides: &[&[f32]; 2], d: usize) -> Vec<f32> {
    let zeros = vec![0.0; d];
    let user = sides[0].chunks_exact(d).flat_map(|row| [row, &zeros[..]]);
    let item = sides[1].chunks_exact(d).flat_map(|row| [&zeros[..], row]);
    user.chain(item).flatten().copied().collect()
}

impl Dictionary for PairDictionary {
    fn d_in(&self) -> usize {
        2 * self.sides[0].d_in()
    }

    fn n_latents(&self) -> usize {
        2 * self.sides[0].n_latents()
    }

    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
    fn encode(&self, x: &[f32]) -> Codes {
        let [user, item] = self.halves(x);
        let (user, item) = (self.sides[0].encode(&user), self.sides[1].encode(&item));
        let (mut codes, first) = (Codes::new(self.n_latents()), user.n_latents as u32);
        for row in 0..user.rows() {
            let pairs = |codes: &Codes, first: u32| {
                let (latents, values) = codes.row(row);
                latents.iter().map(|l| l + first).zip(values.iter().copied()).collect::<Vec<_>>()
            };
            codes.push_row(pairs(&user, 0).into_iter().chain(pairs(&item, first)));
        }
        codes
    }

    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let d = self.sides[0].d_in();
        let first = self.sides[0].n_latents() as u32;
        for (side, dictionary) in self.sides.iter().enumerate() {
            let mut half = Codes::new(dictionary.n_latents());
            for row in 0..codes.rows() {
                let (latents, values) = codes.row(row);
                let cut = latents.partition_point(|&latent| latent < first);
                let span = if side == 0 { 0..cut } else { cut..latents.len() };
                let latents = latents[span.clone()].iter().map(|latent| latent - side as u32 * first);
                half.push_row(latents.zip(values[span].iter().copied()));
            }
            let mut out = vec![0.0; half.rows() * d];
            dictionary.decode(&half, &mut out);
            for (row, out) in x_hat.chunks_exact_mut(2 * d).zip(out.chunks_exact(d)) {
                row[side * d..][..d].copy_from_slice(out);
            }
        }
    }

    fn atoms(&self) -> &[f32] {
        &self.atoms
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.encoder.as_ref().map(|(rows, bias)| LinearEncoder { rows, bias })
    }

    /// `W_enc` `[n, d]` and `W_dec` `[n, d]` are shared; `b_enc_user`, `b_dec_user`, `b_enc_item` and
    /// `b_dec_item` differ by the scales of the columns.
    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let (n, d) = (self.sides[0].n_latents(), self.sides[0].d_in());
        let mut tensors = LearnerState::default();
        tensors.push_f32("W_dec", vec![n, d], self.sides[0].atoms());
        for (side, [b_enc, b_dec]) in
            [["b_enc_user", "b_dec_user"], ["b_enc_item", "b_dec_item"]].into_iter().enumerate()
        {
            if let Some(linear) = self.sides[side].linear_encoder() {
                tensors.push_f32("W_enc", vec![n, d], linear.rows);
                tensors.push_f32(b_enc, vec![n], linear.bias);
            }
            tensors.push_f32(b_dec, vec![d], &self.offset(side));
        }
        export::plain("recommender", (2 * d, 2 * n), &tensors, &json!({ "sides": ["user", "item"] }))
    }
}
