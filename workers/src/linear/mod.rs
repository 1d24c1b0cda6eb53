//! Dense linear algebra of small matrices in f64, for what happens once per run or per step, not per row.

pub mod eigen;
pub mod kmeans;
pub mod ridge;
