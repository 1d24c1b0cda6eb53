//! Eigenvalues and eigenvectors of a symmetric matrix.

/// An eigenvalue and its unit eigenvector.
pub type Pair = (f64, Vec<f64>);

/// All eigenpairs of the symmetric `[n, n]` matrix `a` (row-major), largest value first. Signs are
/// fixed: the largest component of a vector is positive.
///
/// Householder tridiagonalisation, then QL with implicit shifts (EISPACK `tred2`, `tql2`): 3·n³ FLOP,
/// half a second at n = 768. One thread, one order: the same bits everywhere.
pub fn symmetric(a: &[f64], n: usize) -> Vec<Pair> {
    let mut v: Vec<Vec<f64>> = a.chunks(n.max(1)).map(<[f64]>::to_vec).collect();
    let (mut d, mut e) = (vec![0f64; n], vec![0f64; n]);
    tridiagonalise(&mut v, &mut d, &mut e);
    // Rows of `v` are rotated in pairs, so eigenvectors are kept as rows.
    let mut vectors: Vec<Vec<f64>> = (0..n).map(|c| v.iter().map(|row| row[c]).collect()).collect();
    diagonalise(&mut vectors, &mut d, &mut e);
    let mut pairs: Vec<Pair> = d.into_iter().zip(vectors).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs.iter_mut().for_each(|(_, vector)| fix_sign(vector));
    pairs
}

fn fix_sign(vector: &mut [f64]) {
    let largest = vector.iter().copied().fold(0f64, |a, b| if b.abs() > a.abs() { b } else { a });
    if largest < 0.0 {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
}

/// `tred2`: on return `v` is the orthogonal transformation, `d` the diagonal, `e` the subdiagonal from 1.
fn tridiagonalise(v: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64]) {
    let n = d.len();
    for i in (1..n).rev() {
        let scale: f64 = v[i][..i].iter().map(|x| x.abs()).sum();
        if i == 1 || scale == 0.0 {
            e[i] = v[i][i - 1];
            d[i] = 0.0;
            continue;
        }
        d[i] = reflect(v, e, i, scale);
    }
    if n > 0 {
        d[0] = 0.0;
        e[0] = 0.0;
    }
    for i in 0..n {
        if d[i] != 0.0 {
            let row = v[i][..i].to_vec();
            let mut g = vec![0f64; i];
            for (k, r) in row.iter().enumerate() {
                g.iter_mut().zip(&v[k][..i]).for_each(|(g, x)| *g += r * x);
            }
            for above in &mut v[..i] {
                let factor = above[i];
                above[..i].iter_mut().zip(&g).for_each(|(x, g)| *x -= g * factor);
            }
        }
        d[i] = v[i][i];
        v[i][i] = 1.0;
        v[..i].iter_mut().for_each(|above| above[i] = 0.0);
        v[i][..i].fill(0.0);
    }
}

/// One Householder reflection of the first `i` rows; returns its `h`.
fn reflect(v: &mut [Vec<f64>], e: &mut [f64], i: usize, scale: f64) -> f64 {
    v[i][..i].iter_mut().for_each(|x| *x /= scale);
    let mut u = v[i][..i].to_vec();
    let mut h: f64 = u.iter().map(|x| x * x).sum();
    let f = u[i - 1];
    let g = if f >= 0.0 { -h.sqrt() } else { h.sqrt() };
    e[i] = scale * g;
    h -= f * g;
    u[i - 1] = f - g;
    v[i][i - 1] = f - g;
    let mut p = vec![0f64; i];
    for j in 0..i {
        v[j][i] = u[j] / h;
        // The lower triangle stands for the whole.
        let below: f64 = v[j][..=j].iter().zip(&u).map(|(x, u)| x * u).sum();
        p[j] += below;
        let uj = u[j];
        p[..j].iter_mut().zip(&v[j][..j]).for_each(|(p, x)| *p += x * uj);
    }
    p.iter_mut().for_each(|p| *p /= h);
    let half = p.iter().zip(&u).map(|(p, u)| p * u).sum::<f64>() / (2.0 * h);
    p.iter_mut().zip(&u).for_each(|(p, u)| *p -= half * u);
    for j in 0..i {
        let (uj, pj) = (u[j], p[j]);
        v[j][..=j].iter_mut().zip(p.iter().zip(&u)).for_each(|(x, (p, u))| *x -= uj * p + pj * u);
    }
    h
}

/// `tql2`: eigenvalues into `d`, eigenvectors into the rows of `vectors`.
fn diagonalise(vectors: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64]) {
    let n = d.len();
    e.rotate_left(usize::from(n > 0));
    for l in 0..n {
        // Convergence takes two or three rounds; a matrix with NaN never gets there.
        for _ in 0..60 {
            let small = |m: usize| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs());
            let m = (l..n - 1).find(|&m| small(m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            shift(vectors, d, e, l, m);
        }
    }
}

fn shift(vectors: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64], l: usize, m: usize) {
    let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let r = g.hypot(1.0);
    g = d[m] - d[l] + e[l] / (g + if g >= 0.0 { r } else { -r });
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    for i in (l..m).rev() {
        let (f, b) = (s * e[i], c * e[i]);
        let r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            d[i + 1] -= p;
            e[m] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        g = d[i + 1] - p;
        let r = (d[i] - g) * s + 2.0 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        let (low, high) = vectors.split_at_mut(i + 1);
        for (x, y) in low[i].iter_mut().zip(&mut high[0]) {
            let f = *y;
            *y = s * *x + c * f;
            *x = c * *x - s * f;
        }
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    #[test]
    fn vectors_are_orthonormal_and_diagonalise() {
        for n in [1usize, 2, 3, 10, 41] {
            let random = |i: usize, j: usize| unit(hash(&[n as u64, i.min(j) as u64, i.max(j) as u64])) - 0.5;
            let a: Vec<f64> = (0..n * n).map(|i| random(i / n, i % n)).collect();
            let pairs = symmetric(&a, n);
            assert_eq!(pairs.len(), n);
            for (i, (value, vector)) in pairs.iter().enumerate() {
                for (r, row) in a.chunks(n).enumerate() {
                    let product: f64 = row.iter().zip(vector).map(|(a, v)| a * v).sum();
                    assert!((product - value * vector[r]).abs() < 1e-12, "n={n}");
                }
                for (j, (_, other)) in pairs.iter().enumerate() {
                    let dot: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                    assert!((dot - f64::from(i == j)).abs() < 1e-12, "n={n}");
                }
            }
            assert!(pairs.windows(2).all(|w| w[0].0 >= w[1].0));
        }
    }

    #[test]
    fn equal_and_zero_eigenvalues_are_fine() {
        let n = 6;
        let identity: Vec<f64> = (0..n * n).map(|i| f64::from(i % (n + 1) == 0)).collect();
        assert!(symmetric(&identity, n).iter().all(|(value, _)| (value - 1.0).abs() < 1e-15));
        let ones = symmetric(&vec![1.0; n * n], n);
        assert!((ones[0].0 - 6.0).abs() < 1e-12 && ones[1..].iter().all(|(value, _)| value.abs() < 1e-12));
        assert!(symmetric(&[], 0).is_empty());
    }
}
