//! What every learner must do, whatever it learns. Each registry entry runs all of it.
//!
//! Functions panic with the name of the broken promise, like assertions: they are called by tests.
#![allow(clippy::panic, clippy::expect_used, reason = "a conformance suite is made of assertions")]

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use crate::{
    card::Card,
    coders::{CoderSpec, Recoded},
    codes::Codes,
    learner::{
        ActivationBatch, BatchFacts, Beside, DictLearner, Dictionary, Role, Scales, Setup, StepReport,
    },
    random::{hash, unit},
    skeleton::outside::{Answer, OutsideLoss, Reconstruction},
    state::LearnerState,
    threads::Threads,
    variants::LearnerSpec,
};

const D_IN: usize = 24;
const ROWS: usize = 96;
const STEPS: u64 = 6;

/// A learner and where it learns.
struct Subject {
    spec: LearnerSpec,
    card: Option<Arc<dyn Card>>,
}

impl Deref for Subject {
    type Target = LearnerSpec;

    fn deref(&self) -> &LearnerSpec {
        &self.spec
    }
}

/// Runs the whole suite on one learner.
pub fn check(spec: &LearnerSpec) {
    suite(&Subject { spec: spec.clone(), card: None });
}

/// Runs the whole suite on one learner that learns and encodes on a card.
pub fn check_on(spec: &LearnerSpec, card: &Arc<dyn Card>) {
    suite(&Subject { spec: spec.clone(), card: Some(card.clone()) });
}

fn suite(spec: &Subject) {
    same_bytes_for_any_threads(spec);
    save_load_step_equals_step_step(spec);
    lanes_do_not_depend_on_who_holds_them(spec);
    an_empty_batch_changes_nothing(spec);
    a_foreign_state_is_refused(spec);
    encoding_ignores_how_rows_are_grouped(spec);
    learning_lowers_the_error(spec);
    facts_change_nothing(spec);
    rows_that_are_not_finite_are_reported(spec);
    a_coder_takes_the_place_of_the_encoder(spec);
}

/// A dictionary that was learned in a few steps, frozen for vectors that were multiplied by 3.
pub fn dictionary(spec: &LearnerSpec) -> Box<dyn Dictionary> {
    let spec = Subject { spec: spec.clone(), card: None };
    trained(&spec, 1, STEPS).freeze(&scales(&spec, 3.0))
}

/// Rows around four directions, so that there is something to learn, `[96, 24]`. Each step has others.
pub fn rows(step: u64) -> Vec<f32> {
    let value = |r: usize, c: usize| {
        let noise = unit(hash(&[step, r as u64, c as u64])) - 0.5;
        let signal = if c % 4 == r % 4 { 1.0 + unit(hash(&[step, r as u64])) } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, reason = "activations are f32")]
        let value = ((signal + 0.2 * noise) / 5.0) as f32;
        value
    };
    (0..ROWS).flat_map(|r| (0..D_IN).map(move |c| value(r, c))).collect()
}

/// A learner of `steps` steps at its start, on a card or not, with whatever it asks for.
pub fn learner(spec: &LearnerSpec, card: Option<Arc<dyn Card>>, steps: u64) -> Box<dyn DictLearner> {
    let spec = Subject { spec: spec.clone(), card };
    build(&spec, 2, steps, &rows(1000), &beside(&spec, 1000))
}

/// Step `number` of such a learner.
pub fn step_of(spec: &LearnerSpec, learner: &mut dyn DictLearner, number: u64) -> StepReport {
    step(&Subject { spec: spec.clone(), card: None }, learner, number, LANES)
}

/// Its dictionary, frozen for vectors that were multiplied by 3.
pub fn frozen(spec: &LearnerSpec, learner: &dyn DictLearner) -> Box<dyn Dictionary> {
    learner.freeze(&scales(&Subject { spec: spec.clone(), card: None }, 3.0))
}

fn start(spec: &Subject, threads: usize) -> Box<dyn DictLearner> {
    build(spec, threads, STEPS, &rows(1000), &beside(spec, 1000))
}

/// As it is built to go on from a checkpoint: nothing is calibrated again.
fn start_without_sample(spec: &Subject) -> Box<dyn DictLearner> {
    build(spec, 2, STEPS, &[], &vec![Vec::new(); spec.columns().beside.len()])
}

fn build(
    spec: &Subject,
    threads: usize,
    steps: u64,
    sample: &[f32],
    beside: &[Vec<f32>],
) -> Box<dyn DictLearner> {
    let (files, (input_widths, beside_widths)) = (files(spec), widths(spec));
    let setup = Setup {
        files: &files,
        outside: spec.outside().map(|_| Arc::new(Squared) as _),
        beside,
        input_widths: &input_widths,
        beside_widths: &beside_widths,
        scales: scales(spec, 3.0),
        card: spec.card.clone(),
        ..Setup::plain(&D_IN, steps, 7, sample, Threads::new(threads).expect("threads start"))
    };
    spec.build(&setup).expect("the spec is valid")
}

