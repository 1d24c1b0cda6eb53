//! Which coder, as a spec names it and as it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Gram, block, block::Coded, fista::Fista, gradient_pursuit::GradientPursuit, lars::Lars,
    lasso_cd::LassoCd, mp::Mp, nnomp::Nnomp, omp::Omp,
};
use crate::{
    kernels::{Path, Real, product::Panels},
    variants::Invalid,
};

/// A coder for any dictionary; `kind` chooses. Rows and atoms are brought to norm 1 before they are coded,
/// so `lambda` is a share of the norm of each row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CoderSpec {
    /// Orthogonal matching pursuit.
    Omp {
        /// Most pairs of a row.
        k: usize,
    },
    /// Matching pursuit.
    Mp {
        /// Number of steps, and the most pairs of a row.
        k: usize,
    },
    /// OMP with non-negative codes.
    Nnomp {
        /// Most pairs of a row.
        k: usize,
    },
    /// OMP with a gradient step for the least squares.
    GradientPursuit {
        /// Most pairs of a row.
        k: usize,
        /// Codes are not negative.
        #[serde(default)]
        positive: bool,
    },
    /// The lasso by coordinate descent.
    Cd {
        /// Weight of `‖codes‖₁`.
        lambda: f64,
        /// Codes are not negative.
        #[serde(default)]
        positive: bool,
    },
    /// The lasso by accelerated proximal gradient.
    Fista {
        /// Weight of `‖codes‖₁`.
        lambda: f64,
        /// Codes are not negative.
        #[serde(default)]
        positive: bool,
    },
    /// The lasso by least angle regression.
    Lars {
        /// Weight of `‖codes‖₁`.
        lambda: f64,
        /// Codes are not negative.
        #[serde(default)]
        positive: bool,
    },
}

/// Optimality conditions of the lasso hold up to this share of `lambda`. The objective is then within
/// about the square of it.
pub const TOLERANCE: f64 = 1e-3;

impl CoderSpec {
    /// Checks the fields against the number of latents.
    ///
    /// # Errors
    /// `k` or `lambda` is out of range.
    pub fn validate(&self, n_latents: usize) -> Result<(), Invalid> {
        match *self {
            CoderSpec::Omp { k }
            | CoderSpec::Mp { k }
            | CoderSpec::Nnomp { k }
            | CoderSpec::GradientPursuit { k, .. } => {
                let reason = "must be between 1 and the n_latents of every learner";
                Invalid::unless(k > 0 && k <= n_latents, "k", reason)
            }
            CoderSpec::Cd { lambda, .. }
            | CoderSpec::Fista { lambda, .. }
            | CoderSpec::Lars { lambda, .. } => {
                Invalid::unless(lambda.is_finite() && lambda > 0.0, "lambda", "must be positive")
            }
        }
    }

    /// The word in `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            CoderSpec::Omp { .. } => "omp",
            CoderSpec::Mp { .. } => "mp",
            CoderSpec::Nnomp { .. } => "nnomp",
            CoderSpec::GradientPursuit { .. } => "gradient_pursuit",
            CoderSpec::Cd { .. } => "cd",
            CoderSpec::Fista { .. } => "fista",
            CoderSpec::Lars { .. } => "lars",
        }
    }

    /// Most latents of a row; `None` if `lambda` decides.
    pub fn k(&self) -> Option<usize> {
        match *self {
            CoderSpec::Omp { k }
            | CoderSpec::Mp { k }
            | CoderSpec::Nnomp { k }
            | CoderSpec::GradientPursuit { k, .. } => Some(k),
            CoderSpec::Cd { .. } | CoderSpec::Fista { .. } | CoderSpec::Lars { .. } => None,
        }
    }

    /// The coder, for rows of norm 1.
    pub fn chosen<R: Real>(&self) -> AnyCoder<R> {
        let tolerance = R::of(TOLERANCE);
        match *self {
            CoderSpec::Omp { k } => AnyCoder::Omp(Omp { k }),
            CoderSpec::Mp { k } => AnyCoder::Mp(Mp { k }),
            CoderSpec::Nnomp { k } => AnyCoder::Nnomp(Nnomp { k }),
            CoderSpec::GradientPursuit { k, positive } => {
                AnyCoder::GradientPursuit(GradientPursuit { k, positive })
            }
            CoderSpec::Cd { lambda, positive } => {
                AnyCoder::Cd(LassoCd { lambda: R::of(lambda), positive, tolerance })
            }
            CoderSpec::Fista { lambda, positive } => {
                AnyCoder::Fista(Fista { lambda: R::of(lambda), positive, tolerance })
            }
            CoderSpec::Lars { lambda, positive } => AnyCoder::Lars(Lars { lambda: R::of(lambda), positive }),
        }
    }
}

/// A coder with its numbers, ready to run.
#[derive(Debug, Clone, Copy)]
pub enum AnyCoder<R> {
    /// See [`Omp`].
    Omp(Omp),
    /// See [`Mp`].
    Mp(Mp),
    /// See [`Nnomp`].
    Nnomp(Nnomp),
    /// See [`GradientPursuit`].
    GradientPursuit(GradientPursuit),
    /// See [`LassoCd`].
    Cd(LassoCd<R>),
    /// See [`Fista`].
    Fista(Fista<R>),
    /// See [`Lars`].
    Lars(Lars<R>),
}

impl<R: Real> AnyCoder<R> {
    /// Codes of `x`, `[rows, d]`: see [`block::code`].
    pub fn code(&self, path: Path, panels: &Panels<R>, gram: Gram<R>, x: &[R]) -> Coded<R> {
        match self {
            AnyCoder::Omp(coder) => block::code(path, coder, panels, gram, x),
            AnyCoder::Mp(coder) => block::code(path, coder, panels, gram, x),
            AnyCoder::Nnomp(coder) => block::code(path, coder, panels, gram, x),
            AnyCoder::GradientPursuit(coder) => block::code(path, coder, panels, gram, x),
            AnyCoder::Cd(coder) => block::code(path, coder, panels, gram, x),
            AnyCoder::Fista(coder) => block::code(path, coder, panels, gram, x),
            AnyCoder::Lars(coder) => block::code(path, coder, panels, gram, x),
        }
    }

    /// Weight of `‖α‖₁` in what is minimised; 0 where `k` limits the codes.
    pub fn lambda(&self) -> f64 {
        match self {
            AnyCoder::Cd(coder) => coder.lambda.f64(),
            AnyCoder::Fista(coder) => coder.lambda.f64(),
            AnyCoder::Lars(coder) => coder.lambda.f64(),
            _ => 0.0,
        }
    }
}
