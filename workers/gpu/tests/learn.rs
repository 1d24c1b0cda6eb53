//! Learners on a card against the same learners on the CPU; the card of the tests is a software Vulkan device.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(feature = "vulkan")]

use std::{panic::catch_unwind, sync::Arc};

use atomflow_gpu::{card::Card, learn, wire::Arrived};
use atomflow_workers::{
    card::{
        self, Arithmetic, MomentsIn, Peer, Precision, Split,
        wire::{Format, Outgoing, Sent},
    },
    conformance::{self, step_of as step},
    learner::{ActivationBatch, DictLearner},
    state::LearnerState,
    threads::Threads,
    variants::{LearnerSpec, registry},
};
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use half::{bf16, f16};

/// With this variable at 1 a machine without a Vulkan device fails the tests.
const WANTED: &str = "ATOMFLOW_TEST_VULKAN";

const D_IN: usize = 24;
const STEPS: u64 = 200;

fn card() -> Option<Arc<dyn card::Card>> {
    card_in(Arithmetic::default())
}

fn card_in(arithmetic: Arithmetic) -> Option<Arc<dyn card::Card>> {
    Some(peer_in(arithmetic)?)
}

fn peer() -> Option<Arc<dyn Peer>> {
    peer_in(Arithmetic::default())
}

fn peer_in(arithmetic: Arithmetic) -> Option<Arc<dyn Peer>> {
    match catch_unwind(|| Card::<WgpuRuntime>::open(&WgpuDevice::Cpu)) {
        Ok(card) => Some(learn::card(card, "vulkan:0", arithmetic, None)),
        Err(_) => {
            assert!(std::env::var_os(WANTED).is_none_or(|v| v != "1"), "{WANTED}=1, but there is no device");
            eprintln!("skipped: no software Vulkan device (mesa-vulkan-drivers, libvulkan1)");
            None
        }
    }
}

/// Two cards that share a learner.
fn two(split: Split) -> Option<Arc<dyn card::Card>> {
    card::as_one(vec![peer()?, peer()?], split).unwrap()
}

/// Ways to use a kind that its small example does not show.
const MODES: [&str; 8] = [
    r#"{"kind": "relu", "n_latents": 40, "form": "2023", "l1_coefficient": 0.05, "dead_after_tokens": 200}"#,
    r#"{"kind": "relu", "n_latents": 40, "l1_coefficient": 0.05, "clip_norm": 0.3, "dead_after_tokens": 200}"#,
    r#"{"kind": "relu", "n_latents": 40, "form": "2023", "l1_coefficient": 0.05, "clip_norm": 0.5,
        "resample_every": 2, "aux_coefficient": 0, "dead_after_tokens": 90}"#,
    r#"{"kind": "matryoshka", "n_latents": 40, "k": 4, "prefixes": [3, 4, 19, 21, 40],
        "weights": [0.5, 1, 0, 2, 3], "dead_after_tokens": 200}"#,
    r#"{"kind": "matryoshka", "n_latents": 40, "k": 4, "sampled_prefixes": 4, "dead_after_tokens": 200}"#,
    r#"{"kind": "transcoder", "n_latents": 40, "k": 4, "target": "y", "batch": true, "dead_after_tokens": 200}"#,
    r#"{"kind": "crosscoder", "n_latents": 40, "k": 4, "inputs": ["a", "b", "c"], "dead_after_tokens": 200}"#,
    r#"{"kind": "adaptivek", "n_latents": 40, "k_min": 2, "k_max": 6, "l1_weight": 0.01, "joint_share": 0.5,
        "dead_after_tokens": 200}"#,
];

const SPLITS: [Split; 2] = [Split::Latents, Split::Rows];

/// Every kind that says it learns on cards, as its own small example and in other ways.
fn kinds() -> Vec<LearnerSpec> {
    let small = registry().into_iter().map(|info| info.small).chain(MODES);
    let specs = small.map(|spec| serde_json::from_str::<LearnerSpec>(spec).unwrap());
    specs.filter(|spec| spec.cpu_only().is_none()).collect()
}

