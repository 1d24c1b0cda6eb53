//! A card: the encoder and a whole TopK step on it, against its copies and the library's matrix product.

use std::sync::Arc;

use atomflow_pipeline::{Error, Result};
use atomflow_workers::{
    card::{
        Arithmetic, Card, MomentsIn, OnCard as There, Precision,
        wire::{Incoming, Outgoing, Sent},
    },
    kernels::encode::Selection,
    learner::{ActivationBatch, DictLearner, Setup},
    skeleton::{init, parameters::Parameters},
    threads::Threads,
    variants::LearnerSpec,
};

use super::{
    OnCard, Shape,
    clock::{in_turns, seconds},
    rows::Rows,
    table::{Part, Report},
    threads,
};
use crate::cards::cards;

/// Bytes that are copied to measure the memory.
const COPIED_BYTES: usize = 1 << 30;
/// Side of the matrices that are multiplied to measure the arithmetic.
const SIDE: usize = 8192;

/// What the card can do.
struct Ceilings {
    bytes_per_s: f64,
    flops: f64,
}

pub(super) fn report(what: &OnCard) -> Result<Report> {
    let card = open(what)?;
    let rows = Rows::new(&what.shape)?;
    let shape = Shape { d: rows.d_in, ..what.shape.clone() };
    let ceilings = ceilings(&*card, shape.rounds);
    let Shape { d, n, k, batch, .. } = shape;
    let title = format!("{} {}: d_in {d}, n_latents {n}, k {k}, {batch} rows", card.name(), what.precision);
    let mut report = Report::new(title);
    for (name, value) in [("d_in", d), ("n_latents", n), ("k", k), ("batch_rows", batch)] {
        report.figure(name, value);
    }
    report.figure("precision", what.precision.clone());
    report.figure("moments", what.moments.clone());
    report.figure("copy_gb_per_s", ceilings.bytes_per_s / 1e9);
    report.figure("matmul_tflops", ceilings.flops / 1e12);
    report.note(format!(
        "copies {:.0} GB/s; a {SIDE}³ product by the library {:.1} TFLOP/s",
        ceilings.bytes_per_s / 1e9,
        ceilings.flops / 1e12
    ));
    measure(&card, &shape, &rows, &ceilings, &mut report)?;
    Ok(report)
}

fn open(what: &OnCard) -> Result<Arc<dyn Card>> {
    let precision: Precision = serde_json::from_value(what.precision.clone().into())
        .map_err(|_| Error::spec("not a precision").field("--precision").hint("use f32, tf32 or bf16"))?;
    let moments: MomentsIn = serde_json::from_value(what.moments.clone().into())
        .map_err(|_| Error::spec("moments are not kept so").field("--moments").hint("use f32 or 8bit"))?;
    let unusable = |why: atomflow_workers::card::Unusable| {
        Error::spec(format!("`{}` cannot be used: {}", what.device, why.reason))
            .field("--device")
            .hint(why.hint)
    };
    let opened = cards().open(&what.device, Arithmetic { precision, moments }).map_err(unusable)?;
    let first = opened.into_iter().next().map(|card| card as Arc<dyn Card>);
    first.ok_or_else(|| Error::spec("there is no card").field("--device"))
}

fn ceilings(card: &dyn Card, rounds: usize) -> Ceilings {
    let best = |work: &dyn Fn()| {
        work();
        (0..rounds).map(|_| seconds(work)).fold(f64::INFINITY, f64::min)
    };
    let copied = best(&|| card.copy(COPIED_BYTES));
    let multiplied = best(&|| card.multiply(SIDE));
    Ceilings {
        bytes_per_s: 2.0 * COPIED_BYTES as f64 / copied,
        flops: 2.0 * (SIDE as f64).powi(3) / multiplied,
    }
}

/// Batches that are on the card before the steps that learn from them, as in a run.
const SENT: usize = 4;

/// Numbers of 16 bits, as activations mostly are.
fn of_16_bits(x: &[f32]) -> Vec<f32> {
    x.iter().map(|v| f32::from_bits(v.to_bits() & 0xffff_0000)).collect()
}

/// Brings a batch to the card.
fn send(card: &dyn Card, x: &[f32], d: usize, threads: &Threads) -> Sent {
    let rows: Vec<&[f32]> = x.chunks_exact(d).collect();
    card.send(&Outgoing { rows: &rows, columns: std::slice::from_ref(&(0..d)), scales: &[1.5] }, threads)
}

