//! The seam to graphics cards: what a card does for a dictionary, as the skeleton asks for it.
//!
//! What is as large as weights or rows lies on the card: parameters, moments, the batch, residuals. What is
//! as large as codes comes back, so a variant decides what a code is and what it costs in the same lines
//! with a card and without. `workers/gpu` holds the implementation; this crate knows none but several cards as one.

mod cluster;
pub mod digest;
pub mod memory;
mod pairs;
mod replicated;
mod scatter;
mod sharded;
pub mod wire;

use std::{any::Any, fmt::Debug, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    codes::Codes,
    kernels::{
        adam::AdamStep,
        encode::{Among, Selected, Selection},
        lanes::Moments,
    },
    skeleton::{FrozenParameters, Inference, parameters::Parameters, update::Atoms},
    stats::FixedPoint,
    threads::Threads,
};

pub use cluster::as_one;
use digest::Digests;
pub use scatter::Scatter;
use wire::{Incoming, Outgoing, Sent};

/// How the product of the encoder is computed on a card. Sums are always f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Factors as they are: no tensor cores.
    #[default]
    F32,
    /// Factors rounded to 10 bits of mantissa.
    Tf32,
    /// Factors rounded to 7 bits of mantissa: the fastest.
    Bf16,
}

/// How several cards share a learner that has them to itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Each holds some of the latents and sees every row: weights and moments are divided.
    #[default]
    Latents,
    /// Each holds every latent and sees some of the rows; gradients are added up (NCCL). For more rows in a
    /// batch than latents.
    Rows,
}

/// How a card keeps Adam's two moments of every weight. Those of biases are always f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum MomentsIn {
    /// Four bytes each.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// One byte each, relative to the largest of a latent.
    #[serde(rename = "8bit")]
    Bits8,
}

/// What a card is opened for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arithmetic {
    /// Of the product of the encoder. With `Bf16` weights have a rounded copy, which all but the optimizer reads.
    pub precision: Precision,
    /// Of the optimizer.
    pub moments: MomentsIn,
}

/// A device as `atomflow devices` lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// What `runtime.device` calls it.
    pub name: String,
    /// The maker's name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Newest CUDA that its driver speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether a job can run there.
    pub usable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A kernel against its slow reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The kernel.
    pub name: String,
    /// The shape it ran on.
    pub shape: String,
    /// The largest difference found, relative to 1 + the expected value.
    pub worst: f64,
    /// The largest one allowed.
    pub tolerance: f64,
    /// Whether it is within.
    pub fine: bool,
}

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unusable {
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

/// The cards of this machine.
pub trait Cards: Send + Sync {
    /// Every device, and why some are not usable.
    fn list(&self) -> Vec<DeviceInfo>;

    /// Opens the devices that `name` stands for: `cuda:0`, or `cuda:*` for all.
    ///
    /// # Errors
    /// One of them cannot be used.
    fn open(&self, name: &str, arithmetic: Arithmetic) -> Result<Vec<Arc<dyn Peer>>, Unusable>;

    /// Runs every kernel of a device against its slow reference.
    ///
    /// # Errors
    /// The device cannot be used.
    fn verify(&self, name: &str) -> Result<Vec<Verified>, Unusable>;
}

/// A build without cards.
#[derive(Debug, Clone, Copy)]
pub struct NoCards;

impl Cards for NoCards {
    fn list(&self) -> Vec<DeviceInfo> {
        let Unusable { reason, hint } = NoCards::unusable();
        let name = "cuda".to_owned();
        vec![DeviceInfo { name, reason: Some(reason), hint: Some(hint), ..DeviceInfo::default() }]
    }

    fn open(&self, _name: &str, _arithmetic: Arithmetic) -> Result<Vec<Arc<dyn Peer>>, Unusable> {
        Err(NoCards::unusable())
    }

    fn verify(&self, _name: &str) -> Result<Vec<Verified>, Unusable> {
        Err(NoCards::unusable())
    }
}

impl NoCards {
    fn unusable() -> Unusable {
        Unusable {
            reason: "this program was built without CUDA".to_owned(),
            hint: "build it with `cargo build --release --features cuda`, or use \"cpu\"".to_owned(),
        }
    }
}

/// One card.
pub trait Card: Send + Sync + Debug {
    /// `cuda:0`.
    fn name(&self) -> String;

    /// What it was opened for.
    fn arithmetic(&self) -> Arithmetic;

    /// How they share a learner, if these are several cards.
    fn split(&self) -> Option<Split> {
        None
    }

    /// An autoencoder that begins with `start`.
    fn autoencoder(&self, start: &Parameters<f32>) -> Box<dyn OnCard>;

    /// A frozen dictionary; `None` where its codes are better found elsewhere.
    fn dictionary(&self, frozen: &FrozenParameters, inference: &Inference) -> Option<Box<dyn Encodes>>;

    /// Brings rows to the card and returns when they are there; steps go on meanwhile. For autoencoders of this card
    /// alone. `threads` convert them. The memory is used again once all who have it let go of it, which may be no
    /// sooner than at the end of the step that reads it.
    fn send(&self, rows: &Outgoing, threads: &Threads) -> Sent;

    /// What somebody should know of the card, once.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Moves so many bytes on the card, there and back counted, and waits for the end: what its memory can do.
    fn copy(&self, bytes: usize);

    /// Multiplies two square matrices of `side` in the precision of the card, by the library, and waits for
    /// the end: what its arithmetic can do.
    fn multiply(&self, side: usize);

    /// Why the card has stopped answering, if it has. What it says from then on are NaNs.
    fn lost(&self) -> Option<String>;
}

/// A card that can share a learner with others.
pub trait Peer: Card {
    /// Whether gradients on it can be added to those on the cards of these names, of which it is one.
    ///
    /// # Errors
    /// What that needs is absent.
    fn sums_among(&self, names: &[String]) -> Result<(), Unusable>;

    /// An autoencoder that begins with `start`, as do those on the other cards of these names.
    fn replica(&self, start: &Parameters<f32>, names: &[String]) -> Box<dyn Replica>;
}

/// Finds codes on a card.
pub trait Encodes: Send + Sync + Debug {
    /// Codes of `x`, row-major `[rows, d_in]`.
    fn encode(&self, x: &[f32]) -> Codes;

    /// Counts the codes of one shard where they are found, at the scales of the run; `None` if it cannot. `frozen` is
    /// what it was made of.
    fn digests(&self, _frozen: &FrozenParameters, _fixed: FixedPoint) -> Option<Box<dyn Digests>> {
        None
    }
}

/// Numbers per row on a card, `[rows, d_out]`.
#[derive(Clone)]
pub struct CardRows(pub Arc<dyn Any + Send + Sync>);

impl Debug for CardRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CardRows")
    }
}