fn build(spec: &LearnerSpec, card: Option<Arc<dyn card::Card>>) -> Box<dyn DictLearner> {
    conformance::learner(spec, card, STEPS)
}

#[test]
fn learners_keep_every_promise_on_a_card() {
    let Some(card) = card() else { return };
    for spec in kinds() {
        eprintln!("{}", spec.kind());
        conformance::check_on(&spec, &card);
    }
    assert_eq!(card.lost(), None);
}

/// The same errors as on the CPU, step by step, until rounding has tipped a choice of latents somewhere.
#[test]
fn loss_curves_are_those_of_the_cpu() {
    let Some(card) = card() else { return };
    for spec in kinds() {
        let (mut here, mut there) = (build(&spec, None), build(&spec, Some(card.clone())));
        let (mut worst, mut ends) = (0f64, [0f64; 2]);
        // A software device takes its time; the two that most jobs learn go all the way.
        let steps = if spec.kind().ends_with("topk") { STEPS } else { STEPS / 4 };
        for number in 0..steps {
            let (a, b) = (step(&spec, &mut *here, number), step(&spec, &mut *there, number));
            let far = (a.squared_error - b.squared_error).abs() / a.squared_error;
            if number < 10 {
                assert!(far < 1e-4, "{} at step {number}: {a:?} {b:?}", spec.kind());
            }
            worst = worst.max(far);
            if number >= steps - 20 {
                ends = [ends[0] + a.squared_error, ends[1] + b.squared_error];
            }
        }
        let apart = (ends[0] - ends[1]).abs() / ends[0];
        eprintln!("{}: curves at most {worst:.1e} apart, ends {apart:.1e}", spec.kind());
        // Small p make gradients so large that the last bit of one decides which latents come and go.
        let allowed = if spec.kind() == "panneal" { 0.2 } else { 1e-3 };
        assert!(apart < allowed, "{}: {ends:?}", spec.kind());
    }
}

/// A checkpoint of one is a checkpoint of the other.
#[test]
fn a_run_goes_on_on_the_other_device() {
    let Some(card) = card() else { return };
    for spec in kinds() {
        let (mut here, mut there) = (build(&spec, None), build(&spec, Some(card.clone())));
        (0..5).for_each(|number| {
            step(&spec, &mut *here, number);
        });
        let saved = here.save().to_bytes().unwrap();
        there.load(&LearnerState::from_bytes(&saved).unwrap()).unwrap();
        assert_eq!(there.save().to_bytes().unwrap(), saved, "{}", spec.kind());
        let (a, b) = (step(&spec, &mut *here, 5), step(&spec, &mut *there, 5));
        assert!((a.loss - b.loss).abs() <= 1e-5 * a.loss.abs(), "{}: {a:?} {b:?}", spec.kind());
        // And back, with whatever became of dead latents and of what a kind learns beside the weights.
        (6..12).for_each(|number| {
            step(&spec, &mut *there, number);
        });
        here.load(&there.save()).unwrap();
        let (a, b) = (step(&spec, &mut *here, 12), step(&spec, &mut *there, 12));
        assert!((a.loss - b.loss).abs() <= 1e-5 * a.loss.abs(), "{}: {a:?} {b:?}", spec.kind());
    }
}

/// The frozen dictionary finds the same latents, and values to the last bits.
#[test]
fn codes_are_those_of_the_cpu() {
    let Some(card) = card() else { return };
    for spec in kinds() {
        let (mut here, mut there) = (build(&spec, None), build(&spec, Some(card.clone())));
        (0..20).for_each(|number| {
            step(&spec, &mut *here, number);
        });
        there.load(&here.save()).unwrap();
        let (here, there) = (conformance::frozen(&spec, &*here), conformance::frozen(&spec, &*there));
        let x: Vec<f32> = conformance::rows(50).iter().map(|v| v / 3.0).collect();
        let (a, b) = (here.encode(&x), there.encode(&x));
        assert_eq!((&a.offsets, &a.latents), (&b.offsets, &b.latents), "{}", spec.kind());
        let far = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "{}: {far}", spec.kind());
    }
}

