//! The statistics of a shard whose codes are counted on a card, against those of the same codes counted here; the card
//! of the tests is a software Vulkan device.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(feature = "vulkan")]

use std::{ops::Range, panic::catch_unwind, sync::Arc};

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::Int64Type;
use atomflow_gpu::{card::Card, learn};
use atomflow_schemas::partial::Partial;
use atomflow_workers::{
    card::{self, Arithmetic},
    interp::HarvestSpec,
    learner::Dictionary,
    random::{hash, unit},
    skeleton::{FrozenParameters, FrozenSae, Inference},
    stats::{FixedPoint, HarvestBlock, RowSplit, ShardPartial, ShardStatistics, StatsSpec, Tokens},
    threads::Threads,
};
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use proptest::prelude::*;

/// With this variable at 1 a machine without a Vulkan device fails the tests.
const WANTED: &str = "ATOMFLOW_TEST_VULKAN";

fn card() -> Option<Arc<dyn card::Card>> {
    match catch_unwind(|| Card::<WgpuRuntime>::open(&WgpuDevice::Cpu)) {
        Ok(card) => Some(learn::card(card, "vulkan:0", Arithmetic::default(), None)),
        Err(_) => {
            assert!(std::env::var_os(WANTED).is_none_or(|v| v != "1"), "{WANTED}=1, but there is no device");
            eprintln!("skipped: no software Vulkan device (mesa-vulkan-drivers, libvulkan1)");
            None
        }
    }
}

fn draw(words: &[u64]) -> f64 {
    unit(hash(words))
}

/// A dictionary of random weights on `card`.
fn dictionary(
    card: &Arc<dyn card::Card>,
    seed: u64,
    (d, n): (usize, usize),
    inference: Inference,
    pre_bias: bool,
) -> FrozenSae {
    let numbers = |what: u64, len: usize, scale: f32| -> Vec<f32> {
        (0..len as u64).map(|i| (draw(&[seed, what, i]) as f32 - 0.5) * scale).collect()
    };
    let parameters = FrozenParameters {
        d_in: d,
        pre_bias,
        w_enc: numbers(1, n * d, 1.0),
        b_enc: numbers(2, n, 0.2),
        w_dec: numbers(3, n * d, 0.5),
        b_dec: numbers(4, d, 0.3),
        threads: Threads::new(1).unwrap(),
        card: Some(card.clone()),
    };
    FrozenSae::new(inference, parameters)
}

/// Rows of sequences, as a shard holds them.
struct Shard {
    d: usize,
    x: Vec<f32>,
    split: Vec<RowSplit>,
    token_id: Vec<i32>,
    texts: StringArray,
    seq_id: Vec<i64>,
    pos: Vec<i32>,
}

impl Shard {
    fn new(seed: u64, d: usize, lengths: &[usize]) -> Self {
        let places =
            || lengths.iter().enumerate().flat_map(|(seq, &len)| (0..len).map(move |pos| (seq, pos)));
        let of = |what: u64| places().map(move |(seq, pos)| draw(&[seed, what, seq as u64, pos as u64]));
        let split = |v: f64| match (v * 20.0) as u32 {
            0 | 1 => RowSplit::Dropped,
            2 => RowSplit::Bad,
            3..6 => RowSplit::HeldOut,
            _ => RowSplit::Train,
        };
        let split: Vec<RowSplit> = of(1).map(split).collect();
        let mut x: Vec<f32> =
            (0..split.len() * d).map(|i| draw(&[seed, 2, i as u64]) as f32 * 2.0 - 0.9).collect();
        for (row, _) in split.iter().enumerate().filter(|(_, split)| **split == RowSplit::Bad) {
            x[row * d] = if row % 2 == 0 { f32::NAN } else { f32::INFINITY };
        }
        let token_id: Vec<i32> = of(3).map(|v| (v * 100.0) as i32).collect();
        Shard {
            d,
            x,
            split,
            texts: token_id.iter().map(|id| Some(format!("t{id}"))).collect(),
            token_id,
            seq_id: places().map(|(seq, _)| seq as i64).collect(),
            pos: places().map(|(_, pos)| pos as i32).collect(),
        }
    }

