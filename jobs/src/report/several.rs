//! Several learners of one run: a line for each.

use atomflow_pipeline::run::{LearnerInspection, LearnerOutcome, Metrics, Outcome};

use super::{WAITING, human, known, table::aligned};

/// How a run of several ended, as the end of a sentence.
pub(super) fn ended(learners: &[LearnerOutcome]) -> String {
    match learners.iter().filter(|learner| learner.failed.is_some()).count() {
        0 => "done".to_owned(),
        failed => format!("done; {failed} of {} learners failed", learners.len()),
    }
}

/// One line for each, and below what all have in common.
pub(super) fn quality(outcome: &Outcome) -> String {
    let mut head = vec!["learner", "n_latents", "k", "held-out FVU", "train FVU", "L0", "bits", "dead"];
    let coder = outcome.learners.iter().find_map(|l| l.metrics.as_ref()?.amortisation.as_ref());
    head.extend(coder.map(|_| "gap"));
    let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
    rows.extend(outcome.learners.iter().map(row));
    let mut common = vec![
        vec!["tokens".to_owned(), human::count(outcome.metrics.tokens), "rows each learned from".to_owned()],
        vec!["time".to_owned(), human::duration(outcome.metrics.seconds), "of this process".to_owned()],
    ];
    let waiting = |share| vec!["waiting".to_owned(), human::percent(share), WAITING.to_owned()];
    common.extend(outcome.wait_share.map(waiting));
    let shortest = shortest(&outcome.learners);
    let gap = coder.map_or_else(String::new, |a| {
        format!("  gap: held-out FVU of the own encoder, less that of {}\n", a.coder)
    });
    format!("How good they are\n{}{gap}{shortest}\n{}", aligned(&rows), aligned(&common))
}

/// How much worse than the best a held-out FVU may be when descriptions are compared.
const SAME_DISTORTION: f64 = 0.02;

/// Of the dictionaries that reconstruct about as well as the best, the one with the shortest codes
/// (Ayonrinde et al. 2024, MDL-SAEs).
fn shortest(learners: &[LearnerOutcome]) -> String {
    let measured = learners.iter().filter_map(|learner| {
        let metrics = learner.metrics.as_ref()?;
        Some((&learner.name, metrics.heldout_fvu?, metrics.bits_per_token?))
    });
    let measured: Vec<_> = measured.collect();
    let best = measured.iter().map(|(_, fvu, _)| *fvu).fold(f64::INFINITY, f64::min);
    let near = measured.iter().filter(|(_, fvu, _)| *fvu <= best + SAME_DISTORTION);
    match near.min_by(|a, b| a.2.total_cmp(&b.2)) {
        Some((name, fvu, bits)) if measured.len() > 1 => format!(
            "  shortest codes within {SAME_DISTORTION} of the best FVU: {name} ({bits:.0} bits a token, FVU {fvu:.4})\n"
        ),
        _ => String::new(),
    }
}

fn row(learner: &LearnerOutcome) -> Vec<String> {
    let size = [learner.name.clone(), human::count(learner.n_latents), per_row(learner.k)];
    let rest = match (&learner.failed, &learner.metrics) {
        (Some(failure), _) => vec![format!("failed: {}", failure.message)],
        (None, Some(metrics)) => figures(metrics),
        (None, None) => Vec::new(),
    };
    size.into_iter().chain(rest).collect()
}

fn figures(m: &Metrics) -> Vec<String> {
    let mut figures = vec![
        known(m.heldout_fvu, human::ratio),
        known(m.train_fvu, human::ratio),
        known(m.l0, |l0| format!("{l0:.1}")),
        known(m.bits_per_token, |bits| format!("{bits:.0}")),
        human::count(m.dead),
    ];
    figures.extend(m.amortisation.as_ref().map(|a| known(a.gap, human::ratio)));
    figures
}

/// Latents per row, where there is one learner to say it of.
pub(super) fn latents(learners: &[(String, u64, Option<u64>)]) -> String {
    match learners {
        [(_, _, k)] => format!("{} per row", per_row(*k)),
        several => format!("of {} learners together", several.len()),
    }
}

/// Latents per row, where the learner fixes them.
fn per_row(k: Option<u64>) -> String {
    k.map_or_else(|| "any number".to_owned(), human::count)
}

/// The learners of a plan, where there are several.
pub(super) fn planned(learners: &[(String, u64, Option<u64>)]) -> String {
    if learners.len() < 2 {
        return String::new();
    }
    let row = |(name, n, k): &(String, u64, Option<u64>)| {
        vec![name.clone(), format!("{} latents, {} per row", human::count(*n), per_row(*k))]
    };
    format!("\nLearners\n{}", aligned(&learners.iter().map(row).collect::<Vec<_>>()))
}

/// How far each is, where there are several.
pub(super) fn standing(learners: &[LearnerInspection]) -> String {
    let row = |l: &LearnerInspection| {
        let failed = l.failed.as_ref().map_or_else(String::new, |failure| failure.message.clone());
        let windows = format!("window {} of {}", human::count(l.windows.0), human::count(l.windows.1));
        vec![l.name.clone(), l.state.clone(), windows, failed]
    };
    if learners.is_empty() {
        return String::new();
    }
    format!("\nLearners\n{}", aligned(&learners.iter().map(row).collect::<Vec<_>>()))
}