/// Latents in shards, rows in shares: the same choices, sums to the last bits.
#[test]
fn two_cards_are_one() {
    let Some(card) = card() else { return };
    for (split, spec) in
        SPLITS.into_iter().flat_map(|split| kinds().into_iter().map(move |spec| (split, spec)))
    {
        let two = two(split).unwrap();
        let (mut one, mut both) = (build(&spec, Some(card.clone())), build(&spec, Some(two.clone())));
        for number in 0..10 {
            let (a, b) = (step(&spec, &mut *one, number), step(&spec, &mut *both, number));
            let far = (a.loss - b.loss).abs() / a.loss.abs();
            assert!(far < 1e-4, "{split:?} {} at step {number}: {a:?} {b:?}", spec.kind());
            assert!(number > 0 || (a.nnz, a.dead) == (b.nnz, b.dead), "{}: {a:?} {b:?}", spec.kind());
        }
        assert_eq!(two.lost(), None);
    }
}

#[test]
fn a_batch_of_one_row_leaves_cards_without_rows() {
    let (Some(card), Some(two)) = (card(), two(Split::Rows)) else { return };
    for spec in kinds().iter().filter(|spec| ["topk", "batchtopk", "jumprelu"].contains(&spec.kind())) {
        let (mut one, mut both) = (build(spec, Some(card.clone())), build(spec, Some(two.clone())));
        let x = conformance::rows(3);
        for row in x.chunks(one.d_in()).take(3) {
            let batch = ActivationBatch::new(row, &[0, 1]);
            let (a, b) = (one.step(&batch), both.step(&batch));
            assert!((a.loss - b.loss).abs() <= 1e-4 * a.loss.abs(), "{}: {a:?} {b:?}", spec.kind());
            assert_eq!((a.rows, a.nnz), (b.rows, b.nnz), "{}", spec.kind());
        }
    }
    assert_eq!(two.lost(), None);
}

#[test]
fn learners_keep_every_promise_on_two_cards() {
    // Each kind in one of the ways: a software device takes its time, and all go both ways in `two_cards_are_one`.
    let asked = [(Split::Latents, ["topk", "matryoshka"]), (Split::Rows, ["batchtopk", "crosscoder"])];
    for (split, kinds) in asked {
        let Some(two) = two(split) else { return };
        for spec in some(&kinds) {
            eprintln!("{split:?} {}", spec.kind());
            conformance::check_on(&spec, &two);
        }
        assert_eq!(two.lost(), None);
    }
}

/// Some kinds whose steps differ.
fn some(kinds_of: &[&str]) -> Vec<LearnerSpec> {
    let mut specs = kinds();
    specs.retain(|spec| kinds_of.contains(&spec.kind()));
    specs.dedup_by_key(|spec| spec.kind());
    specs
}

/// Sums of the errors of the last twenty of 200 steps on two cards, and how far the first ten are apart, relatively.
fn ends(spec: &LearnerSpec, cards: [&Arc<dyn card::Card>; 2]) -> ([f64; 2], f64) {
    let mut learners = cards.map(|card| build(spec, Some(card.clone())));
    let (mut ends, mut first) = ([0f64; 2], 0f64);
    for number in 0..STEPS {
        let errors = learners.each_mut().map(|learner| step(spec, &mut **learner, number).squared_error);
        if number < 10 {
            first = first.max((errors[0] - errors[1]).abs() / errors[0]);
        }
        if number >= STEPS - 20 {
            ends = [ends[0] + errors[0], ends[1] + errors[1]];
        }
    }
    eprintln!("{}: first {first:.1e} apart, ends {:+.1e}", spec.kind(), ends[1] / ends[0] - 1.0);
    (ends, first)
}