    /// Hands out blocks whose lengths cycle through `blocks`, each a row group of its own.
    fn each(&self, blocks: &[usize], mut block: impl FnMut(Range<usize>, &Tokens, &[f32])) {
        let (mut from, mut number) = (0, 0);
        while from < self.split.len() {
            let rows = from..self.split.len().min(from + blocks[number % blocks.len()]);
            let texts = arrow::array::Array::slice(&self.texts, from, rows.len());
            let texts: &StringArray = texts.as_string();
            let tokens = Tokens {
                row_group: number as u32,
                first_row: from as u64,
                split: &self.split[rows.clone()],
                token_id: Some(&self.token_id[rows.clone()]),
                token: Some(texts),
                doc_id: None,
                seq_id: Some(&self.seq_id[rows.clone()]),
                pos: Some(&self.pos[rows.clone()]),
            };
            block(rows.clone(), &tokens, &self.x[rows.start * self.d..rows.end * self.d]);
            (from, number) = (rows.end, number + 1);
        }
    }

    fn coded(&self, dictionary: &FrozenSae, spec: &StatsSpec, blocks: &[usize]) -> ShardPartial {
        let mut statistics = ShardStatistics::new(spec.clone());
        self.each(blocks, |_, tokens, x| {
            let (codes, mut x_hat) = (dictionary.encode(x), vec![0.0; x.len()]);
            dictionary.decode(&codes, &mut x_hat);
            let block = HarvestBlock { tokens: *tokens, x, x_hat: &x_hat, codes: &codes, encoded: None };
            statistics.add(&block).unwrap();
        });
        statistics.finish().unwrap()
    }

    fn digested(&self, dictionary: &FrozenSae, spec: &StatsSpec, blocks: &[usize]) -> ShardPartial {
        let digests = dictionary.digests(spec.fixed).unwrap();
        let mut statistics = ShardStatistics::on_card(spec.clone(), digests);
        self.each(blocks, |_, tokens, x| statistics.digest(tokens, x).unwrap());
        statistics.finish().unwrap()
    }
}

fn spec(shard: u32, n_latents: usize, d_in: usize, harvest: HarvestSpec) -> StatsSpec {
    let fixed = FixedPoint::from_rms_norm(3.0);
    StatsSpec { shard, n_latents, d_in, fixed, seed: 11, harvest, coactivation_rate: 0.3 }
}

