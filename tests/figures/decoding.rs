//! GB/s of stored values on one thread: decoding a shard as a job does, to a block of f32 that is
//! known to be finite, against what the ordinary reader of parquet-rs needs for its own arrays and
//! against a job without the short way.

use std::time::Instant;

use atomflow_pipeline::source::{
    Columns, Fetched, FilterSpec, OnBad, Shard, SourceSpec, Urls, Want, decode, fetch, fuzz, scan,
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::shards::{self, D_IN, Layout};

const ROUNDS: usize = 7;
const WANT: Want = Want { token_text: false, on_bad: OnBad::Fail };

/// Prints one line per layout; the three take turns, best of seven each.
pub(crate) fn print() {
    println!("layout              parquet-rs arrays   ordinary to f32   as a job does   against arrays");
    for layout in [Layout::OpenListF32, Layout::ListF32, Layout::List, Layout::BinaryF32, Layout::Binary] {
        let directory = tempfile::tempdir().unwrap();
        shards::write(directory.path(), layout, 1, 65_536);
        let path = directory.path().join("shard-000.parquet");
        let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let manifest = runtime.block_on(scan(&source(path.display().to_string()))).unwrap();
        let shard = &manifest.shards[0];
        let fetched: Vec<Fetched> =
            (0..shard.row_groups.len()).map(|group| runtime.block_on(fetch(shard, group)).unwrap()).collect();
        let size = if layout.dtype() == "f16" { 2 } else { 4 };
        let gigabytes = (shard.rows() as usize * D_IN * size) as f64 / 1e9;
        let mut best = [f64::INFINITY; 3];
        for _ in 0..ROUNDS {
            let ways: [&dyn Fn(); 3] =
                [&|| arrays(&bytes), &|| ordinary(shard, &fetched), &|| as_a_job_does(shard, &fetched)];
            for (best, way) in best.iter_mut().zip(ways) {
                let began = Instant::now();
                way();
                *best = best.min(began.elapsed().as_secs_f64());
            }
        }
        let [arrays, ordinary, job] = best.map(|seconds| gigabytes / seconds);
        let name = format!("{layout:?} {}", layout.dtype());
        println!("{name:<19} {arrays:>17.2} {ordinary:>17.2} {job:>15.2} {:>16.2}", job / arrays);
    }
}

fn arrays(bytes: &bytes::Bytes) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let mask = ProjectionMask::roots(builder.parquet_schema(), [0]);
    for batch in builder.with_projection(mask).with_batch_size(1024).build().unwrap() {
        std::hint::black_box(batch.unwrap());
    }
}

fn ordinary(shard: &Shard, fetched: &[Fetched]) {
    for (group, fetched) in fetched.iter().enumerate() {
        std::hint::black_box(fuzz::ordinarily(shard, group, fetched.clone(), WANT).unwrap());
    }
}

fn as_a_job_does(shard: &Shard, fetched: &[Fetched]) {
    for (group, fetched) in fetched.iter().enumerate() {
        std::hint::black_box(decode(shard, group, fetched.clone(), WANT).unwrap());
    }
}

fn source(url: String) -> SourceSpec {
    SourceSpec {
        url: Urls::One(url),
        hookpoint: None,
        columns: Columns::default(),
        dtype: None,
        filter: FilterSpec::default(),
        on_bad: OnBad::Fail,
        prefetch_bytes: 0,
    }
}
