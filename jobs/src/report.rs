//! What a command says to a person when it is done: pure text, from the engine's answers.

mod several;
pub(crate) mod table;

use std::collections::BTreeMap;

use atomflow_pipeline::{
    convert::Converted,
    run::{Amortisation, CardPlan, CheckReport, Inspection, Metrics, Outcome},
};
use atomflow_workers::variants::{LearnerInfo, absent::Absent};

use crate::{human, spec::JobSpec, sql};
use table::{aligned, pairs};

/// A finished run: what it made, how good it is, and what to ask it. `rows` as far as known.
pub fn outcome(outcome: &Outcome, rows: &BTreeMap<String, u64>) -> String {
    let several = !outcome.learners.is_empty();
    format!(
        "\nRun {} is {}.\n\n{}\n{}\n{}",
        outcome.run,
        if several { several::ended(&outcome.learners) } else { "done".to_owned() },
        if several { several::quality(outcome) } else { quality(outcome) },
        made(outcome, rows),
        questions(outcome),
    )
}

fn quality(outcome: &Outcome) -> String {
    let m = &outcome.metrics;
    let mut figures = vec![
        (
            "held-out FVU",
            known(m.heldout_fvu, human::ratio),
            "variance left unexplained in documents that never trained",
        ),
        ("train FVU", known(m.train_fvu, human::ratio), "the same for the rows that trained"),
        ("all-rows FVU", known(m.all_fvu, human::ratio), "the same with the rows that the filters left out"),
        ("L0", known(m.l0, per_row), "latents per held-out row"),
        (
            "bits",
            known(m.bits_per_token, |bits| format!("{bits:.0}")),
            "a token's codes take, each latent described by itself",
        ),
        ("dead", human::count(m.dead), "latents that fired on no kept row"),
        ("tokens", human::count(m.tokens), "rows learned from, over all passes"),
        ("time", human::duration(m.seconds), "of this process"),
    ];
    figures.extend(outcome.wait_share.map(|share| ("waiting", human::percent(share), WAITING)));
    let compared = m.amortisation.as_ref().map(|a| (known(a.gap, human::ratio), compared(m, a)));
    if let Some((gap, compared)) = &compared {
        figures.insert(4, ("gap", gap.clone(), compared));
    }
    let row =
        |(name, figure, meaning): (&str, String, &str)| vec![name.to_owned(), figure, meaning.to_owned()];
    let rows: Vec<_> = figures.into_iter().map(row).collect();
    format!("How good it is\n{}", aligned(&rows))
}

/// What [`Outcome::wait_share`] is.
const WAITING: &str = "of the time of training there was nothing to compute: rows were on their way";

/// The encoder beside the coder that took its place, on held-out rows.
fn compared(m: &Metrics, a: &Amortisation) -> String {
    let side = |fvu, l0| format!("FVU {} at L0 {}", known(fvu, human::ratio), known(l0, per_row));
    let (encoder, coder) = (side(a.encoder_fvu, a.encoder_l0), side(m.heldout_fvu, m.l0));
    let text = format!(
        "what the encoder loses against a search (amortisation gap): own encoder {encoder}, {} {coder}",
        a.coder
    );
    if comparable(m, a) { text } else { format!("{text}; at another L0 the two say little of each other") }
}

/// Whether encoder and coder keep about as many latents: fewer explain less, whoever finds them.
fn comparable(m: &Metrics, a: &Amortisation) -> bool {
    let near = |(a, b): (f64, f64)| (a - b).abs() <= 0.1 * a.max(b);
    a.encoder_l0.zip(m.l0).is_none_or(near)
}

fn per_row(l0: f64) -> String {
    format!("{l0:.1}")
}

/// A figure, or a dash where the data cannot say (no held-out rows, no variance).
fn known(figure: Option<f64>, show: impl Fn(f64) -> String) -> String {
    figure.map_or_else(|| "—".to_owned(), show)
}

