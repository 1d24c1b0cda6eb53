//! The plan before anything is spent: what will be read, how long it will take, what it needs.

use std::time::{Duration, Instant};

use atomflow_workers::{
    card::Cards,
    kernels::{
        Path,
        encode::{Encoder, Screen, Selection},
    },
    random::{hash, unit},
    threads::Threads,
};

use super::{
    device,
    files::Files,
    learner::{self, Size},
    plan, room, run_id, tokio_runtime,
};
use crate::{
    Error, Result,
    device::WINDOWS_AHEAD,
    plan::Plan,
    run::{CheckReport, Job, RuntimeSpec},
    source::{Manifest, ReadColumn, asked::ValueKind, scan_columns},
};

/// Reads the footers and plans; measures this machine's encoder for a second.
///
/// # Errors
/// Whatever would stop the run before its first step.
pub fn check(job: &Job, runtime: &RuntimeSpec, cards: &dyn Cards) -> Result<CheckReport> {
    let opened = device::open(job, runtime, cards)?;
    let tokio = tokio_runtime()?;
    let manifest = tokio.block_on(scan_columns(&job.source, &job.columns()?))?;
    let plan = plan(job, &manifest)?;
    let files = tokio.block_on(Files::read(&job.learners()?))?;
    let run = run_id(job, &plan, &files.identity())?;
    let threads = Threads::new(runtime.threads).map_err(|e| Error::retry(e.to_string()))?;
    let gflops = measure_gflops(&threads, manifest.main_column().len());
    let mut report = CheckReport { run, ..report(job, runtime, &manifest, &plan, gflops)? };
    if !opened.is_empty() {
        report.cards = room::memory(job, &learner::sizes(job, &manifest)?, &opened, &cards.list());
        report.notes.extend(room::notes(&report.cards));
        report
            .notes
            .push("time and memory above are those of the processor: no card is measured here".to_owned());
    }
    Ok(report)
}

fn report(
    job: &Job,
    runtime: &RuntimeSpec,
    manifest: &Manifest,
    plan: &Plan,
    gflops: f64,
) -> Result<CheckReport> {
    let learners = learner::sizes(job, manifest)?;
    let (rows, passes) = (manifest.rows() as f64, job.plan.passes as f64);
    // Encoder 2dn; sparse decode, value gradients and two weight gradients 8dk.
    let train_flops: f64 = learners.iter().map(|size| rows * passes * flops(size, 8.0)).sum();
    let harvest_flops: f64 = learners.iter().map(|size| rows * flops(size, 2.0)).sum();
    Ok(CheckReport {
        run: String::new(),
        plan: plan.hash.clone(),
        shards: manifest.shards.len() as u64,
        quarantined: manifest.quarantined.iter().map(|q| (q.url.clone(), q.reason.clone())).collect(),
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        d_in: learners.iter().map(|size| size.d_in as u64).max().unwrap_or(0),
        n_latents: learners.iter().map(|size| size.n_latents as u64).sum(),
        learners: learners
            .iter()
            .map(|size| (size.name.clone(), size.n_latents as u64, size.k.map(|k| k as u64)))
            .collect(),
        windows: plan.windows.len() as u64,
        steps: plan.steps,
        columns: columns(manifest),
        reads: manifest.columns.iter().map(reads).collect(),
        cards: Vec::new(),
        model_bytes: learners.iter().map(model_bytes).sum(),
        data_bytes: data_bytes(job, manifest, plan),
        train_flops,
        harvest_flops,
        measured_gflops: gflops,
        // A whole step costs about 1.4 times its encoder (measured at d=576 n=2304 to 4608).
        estimated_s: 1.4 * (train_flops + harvest_flops) / (gflops * 1e9),
        notes: notes(job, runtime, manifest, plan),
    })
}

fn columns(manifest: &Manifest) -> Vec<String> {
    let has = manifest.has;
    let named = [
        ("token_id", has.token_id),
        ("token", has.token),
        ("doc_id", has.doc_id),
        ("seq_id", has.seq_id),
        ("pos", has.pos),
    ];
    named.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect()
}

