//! `eˣ` that vector instructions can do: the same bits on every path, and on every platform.

/// 1.5·2⁵²: adding it leaves the nearest whole number in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has so few digits that small multiples of it are exact.
const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
/// Terms of the series: `(½ ln 2)¹⁴/14!` is 4e-18.
const TERMS: usize = 14;

/// 1/n!.
const INVERSE_FACTORIALS: [f64; TERMS] = {
    let (mut out, mut n) = ([1.0; TERMS], 1);
    while n < TERMS {
        out[n] = out[n - 1] / n as f64;
        n += 1;
    }
    out
};

/// `eˣ` for |x| up to 700, to within two units of the last place. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-LN_2[1], whole.mul_add(-LN_2[0], x));
    let mut series = INVERSE_FACTORIALS[TERMS - 1];
    for n in (0..TERMS - 1).rev() {
        series = series.mul_add(rest, INVERSE_FACTORIALS[n]);
    }
    // The exponent begins at bit 52: the shift leaves the whole number's lowest twelve bits.
    f64::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 52))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_exponential() {
        for i in -70_000..=70_000 {
            let x = f64::from(i) * 0.01 + f64::from(i % 7) * 1e-3;
            if x.abs() <= 700.0 {
                let (ours, theirs) = (exp(x), x.exp());
                assert!((ours - theirs).abs() <= 4.5e-16 * theirs, "{x}: {ours} is not {theirs}");
            }
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f64::NAN).is_nan());
    }
}
