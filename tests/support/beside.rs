//! Shards with columns beside the vectors: what a second site, a target, a gradient and labels may be.
//! All are functions of the row's vector, so that there is something to learn.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, FixedSizeListArray, Float16Array, Float32Array, Int8Array, RecordBatch},
    datatypes::{Field, Schema},
};
use atomflow_workers::random::{hash, unit};
use half::f16;

use crate::data::{Shard, vector};

/// Values of a row of `activation` and of `gradient`.
pub const D_IN: usize = 16;
/// Values of a row of `other`.
pub const D_OTHER: usize = 24;
/// Values of a row of `target`.
pub const D_TARGET: usize = 12;
/// Values of a row of `grades`.
pub const GRADES: usize = 3;

/// Rows of the dataset of [`Shard::new`] with, beside `activation` and the tokens: `other` (float16, the
/// vectors turned and widened), `target` (a rectified linear map of them), `gradient` (that of half a
/// squared product), `label` (whether the product is positive; null in every seventh row) and `grades`
/// (three small integers).
pub fn batch(rows: Range<usize>) -> RecordBatch {
    let first = Shard::new(rows.clone()).batch();
    let all = |of: fn(usize) -> Vec<f32>| -> Vec<f32> { rows.clone().flat_map(of).collect() };
    let halves = all(other).into_iter().map(f16::from_f32);
    let grades = Int8Array::from_iter_values(all(grades).into_iter().map(|grade| grade as i8));
    let columns: [(&str, ArrayRef); 5] = [
        ("other", fixed(D_OTHER, Arc::new(Float16Array::from_iter_values(halves)))),
        ("target", fixed(D_TARGET, Arc::new(Float32Array::from(all(target))))),
        ("gradient", fixed(D_IN, Arc::new(Float32Array::from(all(gradient))))),
        ("label", Arc::new(rows.clone().map(label).collect::<BooleanArray>())),
        ("grades", fixed(GRADES, Arc::new(grades))),
    ];
    let field =
        |(name, array): &(&str, ArrayRef)| Arc::new(Field::new(*name, array.data_type().clone(), true));
    let fields: Vec<Arc<Field>> =
        first.schema().fields().iter().cloned().chain(columns.iter().map(field)).collect();
    let arrays = first.columns().iter().cloned().chain(columns.into_iter().map(|(_, array)| array)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn fixed(width: usize, items: ArrayRef) -> ArrayRef {
    let item = Arc::new(Field::new("item", items.data_type().clone(), true));
    Arc::new(FixedSizeListArray::new(item, width as i32, items, None))
}

/// The vector of a row at the second site.
pub fn other(row: usize) -> Vec<f32> {
    (0..D_OTHER as u64).map(|out| product(&vector(row, D_IN), &[20, out]) as f32).collect()
}

/// What the vector of a row becomes.
pub fn target(row: usize) -> Vec<f32> {
    let x: Vec<f32> = vector(row, D_IN).into_iter().map(|v| v.max(0.0)).collect();
    (0..D_TARGET as u64).map(|out| product(&x, &[21, out]) as f32).collect()
}

/// The gradient of `(w·x)² / 2` by x.
pub fn gradient(row: usize) -> Vec<f32> {
    let along = product(&vector(row, D_IN), &[22, 0]);
    (0..D_IN as u64).map(|j| (along * weight(&[22, 0], j)) as f32).collect()
}

/// Whether `w·x` is positive.
pub fn label(row: usize) -> Option<bool> {
    (row % 7 != 0).then(|| product(&vector(row, D_IN), &[22, 0]) > 0.0)
}

/// Three products, rounded.
pub fn grades(row: usize) -> Vec<f32> {
    // An integer has no negative zero.
    let grade = |out: u64| (product(&vector(row, D_IN), &[23, out]) as f32).round().clamp(-9.0, 9.0) + 0.0;
    (0..GRADES as u64).map(grade).collect()
}

fn product(x: &[f32], map: &[u64; 2]) -> f64 {
    x.iter().zip(0..).map(|(&v, j)| f64::from(v) * weight(map, j)).sum()
}

/// In [-1, 1).
fn weight(map: &[u64; 2], j: u64) -> f64 {
    2.0 * unit(hash(&[map[0], map[1], j])) - 1.0
}
