//! The encoder: exact f32, and with the int8 pre-screen, on the parameters of a learner that has begun.

use atomflow_pipeline::{Error, Result};
use atomflow_workers::{
    kernels::{
        Path,
        encode::{Encoder, Screen, Screening, Selected, Selection},
    },
    learner::{ActivationBatch, DictLearner, Scales, Setup},
    threads::Threads,
    variants::LearnerSpec,
};

use super::{
    Shape,
    clock::in_turns,
    machine::Machine,
    rows::Rows,
    table::{Part, Report},
    threads,
};

/// Everything a kernel needs to be timed.
pub(super) struct Bench {
    pub(super) shape: Shape,
    pub(super) path: Path,
    pub(super) threads: Threads,
    pub(super) machine: Machine,
    pub(super) rows: Rows,
    pub(super) learner: Box<dyn DictLearner>,
}

impl Bench {
    /// Measures the machine and lets a learner of this shape take its first steps.
    pub(super) fn prepare(shape: &Shape) -> Result<Bench> {
        let (path, threads, rows) = (Path::best(), threads(shape.threads)?, Rows::new(shape)?);
        let shape = Shape { d: rows.d_in, ..shape.clone() };
        let machine = Machine::measure(path, &threads);
        let mut learner = learner(&shape, &rows, &threads)?;
        for step in 0..shape.warmup {
            learner.step(&ActivationBatch::new(rows.batch(step), &[0, shape.batch]));
        }
        Ok(Bench { shape, path, threads, machine, rows, learner })
    }

    pub(super) fn title(&self, what: &str) -> String {
        let Shape { d, n, k, batch, .. } = &self.shape;
        let rows = self.shape.data.as_deref().unwrap_or("made-up rows");
        format!("{what}: d_in {d}, n_latents {n}, k {k}, {batch} rows, {rows}")
    }

    /// FLOP of the encoder's product over one batch.
    pub(super) fn encode_flop(&self) -> f64 {
        2.0 * self.shape.batch as f64 * self.shape.d as f64 * self.shape.n as f64
    }
}

/// A TopK learner of this shape, at its start.
pub(super) fn learner(shape: &Shape, rows: &Rows, threads: &Threads) -> Result<Box<dyn DictLearner>> {
    let spec = serde_json::json!({
        "kind": "topk", "n_latents": shape.n, "k": shape.k, "schedule": { "lr": 1e-3, "warmup_share": 0.0 },
    });
    let spec: LearnerSpec = serde_json::from_value(spec).map_err(|e| Error::bug(e.to_string()))?;
    let sample = rows.batch(0);
    let setup = Setup::plain(&rows.d_in, 1000, 0, sample, threads.clone());
    spec.build(&setup).map_err(|e| Error::spec(e.to_string()).object("the command line"))
}

/// Seconds of both encoders.
pub(super) struct Encoded {
    pub(super) exact_s: f64,
    /// `None` where this machine has no pre-screen.
    pub(super) screened_s: Option<f64>,
}

/// Times encode and selection on the learner's parameters; both ways must give the same bits.
pub(super) fn encode(bench: &Bench, report: &mut Report) -> Result<Encoded> {
    let Shape { d, k, batch, rounds, .. } = bench.shape;
    let dictionary = bench.learner.freeze(&Scales::of(1.0));
    let linear = dictionary.linear_encoder().ok_or_else(|| Error::bug("TopK has a linear encoder"))?;
    let encoder = Encoder::all(linear.rows, linear.bias, d);
    let b_dec = vec![0.0; d];
    let (mut exact, mut screened) = (None, None);
    let (path, x) = (bench.path, bench.rows.batch(0));
    let run = |screen| {
        let select = || encoder.select(path, screen, x, &b_dec, Selection::TopK(k));
        Some(bench.threads.install(select))
    };
    let [exact_s, screened_s] =
        in_turns(rounds, [&mut || exact = run(Screen::Off), &mut || screened = run(Screen::Int8)]);
    let pairs = |selected: &Option<Selected<f32>>| {
        selected.as_ref().map(|s| (s.codes.clone(), s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()))
    };
    if pairs(&exact) != pairs(&screened) {
        return Err(Error::bug("the pre-screened encoder gives other codes than the exact one"));
    }
    let part = |name: &str, seconds| Part {
        name: name.to_owned(),
        seconds,
        work: bench.encode_flop(),
        unit: "GFLOP/s",
        floor_s: bench.encode_flop() / bench.machine.flops,
    };
    report.part(part("encode + select, f32", exact_s));
    report.figure("encode_s", exact_s);
    report.figure("encode_gflops", bench.encode_flop() / exact_s / 1e9);
    report.figure("encode_of_peak", bench.encode_flop() / exact_s / bench.machine.flops);
    let screening = screened.map_or_else(Screening::default, |s| s.screening);
    if screening.rows == 0 {
        report.note("the int8 pre-screen is not used for this shape on this machine".to_owned());
        report.figure("prescreened_encode_s", serde_json::Value::Null);
        return Ok(Encoded { exact_s, screened_s: None });
    }
    report.part(part("encode + select, int8 pre-screen", screened_s));
    report.note(format!(
        "pre-screen: {:.2} x as fast, same bits; {:.1} candidates a row for k {k}, {} of {batch} rows given up",
        exact_s / screened_s,
        screening.candidates as f64 / screening.rows as f64,
        screening.given_up,
    ));
    report.figure("prescreened_encode_s", screened_s);
    report.figure("prescreen_speedup", exact_s / screened_s);
    report.figure("candidates_per_row", screening.candidates as f64 / screening.rows as f64);
    report.figure("rows_given_up", screening.given_up);
    Ok(Encoded { exact_s, screened_s: Some(screened_s) })
}

/// The figures every kernel benchmark begins with.
pub(super) fn begin(bench: &Bench, what: &str) -> Report {
    let mut report = Report::new(bench.title(what));
    let Shape { d, n, k, batch, .. } = bench.shape;
    for (name, value) in [("d_in", d), ("n_latents", n), ("k", k), ("batch_rows", batch)] {
        report.figure(name, value);
    }
    bench.machine.tell(&bench.threads, bench.path, &mut report);
    report
}

pub(super) fn report(shape: &Shape) -> Result<Report> {
    let bench = Bench::prepare(shape)?;
    let mut report = begin(&bench, "Encoder");
    encode(&bench, &mut report)?;
    Ok(report)
}