/// Rows up, encoder and step in turns, all after some steps. In a run rows go up while the step before goes on.
fn measure(
    card: &Arc<dyn Card>,
    shape: &Shape,
    rows: &Rows,
    ceilings: &Ceilings,
    report: &mut Report,
) -> Result<()> {
    let &Shape { d, n, k, batch, warmup, rounds, .. } = shape;
    let (mut learner, there) = (learner(card, shape, rows)?, weights(card, shape, rows)?);
    let (lanes, pool, mut at) = ([0, batch], threads(shape.threads)?, 0);
    let narrow = of_16_bits(rows.batch(0));
    let up = || send(&**card, &narrow, d, &pool);
    let sent: Vec<Sent> = (0..SENT).map(|at| send(&**card, &of_16_bits(rows.batch(at)), d, &pool)).collect();
    let mut step = || {
        at += 1;
        learner.step(&ActivationBatch::new(&[], &lanes).with_sent(&sent[at % SENT]));
    };
    (0..warmup).for_each(|_| step());
    there.begin(Incoming::Sent(&sent[0]), None);
    let [encode_s, step_s, up_s] = in_turns(
        rounds,
        [&mut || drop(there.select(Selection::TopK(k), None)), &mut step, &mut || drop(up())],
    );
    if let Some(remark) = card.remark() {
        report.note(remark);
    }
    if let Some(reason) = card.lost() {
        return Err(Error::retry(format!("the card was lost: {reason}")));
    }
    let flop = 2.0 * batch as f64 * d as f64 * n as f64;
    // Value and two moments of both matrices, each read and written, and the rounded copy written.
    let Arithmetic { precision, moments } = card.arithmetic();
    let moment_bytes = if moments == MomentsIn::F32 { 4 } else { 1 };
    let copy_bytes = if precision == Precision::Bf16 { 2 } else { 0 };
    let adam_s = (2 * d * n * (2 * (4 + 2 * moment_bytes) + copy_bytes)) as f64 / ceilings.bytes_per_s;
    let part = |name: &str, seconds, floor_s| Part {
        name: name.to_owned(),
        seconds,
        work: flop,
        unit: "GFLOP/s",
        floor_s,
    };
    report.part(part("encode + select", encode_s, flop / ceilings.flops));
    report.part(part("whole step", step_s, flop / ceilings.flops + adam_s));
    let up_bytes = (2 * batch * d) as f64;
    let name = "rows up, in 16 bits".to_owned();
    report.part(Part { name, seconds: up_s, work: up_bytes, unit: "GB/s", floor_s: 0.0 });
    report.note(format!(
        "step / encode {:.2}; encode at {:.0} % of the library's product; {:.0} tokens/s",
        step_s / encode_s,
        100.0 * flop / encode_s / ceilings.flops,
        batch as f64 / step_s
    ));
    for (name, value) in [
        ("encode_s", encode_s),
        ("encode_tflops", flop / encode_s / 1e12),
        ("step_s", step_s),
        ("rows_up_s", up_s),
        ("rows_up_gb_per_s", up_bytes / up_s / 1e9),
        ("step_over_encode", step_s / encode_s),
        ("tokens_per_s", batch as f64 / step_s),
    ] {
        report.figure(name, value);
    }
    let kernels = serde_json::json!([
        { "name": "encode + select", "s": encode_s, "tflops": flop / encode_s / 1e12, "floor_s": flop / ceilings.flops },
        { "name": "whole step", "s": step_s, "floor_s": flop / ceilings.flops + adam_s },
        { "name": "rows up", "s": up_s, "gb_per_s": up_bytes / up_s / 1e9 },
    ]);
    report.figure("kernels", kernels);
    Ok(())
}

fn learner(card: &Arc<dyn Card>, shape: &Shape, rows: &Rows) -> Result<Box<dyn DictLearner>> {
    let spec = serde_json::json!({
        "kind": "topk", "n_latents": shape.n, "k": shape.k, "schedule": { "lr": 1e-3, "warmup_share": 0.0 },
    });
    let spec: LearnerSpec = serde_json::from_value(spec).map_err(|e| Error::bug(e.to_string()))?;
    let mut setup = Setup::plain(&rows.d_in, 1000, 0, rows.batch(0), threads(shape.threads)?);
    setup.card = Some(Arc::clone(card));
    spec.build(&setup).map_err(|e| Error::spec(e.to_string()).object("the command line"))
}

/// Parameters as a learner begins with, for the encoder alone.
fn weights(card: &Arc<dyn Card>, shape: &Shape, rows: &Rows) -> Result<Box<dyn There>> {
    let threads = threads(shape.threads)?;
    let start = init::Start {
        n_latents: shape.n,
        d_in: rows.d_in,
        sample: rows.batch(0),
        target: None,
        seed: 0,
        init: &init::Init::default(),
    };
    let parameters: Parameters<f32> = threads.install(|| init::parameters(&start));
    Ok(card.autoencoder(&parameters))
}
