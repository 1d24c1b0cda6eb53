//! Every selection against its definition: all pre-activations, sorted.

use super::*;
use crate::random::{hash, unit};

fn uniform(n: usize, stream: u64) -> Vec<f32> {
    (0..n).map(|i| (unit(hash(&[stream, i as u64])) * 2.0 - 1.0) as f32).collect()
}

/// An encoder and rows for it.
struct Case<R> {
    d: usize,
    w: Vec<R>,
    b: Vec<R>,
    x: Vec<R>,
    b_dec: Vec<R>,
}

impl<R: Real> Case<R> {
    fn new(n: usize, d: usize, rows: usize) -> Self {
        let draw = |len, stream| uniform(len, stream).iter().map(|&v| R::of(f64::from(v))).collect();
        Case { d, w: draw(n * d, 1), b: draw(n, 2), x: draw(rows * d, 3), b_dec: draw(d, 4) }
    }

    fn encoder(&self) -> Encoder<'_, R> {
        Encoder::all(&self.w, &self.b, self.d)
    }

    /// (latent, value) of every pre-activation of every row.
    fn pre_acts(&self) -> Vec<Vec<(u32, R)>> {
        let z = |row: &[R], i: usize| {
            (0..self.d).fold(self.b[i], |z, j| (row[j] - self.b_dec[j]).fma(self.w[i * self.d + j], z))
        };
        self.x.chunks(self.d).map(|row| (0..self.b.len()).map(|i| (i as u32, z(row, i))).collect()).collect()
    }

    fn select(&self, path: Path, selection: Selection<R>) -> Vec<Vec<(u32, R)>> {
        let selected = self.encoder().select(path, Screen::Off, &self.x, &self.b_dec, selection);
        pairs(&selected)
    }
}

/// Codes as lists of pairs; their f32 values must be those of full precision, rounded.
fn pairs<R: Real>(selected: &Selected<R>) -> Vec<Vec<(u32, R)>> {
    let codes = &selected.codes;
    assert!(codes.values.iter().zip(&selected.values).all(|(&c, v)| c == v.f64() as f32));
    let row = |r: usize| {
        let span = codes.offsets[r]..codes.offsets[r + 1];
        codes.latents[span.clone()].iter().copied().zip(selected.values[span].iter().copied()).collect()
    };
    (0..codes.rows()).map(row).collect()
}

/// The best `k` by `rank`, ascending by latent; equal ranks go to the lower latent.
fn best<R: Real>(mut row: Vec<(u32, R)>, k: usize, rank: impl Fn(R) -> R) -> Vec<(u32, R)> {
    row.retain(|p| rank(p.1) > R::ZERO);
    row.sort_by(|a, b| rank(b.1).partial_cmp(&rank(a.1)).unwrap().then(a.0.cmp(&b.0)));
    row.truncate(k);
    row.sort_by_key(|p| p.0);
    row
}

fn magnitude<R: Real>(z: R) -> R {
    if z < R::ZERO { -z } else { z }
}

/// (n_latents, d_in, rows, k): smaller than a tile, not a multiple of one, many blocks, k ≥ n, k = 0.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(1, 1, 1, 1), (40, 7, 13, 3), (333, 33, 301, 32), (500, 64, 50, 500), (900, 20, 30, 300), (20, 8, 5, 0)];

fn every_path_equals_the_definition<R: Real>() {
    for (n, d, rows, k) in SHAPES {
        let case = Case::<R>::new(n, d, rows);
        let all = case.pre_acts();
        let top: Vec<_> = all.iter().map(|row| best(row.clone(), k, |z| z)).collect();
        let signed: Vec<_> = all.iter().map(|row| best(row.clone(), k, magnitude)).collect();
        let per_latent: Vec<R> = uniform(n, 9).iter().map(|&v| R::of(f64::from(v))).collect();
        let above = |theta: &[R]| -> Vec<Vec<(u32, R)>> {
            let theta = |latent: u32| theta[if theta.len() == 1 { 0 } else { latent as usize }];
            all.iter().map(|row| row.iter().copied().filter(|p| p.1 > theta(p.0)).collect()).collect()
        };
        for path in Path::available() {
            let at = format!("{path:?} n={n} d={d} k={k}");
            assert_eq!(case.select(path, Selection::TopK(k)), top, "{at}");
            assert_eq!(case.select(path, Selection::AbsTopK(k)), signed, "{at}");
            assert_eq!(case.select(path, Selection::Above(&per_latent)), above(&per_latent), "{at}");
            let one = [R::of(0.25)];
            assert_eq!(case.select(path, Selection::Above(&one)), above(&one), "{at}");
        }
    }
}

#[test]
fn every_path_equals_the_definition_f32() {
    every_path_equals_the_definition::<f32>();
}

#[test]
fn every_path_equals_the_definition_f64() {
    every_path_equals_the_definition::<f64>();
}

