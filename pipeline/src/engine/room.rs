//! What each card will hold, whether it fits, and what would.

use atomflow_workers::card::{Arithmetic, Card, DeviceInfo, MomentsIn, Split, memory::Held};

use super::learner::Size;
use crate::run::{CardPlan, Job};

/// Latents per row where a learner fixes none.
const PAIRS: u64 = 64;
/// More cards are not in one machine.
const CARDS: u64 = 16;

/// What decides how much lies on the first card of some.
#[derive(Clone, Copy)]
struct Load<'a> {
    /// The learners that are there at the same time.
    learners: &'a [&'a Size],
    arithmetic: Arithmetic,
    batch_rows: u64,
    /// Cards that share a learner, and how.
    cards: u64,
    split: Option<Split>,
}

impl Load<'_> {
    fn sum(&self, of: impl Fn(&Held, &Size) -> u64) -> u64 {
        let held = |size: &&Size| {
            let (d_in, d_out) = (size.d_in as u64, size.d_out as u64);
            let shares = if self.split == Some(Split::Latents) { self.cards } else { 1 };
            let n_latents = (size.n_latents as u64).div_ceil(shares);
            of(&Held { d_in, d_out, n_latents, arithmetic: self.arithmetic }, size)
        };
        self.learners.iter().map(held).sum()
    }

    /// What every card holds while it learns. Where latents are shared, residuals on their way between cards are two
    /// more; where rows are, each card holds a gradient beside the parameters.
    fn bytes(&self) -> u64 {
        let (rows, moving) = match self.split {
            None => (self.batch_rows, 0),
            Some(Split::Latents) => (self.batch_rows, 2),
            Some(Split::Rows) => (self.batch_rows.div_ceil(self.cards), 0),
        };
        let gradient = |held: &Held| if self.split == Some(Split::Rows) { held.gradient() } else { 0 };
        self.sum(|held, size| {
            let (pairs, residuals) = (size.k.map_or(PAIRS, |k| k as u64), size.residuals as u64 + moving);
            held.parameters() + gradient(held) + held.batch(rows, pairs, residuals)
        })
    }

    /// The dictionary that harvest encodes with: beside the parameters, and whole on the first card.
    fn frozen(&self) -> u64 {
        Load { cards: 1, split: None, ..*self }.sum(|held, _| held.dictionary())
    }

    fn most(&self) -> u64 {
        self.bytes() + self.frozen()
    }

    /// What would fit into `memory`, each by itself if it can, else with moments in 8 bits. `alone` says whether the
    /// learner can be shared out.
    fn that_fit(self, memory: u64, alone: bool) -> Vec<String> {
        let eight = Load { arithmetic: Arithmetic { moments: MomentsIn::Bits8, ..self.arithmetic }, ..self };
        let fits = |load: &Load| load.most() <= memory;
        let halves = |load: Self| (1..8).map(move |by| Load { batch_rows: load.batch_rows >> by, ..load });
        let split = Some(Split::Latents);
        let more = if self.split == Some(Split::Rows) { self.cards } else { self.cards + 1 };
        let shared = |load: Self| (more..=CARDS).map(move |cards| Load { cards, split, ..load });
        let moments = Some(eight).filter(|eight| eight.arithmetic != self.arithmetic && fits(eight));
        let with_eight = if moments.is_none() { Some(eight) } else { None };
        let rows = halves(self).chain(with_eight.into_iter().flat_map(halves)).find(fits);
        let cards = || shared(self).chain(with_eight.into_iter().flat_map(shared)).find(fits);
        let found = [moments, rows, alone.then(cards).flatten()];
        found.into_iter().flatten().map(|load| self.told(&load)).collect()
    }

    /// What another load has that this one has not.
    fn told(&self, other: &Load) -> String {
        let mut changes = Vec::new();
        if (other.cards, other.split) != (self.cards, self.split) {
            let how =
                if self.split == Some(Split::Rows) { "split = \"latents\"" } else { "device = \"cuda:*\"" };
            changes.push(format!("the latents shared out over {} cards (`runtime.{how}`)", other.cards));
        }
        if other.batch_rows != self.batch_rows {
            changes.push(format!("`plan.batch_rows = {}`", other.batch_rows));
        }
        if other.arithmetic.moments != self.arithmetic.moments {
            changes.push("`runtime.moments = \"8bit\"`".to_owned());
        }
        format!("{} ({:.2} GB)", changes.join(" and "), gigabytes(other.most()))
    }
}

