//! One step of every learner against one of TopK, at the same number of latents and the same L0.

use std::collections::BTreeMap;

use atomflow_pipeline::{Error, Result, error::Kind};
use atomflow_workers::{
    learner::{ActivationBatch, DictLearner, Mismatch, Role, Scales, Setup, StepReport},
    threads::Threads,
    variants::{self, LearnerInfo, LearnerSpec},
};
use serde_json::{Value, json};

use super::{
    Learners, Shape,
    clock::in_turns,
    rows::Rows,
    table::{Part, Report},
    threads,
};

/// Rounds that the bias of a learner without k is searched for: L0 within a few per cent.
const SEARCH: usize = 12;
/// The family that is measured when nothing is said.
const FAMILY: &str = "sparse autoencoder";

pub(super) fn report(what: &Learners) -> Result<Report> {
    let (threads, rows) = (threads(what.shape.threads)?, Rows::new(&what.shape)?);
    let shape = Shape { d: rows.d_in, ..what.shape.clone() };
    let title = format!(
        "A step of each learner: d_in {}, n_latents {}, k {}, {} rows, {} threads",
        shape.d,
        shape.n,
        shape.k,
        shape.batch,
        threads.count()
    );
    let mut report = Report::new(title);
    for info in chosen(&what.kinds)? {
        let table: Value = serde_json::from_str(info.small).map_err(|e| Error::bug(e.to_string()))?;
        let table = if what.modes { table } else { plain(table) };
        if spec(&table, &shape)?.outside().is_some() {
            report.note(format!("{}: left out, its loss comes from another process", info.kind));
            continue;
        }
        match one(&info, &table, &shape, &rows, &threads, &mut report) {
            // Not every kind can have every shape, and the others are still worth a row.
            Err(e) if e.kind == Kind::Spec => {
                report.note(format!("{}: left out, {}", info.kind, e.message()));
            }
            done => done?,
        }
    }
    report.note(
        "every learner takes turns with a TopK learner of its own, whose step is its floor; a few rounds of \
         small steps on a busy machine say little"
            .to_owned(),
    );
    Ok(report)
}