/// What is compared with what a code decodes to.
#[derive(Debug, Clone, Copy)]
pub enum Against<'a> {
    /// The target of the batch.
    Target,
    /// Other rows in its place.
    Instead(&'a CardRows),
    /// Other rows; then `b_dec` is not part of what is decoded.
    Rows(&'a CardRows),
}

/// One of the two matrices, a row per latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// `w_enc`, `[n_latents, d_in]`.
    Encoder,
    /// `w_dec`, `[n_latents, d_out]`.
    Atoms,
}

/// What a code leaves unexplained, on a card.
#[derive(Debug, Clone)]
pub struct CardResidual {
    /// `[rows, d_out]`.
    pub e: CardRows,
    /// `⟨e, atom⟩` of every pair, parallel to the latents of the codes.
    pub along_atoms: Vec<f32>,
    /// Of the rows of `e`.
    pub moments: Moments,
}

/// What prefixes of a dictionary leave unexplained, on a card: see [`crate::kernels::nested::Nested`].
#[derive(Debug, Clone)]
pub struct CardNested {
    /// Per prefix: the weighted sum of what it and those behind it leave, `[rows, d_out]`.
    pub suffixes: Vec<CardRows>,
    /// Per pair: `⟨suffix of the first prefix that has it, atom⟩`.
    pub along_atoms: Vec<f32>,
    /// `Σ‖e_j‖²` of each prefix.
    pub squared_errors: Vec<f64>,
    /// Of the residual of all latents.
    pub moments: Moments,
    /// Column sums of the first suffix, `[d_out]`.
    pub column_sums: Vec<f64>,
}

/// Pairs that take part in the gradient: each adds `decoder·y` to the gradient of its atom and
/// `encoder·(x − b_dec)` to that of its encoder row.
#[derive(Debug, Clone)]
pub struct CardTerm {
    /// Which latents.
    pub codes: Codes,
    /// What multiplies `y`, per pair.
    pub decoder: Vec<f32>,
    /// What multiplies `x − b_dec`, per pair.
    pub encoder: Vec<f32>,
    /// `[rows, d_out]`, each for the latents from the end of the one before to its own; no atom beyond is concerned.
    pub y: Vec<(usize, CardRows)>,
}

/// What the gradient of a batch has beside its pairs.
#[derive(Debug, Clone, Copy)]
pub struct CardGradient<'a> {
    /// Of `b_dec`, `[d_out]`.
    pub b_dec: &'a [f32],
    /// What the gradient of `b_enc` has beside the sum of `encoder`, `[n_latents]`.
    pub bias: Option<&'a [f32]>,
    /// What each atom adds of itself to its own gradient, `[n_latents]`.
    pub pull: Option<&'a [f32]>,
    /// What the pairs are multiplied by; the three above are already.
    pub factor: f64,
}