fn step(spec: &Subject, learner: &mut dyn DictLearner, number: u64, lanes: &[usize]) -> StepReport {
    learner.step(&ActivationBatch::new(&rows(number), lanes).with_beside(&beside(spec, number)))
}

/// The dictionaries a learner builds on: a few made-up atoms, of its own kind if it takes no other.
fn files(spec: &Subject) -> BTreeMap<String, Vec<u8>> {
    let names = spec.files();
    if names.is_empty() {
        return BTreeMap::new();
    }
    let small = match spec.kind() {
        "itda" => r#"{"kind": "itda", "n_latents": 6, "k": 2, "tau": 0.001, "initial": 4}"#,
        _ => r#"{"kind": "topk", "n_latents": 6, "k": 2}"#,
    };
    let base = Subject { spec: serde_json::from_str(small).expect("a spec"), card: None };
    let exported = trained(&base, 1, 1).freeze(&Scales::of(3.0)).export().expect("an export");
    let bytes = |name: &String| {
        let file = exported.iter().find(|file| name.ends_with(file.name)).expect("a file of the export");
        (name.clone(), file.bytes.clone())
    };
    names.iter().map(bytes).collect()
}

/// The loss of learners that ask somebody else: the squared error, as autoencoders have it.
#[derive(Debug)]
struct Squared;

impl OutsideLoss for Squared {
    fn answer(&self, r: &Reconstruction) -> Option<Answer> {
        let rows = (r.x.len() / r.d) as f64;
        let e: Vec<f32> = r.x.iter().zip(r.x_hat).map(|(x, x_hat)| x - x_hat).collect();
        // In f32, as where it is computed in earnest: what is too large has to show.
        let loss = e.iter().map(|&e| f64::from(e * e)).sum::<f64>() / rows;
        #[allow(clippy::cast_possible_truncation, reason = "gradients are f32")]
        let gradient = e.iter().map(|e| (-2.0 * f64::from(*e) / rows) as f32).collect();
        Some(Answer { loss, gradient })
    }
}

/// Widths of the input columns, which share the width out, and of the columns beside.
fn widths(spec: &Subject) -> (Vec<usize>, Vec<usize>) {
    let columns = spec.columns();
    let width = |beside: &Beside| if beside.role == Role::Label { 1 } else { D_IN };
    let inputs = columns.inputs.len().max(1);
    (vec![D_IN / inputs; inputs], columns.beside.iter().map(width).collect())
}

fn scales(spec: &Subject, scale: f32) -> Scales {
    let (inputs, beside) = widths(spec);
    Scales { inputs: vec![scale; inputs.len()], beside: vec![scale; beside.len()] }
}

/// The columns a learner asks for: vectors are other rows of the same kind, labels 0 or 1, some missing.
pub fn beside(spec: &LearnerSpec, number: u64) -> Vec<Vec<f32>> {
    let column = |(at, beside): (usize, &Beside)| match beside.role {
        Role::Target | Role::Gradient => rows(number + 100 * (at as u64 + 1)),
        Role::Label => {
            (0..ROWS).map(|row| if row % 11 == 7 { f32::NAN } else { (row % 4 / 2) as f32 }).collect()
        }
    };
    spec.columns().beside.iter().enumerate().map(column).collect()
}

const LANES: &[usize] = &[0, 20, 20, 61, ROWS];

fn trained(spec: &Subject, threads: usize, steps: u64) -> Box<dyn DictLearner> {
    let mut learner = start(spec, threads);
    for number in 0..steps {
        step(spec, &mut *learner, number, LANES);
    }
    learner
}

fn same_bytes_for_any_threads(spec: &Subject) {
    let one = trained(spec, 1, STEPS).save();
    for threads in [2, 3, 8] {
        assert_eq!(one, trained(spec, threads, STEPS).save(), "{threads} threads give other bytes than 1");
    }
}

fn save_load_step_equals_step_step(spec: &Subject) {
    for stop in 0..STEPS {
        let bytes = trained(spec, 2, stop).save().to_bytes().expect("a state has bytes");
        let mut resumed = start_without_sample(spec);
        resumed.load(&LearnerState::from_bytes(&bytes).expect("and is read back")).expect("and fits");
        for number in stop..STEPS {
            step(spec, &mut *resumed, number, LANES);
        }
        assert_eq!(resumed.save(), trained(spec, 2, STEPS).save(), "stopped after step {stop}");
    }
}

/// Empty lanes and the grouping of lanes into processes must not matter: sums run lane by lane.
fn lanes_do_not_depend_on_who_holds_them(spec: &Subject) {
    let (mut few, mut padded) = (start(spec, 1), start(spec, 1));
    step(spec, &mut *few, 0, &[0, 20, 61, ROWS]);
    step(spec, &mut *padded, 0, &[0, 0, 20, 20, 61, ROWS, ROWS]);
    assert_eq!(few.save(), padded.save(), "empty lanes change the step");
}

