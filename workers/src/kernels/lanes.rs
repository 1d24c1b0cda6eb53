//! Sums over a batch, lane by lane in lane order: whoever holds which lanes, the bits are the same.

use rayon::prelude::*;

use super::real::Real;

/// First row of every lane, and the number of rows: `lanes + 1` ascending positions.
pub type LaneStarts<'a> = &'a [usize];

/// `Σ_lanes Σ_{rows of the lane} values[row]`.
pub fn sum(values: &[f64], lanes: LaneStarts) -> f64 {
    lanes.windows(2).map(|lane| values[lane[0]..lane[1]].iter().sum::<f64>()).sum()
}

/// Column sums of `y` (`[rows, d]`) in f64, `[d]`.
pub fn column_sums<R: Real>(y: &[R], d: usize, lanes: LaneStarts) -> Vec<f64> {
    let of_lane = |lane: &[usize]| {
        let mut sums = vec![0f64; d];
        for row in y[lane[0] * d..lane[1] * d].chunks_exact(d) {
            sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += v.f64());
        }
        sums
    };
    let per_lane: Vec<Vec<f64>> = lanes.par_windows(2).map(of_lane).collect();
    let mut total = vec![0f64; d];
    for lane in per_lane {
        total.iter_mut().zip(lane).for_each(|(total, sum)| *total += sum);
    }
    total
}

/// `Σ_b ‖y_b − ȳ‖²` from the squared row norms and the rows: `Σ‖y‖² − ‖Σy‖²/B`, not below 0.
pub fn scatter<R: Real>(y: &[R], squared_norms: &[f64], d: usize, lanes: LaneStarts) -> f64 {
    let rows = squared_norms.len().max(1) as f64;
    let mean_part: f64 = column_sums(y, d, lanes).iter().map(|s| s * s).sum::<f64>() / rows;
    (sum(squared_norms, lanes) - mean_part).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_is_the_sum_about_the_mean() {
        let y = [1.0f64, 2.0, 3.0, 6.0, 5.0, 1.0];
        let norms: Vec<f64> = y.chunks(2).map(|r| r.iter().map(|v| v * v).sum()).collect();
        let (mx, my) = (3.0, 3.0);
        let slow: f64 = y.chunks(2).map(|r| (r[0] - mx).powi(2) + (r[1] - my).powi(2)).sum();
        assert!((scatter(&y, &norms, 2, &[0, 1, 3]) - slow).abs() < 1e-12);
    }
}
