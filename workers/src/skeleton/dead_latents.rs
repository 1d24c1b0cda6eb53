//! Which latents have not fired for a long time, counted in tokens.

/// Tokens since each latent last fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLatents {
    after_tokens: u64,
    since_tokens: Vec<u64>,
    list: Vec<u32>,
}

impl DeadLatents {
    /// Nothing has fired, nothing is dead yet. Dead is who is silent for `after_tokens` tokens or
    /// more; OpenAI and sparsify use 10 million.
    pub fn new(n_latents: usize, after_tokens: u64) -> Self {
        DeadLatents { after_tokens, since_tokens: vec![0; n_latents], list: Vec::new() }
    }

    /// The dead latents, ascending.
    pub fn list(&self) -> &[u32] {
        &self.list
    }

    /// Tokens since each latent last fired.
    pub fn since_tokens(&self) -> &[u64] {
        &self.since_tokens
    }

    /// Goes on from counts that were saved.
    pub fn restore(&mut self, since_tokens: Vec<u64>) {
        self.since_tokens = since_tokens;
        self.relist();
    }

    /// Counts one step of `rows` tokens; `fired(latent)` says whether it was in a code.
    pub fn observe(&mut self, rows: usize, fired: impl Fn(usize) -> bool) {
        for (latent, since) in self.since_tokens.iter_mut().enumerate() {
            *since = if fired(latent) { 0 } else { *since + rows as u64 };
        }
        self.relist();
    }

    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
    fn relist(&mut self) {
        let dead = |&(_, &since): &(usize, &u64)| since >= self.after_tokens;
        self.list =
            self.since_tokens.iter().enumerate().filter(dead).map(|(latent, _)| latent as u32).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_at_the_threshold_and_alive_again_when_it_fires() {
        let mut dead = DeadLatents::new(2, 20);
        dead.observe(10, |l| l == 0);
        assert!(dead.list().is_empty());
        dead.observe(10, |_| false);
        assert_eq!(dead.list(), [1]);
        dead.observe(10, |l| l == 1);
        assert_eq!(dead.list(), [0]);
        let mut again = DeadLatents::new(2, 20);
        again.restore(dead.since_tokens().to_vec());
        assert_eq!(again, dead);
    }
}
