//! Rows times encoder rows on tensor cores: factors in bf16 or tf32, sums in f32, without the bias.
//!
//! The kernel is one of `cubek-matmul`'s, the first of a fixed list that the card and the shape allow: never one
//! chosen by timing, so the same card gives the same bits for the same shape. (Another number of rows may take
//! another tile, and then another order of summation.)
//!
//! On a card whose accelerator is asked for, `cubek-matmul` takes f32 for tf32 without being told. Nothing in
//! f32 is ever multiplied through here: factors are rounded first ([`Factors`]), so what it multiplies is tf32
//! before it begins, and products in f32 are those of [`super::product`].

use cubecl::{
    ir::{StorageType, features::Tma},
    prelude::*,
    server::Handle,
    zspace::{shape, strides},
};
use cubek_matmul::{
    components::tile::TileMatmulKind::{self, Cmma, Mma},
    definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError},
    launch::launch_tiling::{launch_ref, launch_ref_tma},
    routines::{
        BlueprintStrategy::Inferred,
        simple::{SimpleAlgorithm, SimpleArgs, SimpleTmaAlgorithm},
        specialized::{SpecializedAlgorithm, SpecializedStrategy},
    },
};
use cubek_std::InputBinding;
use half::bf16;

use super::factors::{Factors, Numbers, Rounding};
use crate::{
    Runtime,
    card::{Card, Floats},
};

/// The card has no tensor cores for such factors or shapes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no tensor cores for this: {0}")]
pub struct NoTensorCores(pub String);

/// Sums are `Σ_j x[r, j]·w[l, j]`. Factors are rounded alike and have the same number of columns.
#[derive(Debug, Clone, Copy)]
pub struct TensorProduct<'a> {
    /// Rows.
    pub x: &'a Factors,
    /// Encoder rows, of this chunk only.
    pub w: &'a Factors,
    /// How many rows.
    pub rows: usize,
    /// How many encoder rows.
    pub width: usize,
}

impl TensorProduct<'_> {
    /// The sums, into `out`, `[rows, width]`, where `rows·width` is below 2^32.
    ///
    /// # Errors
    /// The card has no tensor cores for this.
    pub fn run<R: Runtime>(&self, card: &Card<R>, out: &Floats) -> Result<(), NoTensorCores> {
        if self.rows == 0 || self.width == 0 {
            return Ok(());
        }
        available(card, self.x.rounding())?;
        let mut why = String::new();
        for kernel in kernels(card) {
            match self.launch(card, kernel, out) {
                Ok(()) => return Ok(()),
                Err(error) => why = format!("{error:?}"),
            }
        }
        Err(NoTensorCores(why))
    }

    #[allow(clippy::result_large_err, reason = "the library's error")]
    fn launch<R: Runtime>(
        &self,
        card: &Card<R>,
        kernel: Kernel,
        out: &Floats,
    ) -> Result<(), MatmulSetupError> {
        let (rows, width, d) = (self.rows, self.width, self.x.pitch);
        let (lhs, factor) = handle(&self.x.numbers);
        let (rhs, _) = handle(&self.w.numbers);
        let sums = f32::as_type_native_unchecked().storage_type();
        let types =
            &mut MatmulElems::from_globals(&MatmulGlobalElems { lhs: factor, rhs: factor, out: sums });
        // SAFETY: factors hold `pitch` numbers a line for at least so many lines, `out` the product.
        let (lhs, rhs, out) = unsafe {
            (
                InputBinding::new(
                    TensorBinding::from_raw_parts(lhs, strides![d, 1], shape![rows, d]),
                    factor,
                ),
                InputBinding::new(
                    TensorBinding::from_raw_parts(rhs, strides![1, d], shape![d, width]),
                    factor,
                ),
                TensorBinding::from_raw_parts(out.handle().clone(), strides![width, 1], shape![rows, width]),
            )
        };
        let client = card.client();
        match kernel {
            Kernel::Specialized => {
                let how = Inferred(SpecializedStrategy { tile_matmul: Mma });
                launch_ref_tma::<R, SpecializedAlgorithm>(client, lhs, rhs, out, &how, types)
            }
            Kernel::Mapped => {
                let how = Inferred(SimpleArgs { tile_matmul: Mma, multi_rows: false });
                launch_ref_tma::<R, SimpleTmaAlgorithm>(client, lhs, rhs, out, &how, types)
            }
            Kernel::Plain(tile_matmul) => {
                let how = Inferred(SimpleArgs { tile_matmul, multi_rows: false });
                launch_ref::<R, SimpleAlgorithm>(client, lhs, rhs, out, &how, types)
            }
        }
    }
}

/// Kernels of the library. (Through its own list all thirty would be compiled for each runtime.)
#[derive(Debug, Clone, Copy)]
enum Kernel {
    /// Loads by tensor maps, by warps that do nothing else.
    Specialized,
    /// Loads by tensor maps.
    Mapped,
    /// Plain loads.
    Plain(TileMatmulKind),
}

fn handle(numbers: &Numbers) -> (Handle, StorageType) {
    match numbers {
        Numbers::Bf16(numbers) => (numbers.handle().clone(), bf16::as_type_native_unchecked().storage_type()),
        Numbers::Tf32(numbers) => (numbers.handle().clone(), f32::as_type_native_unchecked().storage_type()),
    }
}

/// Whether the card's tensor cores take such factors.
///
/// # Errors
/// They do not, or there are none.
pub fn available<R: Runtime>(card: &Card<R>, rounding: Rounding) -> Result<(), NoTensorCores> {
    let wanted = match rounding {
        Rounding::Bf16 => bf16::as_type_native_unchecked().storage_type(),
        Rounding::Tf32 => tf32::as_type_native_unchecked().storage_type(),
    };
    let sums = f32::as_type_native_unchecked().storage_type();
    let of = &card.client().properties().features.matmul;
    let fits = of.mma.iter().chain(&of.cmma).any(|config| config.a_type == wanted && config.cd_type == sums);
    if fits { Ok(()) } else { Err(NoTensorCores(format!("the card does not multiply {wanted}"))) }
}

/// Best first; tensor maps need compute capability 9.0. Of these none keeps registers in memory there but the
/// last (624 bytes in bf16). That is what ruled out the library's double buffering: by tensor maps it does so in
/// tf32 at 250 rows (16 bytes), and without them it takes all 255 registers in bf16.
fn kernels<R: Runtime>(card: &Card<R>) -> Vec<Kernel> {
    let features = card.client().features();
    let mma = !features.matmul.mma.is_empty();
    let mapped = mma && features.tma.contains(Tma::Base);
    let all = [
        (mapped, Kernel::Specialized),
        (mapped, Kernel::Mapped),
        (mma, Kernel::Plain(Mma)),
        (true, Kernel::Plain(Cmma)),
    ];
    all.into_iter().filter_map(|(there, kernel)| there.then_some(kernel)).collect()
}