#[test]
fn a_batch_keeps_its_largest_wherever_they_are() {
    for (n, d, rows, k) in SHAPES {
        let case = Case::<f32>::new(n, d, rows);
        let mut flat: Vec<(f32, usize, u32)> = Vec::new();
        for (r, row) in case.pre_acts().into_iter().enumerate() {
            flat.extend(row.into_iter().filter(|p| p.1 > 0.0).map(|(latent, z)| (z, r, latent)));
        }
        flat.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        flat.truncate(k * rows);
        let smallest = flat.last().map(|e| e.0);
        let mut expected = vec![Vec::new(); rows];
        flat.sort_by_key(|e| (e.1, e.2));
        flat.iter().for_each(|&(z, r, latent)| expected[r].push((latent, z)));
        for path in Path::available() {
            let got = case.encoder().select(path, Screen::Off, &case.x, &case.b_dec, Selection::BatchTopK(k));
            assert_eq!(pairs(&got), expected, "{path:?} n={n} d={d} k={k}");
            assert_eq!(got.threshold, smallest);
        }
    }
}

#[test]
fn ties_go_to_the_lower_latent_and_the_lower_row() {
    let (w, b, x) = (vec![1.0f32; 300], vec![0.0; 300], [2.0f32, 2.0, 2.0]);
    let encoder = Encoder::all(&w, &b, 1);
    for path in Path::available() {
        let of = |selection| encoder.select(path, Screen::Off, &x, &[0.0], selection).codes;
        assert_eq!(of(Selection::TopK(4)).row(1).0, [0, 1, 2, 3]);
        assert_eq!(of(Selection::AbsTopK(4)).row(2).0, [0, 1, 2, 3]);
        let batch = of(Selection::BatchTopK(150));
        assert_eq!(batch.row(0).0.len(), 300);
        assert_eq!(batch.row(1).0, (0..150).collect::<Vec<u32>>());
        assert_eq!(batch.row(2).0.len(), 0);
    }
}

#[test]
fn a_subset_keeps_the_numbers() {
    let case = Case::<f32>::new(50, 9, 4);
    let latents: Vec<u32> = (10..50).collect();
    let subset = Encoder::subset(&case.w, &case.b, case.d, &latents);
    let theta: Vec<f32> = (0..50).map(|i| if i == 12 { -9.0 } else { 9.0 }).collect();
    for (selection, k) in [(Selection::TopK(5), 5), (Selection::Above(&theta), 1)] {
        let got = pairs(&subset.select(Path::best(), Screen::Off, &case.x, &case.b_dec, selection));
        let of = |row: &Vec<(u32, f32)>| -> Vec<(u32, f32)> {
            let listed = row.iter().copied().filter(|p| p.0 >= 10);
            match selection {
                Selection::Above(_) => listed.filter(|p| p.0 == 12).collect(),
                _ => best(listed.collect(), k, |z| z),
            }
        };
        assert_eq!(got, case.pre_acts().iter().map(of).collect::<Vec<_>>());
    }
}

/// Both selections at once, with and without the pre-screen, equal each by itself.
fn a_second_selection_changes_neither<R: Real>() {
    for (n, d, rows, k) in [(1, 1, 1, 1), (40, 7, 13, 3), (333, 33, 301, 6), (900, 20, 30, 300)] {
        let case = Case::<R>::new(n, d, rows);
        let all = case.pre_acts();
        let top: Vec<_> = all.iter().map(|row| best(row.clone(), k, |z| z)).collect();
        for (every, k_also) in [(1, 5), (3, 40), (7, 1), (n as u32 + 1, 2)] {
            let latents: Vec<u32> = (0..n as u32).filter(|l| (l + 1).is_multiple_of(every)).collect();
            let listed = |row: &[(u32, R)]| -> Vec<(u32, R)> {
                row.iter().copied().filter(|p| latents.binary_search(&p.0).is_ok()).collect()
            };
            let expected: Vec<_> = all.iter().map(|row| best(listed(row), k_also, |z| z)).collect();
            for (path, screen) in
                Path::available().into_iter().flat_map(|p| [(p, Screen::Off), (p, Screen::Int8)])
            {
                let among = Some(Among { latents: &latents, k: k_also });
                let selection = Selection::TopK(k);
                let (main, also) =
                    case.encoder().select_also(path, screen, &case.x, &case.b_dec, selection, among);
                let at = format!("{path:?} {screen:?} n={n} d={d} every {every}");
                assert_eq!(pairs(&main), top, "{at}");
                assert_eq!(pairs(&also.unwrap()), expected, "{at}");
            }
        }
    }
}

#[test]
fn a_second_selection_changes_neither_f32() {
    a_second_selection_changes_neither::<f32>();
}

#[test]
fn a_second_selection_changes_neither_f64() {
    a_second_selection_changes_neither::<f64>();
}

/// What cannot be compared is never kept, and what is infinite is the largest.
#[test]
fn nan_is_never_kept() {
    let mut case = Case::<f32>::new(70, 5, 20);
    (case.b[3], case.b[4], case.b[5]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    case.x[5] = f32::NAN;
    for path in Path::available() {
        for selection in [Selection::TopK(3), Selection::BatchTopK(3), Selection::Above(&[0.5])] {
            for (r, row) in case.select(path, selection).iter().enumerate() {
                assert!(row.iter().all(|p| p.0 != 3 && p.0 != 5 && !p.1.is_nan()));
                assert_eq!(row.iter().any(|p| p.0 == 4), r != 1, "{selection:?} row {r}: {row:?}");
            }
        }
    }
}