fn made(outcome: &Outcome, rows: &BTreeMap<String, u64>) -> String {
    let row = |(name, path): (&String, &String)| {
        let rows = rows.get(name).map_or_else(String::new, |n| format!("{} rows", human::count(*n)));
        vec![name.clone(), rows, path.clone()]
    };
    let mut lines: Vec<Vec<String>> = outcome.tables.iter().map(row).collect();
    lines.push(vec!["dictionary".to_owned(), "SAELens".to_owned(), outcome.dictionary.clone()]);
    format!("What it made\n{}", aligned(&lines))
}

fn questions(outcome: &Outcome) -> String {
    let (tables, several) = (&outcome.tables, !outcome.learners.is_empty());
    let queries = sql::queries(tables, several);
    if queries.is_empty() {
        return String::new();
    }
    let lines: String = queries.iter().map(|q| format!("-- {}\n{}\n", q.question, q.sql)).collect();
    let delta = sql::delta_hint(tables)
        .filter(|_| !several)
        .map_or_else(String::new, |sql| format!("-- or, one complete version at a time: {sql}\n"));
    format!("Paste into DuckDB\n{lines}{delta}")
}

/// A finished conversion.
pub fn converted(out: &str, c: &Converted, verified: bool) -> String {
    let rounded = match c.values_rounded {
        0 => "every value is exactly what it was".to_owned(),
        n => format!("{} values were rounded; the source's own is {}", human::count(n), c.source_checksum),
    };
    let bytes = c.files.iter().map(|file| file.size_bytes).sum();
    let mut lines = vec![
        ("rows", format!("{} of {} × {}", human::count(c.rows), c.d_in, c.dtype.name())),
        ("shards", format!("{}, {}", human::count(c.files.len() as u64), human::bytes(bytes))),
        ("checksum", format!("{} ({rounded})", c.checksum)),
        ("files", format!("{}/convert.json lists them", out.trim_end_matches('/'))),
    ];
    if verified {
        lines.push(("verified", "the shards were read back and hold these values".to_owned()));
    }
    let left_out = c.left_out.iter().map(|l| {
        let rows = l.rows.map_or_else(|| "all rows".to_owned(), |n| format!("{} rows", human::count(n)));
        let group = l.row_group.map_or_else(String::new, |g| format!(", row group {g}"));
        format!("{rows} of {}{group}: {}", l.url, l.reason)
    });
    let left_out = notes("left out", &left_out.collect::<Vec<_>>());
    format!("\nConverted to {out}\n\n{}{left_out}", pairs(&lines))
}

/// The plan of a job, before anything is spent.
pub fn plan(spec: &JobSpec, r: &CheckReport) -> String {
    let passes = spec.job.plan.passes as u64;
    let rows = [
        ("shards", human::count(r.shards), format!("{} quarantined", r.quarantined.len())),
        (
            "rows",
            human::count(r.rows),
            format!("d_in {}, {} passes", human::count(r.d_in), human::count(passes)),
        ),
        (
            "bytes",
            human::bytes(r.bytes),
            format!("per pass, {} for training", human::bytes(r.bytes.saturating_mul(passes))),
        ),
        ("reads", String::new(), r.reads.join(", ")),
        ("columns", String::new(), or_none(&r.columns)),
        (
            "windows",
            human::count(r.windows),
            format!("of {} rows", human::count(spec.job.plan.window_rows as u64)),
        ),
        (
            "steps",
            human::count(r.steps),
            format!("of {} rows", human::count(spec.job.plan.batch_rows as u64)),
        ),
        ("latents", human::count(r.n_latents), several::latents(&r.learners)),
        ("memory", human::bytes(memory_per_worker(spec, r)), memory_parts(spec, r)),
        ("training", format!("{}FLOP", flops(r.train_flops)), String::new()),
        ("harvest", format!("{}FLOP", flops(r.harvest_flops)), String::new()),
        ("time", human::duration(r.estimated_s), measured(r)),
    ];
    let rows = rows.map(|(name, figure, note)| vec![name.to_owned(), figure, note]);
    let head = format!(
        "Job {} would be run {} and write to {}\nplan {}\n\n",
        spec.job.name, r.run, spec.out, r.plan
    );
    let learners = several::planned(&r.learners);
    let cards: String = r.cards.iter().map(on_card).collect();
    format!("{head}{}{cards}{learners}{}{}", aligned(&rows), notes("Note", &r.notes), quarantined(r))
}

