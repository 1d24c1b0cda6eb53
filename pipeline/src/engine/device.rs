//! Where steps run: the CPU, or cards.

use std::sync::Arc;

use atomflow_workers::{
    card::{Arithmetic, Card, Cards, MomentsIn, Precision, Split, Unusable, as_one},
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
    let learners = job.learners()?;
    let stay: Vec<String> = learners
        .iter()
        .filter_map(|learner| {
            Some(format!("`{}` ({}: {})", learner.name, learner.spec.kind(), learner.spec.cpu_only()?))
        })
        .collect();
    if !stay.is_empty() {
        let apart = if stay.len() < learners.len() { ", or put these into a job of their own" } else { "" };
        return Err(Error::spec(format!("on the CPU alone learn {}", stay.join(", ")))
            .field("runtime.device")
            .hint(format!(
                "use runtime.device = \"cpu\"{apart}; `atomflow learners` says what learns on cards"
            )));
    }
    let unusable = |field, what: &str, why: Unusable| {
        Error::spec(format!("`{what}` cannot be used: {}", why.reason)).field(field).hint(why.hint)
    };
    let opened = cards.open(&runtime.device, runtime.arithmetic());
    let opened = opened.map_err(|why| unusable("runtime.device", &runtime.device, why))?;
    // A learner alone is shared out; several take whole cards.
    if job.learner.are_several() {
        return Ok(opened.into_iter().map(|card| card as Arc<dyn Card>).collect());
    }
    let one = as_one(opened, runtime.split).map_err(|why| unusable("runtime.split", "rows", why))?;
    Ok(one.into_iter().collect())
}

/// What the steps run on, as it is written down: `avx512`, `cuda bf16`.
pub(super) fn arithmetic(cards: &[Arc<dyn Card>]) -> String {
    let Some(card) = cards.first() else { return Path::best().name().to_owned() };
    let Arithmetic { precision, moments } = card.arithmetic();
    let precision = match precision {
        Precision::F32 => "f32",
        Precision::Tf32 => "tf32",
        Precision::Bf16 => "bf16",
    };
    let moments = match moments {
        MomentsIn::F32 => "",
        MomentsIn::Bits8 => " with moments in 8 bits",
    };
    let name = card.name();
    let kind = name.split(':').next().unwrap_or_default();
    let count = name.split('+').count();
    match card.split() {
        None => format!("{kind} {precision}{moments}"),
        Some(Split::Latents) => format!("{kind} {precision}{moments} on {count} cards"),
        Some(Split::Rows) => format!("{kind} {precision}{moments}, rows on {count} cards"),
    }
}

/// What becomes of the bytes of a run that begins on one and goes on on the other.
pub(super) fn compared(before: &str, now: &str) -> &'static str {
    let on_card = |arithmetic: &str| arithmetic.contains(' ');
    match on_card(before) || on_card(now) {
        true => "its bytes are not those of an uninterrupted run",
        false => "the bytes are the same",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_promised_between_instructions_and_not_between_devices() {
        assert_eq!(compared("avx512", "avx2"), "the bytes are the same");
        assert!(compared("cuda bf16", "avx2").contains("not those"));
        assert!(compared("cuda f32", "cuda bf16").contains("not those"));
        assert!(compared("cuda f32", "cuda f32 with moments in 8 bits").contains("not those"));
    }
}
