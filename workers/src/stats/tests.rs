//! The shard as a whole, against slow references and under regrouping of rows.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type};
use atomflow_schemas::partial::Partial;
use proptest::prelude::*;

use super::*;
use crate::{
    coders::CoderSpec,
    codes::Codes,
    interp::{HarvestSpec, Split},
    random::{hash, unit},
};

mod digested;

const LATENTS: usize = 24;
const D: usize = 5;
const SEED: u64 = 7;

/// Rows of several sequences, as a shard holds them.
#[derive(Debug, Clone)]
struct Rows {
    x: Vec<f32>,
    x_hat: Vec<f32>,
    codes: Vec<Vec<(u32, f32)>>,
    split: Vec<RowSplit>,
    token_id: Vec<i32>,
    doc_id: Vec<i64>,
    seq_id: Vec<i64>,
    pos: Vec<i32>,
}

/// `lengths[s]` rows of sequence `s`; everything about a row follows from (sequence, position).
fn rows(first_seq: usize, lengths: &[usize]) -> Rows {
    let mut rows = Rows {
        x: vec![],
        x_hat: vec![],
        codes: vec![],
        split: vec![],
        token_id: vec![],
        doc_id: vec![],
        seq_id: vec![],
        pos: vec![],
    };
    for (seq, &length) in lengths.iter().enumerate() {
        for pos in 0..length {
            rows.push((first_seq + seq) as u64, pos as u64);
        }
    }
    rows
}

impl Rows {
    fn push(&mut self, seq: u64, pos: u64) {
        let draw = |what: u64| unit(hash(&[99, seq, pos, what]));
        self.x.extend((0..D as u64).map(|d| draw(d) as f32 - 0.3));
        self.x_hat.extend((0..D as u64).map(|d| draw(d) as f32 - 0.2));
        let fires = |l: &u64| draw(1000 + l) < 0.6 / (1.0 + *l as f64);
        self.codes.push(
            (0..LATENTS as u64).filter(fires).map(|l| (l as u32, draw(2000 + l) as f32 + 0.01)).collect(),
        );
        self.split.push(match (draw(50) * 10.0) as u32 {
            0 => RowSplit::Dropped,
            1 => RowSplit::HeldOut,
            2 if draw(51) < 0.2 => RowSplit::Bad,
            _ => RowSplit::Train,
        });
        self.token_id.push((draw(60) * 1000.0) as i32);
        self.doc_id.push((seq / 2) as i64);
        self.seq_id.push(seq as i64);
        self.pos.push(pos as i32);
    }

    fn len(&self) -> usize {
        self.split.len()
    }

    /// Statistics of the rows, added in blocks whose lengths cycle through `blocks`.
    fn partial(&self, shard: u32, spec: &HarvestSpec, blocks: &[usize]) -> ShardPartial {
        let mut statistics = ShardStatistics::new(stats_spec(shard, spec));
        let texts: StringArray = self.token_id.iter().map(|id| Some(format!("t{id}"))).collect();
        let (mut from, mut block) = (0, 0);
        while from < self.len() {
            let to = self.len().min(from + blocks[block % blocks.len()]);
            let mut codes = Codes::new(LATENTS);
            self.codes[from..to].iter().for_each(|row| codes.push_row(row.iter().copied()));
            let (encoded, coarse, mut few) =
                (spec.coder.is_some(), self.coarse(from, to), Codes::new(LATENTS));
            self.held_out(from, to).for_each(|_| few.push_row([(1, 1.0)]));
            let texts = texts.slice(from, to - from);
            let block_of_rows = HarvestBlock {
                tokens: self.tokens(from, to, &texts),
                x: &self.x[from * D..to * D],
                x_hat: &self.x_hat[from * D..to * D],
                codes: &codes,
                encoded: encoded.then_some(Encoded { codes: &few, x_hat: &coarse }),
            };
            statistics.add(&block_of_rows).unwrap();
            (from, block) = (to, block + 1);
        }
        statistics.finish().unwrap()
    }

