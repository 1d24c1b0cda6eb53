//! Totals against slow references; retraction; any number of workers; tables that hold together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::{Float32Type, Float64Type, Int32Type, Int64Type},
};
use atomflow_schemas::partial::Partial;
use atomflow_workers::{
    coders::CoderSpec,
    codes::Codes,
    export::ExportedFile,
    interp::{HarvestSpec, List, Split},
    learner::{Dictionary, LinearEncoder, Mismatch},
    random::{hash, unit},
    stats::{Encoded, FixedPoint, HarvestBlock, RowSplit, ShardPartial, ShardStatistics, StatsSpec, Tokens},
};
use proptest::prelude::*;

use super::*;
use crate::sink::parquet_bytes;

const LATENTS: usize = 20;
const D: usize = 4;
const SEQUENCES: u64 = 12;

fn harvest() -> HarvestSpec {
    let coder = Some(CoderSpec::Omp { k: 4 });
    HarvestSpec {
        context_tokens: 8,
        pool_contexts: 40,
        neighbours: 3,
        top: 6,
        coder,
        ..HarvestSpec::default()
    }
}

/// Codes of one row: a few always-busy latents, many rare ones, two that never fire.
fn codes_of(seq: u64, pos: u64) -> Vec<(u32, f32)> {
    let draw = |what: u64| unit(hash(&[11, seq, pos, what]));
    let fires = |l: &u64| draw(*l) < 0.7 / (1.0 + *l as f64 / 2.0);
    (0..LATENTS as u64 - 2).filter(fires).map(|l| (l as u32, draw(100 + l) as f32 + 0.01)).collect()
}

fn partial(shard: u32) -> ShardPartial {
    let spec = StatsSpec {
        shard,
        n_latents: LATENTS,
        d_in: D,
        fixed: FixedPoint::from_rms_norm(1.0),
        seed: 3,
        harvest: harvest(),
        coactivation_rate: 0.8,
    };
    let mut statistics = ShardStatistics::new(spec);
    let (mut codes, mut x) = (Codes::new(LATENTS), Vec::new());
    let (mut seq_id, mut pos, mut split) = (Vec::new(), Vec::new(), Vec::new());
    for seq in u64::from(shard) * SEQUENCES..u64::from(shard + 1) * SEQUENCES {
        for p in 0..20 {
            codes.push_row(codes_of(seq, p));
            x.extend((0..D as u64).map(|d| unit(hash(&[seq, p, d])) as f32));
            seq_id.push(seq as i64);
            pos.push(p as i32);
            split.push(if p == 0 { RowSplit::Dropped } else { RowSplit::ALL_KEPT[(seq % 5 == 0) as usize] });
        }
    }
    let x_hat: Vec<f32> = x.iter().map(|v| v * 0.9).collect();
    let mut held_out = Codes::new(LATENTS);
    let mut encoded = Vec::new();
    for (x, _) in x.chunks(D).zip(&split).filter(|(_, split)| **split == RowSplit::HeldOut) {
        held_out.push_row([(3, 1.0), (5, 1.0)]);
        encoded.extend(x.iter().map(|v| v * 0.8));
    }
    let tokens: StringArray = pos.iter().map(|p| Some(format!("w{p}"))).collect();
    let block = HarvestBlock {
        tokens: Tokens {
            row_group: 0,
            first_row: 0,
            split: &split,
            token_id: Some(&pos),
            token: Some(&tokens),
            doc_id: None,
            seq_id: Some(&seq_id),
            pos: Some(&pos),
        },
        x: &x,
        x_hat: &x_hat,
        codes: &codes,
        encoded: Some(Encoded { codes: &held_out, x_hat: &encoded }),
    };
    statistics.add(&block).unwrap();
    statistics.finish().unwrap()
}

trait Kept {
    const ALL_KEPT: [RowSplit; 2];
}

impl Kept for RowSplit {
    const ALL_KEPT: [RowSplit; 2] = [RowSplit::Train, RowSplit::HeldOut];
}

fn memory(shards: u32) -> Arc<dyn PartialSource> {
    Arc::new(MemoryPartials::new((0..shards).map(partial)))
}

fn statistics(source: &Arc<dyn PartialSource>, shards: &[u32], workers: usize) -> Statistics {
    Statistics::new(source.clone(), shards.iter().copied(), LATENTS, harvest(), workers)
}

