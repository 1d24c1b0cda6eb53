//! Generations (fences) and commits: who may write, and what is done.

/// An incarnation of a run. Only the newest may commit.
#[derive(Debug, Clone)]
pub struct Generation {
    /// 1 for the first process of a run, then one more for each resume.
    pub number: u64,
}
