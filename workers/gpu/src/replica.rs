//! An autoencoder that has twins on other cards, which see other rows.

use atomflow_workers::card::Replica;

use crate::{Runtime, autoencoder::Autoencoder, card::Lost, kernels::dense::Dense, together};

impl<R: Runtime> Autoencoder<R> {
    fn summed(&self) -> Result<bool, Lost> {
        let (Some(cards), dense) = (&self.twins, self.dense()?) else { return Ok(false) };
        together::sum(&self.card, cards, [&dense.w_enc, &dense.b_enc, &dense.w_dec]).map(|()| true)
    }

    fn downloaded(&self) -> Result<[Vec<f32>; 3], Lost> {
        let Dense { w_enc, b_enc, w_dec } = self.dense()?;
        Ok([self.card.download(&w_enc)?, self.card.download(&b_enc)?, self.card.download(&w_dec)?])
    }
}

impl<R: Runtime> Replica for Autoencoder<R> {
    fn reduce(&self) -> bool {
        // Whoever asks finds out by itself that a card is lost, and has nothing to sum.
        self.losses.or_else(self.summed(), || true)
    }

    fn gradient(&self) -> [Vec<f32>; 3] {
        self.losses.or_else(self.downloaded(), Default::default)
    }

    fn set_gradient(&self, sum: &[Vec<f32>; 3]) {
        let [w_enc, b_enc, w_dec] = sum.each_ref().map(|part| self.card.upload(part));
        self.set_dense(Dense { w_enc, b_enc, w_dec });
    }
}
