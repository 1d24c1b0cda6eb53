//! How far rows lie apart, so that parts of a batch can be put together.

/// `Σ‖y − ȳ‖²` of some rows, and their mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scatter {
    /// How many rows.
    pub rows: usize,
    /// `ȳ`, `[d_out]`; empty where there are no rows.
    pub mean: Vec<f64>,
    /// `Σ‖y − ȳ‖²`.
    pub about_mean: f64,
}

impl Scatter {
    /// Of these rows and others (Chan, Golub and LeVeque 1979).
    #[must_use]
    pub fn joined(self, other: Scatter) -> Scatter {
        if self.rows == 0 || other.rows == 0 {
            return if self.rows == 0 { other } else { self };
        }
        let rows = self.rows + other.rows;
        let share = other.rows as f64 / rows as f64;
        let apart: Vec<f64> = self.mean.iter().zip(&other.mean).map(|(a, b)| b - a).collect();
        let between = apart.iter().map(|d| d * d).sum::<f64>() * self.rows as f64 * share;
        let mean = self.mean.iter().zip(&apart).map(|(mean, apart)| mean + apart * share).collect();
        Scatter { rows, mean, about_mean: self.about_mean + other.about_mean + between }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[[f64; 2]]) -> Scatter {
        let n = rows.len().max(1) as f64;
        let mean = [0, 1].map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / n);
        let far = |row: &[f64; 2]| (row[0] - mean[0]).powi(2) + (row[1] - mean[1]).powi(2);
        let about_mean = rows.iter().map(far).sum();
        Scatter {
            rows: rows.len(),
            mean: if rows.is_empty() { Vec::new() } else { mean.to_vec() },
            about_mean,
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let rows = [[100.0, 1.0], [101.0, -3.0], [99.5, 2.0], [104.0, 0.5], [98.0, 7.0]];
        for cut in 0..=rows.len() {
            let (a, b) = rows.split_at(cut);
            let (joined, whole) = (of(a).joined(of(b)), of(&rows));
            assert_eq!(joined.rows, whole.rows);
            assert!((joined.about_mean - whole.about_mean).abs() < 1e-9 * whole.about_mean, "{cut}");
            assert!(
                joined.mean.iter().zip(&whole.mean).all(|(a, b)| (a - b).abs() < 1e-12 * b.abs()),
                "{cut}"
            );
        }
    }
}