/// The kinds asked for; all sparse autoencoders if none is.
fn chosen(kinds: &[String]) -> Result<Vec<LearnerInfo>> {
    let all = variants::registry();
    if let Some(unknown) = kinds.iter().find(|kind| all.iter().all(|info| info.kind != kind.as_str())) {
        return Err(Error::spec(format!("there is no learner `{unknown}`"))
            .object("the command line")
            .field("--kinds")
            .hint("`atomflow learners` lists them"));
    }
    let wanted = |info: &LearnerInfo| {
        if kinds.is_empty() { info.family == FAMILY } else { kinds.iter().any(|kind| kind == info.kind) }
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn one(
    info: &LearnerInfo,
    table: &Value,
    shape: &Shape,
    rows: &Rows,
    threads: &Threads,
    report: &mut Report,
) -> Result<()> {
    let top_k = spec(&json!({ "kind": "topk" }), shape)?;
    let (mut base, mut learner) = (
        Contender::new(&top_k, shape, rows, threads)?,
        Contender::new(&spec(table, shape)?, shape, rows, threads)?,
    );
    if learner.spec.k().is_none() {
        learner.bring_to_l0(shape, rows)?;
    }
    for step in 0..shape.warmup {
        base.step(rows, step);
        learner.step(rows, step);
    }
    let (mut a, mut b, mut last) = (0, 0, StepReport::default());
    let [base_s, learner_s] = in_turns(
        shape.rounds,
        [
            &mut || {
                a += 1;
                base.step(rows, a);
            },
            &mut || {
                b += 1;
                last = learner.step(rows, b);
            },
        ],
    );
    let l0 = last.nnz as f64 / last.rows.max(1) as f64;
    report.part(Part {
        name: format!("{} (L0 {l0:.1})", info.kind),
        seconds: learner_s,
        work: 0.0,
        unit: "",
        floor_s: base_s,
    });
    report.figure(
        info.kind,
        json!({
            "step_s": learner_s, "over_topk": learner_s / base_s, "l0": l0,
            "tokens_per_s": shape.batch as f64 / learner_s,
        }),
    );
    Ok(())
}

/// Fields of an example that stay: which learner, and how large.
const SIZE: [&str; 3] = ["kind", "n_latents", "k"];

/// An example without its modes, some of which change L0: whatever a spec may leave out is left out.
fn plain(table: Value) -> Value {
    let fields: Vec<String> = table.as_object().into_iter().flat_map(|table| table.keys().cloned()).collect();
    fields.into_iter().filter(|field| !SIZE.contains(&field.as_str())).fold(table, |table, field| {
        let mut without = table.clone();
        without.as_object_mut().map(|fields| fields.remove(&field));
        if serde_json::from_value::<LearnerSpec>(without.clone()).is_ok() { without } else { table }
    })
}

/// The table of a small example at the size that is measured.
fn spec(table: &Value, shape: &Shape) -> Result<LearnerSpec> {
    let mut table = table.clone();
    let fields = table.as_object_mut().ok_or_else(|| Error::bug("an example is no table"))?;
    fields.insert("n_latents".to_owned(), json!(shape.n));
    if fields.contains_key("k") || fields.get("kind") == Some(&json!("topk")) {
        fields.insert("k".to_owned(), json!(shape.k));
    }
    // Nobody dies here: AuxK is measured by `bench step`.
    fields.remove("dead_after_tokens");
    serde_json::from_value(table).map_err(|e| Error::bug(e.to_string()))
}

/// A learner and the columns it asks for.
struct Contender {
    spec: LearnerSpec,
    learner: Box<dyn DictLearner>,
    beside: Vec<Vec<f32>>,
}

impl Contender {
    fn new(spec: &LearnerSpec, shape: &Shape, rows: &Rows, threads: &Threads) -> Result<Contender> {
        let columns = spec.columns();
        let width = |role: Role| if role == Role::Label { 1 } else { shape.d };
        let beside_widths: Vec<usize> = columns.beside.iter().map(|beside| width(beside.role)).collect();
        let values = |(at, beside): (usize, &atomflow_workers::learner::Beside)| match beside.role {
            Role::Label => (0..shape.batch).map(|row| f32::from(u8::from(row % 3 == 0))).collect(),
            _ => rows.batch(at + 1).to_vec(),
        };
        let beside: Vec<Vec<f32>> = columns.beside.iter().enumerate().map(values).collect();
        let inputs = columns.inputs.len().max(1);
        let files = files(spec, shape, rows, threads)?;
        let setup = Setup {
            beside: &beside,
            beside_widths: &beside_widths,
            input_widths: &vec![shape.d / inputs; inputs],
            scales: Scales { inputs: vec![1.0; inputs], beside: vec![1.0; beside.len()] },
            files: &files,
            ..Setup::plain(&shape.d, 1000, 0, rows.batch(0), threads.clone())
        };
        let learner =
            spec.build(&setup).map_err(|e| Error::spec(e.to_string()).object("the command line"))?;
        Ok(Contender { spec: spec.clone(), learner, beside })
    }

    fn step(&mut self, rows: &Rows, number: usize) -> StepReport {
        let x = rows.batch(number);
        let lanes = [0, x.len() / rows.d_in];
        self.learner.step(&ActivationBatch::new(x, &lanes).with_beside(&self.beside))
    }

    /// Lowers the encoder bias until as many latents fire as TopK keeps: a learner that is not told its
    /// L0 begins with half of them.
    fn bring_to_l0(&mut self, shape: &Shape, rows: &Rows) -> Result<()> {
        let bug = |e: Mismatch| Error::bug(e.to_string());
        let start = self.learner.save();
        let Ok(bias) = start.f32("b_enc", &[shape.n]) else { return Ok(()) };
        let (mut low, mut high) = (0f32, 2f32);
        for _ in 0..SEARCH {
            let lower = (low + high) / 2.0;
            let mut state = start.clone();
            state.push_f32("b_enc", vec![shape.n], &bias.iter().map(|b| b - lower).collect::<Vec<_>>());
            self.learner.load(&state).map_err(bug)?;
            let fired = self.step(rows, 0).nnz;
            if fired > (shape.k * shape.batch) as u64 {
                low = lower
            } else {
                high = lower
            }
            self.learner.load(&state).map_err(bug)?;
        }
        Ok(())
    }
}

/// A dictionary for learners that build on one.
fn files(
    spec: &LearnerSpec,
    shape: &Shape,
    rows: &Rows,
    threads: &Threads,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = spec.files();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let base = self::spec(&json!({ "kind": "topk" }), shape)?;
    let base = Contender::new(&base, shape, rows, threads)?.learner.freeze(&Scales::of(1.0));
    let exported = base.export().map_err(|e| Error::bug(e.to_string()))?;
    let file = |name: &String| {
        let file = exported.iter().find(|file| name.ends_with(file.name))?;
        Some((name.clone(), file.bytes.clone()))
    };
    Ok(names.iter().filter_map(file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reason for `plain`: Multi-TopK is not what others are compared with, and k that falls is another k.
    #[test]
    fn a_plain_example_keeps_what_it_must_have() {
        let table = json!({ "kind": "topk", "n_latents": 40, "k": 4, "multi_coefficient": 0.125 });
        assert_eq!(plain(table), json!({ "kind": "topk", "n_latents": 40, "k": 4 }));
        let least = json!({ "kind": "vsae", "n_latents": 40, "k": 4, "kl_coefficient": 0.1 });
        let mut table = least.clone();
        table["variance"] = json!("learned");
        assert_eq!(plain(table), least);
    }
}