fn an_empty_batch_changes_nothing(spec: &Subject) {
    let mut learner = trained(spec, 1, 2);
    let before = learner.save();
    let nothing = vec![Vec::new(); spec.columns().beside.len()];
    let report = learner.step(&ActivationBatch::new(&[], &[0, 0, 0]).with_beside(&nothing));
    assert_eq!((report.rows, learner.save()), (0, before), "a batch without rows is not a step");
}

fn a_foreign_state_is_refused(spec: &Subject) {
    let mut learner = trained(spec, 1, 1);
    let before = learner.save();
    let mut foreign = LearnerState::default();
    foreign.push_f32("w_enc", vec![1, 1], &[0.0]);
    assert!(learner.load(&foreign).is_err(), "a foreign state is accepted");
    assert_eq!(learner.save(), before, "a refused state changes the learner");
}

fn encoding_ignores_how_rows_are_grouped(spec: &Subject) {
    let dictionary = trained(spec, 2, STEPS).freeze(&scales(spec, 3.0));
    let x = rows(50);
    let whole = dictionary.encode(&x);
    let width = dictionary.d_out();
    let mut x_hat = vec![0f32; ROWS * width];
    dictionary.decode(&whole, &mut x_hat);
    for group in [1, 7, 50] {
        let mut row = 0;
        for chunk in x.chunks(group * D_IN) {
            let codes = dictionary.encode(chunk);
            let mut part = vec![0f32; codes.rows() * width];
            dictionary.decode(&codes, &mut part);
            assert_eq!(part, x_hat[row * width..][..part.len()], "groups of {group} decode differently");
            for r in 0..codes.rows() {
                assert_eq!(codes.row(r), whole.row(row + r), "groups of {group} encode differently");
            }
            row += codes.rows();
        }
    }
}

fn learning_lowers_the_error(spec: &Subject) {
    let mut learner = start(spec, 1);
    let reports: Vec<StepReport> = (0..STEPS).map(|_| step(spec, &mut *learner, 0, LANES)).collect();
    let (first, last) = (reports[0].squared_error, reports[reports.len() - 1].squared_error);
    assert!(last < first, "the error went from {first} to {last} on the same rows");
    assert!(last.is_finite());
}

/// Facts save work; whoever found them, the bytes are the same.
fn facts_change_nothing(spec: &Subject) {
    let (mut alone, mut told) = (start(spec, 2), start(spec, 2));
    let x = rows(0);
    let facts = BatchFacts::of(&x, D_IN, LANES, &Threads::new(3).expect("threads start"));
    let beside = beside(spec, 0);
    let batch = ActivationBatch::new(&x, LANES).with_beside(&beside);
    assert_eq!(alone.step(&batch), told.step(&batch.with_facts(facts)), "facts change the report");
    assert_eq!(alone.save(), told.save(), "facts change the step");
}

/// A learner that met NaN says so and can be stepped on: it must not take others down.
fn rows_that_are_not_finite_are_reported(spec: &Subject) {
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        let mut learner = trained(spec, 2, 2);
        let mut x = rows(0);
        x[5 * D_IN + 3] = bad;
        let report = learner.step(&ActivationBatch::new(&x, LANES).with_beside(&beside(spec, 0)));
        assert!(report.diverged(), "a row with {bad} goes unnoticed");
        step(spec, &mut *learner, 1, LANES);
    }
}

/// Whoever does not say why not can be coded by search; a row that is not finite has no codes then.
fn a_coder_takes_the_place_of_the_encoder(spec: &Subject) {
    if spec.uncodable().is_some() {
        return;
    }
    for coder in [r#"{"kind": "omp", "k": 3}"#, r#"{"kind": "cd", "lambda": 0.1}"#] {
        let coder: CoderSpec = serde_json::from_str(coder).expect("a coder");
        let inner = Arc::from(trained(spec, 1, STEPS).freeze(&scales(spec, 3.0)));
        let threads = Threads::new(2).expect("threads start");
        let dictionary = Recoded::new(inner, &coder, threads).expect("a sum of atoms");
        let mut x = rows(50);
        let codes = dictionary.encode(&x);
        let (found, nothing) = (error(&dictionary, &x, &codes), error(&dictionary, &x, &none(&codes)));
        assert!(found < nothing, "{coder:?} leaves {found} of {nothing}");
        x[5 * D_IN + 3] = f32::NAN;
        x[6 * D_IN + 3] = f32::INFINITY;
        let spoilt = dictionary.encode(&x);
        assert!(spoilt.row(5).0.is_empty() && spoilt.row(6).0.is_empty(), "codes of what is not finite");
        assert_eq!(spoilt.row(7), codes.row(7), "a row changes another");
    }
}

/// As many rows without codes.
fn none(codes: &Codes) -> Codes {
    let mut none = Codes::new(codes.n_latents);
    (0..codes.rows()).for_each(|_| none.push_row([]));
    none
}

/// `Σ‖x − x_hat‖²`.
fn error(dictionary: &dyn Dictionary, x: &[f32], codes: &Codes) -> f64 {
    let mut x_hat = vec![0f32; x.len()];
    dictionary.decode(codes, &mut x_hat);
    x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}
