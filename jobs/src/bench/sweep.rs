//! Several dictionaries in one job against as many jobs: the same results, one reading.

use std::{sync::Arc, time::Instant};

use atomflow_pipeline::{
    Error, Result,
    run::{self, Event, Job, RuntimeSpec, Watch},
};
use atomflow_workers::card::NoCards;

use super::{
    Sweep,
    stream::{Shards, made_up_rows},
    table::{Part, Report},
};

struct Silent;

impl Watch for Silent {
    fn event(&self, _event: &Event) {}
}

pub(super) fn report(sweep: &Sweep) -> Result<Report> {
    let shape = &sweep.stream.shape;
    let (d_in, x) = made_up_rows(shape, sweep.stream.rows)?;
    let made = Shards::new(run::Layout::List, &x, d_in)?;
    drop(x);
    let url = shape.data.clone().unwrap_or_else(|| made.url());
    let learners: Vec<serde_json::Value> = (0..sweep.learners.max(1)).map(|at| learner(sweep, at)).collect();
    let out = made.directory().join("runs");
    let together = seconds(sweep, &url, &serde_json::Value::from(learners.clone()), &out.join("together"))?;
    let mut apart = 0.0;
    for (at, learner) in learners.iter().enumerate() {
        apart += seconds(sweep, &url, learner, &out.join(format!("apart-{at}")))?;
    }
    let count = learners.len();
    let mut report = Report::new(format!(
        "Sweep: {count} dictionaries, d_in {d_in}, n_latents {}, k {}, {} rows",
        shape.n, shape.k, sweep.stream.rows
    ));
    let part = |name: String, seconds| Part { name, seconds, work: 0.0, unit: "", floor_s: 0.0 };
    report.part(part(format!("one job of {count}"), together));
    report.part(part(format!("{count} jobs of one, in all"), apart));
    report.note(format!("one job / {count} jobs: {:.2}", together / apart));
    report.figure("learners", count);
    report.figure("together_s", together);
    report.figure("apart_s", apart);
    report.figure("ratio", together / apart);
    Ok(report)
}

fn learner(sweep: &Sweep, at: usize) -> serde_json::Value {
    let shape = &sweep.stream.shape;
    serde_json::json!({
        "kind": "topk", "name": format!("seed-{at}"), "seed": at, "n_latents": shape.n, "k": shape.k,
        "dead_after_tokens": 20_000, "schedule": { "lr": 1e-3 },
    })
}

/// Wall seconds of a whole job, reading, learning, harvest and tables.
fn seconds(sweep: &Sweep, url: &str, learner: &serde_json::Value, out: &std::path::Path) -> Result<f64> {
    let shape = &sweep.stream.shape;
    let job = serde_json::json!({
        "name": "bench", "source": { "url": url, "dtype": "f16" },
        "plan": { "batch_rows": shape.batch, "window_rows": (4 * shape.batch).max(16_384), "heldout": 0.05 },
        "learner": learner,
    });
    let job: Job = serde_json::from_value(job).map_err(|e| Error::bug(e.to_string()))?;
    let runtime =
        RuntimeSpec { workers: sweep.stream.workers, threads: shape.threads, ..RuntimeSpec::default() };
    let began = Instant::now();
    run::run(&job, &runtime, &NoCards, &out.display().to_string(), Arc::new(Silent))?;
    Ok(began.elapsed().as_secs_f64())
}