/// An autoencoder whose parameters lie on a card. Calls come one at a time, in the order of the skeleton.
pub trait OnCard: Send + Sync + Debug {
    /// A batch: its rows, `[rows, d_in]`, and what is reconstructed where that is something else,
    /// `[rows, d_out]`. Returns the scatter of what is reconstructed.
    fn begin(&self, x: Incoming, target: Option<&[f32]>) -> Scatter;

    /// Pre-activations of the batch that become codes, and those that `among` asks for.
    fn select(
        &self,
        selection: Selection<f32>,
        among: Option<Among>,
    ) -> (Selected<f32>, Option<Selected<f32>>);

    /// The `k·rows` pre-activations of the batch that are largest once each latent's are multiplied by its positive
    /// weight, `[n_latents]`: values and threshold are products with it.
    fn select_weighted(&self, k: usize, weights: &[f32]) -> Selected<f32>;

    /// The `k` largest positive pre-activations of each row among some latents.
    fn select_among(&self, among: Among) -> Selected<f32>;

    /// What `codes` with `values` leave of the target or of other rows.
    fn residual(&self, against: Against, codes: &Codes, values: &[f32]) -> CardResidual;

    /// What the latents of `codes` below each of `ends` leave of the target: their `weights` are relative to the
    /// last, which is 1, and whose prefix has all latents.
    fn nested(&self, codes: &Codes, values: &[f32], ends: &[usize], weights: &[f32]) -> CardNested;

    /// `⟨y, atom⟩` of every pair of a code.
    fn along(&self, y: &CardRows, codes: &Codes) -> Vec<f32>;

    /// `to += factor·rows`, in place.
    fn add(&self, to: &CardRows, factor: f32, rows: &CardRows);

    /// What a dense `map`, `[d_out, d_in]`, of the rows leaves of the target.
    fn unmapped(&self, map: &[f32]) -> CardRows;

    /// `Σ_r y[r]·x[r]ᵀ` over the rows of the batch, `[d_out, d_in]`.
    fn cross(&self, y: &CardRows) -> Vec<f32>;

    /// `Σ‖part‖` of every row of a matrix that is cut into parts of `widths`, `[n_latents]`.
    fn norms(&self, of: Matrix, widths: &[usize]) -> Vec<f32>;

    /// Encoder rows of some latents, ascending, `[latents, d_in]`, and their biases.
    fn encoder(&self, latents: &[u32]) -> (Vec<f32>, Vec<f32>);

    /// Takes the pairs of the gradient. Returns `Σ db_enc·w_enc` with the weights from before the step, by which
    /// what is subtracted before encoding learns, `[d_in]`.
    fn gather(&self, terms: &[CardTerm]) -> Vec<f64>;

    /// The sum of squares of the gradient of all latents, of the pairs that were gathered and what `gradient` has
    /// beside: as the loss makes it, before the constraint on atoms.
    fn squares(&self, gradient: &CardGradient) -> f64;

    /// One step of `w_enc`, `b_enc`, `w_dec` and `b_dec` with the pairs that were gathered.
    fn update(&self, gradient: &CardGradient, adam: &AdamStep<f32>, atoms: Atoms);

    /// Gives latents, ascending, new rows in both matrices, `[latents, d_in]` and `[latents, d_out]`, and biases of 0; their moments
    /// are forgotten.
    fn restart(&self, latents: &[u32], encoder: &[f32], atoms: &[f32]);

    /// Changes `b_dec`, `[d_out]`; its moments stay.
    fn set_b_dec(&self, b_dec: &[f32]);

    /// Rows of this card, `[rows, d_out]`.
    fn download(&self, rows: &CardRows) -> Vec<f32>;

    /// Rows for this card, `[rows, d_out]`.
    fn upload(&self, rows: &[f32]) -> CardRows;

    /// `b_enc` and `b_dec` as they are now.
    fn biases(&self) -> (Vec<f32>, Vec<f32>);

    /// All four parameters with their moments, into `parameters`.
    fn read(&self, parameters: &mut Parameters<f32>);

    /// All four parameters with their moments, from `parameters`.
    fn write(&self, parameters: &Parameters<f32>);
}

/// One of several autoencoders with the same parameters, each of which sees some of the rows of a batch.
pub trait Replica: OnCard {
    /// Puts the sum over all replicas in the place of the gradient of its own rows; every one of them is asked at
    /// the same time, after [`OnCard::gather`]. Says whether it could: else whoever asks has to sum.
    fn reduce(&self) -> bool;

    /// The gradient of `w_enc`, `b_enc` and `w_dec`.
    fn gradient(&self) -> [Vec<f32>; 3];

    /// Another one in its place.
    fn set_gradient(&self, sum: &[Vec<f32>; 3]);
}
