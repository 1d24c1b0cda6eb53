//! Methods of the literature that do not learn from stored activation vectors, each with the reason, so
//! that nothing is silently missing.

use serde::Serialize;

/// A method that is no learner here.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Absent {
    /// What it is called.
    pub name: &'static str,
    /// Why it is not here.
    pub reason: &'static str,
}

/// All of them.
pub const ABSENT: &[Absent] = &[
    Absent {
        name: "RoseCDL, convolutional dictionary learning",
        reason: "atoms are shift-invariant along time or space; tokens are not shifted copies in d_in",
    },
    Absent {
        name: "online graph dictionary learning (GDL)",
        reason: "data are graphs compared by Gromov-Wasserstein distance; activations are vectors of one space",
    },
    Absent {
        name: "Wasserstein CP dictionary learning, SINDy, LRAN, symbolic distillation",
        reason: "learn from tensors or trajectories of differential equations, not from single vectors",
    },
    Absent {
        name: "Bayesian Kronecker-structured recovery",
        reason: "the dictionary is a known Kronecker product of a channel model; nothing is learned",
    },
    Absent {
        name: "MCA, MMCA (maximal causes)",
        reason: "causes combine by maximum; residual streams add, so bsc, tsc and gsc are here instead",
    },
    Absent {
        name: "FAuST fast transforms (palm4MSA)",
        reason: "compresses a finished dictionary into sparse factors; learned atoms have no such structure",
    },
    Absent {
        name: "spectral and structured weight dictionaries (SSDL, NID, COSPADI)",
        reason: "replace or compress the weights of a model, not its activations",
    },
    Absent {
        name: "Lorsa, low-rank attention decomposition",
        reason: "needs whole sequences with causal attention per latent, not a token at a time",
    },
    Absent {
        name: "Gumbel concept bottlenecks",
        reason: "need embeddings of concept texts: a supervised classifier rather than a dictionary",
    },
];
