//! `f32` for work, `f64` for golden numbers: the same source for both.

use std::{borrow::Cow, fmt::Debug, iter::Sum};

/// The float type a kernel runs on.
pub trait Real:
    Copy
    + Send
    + Sync
    + Default
    + PartialOrd
    + Debug
    + Sum
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + super::encode::Screened
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// `self * a + b` with one rounding.
    fn fma(self, a: Self, b: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Nearest value of this type.
    fn of(value: f64) -> Self;
    /// Exact value.
    fn f64(self) -> f64;
    /// The values as a card takes them.
    fn narrow(values: &[Self]) -> Cow<'_, [f32]>;
    /// Values that a card gave.
    fn widen(values: Vec<f32>) -> Vec<Self>;
}

macro_rules! real {
    ($t:ty, $narrow:expr, $widen:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn fma(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self.into()
            }
            fn narrow(values: &[Self]) -> Cow<'_, [f32]> {
                $narrow(values)
            }
            fn widen(values: Vec<f32>) -> Vec<Self> {
                $widen(values)
            }
        }
    };
}

/// Golden numbers never lie on a card.
#[allow(clippy::cast_possible_truncation, reason = "a card computes in f32")]
fn rounded(values: &[f64]) -> Cow<'_, [f32]> {
    values.iter().map(|&v| v as f32).collect()
}

real!(f32, Cow::Borrowed, std::convert::identity);
real!(f64, rounded, |values: Vec<f32>| values.into_iter().map(f64::from).collect());