/// Moments in bytes: the curve of moments in f32 within five per cent, and what is saved is loaded to the same bytes.
#[test]
fn moments_in_bytes_learn_as_well() {
    let bytes = Arithmetic { moments: MomentsIn::Bits8, precision: Precision::F32 };
    let (Some(card), Some(in_bytes)) = (card(), card_in(bytes)) else { return };
    for spec in some(&["topk", "jumprelu"]) {
        let (ends, _) = ends(&spec, [&card, &in_bytes]);
        assert!((ends[1] / ends[0] - 1.0).abs() < 5e-2, "{}: {ends:?}", spec.kind());
        let [mut one, mut other] = [0; 2].map(|_| build(&spec, Some(in_bytes.clone())));
        (0..5).for_each(|number| {
            step(&spec, &mut *one, number);
        });
        other.load(&one.save()).unwrap();
        assert_eq!(other.save().to_bytes().unwrap(), one.save().to_bytes().unwrap(), "{}", spec.kind());
        for learner in [&mut one, &mut other] {
            step(&spec, &mut **learner, 5);
        }
        assert_eq!(other.save().to_bytes().unwrap(), one.save().to_bytes().unwrap(), "{}", spec.kind());
    }
    assert_eq!(in_bytes.lost(), None);
}

/// Weights in bf16: the curve of f32 within the tolerance of a card's check. (Products are exact here, of the same
/// factors.)
#[test]
fn weights_in_bf16_learn_as_well() {
    let bf16 = Arithmetic { moments: MomentsIn::F32, precision: Precision::Bf16 };
    let (Some(card), Some(rounding)) = (card(), card_in(bf16)) else { return };
    for spec in some(&["topk"]) {
        let (ends, first) = ends(&spec, [&card, &rounding]);
        assert!(first < 1e-2, "{}: {first}", spec.kind());
        assert!((ends[1] / ends[0] - 1.0).abs() < 5e-2, "{}: {ends:?}", spec.kind());
    }
    assert_eq!(rounding.lost(), None);
}

/// Both at once, with latents that start again.
#[test]
fn learners_keep_every_promise_in_bf16_and_bytes() {
    let both = Arithmetic { moments: MomentsIn::Bits8, precision: Precision::Bf16 };
    let Some(card) = card_in(both) else { return };
    let resampling = MODES.iter().filter(|spec| spec.contains("resample_every"));
    let mut specs = some(&["topk", "csr"]);
    specs.extend(resampling.map(|spec| serde_json::from_str::<LearnerSpec>(spec).unwrap()));
    for spec in specs {
        eprintln!("{}", spec.kind());
        conformance::check_on(&spec, &card);
    }
    assert_eq!(card.lost(), None);
}

/// Columns of a row, not in their order.
const COLUMNS: [std::ops::Range<usize>; 2] = [14..24, 0..14];
/// Beyond the exponents of f16.
const FAR: f32 = (1u64 << 40) as f32;

/// What the columns are multiplied by.
fn scales(way: usize) -> [f32; 2] {
    [1.37, 0.21].map(|scale| if way == 1 { scale * FAR } else { scale })
}

/// Rows of a step as the data has them, for each way in which they can travel; the last one is of 16 bits but for one
/// number.
fn data(number: u64) -> [(Format, Vec<f32>); 4] {
    let x = conformance::rows(number);
    let of = |narrow: &dyn Fn(f32) -> f32| x.iter().map(|&v| narrow(v)).collect::<Vec<_>>();
    let halves = of(&|v| f16::from_f32(v).to_f32());
    let mut mixed = halves.clone();
    mixed[x.len() / 2] = 0.1;
    let uppers = of(&|v| bf16::from_f32(v).to_f32() / FAR);
    [(Format::F16, halves), (Format::Bf16, uppers), (Format::F32, x), (Format::F32, mixed)]
}

fn sent(card: &Arc<dyn card::Card>, x: &[f32], scales: &[f32], threads: &Threads) -> Sent {
    let rows: Vec<&[f32]> = x.chunks_exact(D_IN).collect();
    card.send(&Outgoing { rows: &rows, columns: &COLUMNS, scales }, threads)
}

