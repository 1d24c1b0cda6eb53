//! A whole training step against its encoder, with and without dead latents.

use atomflow_pipeline::{Error, Result};
use atomflow_workers::{
    kernels::encode::Screen,
    learner::{ActivationBatch, DictLearner, Mismatch},
};

use super::{
    Shape,
    clock::in_turns,
    encode::{Bench, begin, encode, learner},
    rows::Rows,
    table::{Part, Report},
};

/// Every fifth latent is dead where AuxK is measured.
const EVERY_DEAD: usize = 5;

pub(super) fn report(shape: &Shape) -> Result<Report> {
    let mut bench = Bench::prepare(shape)?;
    let mut report = begin(&bench, "Training step");
    let encoded = encode(&bench, &mut report)?;
    let mut others = others(&bench)?;
    let (rounds, batch, lanes) = (bench.shape.rounds, bench.shape.batch, [0, bench.shape.batch]);
    let (rows, learner, threads) = (&bench.rows, &mut bench.learner, &bench.threads);
    let (mut exact_at, mut screened_at, mut dead_at, mut dead) = (0, 0, 0, 0);
    let [exact_s, screened_s, dead_s] = in_turns(
        rounds,
        [
            &mut || {
                threads.choose(Screen::Off);
                learner.step(&ActivationBatch::new(next(rows, &mut exact_at), &lanes));
            },
            &mut || {
                threads.choose(Screen::Int8);
                others.screened.step(&ActivationBatch::new(next(rows, &mut screened_at), &lanes));
            },
            &mut || {
                threads.choose(Screen::Off);
                dead = others.dead.step(&ActivationBatch::new(next(rows, &mut dead_at), &lanes)).dead;
            },
        ],
    );
    threads.choose(Screen::Off);
    tell(&mut report, &bench, "whole step, f32", exact_s);
    report.figure("step_f32_s", exact_s);
    report.figure("step_over_encode", exact_s / encoded.exact_s);
    if let Some(encode_s) = encoded.screened_s {
        tell(&mut report, &bench, "whole step, int8 pre-screen", screened_s);
        report.figure("step_prescreened_s", screened_s);
        report.note(format!("step / encode, pre-screened {:.2}", screened_s / encode_s));
    }
    tell(&mut report, &bench, &format!("whole step, f32, AuxK over {dead} dead latents"), dead_s);
    let best_s = if encoded.screened_s.is_some() { exact_s.min(screened_s) } else { exact_s };
    report.note(format!(
        "step / encode {:.2}, with dead latents {:.2}; all that is not encode {:.1} ms; {:.0} tokens/s",
        exact_s / encoded.exact_s,
        dead_s / encoded.exact_s,
        (exact_s - encoded.exact_s) * 1e3,
        batch as f64 / best_s,
    ));
    report.figure("step_with_dead_s", dead_s);
    report.figure("step_with_dead_over_encode", dead_s / encoded.exact_s);
    report.figure("step_s", best_s);
    report.figure("tokens_per_s", batch as f64 / best_s);
    Ok(report)
}

fn next<'a>(rows: &'a Rows, at: &mut usize) -> &'a [f32] {
    *at += 1;
    rows.batch(*at)
}

/// The part and its floor: the encoder's product at the FMA peak, plus the parameters once through memory.
fn tell(report: &mut Report, bench: &Bench, name: &str, seconds: f64) {
    let Shape { d, n, .. } = bench.shape;
    // Encoder and decoder: value and two moments, each read and written.
    let adam_bytes = (2 * d * n * 3 * 2 * 4) as f64;
    let floor_s = bench.encode_flop() / bench.machine.flops + adam_bytes / bench.machine.bytes_per_s;
    report.part(Part { name: name.to_owned(), seconds, work: bench.encode_flop(), unit: "GFLOP/s", floor_s });
}

/// Two more learners of the same state.
struct Others {
    /// For the pre-screened step.
    screened: Box<dyn DictLearner>,
    /// Every fifth latent has been silent too long and is too weak to be selected, but not silent for AuxK.
    dead: Box<dyn DictLearner>,
}

fn others(bench: &Bench) -> Result<Others> {
    let Shape { d, n, .. } = bench.shape;
    let bug = |e: Mismatch| Error::bug(e.to_string());
    let mut state = bench.learner.save();
    let mut screened = learner(&bench.shape, &bench.rows, &bench.threads)?;
    screened.load(&state).map_err(bug)?;
    let (mut w_enc, mut since) =
        (state.f32("w_enc", &[n, d]).map_err(bug)?, state.u64("since_tokens", n).map_err(bug)?);
    for latent in (0..n).step_by(EVERY_DEAD) {
        w_enc[latent * d..][..d].iter_mut().for_each(|w| *w *= 0.02);
        since[latent] = u64::MAX / 2;
    }
    state.push_f32("w_enc", vec![n, d], &w_enc);
    state.push_u64("since_tokens", &since);
    let mut dead = learner(&bench.shape, &bench.rows, &bench.threads)?;
    dead.load(&state).map_err(bug)?;
    Ok(Others { screened, dead })
}