    fn tokens<'a>(&'a self, from: usize, to: usize, texts: &'a StringArray) -> Tokens<'a> {
        Tokens {
            row_group: 0,
            first_row: from as u64,
            split: &self.split[from..to],
            token_id: Some(&self.token_id[from..to]),
            token: Some(texts),
            doc_id: Some(&self.doc_id[from..to]),
            seq_id: Some(&self.seq_id[from..to]),
            pos: Some(&self.pos[from..to]),
        }
    }

    fn held_out(&self, from: usize, to: usize) -> impl Iterator<Item = usize> {
        (from..to).filter(|&row| self.split[row] == RowSplit::HeldOut)
    }

    /// What an encoder could have made of the held-out rows.
    fn coarse(&self, from: usize, to: usize) -> Vec<f32> {
        self.held_out(from, to).flat_map(|row| self.x[row * D..][..D].iter().map(|v| 0.5 * v)).collect()
    }

    fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(|&row| self.split[row].kept())
    }
}

fn spec() -> HarvestSpec {
    HarvestSpec {
        context_tokens: 8,
        top: 4,
        slices: 2,
        per_slice: 2,
        importance: 2,
        random_active: 2,
        pool_contexts: 12,
        ..Default::default()
    }
}

fn stats_spec(shard: u32, harvest: &HarvestSpec) -> StatsSpec {
    StatsSpec {
        shard,
        n_latents: LATENTS,
        d_in: D,
        fixed: FixedPoint::from_rms_norm(1.0),
        seed: SEED,
        harvest: harvest.clone(),
        coactivation_rate: 0.5,
    }
}

