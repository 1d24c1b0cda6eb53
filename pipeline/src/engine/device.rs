//! Where steps run: the CPU, or cards.

use std::sync::Arc;

use atomflow_workers::{
    card::{Card, Cards, DeviceInfo, Precision, Split, Unusable, as_one},
    kernels::Path,
};

use super::learner::Size;
use crate::{
    Error, Result,
    run::{CPU, CardPlan, Job, RuntimeSpec},
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
    let opened = cards.open(&runtime.device, runtime.precision);
    let opened = opened.map_err(|why| unusable("runtime.device", &runtime.device, why))?;
    // A learner alone is shared out; several take whole cards.
    if job.learner.are_several() {
        return Ok(opened.into_iter().map(|card| card as Arc<dyn Card>).collect());
    }
    let one = as_one(opened, runtime.split).map_err(|why| unusable("runtime.split", "rows", why))?;
    Ok(one.into_iter().collect())
}

/// Scores of a chunk of latents, see `workers/gpu/src/encoder.rs`; half as much again in narrower factors.
const CHUNK_BYTES: u64 = 384 << 20;

/// What each card will hold. `listed` says how much memory there is.
pub(super) fn memory(
    job: &Job,
    sizes: &[Size],
    cards: &[Arc<dyn Card>],
    listed: &[DeviceInfo],
) -> Vec<CardPlan> {
    let names = cards.iter().map(|card| card.name()).collect::<Vec<_>>();
    let mut plans = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let shards: Vec<&str> = name.split('+').collect();
        let split = cards[at].split();
        let own = sizes.iter().skip(at).step_by(names.len());
        // The dictionary that harvest encodes with comes beside the parameters, and lies on the first card whole.
        let both = |size: &Size| 4 * ((size.d_in + size.d_out) * size.n_latents) as u64;
        let mut frozen = own.clone().map(both).sum::<u64>();
        let bytes = CHUNK_BYTES + own.map(|size| on_card(job, size, shards.len() as u64, split)).sum::<u64>();
        for shard in shards {
            let memory_bytes = listed.iter().find(|d| d.name == shard).and_then(|d| d.memory_bytes);
            let bytes = bytes + std::mem::take(&mut frozen);
            plans.push(CardPlan { name: shard.to_owned(), bytes, memory_bytes });
        }
    }
    plans
}

/// Parameters with two moments; rows, centred rows, target, residuals; all f32. What several cards divide is one or
/// the other: where it is the latents, residuals on their way between cards are two more; where it is the rows, each
/// card holds a gradient beside the parameters.
fn on_card(job: &Job, size: &Size, cards: u64, split: Option<Split>) -> u64 {
    let (d_in, d_out, n) = (size.d_in as u64, size.d_out as u64, size.n_latents as u64);
    let (batch, residuals) = (job.plan.batch_rows as u64, size.residuals as u64);
    let (latents, rows, copies, residuals) = match split {
        None => (n, batch, 3, residuals),
        Some(Split::Latents) => (n.div_ceil(cards), batch, 3, residuals + 2),
        Some(Split::Rows) => (n, batch.div_ceil(cards), 4, residuals),
    };
    copies * 4 * (d_in + d_out + 1) * latents + 4 * (2 * d_in + (1 + residuals) * d_out) * rows
}

/// Says of a card that will not do what would.
pub(super) fn notes(plans: &[CardPlan]) -> Vec<String> {
    let short = |plan: &CardPlan| {
        let memory = plan.memory_bytes.filter(|&memory| plan.bytes > memory)?;
        let cards = plan.bytes.div_ceil(memory.max(1));
        let gb = |bytes: u64| bytes as f64 / 1e9;
        Some(format!(
            "{} has {:.2} GB, the job needs {:.2} GB there: share a single learner out over {cards} cards or more \
             (`runtime.device = \"cuda:*\"`), or take fewer latents or a smaller batch",
            plan.name,
            gb(memory),
            gb(plan.bytes)
        ))
    };
    plans.iter().filter_map(short).collect()
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
    let kind = name.split(':').next().unwrap_or_default();
    let count = name.split('+').count();
    match card.split() {
        None => format!("{kind} {precision}"),
        Some(Split::Latents) => format!("{kind} {precision} on {count} cards"),
        Some(Split::Rows) => format!("{kind} {precision}, rows on {count} cards"),
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

    fn plan(bytes: u64, memory_bytes: Option<u64>) -> CardPlan {
        CardPlan { name: "cuda:0".to_owned(), bytes, memory_bytes }
    }

    #[test]
    fn what_does_not_fit_is_said_with_the_number_of_cards() {
        let notes =
            notes(&[plan(300 << 30, Some(141 << 30)), plan(1 << 30, Some(141 << 30)), plan(1 << 50, None)]);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("over 3 cards"), "{notes:?}");
    }

    #[test]
    fn bytes_are_promised_between_instructions_and_not_between_devices() {
        assert_eq!(compared("avx512", "avx2"), "the bytes are the same");
        assert!(compared("cuda bf16", "avx2").contains("not those"));
        assert!(compared("cuda f32", "cuda bf16").contains("not those"));
    }
}