/// `  cuda:0  13.1 GB of 141 GB`.
fn on_card(card: &CardPlan) -> String {
    let memory = card.memory_bytes.map(|memory| format!(" of {}", human::bytes(memory))).unwrap_or_default();
    format!(
        "  {}  {}{memory}: parameters, moments, a batch and its residuals\n",
        card.name,
        human::bytes(card.bytes)
    )
}

/// Every worker has a model of its own; windows and prefetch are shared by the process.
fn memory_per_worker(spec: &JobSpec, r: &CheckReport) -> u64 {
    let workers = (spec.runtime.workers as u64).max(1);
    r.model_bytes.saturating_add(r.data_bytes / workers)
}

fn memory_parts(spec: &JobSpec, r: &CheckReport) -> String {
    format!(
        "per worker, {} in all: model and optimizer {}, windows and prefetch {}",
        spec.runtime.workers,
        human::bytes(r.model_bytes),
        human::bytes(r.data_bytes)
    )
}

fn measured(r: &CheckReport) -> String {
    format!("estimated at {}FLOP/s, measured on this machine", flops(r.measured_gflops * 1e9))
}

/// `12.3 G`, always with a space before the unit.
fn flops(x: f64) -> String {
    let short = human::short(x);
    if short.contains(' ') { short } else { format!("{short} ") }
}

fn or_none(columns: &[String]) -> String {
    if columns.is_empty() { "no optional ones".to_owned() } else { columns.join(", ") }
}

fn notes(word: &str, notes: &[String]) -> String {
    notes.iter().map(|note| format!("\n{word}: {note}\n")).collect()
}

fn quarantined(r: &CheckReport) -> String {
    let lines: Vec<String> =
        r.quarantined.iter().map(|(shard, reason)| format!("{shard}: {reason}")).collect();
    notes("Left out", &lines)
}

/// How far a run is and what it has made; `out` is what the person called it.
pub fn inspection(out: &str, i: &Inspection) -> String {
    let of = |(done, all): (u64, u64)| format!("{} of {}", human::count(done), human::count(all));
    let state = pairs(&[
        ("run", i.run.clone()),
        ("job", i.name.clone()),
        ("state", i.state.clone()),
        ("windows trained", of(i.windows)),
        ("shards harvested", of(i.shards)),
        ("columns", i.columns.join(", ")),
        ("process", format!("generation {}", i.generation)),
    ]);
    match &i.outcome {
        Some(made) => format!("{state}{}", outcome(made, &BTreeMap::new())),
        None => {
            format!("{state}{}\nTo go on: atomflow resume {out}\n", several::standing(&i.learners))
        }
    }
}

/// Every learner with all that is known of it.
pub fn learners(learners: &[LearnerInfo]) -> String {
    let text = |l: &LearnerInfo| {
        let modes = l.modes.join("; ");
        let cards = l.cpu_only().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
        let details = [
            ("family", l.family),
            ("paper", l.paper),
            ("needs", l.columns),
            ("modes", &modes),
            ("cards", &cards),
            ("example", l.example),
        ];
        let said = details.into_iter().filter(|(_, text)| !text.is_empty());
        let details: Vec<_> = said.map(|(name, text)| (name, text.to_owned())).collect();
        format!("{}: {}\n{}", l.kind, l.summary, pairs(&details))
    };
    learners.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Methods that are not here, a line each.
pub fn absent(methods: &[Absent]) -> String {
    if methods.is_empty() {
        return String::new();
    }
    let line = |method: &Absent| format!("  {}: {}\n", method.name, method.reason);
    format!("\nNot learners of this program\n{}", methods.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests;