fn int64s(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn int32s(batch: &RecordBatch, name: &str) -> Vec<i32> {
    batch.column_by_name(name).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn words(batch: &RecordBatch, name: &str) -> Vec<String> {
    batch.column_by_name(name).unwrap().as_string::<i32>().iter().map(|w| w.unwrap().to_owned()).collect()
}

#[test]
fn latents_equal_a_slow_count() {
    let rows = rows(0, &[20, 7, 33, 8, 1]);
    let partial = rows.partial(0, &spec(), &[64]);
    let batch = partial.batch(Partial::Latents).unwrap();
    let (mut fires, mut sum, mut contexts) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for row in rows.kept() {
        for &(latent, value) in &rows.codes[row] {
            *fires.entry(latent as i32).or_insert(0i64) += 1;
            *sum.entry(latent as i32).or_insert(0i64) +=
                (f64::from(value) * f64::from(1 << 20)).round_ties_even() as i64;
            contexts.insert((latent as i32, rows.seq_id[row], rows.pos[row] / 8));
        }
    }
    assert_eq!(int32s(batch, "latent"), fires.keys().copied().collect::<Vec<_>>());
    assert_eq!(int64s(batch, "fires"), fires.values().copied().collect::<Vec<_>>());
    assert_eq!(int64s(batch, "sum"), sum.values().copied().collect::<Vec<_>>());
    let with_fire = |latent: &i32| contexts.iter().filter(|(l, _, _)| l == latent).count() as i64;
    assert_eq!(int64s(batch, "contexts_with_fire"), fires.keys().map(with_fire).collect::<Vec<_>>());
    let quality = partial.batch(Partial::Quality).unwrap();
    let count = |split| rows.split.iter().filter(|&&s| s == split).count() as i64;
    assert_eq!(int64s(quality, "rows"), RowSplit::MEASURED.map(count));
}

#[test]
fn samples_are_the_smallest_of_all_active_contexts() {
    let rows = rows(0, &[20, 7, 33, 8, 1, 40, 40]);
    let spec = spec();
    let partial = rows.partial(0, &spec, &[64]);
    let batch = partial.batch(Partial::Samples).unwrap();
    // Peak of every (latent, context), by brute force.
    let mut peaks = BTreeMap::<(i32, i64, i64), f32>::new();
    for row in rows.kept() {
        for &(latent, value) in &rows.codes[row] {
            // Positions are aligned and sequences begin at 0.
            let start = i64::from(rows.pos[row] / 8 * 8);
            let peak = peaks.entry((latent as i32, rows.seq_id[row], start)).or_default();
            *peak = peak.max(value);
        }
    }
    let (lists, splits, latents) = (words(batch, "list"), words(batch, "split"), int32s(batch, "latent"));
    let (seq, start) = (int64s(batch, "seq"), int64s(batch, "start"));
    for latent in 0..LATENTS as i32 {
        for split in Split::ALL {
            let mut expected: Vec<_> = peaks
                .iter()
                .filter(|((l, s, t), _)| *l == latent && Split::of(SEED, *s, *t, 0.5) == split)
                .map(|((_, s, t), peak)| (-peak, *s, *t))
                .collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            let active = expected.len();
            expected.truncate(2);
            let of = |list: &str| -> Vec<usize> {
                (0..batch.num_rows())
                    .filter(|&r| latents[r] == latent && lists[r] == list && splits[r] == split.name())
                    .collect()
            };
            let top: Vec<_> = of("top").into_iter().map(|r| (seq[r], start[r])).collect();
            assert_eq!(top, expected.iter().map(|e| (e.1, e.2)).collect::<Vec<_>>());
            assert_eq!(of("uniform").len(), active.min(3));
            assert_eq!(of("importance").len(), active.min(1));
        }
    }
    // Every context that a sample or the pool names is there, once, with its tokens.
    let contexts = partial.batch(Partial::Contexts).unwrap();
    let stored: Vec<i64> = int64s(contexts, "context");
    let used: BTreeSet<i64> = int64s(batch, "context")
        .into_iter()
        .chain(int64s(partial.batch(Partial::Pool).unwrap(), "context"))
        .collect();
    assert_eq!(stored, used.into_iter().collect::<Vec<_>>());
    let ids = contexts.column_by_name("token_ids").unwrap().as_list::<i32>();
    let texts = contexts.column_by_name("str_tokens").unwrap().as_list::<i32>();
    for (at, &first) in stored.iter().enumerate() {
        let row = ids.value(at);
        let row = row.as_primitive::<Int32Type>().values();
        assert_eq!(row, &rows.token_id[first as usize..first as usize + row.len()]);
        assert_eq!(texts.value(at).as_string::<i32>().value(0), format!("t{}", row[0]));
    }
}

#[test]
fn the_pool_holds_all_codes_of_kept_rows() {
    let rows = rows(0, &[20, 33, 40]);
    let partial = rows.partial(0, &spec(), &[64]);
    let (pool, contexts) = (partial.batch(Partial::Pool).unwrap(), partial.batch(Partial::Contexts).unwrap());
    let lengths: BTreeMap<_, _> =
        int64s(contexts, "context").into_iter().zip(int32s(contexts, "rows")).collect();
    let list = |name: &str| pool.column_by_name(name).unwrap().as_list::<i32>();
    for (at, first) in int64s(pool, "context").into_iter().enumerate() {
        let mut expected = Vec::new();
        for offset in 0..lengths[&first] {
            let row = first as usize + offset as usize;
            if rows.split[row].kept() {
                expected.extend(rows.codes[row].iter().map(|&(l, v)| (l as i32, offset, v)));
            }
        }
        expected.sort_by_key(|&(l, o, _)| (l, o));
        let latents = list("latents").value(at);
        let offsets = list("offsets").value(at);
        let values = list("values").value(at);
        let found: Vec<_> = (0..latents.len())
            .map(|i| {
                (
                    latents.as_primitive::<Int32Type>().value(i),
                    offsets.as_primitive::<Int32Type>().value(i),
                    values.as_primitive::<Float32Type>().value(i),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn contexts_without_sequences_are_rows_and_row_groups() {
    let (x, x_hat) = (vec![0.5; 10 * D], vec![0.4; 10 * D]);
    let mut codes = Codes::new(LATENTS);
    (0..10).for_each(|_| codes.push_row([(3, 1.0)]));
    let mut statistics = ShardStatistics::new(stats_spec(5, &spec()));
    for row_group in 0..2 {
        let tokens = Tokens {
            row_group,
            first_row: u64::from(row_group) * 10,
            split: &[RowSplit::Train; 10],
            token_id: None,
            token: None,
            doc_id: None,
            seq_id: None,
            pos: None,
        };
        let block = HarvestBlock { tokens, x: &x, x_hat: &x_hat, codes: &codes, encoded: None };
        statistics.add(&block).unwrap();
    }
    let partial = statistics.finish().unwrap();
    let contexts = partial.batch(Partial::Contexts).unwrap();
    assert_eq!(int64s(contexts, "context"), [0, 8, 10, 18]);
    assert_eq!(int64s(contexts, "row_in_group"), [0, 8, 0, 8]);
    assert_eq!(int64s(contexts, "seq"), [5; 4]);
    assert_eq!(contexts.column_by_name("seq_id").unwrap().null_count(), 4);
    assert_eq!(contexts.column_by_name("token_ids").unwrap().null_count(), 4);
}

/// With a coder, held-out rows have a line of what the encoder makes of them; nothing else changes.
#[test]
fn held_out_rows_are_measured_under_the_encoder_too() {
    let rows = rows(0, &[40, 7, 60]);
    let with = HarvestSpec { coder: Some(CoderSpec::Omp { k: 4 }), ..spec() };
    let partial = rows.partial(0, &with, &[1000]);
    assert_eq!(partial, rows.partial(0, &with, &[1, 13, 5]));
    let quality = partial.batch(Partial::Quality).unwrap();
    assert_eq!(words(quality, "split"), ["train", "heldout", "dropped", "heldout_encoder"]);
    let plain = rows.partial(0, &spec(), &[1000]);
    assert_eq!(&quality.slice(0, 3), plain.batch(Partial::Quality).unwrap());
    let held_out = rows.held_out(0, rows.len()).count() as i64;
    assert!(held_out > 5);
    let at = |name: &str| int64s(quality, name)[3];
    assert_eq!((at("rows"), at("nnz")), (held_out, held_out));
    assert_eq!(at("sum_x_sq"), int64s(quality, "sum_x_sq")[1]);
    // The rounding of each row.
    assert!((4 * at("sum_error_sq") - at("sum_x_sq")).abs() <= 4 * held_out);
    assert_eq!((at("rows_sampled"), at("contexts")), (0, 0));
    for kind in Partial::ALL.into_iter().filter(|kind| *kind != Partial::Quality) {
        assert_eq!(partial.batch(kind), plain.batch(kind), "{kind:?}");
    }
}

#[test]
fn a_broken_contract_is_an_error() {
    let rows = rows(0, &[4]);
    let mut statistics = ShardStatistics::new(StatsSpec { n_latents: 1, ..stats_spec(0, &spec()) });
    let mut codes = Codes::new(LATENTS);
    codes.push_row([(5, 1.0)]);
    let block = HarvestBlock {
        tokens: Tokens {
            row_group: 0,
            first_row: 0,
            split: &[RowSplit::Train],
            token_id: None,
            token: None,
            doc_id: None,
            seq_id: None,
            pos: None,
        },
        x: &rows.x[..D],
        x_hat: &rows.x_hat[..D],
        codes: &codes,
        encoded: None,
    };
    assert!(matches!(statistics.add(&block), Err(StatsError::Block(_))));
    assert!(matches!(statistics.add(&HarvestBlock { x: &[], ..block }), Err(StatsError::Block(_))));
    let none = Codes::new(LATENTS);
    let encoded = Some(Encoded { codes: &none, x_hat: &[] });
    assert!(matches!(statistics.add(&HarvestBlock { encoded, ..block }), Err(StatsError::Block(_))));
    let coder = HarvestSpec { coder: Some(CoderSpec::Omp { k: 4 }), ..spec() };
    let mut statistics = ShardStatistics::new(stats_spec(0, &coder));
    assert!(matches!(statistics.add(&block), Err(StatsError::Block(_))));
    let held_out = Tokens { split: &[RowSplit::HeldOut], ..block.tokens };
    let held_out = HarvestBlock { encoded, tokens: held_out, ..block };
    assert!(matches!(statistics.add(&held_out), Err(StatsError::Block(_))));
    assert!(statistics.add(&HarvestBlock { encoded, ..block }).is_ok());
}

/// (order, seq, start) by (latent, list, split).
type Lists = BTreeMap<(i32, String, String), Vec<(i64, i64, i64)>>;

/// Five sums per latent, and counts per pair.
type Sums = (BTreeMap<i32, [i64; 5]>, BTreeMap<(i32, i32), i64>);

/// Merged sample rows, cut to capacity: what totals do.
fn merged(partials: &[ShardPartial], spec: &HarvestSpec) -> Lists {
    let mut merged = BTreeMap::<_, Vec<_>>::new();
    for partial in partials {
        let batch = partial.batch(Partial::Samples).unwrap();
        let (latents, lists, splits) = (int32s(batch, "latent"), words(batch, "list"), words(batch, "split"));
        let (order, seq, start) = (int64s(batch, "order"), int64s(batch, "seq"), int64s(batch, "start"));
        for row in 0..batch.num_rows() {
            let key = (latents[row], lists[row].clone(), splits[row].clone());
            merged.entry(key).or_default().push((order[row], seq[row], start[row]));
        }
    }
    for ((_, list, split), entries) in &mut merged {
        entries.sort_unstable();
        entries.truncate(
            spec.capacity(crate::interp::List::from_name(list).unwrap(), Split::from_name(split).unwrap()),
        );
    }
    merged
}

fn summed(partials: &[ShardPartial]) -> Sums {
    let (mut latents, mut pairs) = (BTreeMap::new(), BTreeMap::new());
    for partial in partials {
        let batch = partial.batch(Partial::Latents).unwrap();
        let columns =
            ["fires", "contexts_with_fire", "sum", "sum_sq", "fires_sampled"].map(|name| int64s(batch, name));
        for (row, latent) in int32s(batch, "latent").into_iter().enumerate() {
            let sums = latents.entry(latent).or_insert([0; 5]);
            sums.iter_mut().zip(&columns).for_each(|(sum, column)| *sum += column[row]);
        }
        let batch = partial.batch(Partial::Pairs).unwrap();
        let (i, j, n) = (int32s(batch, "latent"), int32s(batch, "neighbour"), int64s(batch, "n_both"));
        for row in 0..n.len() {
            *pairs.entry((i[row], j[row])).or_insert(0) += n[row];
        }
    }
    (latents, pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn block_boundaries_do_not_matter(
        lengths in prop::collection::vec(1usize..30, 1..12),
        blocks in prop::collection::vec(1usize..40, 1..5),
    ) {
        let rows = rows(0, &lengths);
        let whole = rows.partial(0, &spec(), &[10_000]);
        prop_assert_eq!(rows.partial(0, &spec(), &blocks), whole);
    }

    #[test]
    fn shards_cut_between_sequences_do_not_matter(
        lengths in prop::collection::vec(1usize..30, 2..12),
        cut in 0usize..12,
    ) {
        let cut = cut % lengths.len();
        let spec = spec();
        let whole = [rows(0, &lengths).partial(0, &spec, &[64])];
        let parts = [
            rows(0, &lengths[..cut]).partial(0, &spec, &[64]),
            rows(cut, &lengths[cut..]).partial(1, &spec, &[64]),
        ];
        prop_assert_eq!(summed(&parts), summed(&whole));
        prop_assert_eq!(merged(&parts, &spec), merged(&whole, &spec));
    }
}

#[test]
fn memory_of_samples_and_contexts_does_not_grow_with_the_rows() {
    let spec = spec();
    let sizes = |sequences: usize| {
        let partial = rows(0, &vec![64; sequences]).partial(0, &spec, &[512]);
        [Partial::Samples, Partial::Pool, Partial::Contexts].map(|p| partial.batch(p).unwrap().num_rows())
    };
    let (some, many) = (sizes(200), sizes(2000));
    let bound = LATENTS * spec.entries_per_latent();
    assert!(many[0] <= bound && many[1] <= spec.pool_contexts && many[2] <= bound + spec.pool_contexts);
    assert_eq!(some[1], many[1]);
}