/// `activation (576 values)`.
fn reads(column: &ReadColumn) -> String {
    let what = match column.kind {
        ValueKind::Vectors => "values",
        ValueKind::Labels => "labels",
    };
    format!("{} ({} {what})", column.name, column.width)
}

/// Operations on a row: `pairs` for each value and pair, beside those of the encoder.
fn flops(size: &Size, pairs: f64) -> f64 {
    let k = size.k.unwrap_or(PAIRS_GUESS) as f64;
    2.0 * size.d_in as f64 * size.n_latents as f64 + pairs * size.d_out as f64 * k
}

/// Latents per row assumed of a learner that fixes none.
const PAIRS_GUESS: usize = 64;

/// Parameters and two moments, encoder and decoder, plus the packed encoder of a step; f32.
fn model_bytes(size: &Size) -> u64 {
    let weights = |width: usize| (width * size.n_latents * 4) as u64;
    3 * (weights(size.d_in) + weights(size.d_out)) + weights(size.d_in)
}

/// Windows in flight, the prefetch budget, and one step's working set.
fn data_bytes(job: &Job, manifest: &Manifest, plan: &Plan) -> u64 {
    let row = manifest.d_in as u64 * 4;
    let window = plan.windows.iter().map(|w| w.rows).max().unwrap_or(0) * row;
    let batch = plan.windows.iter().map(|w| w.rows.div_ceil(w.steps)).max().unwrap_or(0) * row;
    WINDOWS_AHEAD * window + job.source.prefetch_bytes + 4 * batch
}

fn notes(job: &Job, runtime: &RuntimeSpec, manifest: &Manifest, plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |when: bool, text: String| notes.extend(when.then_some(text));
    let has = manifest.has;
    note(
        !has.doc_id,
        format!(
            "no document column: rows are held out by {}",
            if has.seq_id { "sequence" } else { "row group" }
        ),
    );
    note(!has.token_id, "no token ids: candidates will carry positions only".to_owned());
    note(!has.token, "no token text: candidates will carry token ids only".to_owned());
    note(job.plan.heldout == 0.0, "nothing is held out: there will be no held-out FVU".to_owned());
    note(
        job.source.filter.norm_over_median_max.is_none(),
        "no norm rule: attention sinks, if there are any, will own the scale and the FVU".to_owned(),
    );
    let largest = manifest.shards.iter().flat_map(|s| &s.row_groups).map(|g| g.rows).max().unwrap_or(0);
    note(
        largest > job.plan.window_rows as u64,
        format!("the largest row group has {largest} rows, more than a window: memory follows it"),
    );
    note(
        job.harvest.coder.is_some(),
        "harvest searches for its codes: that costs more than the estimate, which is about encoders"
            .to_owned(),
    );
    note(
        runtime.workers > plan.lanes,
        format!("{} workers but {} lanes: some workers only read", runtime.workers, plan.lanes),
    );
    notes
}

/// GFLOP/s of the fused encoder at this width, over about a second.
fn measure_gflops(threads: &Threads, d_in: usize) -> f64 {
    let (n, rows) = (1024usize, 768usize);
    #[allow(clippy::cast_possible_truncation, reason = "test data")]
    let numbers = |len: usize, stream| -> Vec<f32> {
        (0..len).map(|i| (unit(hash(&[stream, i as u64])) - 0.5) as f32).collect()
    };
    let (weights, bias, x) = (numbers(n * d_in, 1), vec![0f32; n], numbers(rows * d_in, 2));
    let (offset, path) = (vec![0f32; d_in], Path::best());
    let encoder = Encoder::all(&weights, &bias, d_in);
    let began = Instant::now();
    let mut rounds = 0u32;
    while began.elapsed() < Duration::from_secs(1) {
        threads.install(|| encoder.select(path, Screen::Off, &x, &offset, Selection::TopK(32)));
        rounds += 1;
    }
    2.0 * (rows * d_in * n) as f64 * f64::from(rounds) / began.elapsed().as_secs_f64() / 1e9
}