/// Everything that totals say, in comparable form.
fn everything(statistics: &Statistics) -> String {
    let totals = statistics.run_totals().unwrap();
    let neighbours = statistics.neighbours(&totals).unwrap();
    let samples = statistics.samples(0..LATENTS as u32).unwrap();
    let pools = statistics.pools().unwrap();
    format!("{totals:?}\n{neighbours:?}\n{samples:?}\n{:?}{:?}", pools[0].contexts(), pools[1].contexts())
}

fn int64s(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn int32s(batch: &RecordBatch, name: &str) -> Vec<i32> {
    batch.column_by_name(name).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn words(batch: &RecordBatch, name: &str) -> Vec<String> {
    batch
        .column_by_name(name)
        .unwrap()
        .as_string::<i32>()
        .iter()
        .map(|w| w.unwrap_or("null").to_owned())
        .collect()
}

#[test]
fn totals_equal_a_count_over_all_rows() {
    let source = memory(3);
    let totals = statistics(&source, &[0, 1, 2], 1).run_totals().unwrap();
    let mut fires = [0i64; LATENTS];
    let mut shards = vec![BTreeSet::new(); LATENTS];
    let mut max = [0f32; LATENTS];
    for seq in 0..3 * SEQUENCES {
        for (latent, value) in (1..20).flat_map(|pos| codes_of(seq, pos)) {
            let latent = latent as usize;
            fires[latent] += 1;
            shards[latent].insert((seq / SEQUENCES) as u32);
            max[latent] = max[latent].max(value);
        }
    }
    for (latent, total) in totals.latents.iter().enumerate() {
        assert_eq!((total.fires, total.max), (fires[latent], max[latent]));
        assert_eq!(total.histogram.iter().sum::<i64>(), total.fires);
        assert_eq!(total.shards, shards[latent].first().copied().zip(shards[latent].last().copied()));
    }
    assert_eq!(totals.rows_kept(), 3 * SEQUENCES as i64 * 19);
    assert_eq!(totals.quality[2].rows, 3 * SEQUENCES as i64);
    assert_eq!(totals.contexts, 3 * SEQUENCES as i64 * 3);
    assert_eq!(totals.dead(), 2);
}

#[test]
fn neighbours_equal_a_sort_of_all_pairs() {
    let partials: Vec<_> = (0..3).map(partial).collect();
    let mut pairs = BTreeMap::<(i32, i32), i64>::new();
    let mut fires = BTreeMap::<i32, i64>::new();
    for partial in &partials {
        let batch = partial.batch(Partial::Pairs).unwrap();
        let (i, j, n) = (int32s(batch, "latent"), int32s(batch, "neighbour"), int64s(batch, "n_both"));
        for row in 0..n.len() {
            *pairs.entry((i[row], j[row])).or_default() += n[row];
            *pairs.entry((j[row], i[row])).or_default() += n[row];
        }
        let batch = partial.batch(Partial::Latents).unwrap();
        for (latent, n) in int32s(batch, "latent").into_iter().zip(int64s(batch, "fires_sampled")) {
            *fires.entry(latent).or_default() += n;
        }
    }
    let source: Arc<dyn PartialSource> = Arc::new(MemoryPartials::new(partials));
    let statistics = statistics(&source, &[0, 1, 2], 2);
    let found = statistics.neighbours(&statistics.run_totals().unwrap()).unwrap();
    for latent in 0..LATENTS as i32 {
        let mut expected: Vec<_> = pairs
            .iter()
            .filter(|((i, _), n)| *i == latent && **n >= 2)
            .map(|((i, j), n)| ((*n as u128) << 32) / (fires[i] + fires[j] - n) as u128)
            .zip(pairs.iter().filter(|((i, _), n)| *i == latent && **n >= 2).map(|((_, j), n)| (*n, *j)))
            .map(|(jaccard, (n, j))| (std::cmp::Reverse(jaccard), -n, j))
            .collect();
        expected.sort_unstable();
        expected.truncate(3);
        let found = found[latent as usize].iter().map(|n| (-n.n_both, n.latent as i32));
        assert_eq!(found.collect::<Vec<_>>(), expected.iter().map(|e| (e.1, e.2)).collect::<Vec<_>>());
    }
}

#[test]
fn samples_equal_a_sort_of_all_entries() {
    let partials: Vec<_> = (0..4).map(partial).collect();
    let mut expected = BTreeMap::<(u32, List, Split), Vec<(i64, i64, i64, u32)>>::new();
    for partial in &partials {
        let batch = partial.batch(Partial::Samples).unwrap();
        let (lists, splits) = (words(batch, "list"), words(batch, "split"));
        let (order, seq, start) = (int64s(batch, "order"), int64s(batch, "seq"), int64s(batch, "start"));
        for (row, latent) in int32s(batch, "latent").into_iter().enumerate() {
            let (list, split) =
                (List::from_name(&lists[row]).unwrap(), Split::from_name(&splits[row]).unwrap());
            let entries = expected.entry((latent as u32, list, split)).or_default();
            entries.push((order[row], seq[row], start[row], partial.shard));
        }
    }
    let source: Arc<dyn PartialSource> = Arc::new(MemoryPartials::new(partials));
    let found = statistics(&source, &[0, 1, 2, 3], 2).samples(0..LATENTS as u32).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, mut entries) in expected {
        entries.sort_unstable();
        entries.truncate(harvest().capacity(key.1, key.2));
        let keys: Vec<_> = found[&key].iter().map(|s| (s.seq, s.start, s.context.shard)).collect();
        assert_eq!(keys, entries.iter().map(|e| (e.1, e.2, e.3)).collect::<Vec<_>>());
        for sample in &found[&key] {
            for &(token, value) in &sample.activations {
                let codes = codes_of(sample.seq as u64, sample.start as u64 + u64::from(token));
                assert!(codes.contains(&(key.0, value)));
            }
        }
    }
}

#[test]
fn any_number_of_workers_says_the_same() {
    let source = memory(5);
    let one = everything(&statistics(&source, &[0, 1, 2, 3, 4], 1));
    for workers in [2, 4] {
        assert_eq!(everything(&statistics(&source, &[0, 1, 2, 3, 4], workers)), one);
    }
}

#[test]
fn parquet_partials_say_the_same_as_memory() {
    let shards: Vec<_> = (0..3).map(partial).collect();
    let mut objects = BTreeMap::new();
    for shard in &shards {
        for (kind, batch) in &shard.batches {
            // Row groups of a few rows, so that pruning has something to prune.
            objects.insert((shard.shard, *kind), parquet_bytes(batch, 7).unwrap());
        }
    }
    let parquet = ParquetPartials::new(move |shard, kind| Ok(objects[&(shard, kind)].clone()));
    let memory = MemoryPartials::new(shards);
    for kind in Partial::ALL {
        assert_eq!(parquet.rows(1, kind).unwrap(), memory.rows(1, kind).unwrap());
    }
    for kind in Partial::ALL {
        for range in [0..20, 3..5, 19..20, 7..8] {
            let read = parquet.read(1, kind, range.clone()).unwrap();
            assert_eq!(read, memory.read(1, kind, range.clone()).unwrap(), "{kind:?}");
            let keys = parquet.keys(1, kind, range.clone()).unwrap();
            assert_eq!(keys, memory.keys(1, kind, range).unwrap(), "{kind:?}");
            assert!(keys.columns().iter().all(|column| !column.data_type().is_nested()));
        }
    }
}

#[test]
fn an_error_while_reading_is_the_error_of_the_totals() {
    let source: Arc<dyn PartialSource> = Arc::new(MemoryPartials::new([partial(0)]));
    let statistics = statistics(&source, &[0, 9], 2);
    assert!(statistics.samples(0..4).unwrap_err().to_string().contains("shard 9"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn taking_shards_away_leaves_exactly_the_rest(first in prop::collection::btree_set(0u32..6, 1..6), second in prop::collection::btree_set(0u32..6, 1..6), workers in 1usize..4) {
        let source = memory(6);
        let change = |from: &BTreeSet<u32>, to: &BTreeSet<u32>| -> Vec<Change> {
            let gone = from.difference(to).map(|&shard| Change { shard, add: false });
            gone.chain(to.difference(from).map(|&shard| Change { shard, add: true })).collect()
        };
        let list: Vec<u32> = first.iter().copied().collect();
        let after = statistics(&source, &list, workers).changed(change(&first, &second));
        let fresh: Vec<u32> = second.iter().copied().collect();
        prop_assert_eq!(everything(&after), everything(&statistics(&source, &fresh, 1)));
        let back = after.changed(change(&second, &first));
        prop_assert_eq!(everything(&back), everything(&statistics(&source, &list, 1)));
    }
}

struct Atoms(Vec<f32>, Vec<f32>);

impl Dictionary for Atoms {
    fn d_in(&self) -> usize {
        D
    }
    fn n_latents(&self) -> usize {
        LATENTS
    }
    fn encode(&self, _: &[f32]) -> Codes {
        Codes::new(LATENTS)
    }
    fn decode(&self, _: &Codes, _: &mut [f32]) {}
    fn atoms(&self) -> &[f32] {
        &self.0
    }
    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        Some(LinearEncoder { rows: &self.0, bias: &self.1 })
    }
    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        Ok(Vec::new())
    }
}

fn atoms() -> Atoms {
    let mut atoms: Vec<f32> = (0..LATENTS * D).map(|i| unit(hash(&[i as u64])) as f32 - 0.5).collect();
    atoms.chunks_mut(D).for_each(atomflow_workers::kernels::vector::normalize);
    Atoms(atoms, vec![0.0; LATENTS])
}

fn about() -> About {
    About {
        run_id: "run-1".to_owned(),
        hookpoint: None,
        k: Some(4),
        seed: 3,
        shard_urls: (0..3).map(|shard| format!("s3://b/{shard}.parquet")).collect(),
    }
}

#[test]
fn candidates_keep_their_promises() {
    let source = memory(3);
    let (statistics, atoms) = (statistics(&source, &[0, 1, 2], 2), atoms());
    let publisher = Publisher::new(about(), &statistics, &atoms).unwrap();
    let batch = publisher.autointerp_candidates(0..LATENTS as u32).unwrap();
    let (latent, kind, split) = (int32s(&batch, "latent"), words(&batch, "kind"), words(&batch, "split"));
    let (seq, start, tokens) = (int64s(&batch, "seq_id"), int64s(&batch, "start"), int32s(&batch, "tokens"));
    let lists = |name: &str| batch.column_by_name(name).unwrap().as_list::<i32>().clone();
    let (activations, others) = (lists("activations"), lists("neighbour_activations"));
    let neighbour = batch.column_by_name("neighbour_latent").unwrap().as_primitive::<Int32Type>();
    let (ids, texts) = (lists("token_ids"), lists("str_tokens"));
    let mut sides = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let value = |latent: i32, seq: i64, pos: i64| {
        let found = codes_of(seq as u64, pos as u64).into_iter().find(|(l, _)| *l as i32 == latent);
        // Position 0 is dropped.
        if pos == 0 { 0.0 } else { found.map_or(0.0, |(_, value)| value) }
    };
    for row in 0..batch.num_rows() {
        assert_eq!(sides.entry((seq[row], start[row])).or_insert(split[row].clone()), &split[row]);
        assert!(
            seen.insert((latent[row], kind[row].clone(), seq[row], start[row])),
            "a context twice in a kind"
        );
        let expected: Vec<f32> =
            (0..i64::from(tokens[row])).map(|t| value(latent[row], seq[row], start[row] + t)).collect();
        assert_eq!(activations.value(row).as_primitive::<Float32Type>().values(), &expected[..]);
        let silent = expected.iter().all(|&v| v == 0.0);
        assert_eq!(silent, kind[row] == "random_inactive" || kind[row] == "hard_negative");
        assert_eq!(neighbour.is_valid(row), kind[row] == "hard_negative");
        if neighbour.is_valid(row) {
            let other: Vec<f32> = (0..i64::from(tokens[row]))
                .map(|t| value(neighbour.value(row), seq[row], start[row] + t))
                .collect();
            assert_eq!(others.value(row).as_primitive::<Float32Type>().values(), &other[..]);
            assert!(other.iter().any(|&v| v > 0.0));
        }
        assert_eq!(i64::from(ids.value(row).as_primitive::<Int32Type>().value(0)), start[row]);
        assert_eq!(texts.value(row).as_string::<i32>().value(0), format!("w{}", start[row]));
    }
    for wanted in ["top", "quantile", "importance", "random_active", "random_inactive", "hard_negative"] {
        for side in Split::ALL {
            assert!((0..batch.num_rows()).any(|r| kind[r] == wanted && split[r] == side.name()), "{wanted}");
        }
    }
    // Publishing by smaller ranges gives the same rows.
    let parts = [0..7, 7..8, 8..20].map(|range| publisher.autointerp_candidates(range).unwrap());
    assert_eq!(arrow::compute::concat_batches(&batch.schema(), &parts).unwrap(), batch);
}

#[test]
fn published_figures_follow_from_the_totals() {
    let source = memory(3);
    let (statistics, atoms) = (statistics(&source, &[0, 1, 2], 1), atoms());
    let publisher = Publisher::new(about(), &statistics, &atoms).unwrap();
    let stats = publisher.activation_stats(0..LATENTS as u32).unwrap();
    let reals = |batch: &RecordBatch, name: &str| {
        batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone()
    };
    let values: Vec<f64> = (0..3 * SEQUENCES)
        .flat_map(|seq| (1..20).flat_map(move |pos| codes_of(seq, pos)))
        .filter(|(latent, _)| *latent == 1)
        .map(|(_, value)| f64::from(value))
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    assert!((reals(&stats, "mean").value(1) - mean).abs() < 1e-6);
    assert!((reals(&stats, "std").value(1) - variance.sqrt()).abs() < 1e-5);
    assert!(reals(&stats, "mean").is_null(LATENTS - 1));
    assert_eq!(words(&stats, "first_shard")[0], "s3://b/0.parquet");
    let quality = publisher.quality().unwrap();
    let splits = ["train", "heldout", "dropped", "kept", "all", "heldout_encoder"];
    assert_eq!(words(&quality, "split"), splits);
    let rows = int64s(&quality, "rows");
    assert_eq!((rows[0] + rows[1], rows[3] + rows[2]), (rows[3], rows[4]));
    // x_hat = 0.9 x: the bias is 0.9 wherever it is measured.
    let bias = reals(&quality, "relative_reconstruction_bias");
    assert!((0..5).all(|row| (bias.value(row) - 0.9).abs() < 1e-5));
    // Held-out rows once more, as their encoder had them.
    assert!((bias.value(5) - 0.8).abs() < 1e-5);
    assert_eq!((rows[5], reals(&quality, "l0").value(5)), (rows[1], 2.0));
    let coactivations = publisher.coactivations(0..LATENTS as u32).unwrap();
    assert!(coactivations.num_rows() > LATENTS);
    assert!(int64s(&coactivations, "n_both").iter().all(|&n| n >= 2));
}

#[test]
fn features_name_their_nearest_and_keep_their_identity() {
    let source = memory(1);
    let (statistics, atoms) = (statistics(&source, &[0], 1), atoms());
    let publisher = Publisher::new(about(), &statistics, &atoms).unwrap();
    let features = publisher.features(0..LATENTS as u32).unwrap();
    let nearest = features.column_by_name("nearest").unwrap().as_list::<i32>();
    let atom = |l: usize| &atoms.0[l * D..(l + 1) * D];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    for latent in 0..LATENTS {
        let cosine = |other: usize| {
            dot(atom(latent), atom(other))
                / (dot(atom(latent), atom(latent)) * dot(atom(other), atom(other))).sqrt()
        };
        let mut others: Vec<usize> = (0..LATENTS).filter(|&other| other != latent).collect();
        others.sort_by(|&a, &b| cosine(b).total_cmp(&cosine(a)));
        let row = nearest.value(latent);
        let found = row.as_struct().column(0).as_primitive::<Int32Type>().values();
        assert_eq!(found.iter().map(|&l| l as usize).collect::<Vec<_>>(), others[..3]);
    }
    let lineage = publisher.feature_lineage(0..LATENTS as u32).unwrap();
    let ids = int64s(&features, "feature_id");
    assert_eq!(ids, int64s(&lineage, "feature_id"));
    assert!(ids.iter().all(|&id| id >= 0) && ids.iter().collect::<BTreeSet<_>>().len() == LATENTS);
    assert_eq!(publish::feature_id("run-1", 0), ids[0]);
    assert_ne!(publish::feature_id("run-2", 0), ids[0]);
}

#[test]
fn records_fit_their_tables() {
    let shard =
        records::ShardRecord { url: "u".into(), quarantined: Some("why".into()), ..Default::default() };
    let batch = records::shards("r", &[shard, records::ShardRecord::default()]).unwrap();
    assert_eq!(words(&batch, "status"), ["quarantined", "read"]);
    assert_eq!(records::train_metrics("r", &[Default::default()]).unwrap().num_rows(), 1);
    assert_eq!(records::operator_stats("r", &[Default::default()]).unwrap().num_rows(), 1);
}
