//! The pre-screen against the f32 encoder: the same pairs and the same bits, whatever the numbers.

use proptest::prelude::*;

use super::*;
use crate::random::{hash, unit};

/// A batch drawn from a seed, with every hardship that `hard` names.
#[derive(Debug, Clone)]
struct Case {
    n: usize,
    d: usize,
    rows: usize,
    k: usize,
    seed: u64,
    hard: Hard,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Hard {
    Plain,
    /// Every 17th dimension of the rows is a thousand times as large.
    OutlierDimensions,
    /// All latents are a few directions, bit for bit: ties everywhere.
    Duplicates,
    /// Latents differ by less than integers can see.
    NearTies,
    /// Zero rows, zero weights, infinite and NaN entries and biases.
    Degenerate,
    /// Rows and weights of magnitudes from 1e-30 to 1e30.
    Scales,
    /// All pre-activations are negative.
    Nothing,
    /// Subnormal numbers.
    Subnormal,
    /// Every third latent is too small for integers: more candidates than a list has room for.
    Unquantised,
    /// The lower its number, the larger a latent's weights.
    Nested,
}

const ALL: [Hard; 10] = [
    Hard::Plain,
    Hard::OutlierDimensions,
    Hard::Duplicates,
    Hard::NearTies,
    Hard::Degenerate,
    Hard::Scales,
    Hard::Nothing,
    Hard::Subnormal,
    Hard::Unquantised,
    Hard::Nested,
];

struct Data {
    w: Vec<f32>,
    b: Vec<f32>,
    x: Vec<f32>,
    b_dec: Vec<f32>,
}

impl Case {
    fn draw(&self, stream: u64, i: usize) -> f32 {
        let of = |part| unit(hash(&[self.seed, stream, i as u64, part])) as f32;
        of(0) + of(1) + of(2) - 1.5
    }

    fn magnitude(&self, stream: u64, i: usize) -> f32 {
        10f32.powi((hash(&[self.seed, stream, i as u64]) % 61) as i32 - 30)
    }

    fn data(&self) -> Data {
        let (n, d) = (self.n, self.d);
        let many = |len, stream| -> Vec<f32> { (0..len).map(|i| self.draw(stream, i)).collect() };
        let (mut w, mut b, mut x, b_dec) = (many(n * d, 1), many(n, 2), many(self.rows * d, 3), many(d, 4));
        match self.hard {
            Hard::Plain => {}
            Hard::OutlierDimensions => {
                x.iter_mut().enumerate().filter(|(i, _)| i % d % 17 == 0).for_each(|(_, x)| *x *= 1000.0);
            }
            Hard::Duplicates => {
                b.fill(0.0);
                (4 * d..n * d).for_each(|i| w[i] = w[i % (4 * d)]);
            }
            Hard::NearTies => {
                b.fill(0.0);
                (d..n * d).for_each(|i| w[i] = w[i % d] * (1.0 + 1e-6 * w[i]));
            }
            Hard::Degenerate => self.degenerate(&mut w, &mut b, &mut x),
            Hard::Scales => {
                x.iter_mut().enumerate().for_each(|(i, x)| *x *= self.magnitude(5, i / d));
                w.iter_mut().enumerate().for_each(|(i, w)| *w *= self.magnitude(6, i / d));
            }
            Hard::Nothing => b.fill(-1e6),
            Hard::Subnormal => {
                x.iter_mut().step_by(3).for_each(|x| *x *= 1e-41);
                w.iter_mut().step_by(2).for_each(|w| *w *= 1e-40);
            }
            Hard::Unquantised => w.chunks_mut(d).step_by(3).for_each(|w| w.fill(1e-20)),
            Hard::Nested => {
                w.iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + 200.0 / (i / d + 50) as f32)
            }
        }
        Data { w, b, x, b_dec }
    }

    fn degenerate(&self, w: &mut [f32], b: &mut [f32], x: &mut [f32]) {
        const ODD: [f32; 6] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX];
        let odd = |i: usize| ODD[i % ODD.len()];
        w.chunks_mut(self.d).enumerate().step_by(7).for_each(|(i, row)| match i % 3 {
            0 => row.fill(0.0),
            _ => row[i % row.len()] = odd(i),
        });
        x.chunks_mut(self.d).enumerate().step_by(5).for_each(|(i, row)| match i % 2 {
            0 => row.fill(0.0),
            _ => row[i % row.len()] = odd(i / 5),
        });
        b.iter_mut().enumerate().step_by(11).for_each(|(i, b)| *b = odd(i / 11));
    }

    /// Pairs and bits of the f32 encoder and of the screened one.
    fn check(&self) -> Screening {
        let Data { w, b, x, b_dec } = self.data();
        let encoder = Encoder::all(&w, &b, self.d);
        let of = |screen| encoder.select(Path::best(), screen, &x, &b_dec, Selection::TopK(self.k));
        let (plain, screened) = (of(Screen::Off), of(Screen::Int8));
        assert_eq!(plain.codes.offsets, screened.codes.offsets, "{self:?}");
        assert_eq!(plain.codes.latents, screened.codes.latents, "{self:?}");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&plain.values), bits(&screened.values), "{self:?}");
        screened.screening
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn screened_codes_are_those_of_f32(
        (n, d, rows) in (30usize..1500, 1usize..140, 1usize..60),
        k in 1usize..24,
        seed: u64,
        hard in prop::sample::select(ALL.to_vec()),
    ) {
        let screening = Case { n, d, rows, k, seed, hard }.check();
        let screened = Screen::Int8.available() && n >= WORTH * k;
        prop_assert_eq!(screening.rows, if screened { rows } else { 0 });
    }
}

/// Enough latents that lists are pruned and the guess matters.
#[test]
fn large_dictionaries_are_screened_and_few_rows_given_up() {
    for hard in ALL {
        let case = Case { n: 4000, d: 96, rows: 150, k: 16, seed: 7, hard };
        let screening = case.check();
        if Screen::Int8.available() {
            assert_eq!(screening.rows, 150);
            if matches!(hard, Hard::Plain | Hard::OutlierDimensions | Hard::Nested) {
                assert!(screening.given_up <= 3, "{hard:?} {screening:?}");
                assert!(screening.candidates < 150 * 200, "{hard:?} {screening:?}");
            }
        }
    }
}

/// Integers made for other rows bound less tightly and stay exact.
#[test]
fn integers_can_be_kept_for_other_rows() {
    let of = |hard| Case { n: 1500, d: 64, rows: 40, k: 8, seed: 3, hard }.data();
    let (made_for, data) = (of(Hard::OutlierDimensions), of(Hard::Plain));
    let encoder = Encoder::all(&data.w, &data.b, 64);
    let selection = Selection::TopK(8);
    let plain = encoder.select(Path::best(), Screen::Off, &data.x, &data.b_dec, selection);
    if let Some(quantised) = encoder.quantise(Path::best(), &made_for.x, &data.b_dec) {
        let kept = encoder.with(&quantised);
        let screened = kept.select(Path::best(), Screen::Int8, &data.x, &data.b_dec, selection);
        assert_eq!((plain.codes, plain.values), (screened.codes, screened.values));
        assert_eq!(screened.screening.rows, 40);
    }
}
