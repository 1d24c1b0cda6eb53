//! What the types cannot say: ranges, and fields that must agree with each other.
//!
//! One function per table of the spec, cross-table rules last. Errors name the field; the caller
//! adds the line.

use std::ops::RangeInclusive;

use atomflow_pipeline::{
    Error, Result,
    calibrate::NormalizeSpec,
    plan::PlanSpec,
    run::{CPU, Job, RuntimeSpec},
    source::{Columns, FilterSpec, SourceSpec},
};
use atomflow_workers::{
    card::{MomentsIn, Precision},
    interp::HarvestSpec,
    variants::LearnerSpec,
};

use super::JobSpec;

/// Rows and counts are int32 in some tables, so nothing may be larger.
const COUNT_MAX: usize = i32::MAX as usize;

/// Contexts kept per latent and kind. More would not be read by anybody and would not fit in memory.
const PER_LATENT_MAX: usize = 100_000;

/// Checks everything that can be known before the data is seen.
///
/// # Errors
/// The first field that is out of range.
pub(super) fn check(spec: &JobSpec) -> Result<()> {
    let job = &spec.job;
    name("name", &job.name)?;
    source(&job.source)?;
    plan(&job.plan)?;
    normalize(&job.normalize)?;
    learners(job)?;
    harvest(&job.harvest)?;
    coder(job)?;
    runtime(&spec.runtime)?;
    workers_have_lanes(spec)
}

/// Checks `[runtime]` alone.
///
/// # Errors
/// The first field that is out of range.
pub(super) fn runtime(spec: &RuntimeSpec) -> Result<()> {
    within("runtime.workers", spec.workers, 1..=256, "one worker per device or socket is usual")?;
    within("runtime.threads", spec.threads, 0..=1024, "0 means one kernel thread per core")?;
    within("runtime.checkpoint_windows", spec.checkpoint_windows, 1..=COUNT_MAX, "4 is the default")?;
    ensure(
        spec.device != CPU || spec.precision == Precision::F32,
        "runtime.precision",
        || "is for cards: the CPU multiplies in f32".to_owned(),
        "leave it out, or name a card in runtime.device",
    )?;
    ensure(
        spec.device != CPU || spec.moments == MomentsIn::F32,
        "runtime.moments",
        || "is for cards: on the CPU moments are f32".to_owned(),
        "leave it out, or name a card in runtime.device",
    )?;
    let card =
        |index: &str| index == "*" || index.parse::<u16>().is_ok_and(|number| number.to_string() == index);
    let known = spec.device == CPU || spec.device.strip_prefix("cuda:").is_some_and(card);
    ensure(
        known,
        "runtime.device",
        || format!("`{}` is not the name of a device", spec.device),
        "valid: cpu, cuda:0 (or another number), cuda:*; `atomflow devices` lists what is there",
    )
}

fn name(field: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fine = !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain);
    ensure(
        fine,
        field,
        || format!("`{name}` cannot be a name: it becomes part of paths"),
        "use letters, digits, `-`, `_` and `.` (not first), at most 100 of them",
    )
}

/// Checks `[source]` alone.
///
/// # Errors
/// The first field that is out of range.
pub(super) fn source(spec: &SourceSpec) -> Result<()> {
    let example = "give an object, a prefix or a glob, like \"s3://bucket/activations/*.parquet\"";
    ensure(spec.url.iter().next().is_some(), "source.url", || "names no place".to_owned(), example)?;
    for url in spec.url.iter() {
        ensure(!url.trim().is_empty(), "source.url", || "is empty".to_owned(), example)?;
    }
    ensure(
        spec.prefetch_bytes > 0,
        "source.prefetch_bytes",
        || "must be at least 1".to_owned(),
        "67108864 (64 MiB) is the default",
    )?;
    columns(&spec.columns)?;
    filter(&spec.filter)
}

