//! Where steps run: the CPU, or cards.

use std::sync::Arc;

use atomflow_workers::{
    card::{Card, Cards, Precision, as_one},
    kernels::Path,
};

use crate::{
    Error, Result,
    run::{CPU, Job, RuntimeSpec},
};

/// The cards of `runtime.device`, none for the CPU. Every learner of the job can learn there.
///
/// # Errors
/// A card cannot be used, or a learner cannot learn on one.
pub(super) fn open(job: &Job, runtime: &RuntimeSpec, cards: &dyn Cards) -> Result<Vec<Arc<dyn Card>>> {
    if runtime.device == CPU {
        return Ok(Vec::new());
    }
    for learner in job.learners()? {
        if let Some(why) = learner.spec.cpu_only() {
            let message = format!("`{}` learns on the CPU alone: {why}", learner.spec.kind());
            return Err(Error::spec(message)
                .field("runtime.device")
                .hint("use runtime.device = \"cpu\"; `atomflow learners` says what learns on cards"));
        }
    }
    let opened = cards.open(&runtime.device, runtime.precision).map_err(|unusable| {
        Error::spec(format!("`{}` cannot be used: {}", runtime.device, unusable.reason))
            .field("runtime.device")
            .hint(unusable.hint)
    })?;
    // A learner alone is shared out; several take whole cards.
    Ok(if job.learner.are_several() { opened } else { as_one(opened).into_iter().collect() })
}

/// What the steps run on, as it is written down: `avx512`, `cuda bf16`.
pub(super) fn arithmetic(cards: &[Arc<dyn Card>]) -> String {
    let Some(card) = cards.first() else { return Path::best().name().to_owned() };
    let precision = match card.precision() {
        Precision::F32 => "f32",
        Precision::Tf32 => "tf32",
        Precision::Bf16 => "bf16",
    };
    let name = card.name();
    format!("{} {precision}", name.split(':').next().unwrap_or_default())
}

/// What becomes of the bytes of a run that begins on one and goes on on the other.
pub(super) fn compared(before: &str, now: &str) -> &'static str {
    let on_card = |arithmetic: &str| arithmetic.contains(' ');
    match on_card(before) || on_card(now) {
        true => "its bytes are not those of an uninterrupted run",
        false => "the bytes are the same",
    }
}