/// The same rows as they come with a step.
fn scaled(x: &[f32], scales: [f32; 2]) -> Vec<f32> {
    let row = |row: &[f32]| {
        let column = |(column, scale): (&std::ops::Range<usize>, f32)| {
            row[column.clone()].iter().map(move |v| v * scale).collect::<Vec<_>>()
        };
        COLUMNS.iter().zip(scales).flat_map(column).collect::<Vec<_>>()
    };
    x.chunks_exact(D_IN).flat_map(row).collect()
}

/// Rows that went to the card before, while another step was going on and once for two learners: the very bytes of
/// rows that come with their step.
fn go_ahead(card: &Arc<dyn card::Card>, spec: &LearnerSpec, way: usize) {
    let (threads, scales) = (Threads::new(2).unwrap(), scales(way));
    let mut learners = [(); 3].map(|()| build(spec, Some(card.clone())));
    let mut ready = sent(card, &data(0)[way].1, &scales, &threads);
    for number in 0..4 {
        let (format, x) = &data(number)[way];
        let (lanes, x, columns) = ([0, x.len() / D_IN], scaled(x, scales), conformance::beside(spec, number));
        if let Some(arrived) = ready.0.downcast_ref::<Arrived>() {
            assert_eq!((arrived.format, arrived.len), (*format, x.len()));
        }
        let [here, there, beside] = &mut learners;
        let a = here.step(&ActivationBatch::new(&x, &lanes).with_beside(&columns));
        ready = std::thread::scope(|scope| {
            let next = scope.spawn(|| sent(card, &data(number + 1)[way].1, &scales, &threads));
            for learner in [there, beside] {
                // Nothing of them is read here, unless the learner says so.
                let x = if learner.reads_rows() { &x[..] } else { &[] };
                let batch = ActivationBatch::new(x, &lanes).with_beside(&columns).with_sent(&ready);
                assert_eq!(a, learner.step(&batch), "{} at step {number}", spec.kind());
            }
            next.join().unwrap()
        });
    }
    let [here, there, beside] = learners.map(|learner| learner.save().to_bytes().unwrap());
    assert!(here == there && here == beside, "{} way {way}", spec.kind());
}

#[test]
fn rows_that_go_ahead_change_no_byte() {
    let Some(one) = card() else { return };
    for spec in kinds() {
        let ways = if spec.kind() == "topk" { 0..4 } else { 0..1 };
        ways.for_each(|way| go_ahead(&one, &spec, way));
    }
    let topk = kinds().into_iter().find(|spec| spec.kind() == "topk").unwrap();
    assert!(build(&topk, None).reads_rows() && !build(&topk, Some(one.clone())).reads_rows());
    assert_eq!((one.lost(), one.remark()), (None, None));
}

/// Each card has all of them, or its share.
#[test]
fn rows_that_go_ahead_to_two_cards_change_no_byte() {
    for split in SPLITS {
        let Some(two) = two(split) else { return };
        for spec in kinds().iter().filter(|spec| ["topk", "batchtopk"].contains(&spec.kind())) {
            (0..3).for_each(|way| go_ahead(&two, spec, way));
        }
        assert_eq!((two.lost(), two.remark()), (None, None));
    }
}

/// Rows that another card was sent are not taken for one's own.
#[test]
fn rows_of_another_card_are_refused() {
    let (Some(card), threads) = (card(), Threads::new(1).unwrap()) else { return };
    let mut learner = build(&kinds()[0], Some(card.clone()));
    let foreign = Sent(Arc::new(()));
    let report = learner.step(&ActivationBatch::new(&[], &[0, 96]).with_sent(&foreign));
    assert!(!report.loss.is_finite());
    assert_eq!(card.lost().as_deref(), Some("a batch of another card"));
    // Nothing to send is nothing there.
    assert_eq!(sent(&card, &[], &scales(0), &threads).0.downcast_ref::<Arrived>().unwrap().rows(), 0);
}