fn columns(spec: &Columns) -> Result<()> {
    let all = [
        ("source.columns.activation", &spec.activation),
        ("source.columns.token_id", &spec.token_id),
        ("source.columns.token", &spec.token),
        ("source.columns.doc_id", &spec.doc_id),
        ("source.columns.seq_id", &spec.seq_id),
        ("source.columns.pos", &spec.pos),
    ];
    for (i, (field, column)) in all.iter().enumerate() {
        let hint = "leave the line out for the default name";
        ensure(!column.is_empty(), field, || "is empty".to_owned(), hint)?;
        let twin = all.iter().take(i).find(|(_, other)| other == column);
        let message = || format!("names column `{column}`, and so does `{}`", twin.map_or("", |t| t.0));
        ensure(twin.is_none(), field, message, "every field needs a column of its own")?;
    }
    Ok(())
}

fn filter(spec: &FilterSpec) -> Result<()> {
    let fine = spec.drop_pos.iter().all(|pos| *pos >= 0);
    let message = || "must not be negative".to_owned();
    ensure(
        fine,
        "source.filter.drop_pos",
        message,
        "positions count from 0; drop_pos = [0] drops first tokens",
    )?;
    let factor = spec.norm_over_median_max.unwrap_or(10.0);
    ensure(
        factor.is_finite() && factor > 1.0,
        "source.filter.norm_over_median_max",
        || format!("must be more than 1, and is {factor}"),
        "a row is dropped when its norm exceeds this many medians; 10 keeps all but attention sinks",
    )
}

fn plan(spec: &PlanSpec) -> Result<()> {
    let lanes = "8 or 16 serve any machine; lanes are virtual and do not follow the number of cores";
    within("plan.lanes", spec.lanes, 1..=256, lanes)?;
    within("plan.batch_rows", spec.batch_rows, 1..=COUNT_MAX, "4096 is the default")?;
    within("plan.window_rows", spec.window_rows, 1..=COUNT_MAX, "65536 is the default")?;
    within("plan.passes", spec.passes, 1..=COUNT_MAX, "1 reads the data once")?;
    at_least(
        "plan.batch_rows",
        spec.batch_rows,
        "plan.lanes",
        spec.lanes,
        "every lane gets rows of every batch",
    )?;
    let window = "a window is shuffled as one and dealt out as batches; 16 batches or more mix well";
    at_least("plan.window_rows", spec.window_rows, "plan.batch_rows", spec.batch_rows, window)?;
    ensure(
        (0.0..=0.9).contains(&spec.heldout),
        "plan.heldout",
        || format!("must be between 0 and 0.9, and is {}", spec.heldout),
        "it is the share of documents that never train; 0.05 is the default",
    )
}

fn normalize(spec: &NormalizeSpec) -> Result<()> {
    within("normalize.sample_rows", spec.sample_rows, 1..=COUNT_MAX, "32768 is the default")
}

fn learners(job: &Job) -> Result<()> {
    for is in job.learners()? {
        name(&format!("{}.name", is.field), &is.name)?;
        for asked in is.asked() {
            let hint = "name a column of the shards";
            ensure(!asked.name.is_empty(), &asked.field, || "is empty".to_owned(), hint)?;
        }
        learner(&is.spec, &is.field)?;
    }
    Ok(())
}

/// The learner knows its own ranges. Some depend on the width of the data, which is not known yet:
/// what is wrong for a narrow and for a very wide vector is wrong for all.
fn learner(spec: &LearnerSpec, field: &str) -> Result<()> {
    let at = |name: &str| format!("{field}.{name}");
    let n = spec.n_latents();
    within(&at("n_latents"), n, 1..=COUNT_MAX, "4 to 32 times the width of the vectors is usual")?;
    if let Some(k) = spec.k() {
        within(&at("k"), k, 1..=COUNT_MAX, "16 to 128 is usual")?;
        let hint = "k latents of a row are kept; lower k or raise n_latents";
        at_least(&at("n_latents"), n, &at("k"), k, hint)?;
    }
    // A rotation has as many latents as dimensions: that width is tried, too.
    let [narrow, square, wide] = [1, n, 1 << 20].map(|d_in| spec.validate(d_in).err());
    match narrow {
        Some(fault) if [&square, &wide].into_iter().all(|other| other.as_ref() == Some(&fault)) => {
            Err(Error::spec(fault.reason).field(at(fault.field)))
        }
        _ => Ok(()),
    }
}

