//! Which latents have not fired for a long time, counted in tokens.

/// Tokens since each latent last fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLatents {
    /// Dead at this many tokens or more. OpenAI and sparsify use 10 million.
    pub after_tokens: u64,
    /// Per latent.
    pub since_tokens: Vec<u64>,
}

impl DeadLatents {
    /// Nothing has fired, nothing is dead yet.
    pub fn new(n_latents: usize, after_tokens: u64) -> Self {
        DeadLatents { after_tokens, since_tokens: vec![0; n_latents] }
    }

    /// The dead latents, ascending.
    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
    pub fn list(&self) -> Vec<u32> {
        let dead = |&(_, &since): &(usize, &u64)| since >= self.after_tokens;
        self.since_tokens.iter().enumerate().filter(dead).map(|(latent, _)| latent as u32).collect()
    }

    /// Counts one step of `rows` tokens; `fired(latent)` says whether a value above 0 occurred.
    pub fn observe(&mut self, rows: usize, fired: impl Fn(usize) -> bool) {
        for (latent, since) in self.since_tokens.iter_mut().enumerate() {
            *since = if fired(latent) { 0 } else { *since + rows as u64 };
        }
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
    }
}