/// What each card will hold. `listed` says how much memory there is.
pub(super) fn memory(
    job: &Job,
    sizes: &[Size],
    cards: &[std::sync::Arc<dyn Card>],
    listed: &[DeviceInfo],
) -> Vec<CardPlan> {
    let mut plans = Vec::new();
    for (at, card) in cards.iter().enumerate() {
        let name = card.name();
        let shards: Vec<&str> = name.split('+').collect();
        let learners: Vec<&Size> = sizes.iter().skip(at).step_by(cards.len()).collect();
        let load = Load {
            learners: &learners,
            arithmetic: card.arithmetic(),
            batch_rows: job.plan.batch_rows as u64,
            cards: shards.len() as u64,
            split: card.split(),
        };
        for (number, shard) in shards.into_iter().enumerate() {
            let memory_bytes = listed.iter().find(|d| d.name == shard).and_then(|d| d.memory_bytes);
            let bytes = if number == 0 { load.most() } else { load.bytes() };
            let short = memory_bytes.filter(|&memory| bytes > memory);
            let fits = short.map(|memory| load.that_fit(memory, !job.learner.are_several()));
            plans.push(CardPlan {
                name: shard.to_owned(),
                bytes,
                memory_bytes,
                fits: fits.unwrap_or_default(),
            });
        }
    }
    plans
}

/// Says of a card that will not do what would.
pub(super) fn notes(plans: &[CardPlan]) -> Vec<String> {
    let short = |plan: &CardPlan| {
        let memory = plan.memory_bytes.filter(|&memory| plan.bytes > memory)?;
        let would = match plan.fits.is_empty() {
            true => "take fewer latents".to_owned(),
            false => format!("it would fit with {}", plan.fits.join(", or with ")),
        };
        Some(format!(
            "{} has {:.2} GB, the job needs {:.2} GB there: {would}",
            plan.name,
            gigabytes(memory),
            gigabytes(plan.bytes)
        ))
    };
    plans.iter().filter_map(short).collect()
}

#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(n_latents: usize) -> Size {
        Size { name: "sae".to_owned(), d_in: 4096, d_out: 4096, n_latents, k: Some(64), residuals: 2 }
    }

    fn load<'a>(learners: &'a [&'a Size]) -> Load<'a> {
        Load { learners, arithmetic: Arithmetic::default(), batch_rows: 16_384, cards: 1, split: None }
    }

    #[test]
    fn what_does_not_fit_is_said_with_what_would() {
        let size = size(1 << 20);
        let learners = [&size];
        let load = load(&learners);
        let fits = load.that_fit(100 << 30, true);
        assert_eq!(fits.len(), 2, "{fits:?}");
        assert!(
            fits[0].contains("`runtime.moments = \"8bit\"`") && fits[1].contains("over 2 cards"),
            "{fits:?}"
        );
        let plan =
            |bytes, memory_bytes, fits| CardPlan { name: "cuda:0".to_owned(), bytes, memory_bytes, fits };
        let notes = notes(&[
            plan(load.most(), Some(100 << 30), fits),
            plan(1 << 30, Some(141 << 30), Vec::new()),
            plan(1 << 50, None, Vec::new()),
            plan(1 << 50, Some(1 << 30), Vec::new()),
        ]);
        assert_eq!(notes.len(), 2);
        assert!(notes[0].contains("it would fit with `runtime.moments"), "{notes:?}");
        assert!(notes[1].contains("take fewer latents"), "{notes:?}");
        // Several learners are not shared out, and each needs its own room.
        assert_eq!(load.that_fit(100 << 30, false).len(), 1);
        assert!(load.that_fit(1 << 30, true).is_empty());
    }

    /// A smaller batch is what helps where rows are most of it.
    #[test]
    fn fewer_rows_are_offered_where_they_are_enough() {
        let size = size(4096);
        let learners = [&size];
        let load = Load { batch_rows: 1 << 18, ..load(&learners) };
        let fits = load.that_fit(load.most() / 2, true);
        assert!(fits.iter().any(|fits| fits.starts_with("`plan.batch_rows = 65536`")), "{fits:?}");
    }
}