fn harvest(spec: &HarvestSpec) -> Result<()> {
    within("harvest.context_tokens", spec.context_tokens, 1..=65_536, "32 is the default")?;
    let counts = [
        ("harvest.top", spec.top),
        ("harvest.slices", spec.slices),
        ("harvest.per_slice", spec.per_slice),
        ("harvest.importance", spec.importance),
        ("harvest.random_active", spec.random_active),
        ("harvest.random_inactive", spec.random_inactive),
        ("harvest.hard_negatives", spec.hard_negatives),
        ("harvest.neighbours", spec.neighbours),
    ];
    for (field, count) in counts {
        within(field, count, 0..=PER_LATENT_MAX, "0 collects none")?;
    }
    within("harvest.pool_contexts", spec.pool_contexts, 0..=COUNT_MAX, "2048 is the default")?;
    ensure(
        (0.0..=1.0).contains(&spec.score_share),
        "harvest.score_share",
        || format!("must be between 0 and 1, and is {}", spec.score_share),
        "it is the share of contexts kept from the explainer; 0.5 is the default",
    )?;
    contrast(spec)
}

/// Whether the coder can take the place of every learner's encoder.
fn coder(job: &Job) -> Result<()> {
    let Some(coder) = &job.harvest.coder else { return Ok(()) };
    for is in job.learners()? {
        coder
            .validate(is.spec.n_latents())
            .map_err(|e| Error::spec(e.reason).field(format!("harvest.coder.{}", e.field)))?;
        if let Some(why) = is.spec.uncodable() {
            let message =
                format!("{} cannot take the place of the encoder of {}: {why}", coder.kind(), is.spec.kind());
            let hint =
                "a coder needs atoms whose sum is the reconstruction of the rows it reads; leave `coder` out";
            return Err(Error::spec(message).field("harvest.coder").hint(hint));
        }
    }
    Ok(())
}

/// Where contexts in which a latent is silent come from.
fn contrast(spec: &HarvestSpec) -> Result<()> {
    let wanted = spec.random_inactive.max(spec.hard_negatives);
    let pool = "inactive contexts and hard negatives are drawn from this pool; make it larger";
    let needed = format!("the {wanted} contexts wanted per latent");
    at_least("harvest.pool_contexts", spec.pool_contexts, &needed, wanted, pool)?;
    ensure(
        spec.hard_negatives == 0 || spec.neighbours > 0,
        "harvest.neighbours",
        || "is 0, and hard_negatives come from neighbours".to_owned(),
        "set neighbours = 10, or hard_negatives = 0",
    )
}

fn workers_have_lanes(spec: &JobSpec) -> Result<()> {
    let (workers, lanes) = (spec.runtime.workers, spec.job.plan.lanes);
    ensure(
        workers <= lanes,
        "runtime.workers",
        || format!("is {workers}, and the plan has only {lanes} lanes to share out"),
        "use at most as many workers as plan.lanes (changing plan.lanes changes the result)",
    )
}

fn ensure(fine: bool, field: &str, message: impl FnOnce() -> String, hint: &str) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::spec(message()).field(field).hint(hint)) }
}

fn within(field: &str, value: usize, range: RangeInclusive<usize>, hint: &str) -> Result<()> {
    let message = || format!("must be between {} and {}, and is {value}", range.start(), range.end());
    ensure(range.contains(&value), field, message, hint)
}

fn at_least(field: &str, value: usize, other: &str, least: usize, hint: &str) -> Result<()> {
    ensure(value >= least, field, || format!("is {value}, less than {other} ({least})"), hint)
}
