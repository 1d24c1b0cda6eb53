//! A whole training step against its encoder, with and without dead latents.

use atomflow_pipeline::{Error, Result};
use atomflow_workers::learner::{ActivationBatch, DictLearner};

use super::{
    Shape,
    clock::in_turns,
    encode::{Bench, begin, encode, learner},
    table::{Part, Report},
};

/// Share of the latents that are dead where AuxK is measured.
const DEAD_SHARE: f64 = 0.2;

pub(super) fn report(shape: &Shape) -> Result<Report> {
    let mut bench = Bench::prepare(shape)?;
    let mut report = begin(&bench, "Training step");
    let encoded = encode(&bench, &mut report)?;
    let mut with_dead = half_dead(&bench)?;
    let (batch, lanes) = (bench.shape.batch, [0, bench.shape.batch]);
    let (rows, learner) = (&bench.rows, &mut bench.learner);
    let (mut at, mut dead_at, mut dead) = (0, 0, 0);
    let [step_s, dead_s] = in_turns(
        shape.rounds,
        [
            &mut || {
                learner.step(&ActivationBatch::new(rows.batch(at), &lanes));
                at += 1;
            },
            &mut || {
                dead = with_dead.step(&ActivationBatch::new(rows.batch(dead_at), &lanes)).dead;
                dead_at += 1;
            },
        ],
    );
    let rest = step_s - encoded.encode_s();
    tell(&mut report, &bench, "whole step", step_s);
    tell(&mut report, &bench, &format!("whole step, AuxK over {dead} dead latents"), dead_s);
    report.note(format!(
        "step / encode {:.2}, with dead latents {:.2}; all that is not encode: {:.2} ms; {:.0} tokens/s",
        step_s / encoded.encode_s(),
        dead_s / encoded.encode_s(),
        rest * 1e3,
        batch as f64 / step_s,
    ));
    report.figure("step_s", step_s);
    report.figure("step_with_dead_s", dead_s);
    report.figure("step_over_encode", step_s / encoded.encode_s());
    report.figure("tokens_per_s", batch as f64 / step_s);
    Ok(report)
}

/// The part and its floor: the encoder's product at the FMA peak, plus the parameters once through memory.
fn tell(report: &mut Report, bench: &Bench, name: &str, seconds: f64) {
    let Shape { d, n, .. } = bench.shape;
    // Encoder and decoder: value and two moments, each read and written.
    let adam_bytes = (2 * d * n * 3 * 2 * 4) as f64;
    let floor_s = bench.encode_flop() / bench.machine.flops + adam_bytes / bench.machine.bytes_per_s;
    report.part(Part { name: name.to_owned(), seconds, work: bench.encode_flop(), unit: "GFLOP/s", floor_s });
}

/// A second learner of the same state in which every fifth latent has been silent too long and is too
/// weak to be selected, but not silent for AuxK.
fn half_dead(bench: &Bench) -> Result<Box<dyn DictLearner>> {
    let Shape { d, n, .. } = bench.shape;
    let mut state = bench.learner.save();
    let mut w_enc = state.f32("w_enc", &[n, d]).map_err(|e| Error::bug(e.to_string()))?;
    let mut since = state.u64("since_tokens", n).map_err(|e| Error::bug(e.to_string()))?;
    let weak = (0..n).step_by((1.0 / DEAD_SHARE) as usize);
    for latent in weak {
        w_enc[latent * d..][..d].iter_mut().for_each(|w| *w *= 0.02);
        since[latent] = u64::MAX / 2;
    }
    state.push_f32("w_enc", vec![n, d], &w_enc);
    state.push_u64("since_tokens", &since);
    let mut learner = learner(&bench.shape, &bench.rows, &bench.threads)?;
    learner.load(&state).map_err(|e| Error::bug(e.to_string()))?;
    Ok(learner)
}