fn int64s(partial: &ShardPartial, name: &str) -> Vec<i64> {
    let batch = partial.batch(Partial::Quality).unwrap();
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

/// Every table the same; of quality, all that is not a sum of products of f32.
fn assert_same(digested: &ShardPartial, coded: &ShardPartial) {
    for kind in Partial::ALL.into_iter().filter(|kind| *kind != Partial::Quality) {
        assert_eq!(digested.batch(kind), coded.batch(kind), "{kind:?}");
    }
    let (found, expected) =
        (digested.batch(Partial::Quality).unwrap(), coded.batch(Partial::Quality).unwrap());
    for name in ["split", "rows", "nnz", "sum_x", "rows_sampled", "contexts"] {
        assert_eq!(found.column_by_name(name), expected.column_by_name(name), "{name}");
    }
    let rows = int64s(coded, "rows");
    // Rounding of each row beside that of its sums.
    let near = |name: &str, beside: &[i64], share: f64| {
        for (at, (a, b)) in int64s(digested, name).into_iter().zip(int64s(coded, name)).enumerate() {
            let allowed = share * beside[at] as f64 + rows[at] as f64;
            assert!((a - b).abs() as f64 <= allowed, "{name}: {a} {b}, allowed {allowed}");
        }
    };
    let norms = ["sum_x_sq", "sum_x_hat_sq"].map(|name| int64s(coded, name));
    let both: Vec<i64> = norms[0].iter().zip(&norms[1]).map(|(a, b)| a + b).collect();
    for name in ["sum_error_sq", "sum_x_sq", "sum_x_dot_x_hat", "sum_x_hat_sq"] {
        near(name, &both, 2e-7);
    }
    let ones: Vec<i64> = rows.iter().map(|rows| rows << 30).collect();
    near("sum_cosine", &ones, 2e-7);
}

fn inference(kind: usize, n: usize) -> Inference {
    match kind {
        0 => Inference::TopK(5),
        1 => Inference::AbsTopK(7),
        2 => Inference::Above(vec![0.4]),
        _ => Inference::Above((0..n).map(|latent| latent as f32 / n as f32).collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_card_counts_what_the_processor_counts(
        seed in any::<u64>(),
        lengths in prop::collection::vec(1usize..60, 1..14),
        blocks in prop::collection::vec(1usize..120, 1..5),
        kind in 0usize..4,
        (d, n) in prop::sample::select(vec![(3, 40), (17, 300), (8, 1), (5, 6000)]),
        (top, importance, per_slice, pool_contexts) in (0usize..6, 0usize..4, 0usize..3, 0usize..9),
        context_tokens in 1usize..40,
        pre_bias in any::<bool>(),
    ) {
        let Some(card) = card() else { return Ok(()) };
        let shard = Shard::new(seed, d, &lengths);
        let harvest =
            HarvestSpec { context_tokens, top, importance, per_slice, pool_contexts, slices: 2, ..HarvestSpec::default() };
        let dictionary = dictionary(&card, seed, (d, n), inference(kind, n), pre_bias);
        let spec = spec(0, n, d, harvest);
        assert_same(&shard.digested(&dictionary, &spec, &blocks), &shard.coded(&dictionary, &spec, &blocks));
        assert_eq!(card.lost(), None);
    }
}

/// Several shards at once, each with its counts; twice the same bytes, of the sums of products, too, however rows are
/// grouped. Lists fill, so that bounds leave out nearly everything.
#[test]
fn shards_on_one_card_do_not_meet() {
    let Some(card) = card() else { return };
    let dictionary = dictionary(&card, 5, (16, 64), Inference::TopK(6), true);
    let harvest = HarvestSpec { pool_contexts: 30, top: 4, ..HarvestSpec::default() };
    let shards = [0, 1].map(|seed| Shard::new(seed, 16, &[128; 150]));
    let specs = [0, 1].map(|shard| spec(shard, 64, 16, harvest.clone()));
    let alone = |at: usize, blocks: &[usize]| shards[at].digested(&dictionary, &specs[at], blocks);
    let apart = [alone(0, &[4096]), alone(1, &[4096])];
    let together = std::thread::scope(|scope| {
        [0, 1].map(|at| scope.spawn(move || alone(at, &[5000, 1, 700]))).map(|thread| thread.join().unwrap())
    });
    for at in 0..2 {
        let rows_of_groups = |partial: &ShardPartial, kind| partial.batch(kind).cloned();
        for kind in Partial::ALL.into_iter().filter(|kind| *kind != Partial::Contexts) {
            assert_eq!(rows_of_groups(&apart[at], kind), rows_of_groups(&together[at], kind), "{kind:?}");
        }
        assert_same(&apart[at], &shards[at].coded(&dictionary, &specs[at], &[4096]));
    }
    assert_eq!(card.lost(), None);
}

/// A number that is no activation is told at the end of the shard, as without a card.
#[test]
fn what_is_out_of_range_is_an_error() {
    let Some(card) = card() else { return };
    let dictionary = dictionary(&card, 1, (4, 8), Inference::TopK(2), false);
    let mut shard = Shard::new(1, 4, &[40]);
    shard.split = vec![RowSplit::Train; 40];
    shard.x = vec![1e9; 160];
    let spec = spec(0, 8, 4, HarvestSpec::default());
    let mut statistics = ShardStatistics::on_card(spec.clone(), dictionary.digests(spec.fixed).unwrap());
    shard.each(&[40], |_, tokens, x| statistics.digest(tokens, x).unwrap());
    assert!(statistics.finish().is_err());
}
