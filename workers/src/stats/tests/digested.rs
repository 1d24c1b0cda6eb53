//! Rows that somebody else encodes and counts, against the same rows with their codes.

use super::*;
use crate::{
    card::digest::{Candidate, Digest, Digests, LatentSums, Mark, Rows as Asked},
    stats::latents::LatentTable,
};

/// A card that looks codes up by the number of the row, and counts with the tables of the processor.
#[derive(Debug)]
struct Listed {
    rows: Rows,
    next: usize,
    latents: LatentTable,
    /// Rows of which codes came back, and pairs that were candidates.
    returned: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Listed {
    fn new(rows: &Rows) -> Self {
        let latents = LatentTable::new(LATENTS, FixedPoint::from_rms_norm(1.0));
        Listed { rows: rows.clone(), next: 0, latents, returned: Default::default() }
    }

    fn row(&mut self, mark: Mark, x: &[f32], digest: &mut Digest) {
        let (row, fixed) = (self.next, FixedPoint::from_rms_norm(1.0));
        let (codes, x_hat) = (&self.rows.codes[row], &self.rows.x_hat[row * D..][..D]);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let left: Vec<f32> = x.iter().zip(x_hat).map(|(a, b)| a - b).collect();
        digest.products.push([dot(&left, &left), dot(x, x), dot(x, x_hat), dot(x_hat, x_hat)]);
        digest.nnz.push(codes.len() as u32);
        let split = (mark.0 >> Mark::SPLIT & 3) as usize;
        for (sum, x) in digest.sum_x.chunks_mut(D).nth(split).into_iter().flatten().zip(x) {
            *sum += (f64::from(*x) * fixed::pow2(fixed.value_log2)).round_ties_even() as i64;
        }
        let back = codes.iter().copied().filter(|_| mark.has(Mark::BACK));
        digest.codes.push_row(back);
        if mark.has(Mark::KEPT) {
            let (latents, values): (Vec<u32>, Vec<f32>) = codes.iter().copied().unzip();
            self.latents.add_row(&latents, &values, mark.has(Mark::SAMPLED));
        }
        self.next += 1;
    }
}

impl Digests for Listed {
    fn digest(&mut self, asked: &Asked) -> Digest {
        let mut digest = Digest { codes: Codes::new(LATENTS), sum_x: vec![0; 3 * D], ..Digest::default() };
        let mut runs = BTreeMap::<(u32, usize), Vec<Candidate>>::new();
        for (at, (mark, x)) in asked.marks.iter().zip(asked.x.chunks(D)).enumerate() {
            if let Some(context) = mark.context().filter(|_| mark.has(Mark::KEPT)) {
                for &(latent, value) in &self.rows.codes[self.next] {
                    let pair = Candidate { latent, row: at as u32, value };
                    runs.entry((latent, context)).or_default().push(pair);
                }
            }
            self.row(*mark, x, &mut digest);
        }
        for ((latent, context), run) in runs {
            self.latents.add_context(latent);
            let (offered, peak) = (asked.contexts[context], run.iter().map(|c| c.value).fold(0.0, f32::max));
            let bound = asked.bounds[latent as usize][offered.split as usize];
            if bound.may_take(offered.hash, latent, peak) {
                digest.candidates.extend(run);
            }
        }
        let returned = digest.codes.nnz() + digest.candidates.len();
        self.returned.fetch_add(returned, std::sync::atomic::Ordering::Relaxed);
        digest
    }

    fn finish(self: Box<Self>) -> Vec<LatentSums> {
        let mut all = vec![LatentSums::ZERO; LATENTS];
        self.latents.fired().for_each(|(latent, sums)| all[latent] = sums.clone());
        all
    }
}

impl Rows {
    /// As `partial`, of rows that a card digests; and how many pairs have left it.
    fn digested(&self, spec: &HarvestSpec, blocks: &[usize]) -> (ShardPartial, usize) {
        let card = Listed::new(self);
        let returned = card.returned.clone();
        let mut statistics = ShardStatistics::on_card(stats_spec(0, spec), Box::new(card));
        let texts: StringArray = self.token_id.iter().map(|id| Some(format!("t{id}"))).collect();
        let (mut from, mut block) = (0, 0);
        while from < self.len() {
            let to = self.len().min(from + blocks[block % blocks.len()]);
            let texts = texts.slice(from, to - from);
            statistics.digest(&self.tokens(from, to, &texts), &self.x[from * D..to * D]).unwrap();
            (from, block) = (to, block + 1);
        }
        (statistics.finish().unwrap(), returned.load(std::sync::atomic::Ordering::Relaxed))
    }
}

/// All tables the same, but for the last bits of sums of squares.
fn assert_same(digested: &ShardPartial, coded: &ShardPartial) {
    for (kind, batch) in &digested.batches {
        let expected = coded.batch(*kind).unwrap();
        if *kind != Partial::Quality {
            assert_eq!(batch, expected, "{kind:?}");
            continue;
        }
        for name in ["rows", "nnz", "rows_sampled", "contexts"] {
            assert_eq!(int64s(batch, name), int64s(expected, name), "{name}");
        }
        assert_eq!(batch.column_by_name("sum_x"), expected.column_by_name("sum_x"));
        for name in ["sum_error_sq", "sum_x_sq", "sum_x_dot_x_hat", "sum_x_hat_sq", "sum_cosine"] {
            let pairs = int64s(batch, name).into_iter().zip(int64s(expected, name));
            let rows = int64s(batch, "rows").into_iter();
            pairs.zip(rows).for_each(|((a, b), rows)| {
                assert!((a - b).abs() as f64 <= 1e-6 * b.abs() as f64 + rows as f64, "{name}: {a} {b}");
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_digest_says_what_codes_say(
        lengths in prop::collection::vec(1usize..30, 1..12),
        blocks in prop::collection::vec(1usize..60, 1..5),
        top in 0usize..5,
        importance in 0usize..4,
        per_slice in 0usize..3,
        pool_contexts in 0usize..12,
        score_share in prop::sample::select(vec![0.0, 0.5, 1.0]),
    ) {
        let rows = rows(0, &lengths);
        let spec = HarvestSpec { top, importance, per_slice, pool_contexts, score_share, ..spec() };
        assert_same(&rows.digested(&spec, &blocks).0, &rows.partial(0, &spec, &[10_000]));
    }
}

/// Once lists are full, few codes come back; and blocks longer than a card takes are cut.
#[test]
fn most_codes_stay_where_they_are() {
    let rows = rows(0, &[64; 600]);
    let spec = HarvestSpec { pool_contexts: 20, top: 2, importance: 2, ..spec() };
    let quiet = StatsSpec { coactivation_rate: 0.0, ..stats_spec(0, &spec) };
    let all: usize = rows.codes.iter().map(Vec::len).sum();
    let (partial, returned) = rows.digested(&spec, &[1000]);
    assert_same(&partial, &rows.partial(0, &spec, &[100_000]));
    assert_eq!(rows.digested(&spec, &[100_000]).0, partial);
    // Half of the rows are a sample of co-firing.
    assert!(returned < all * 3 / 4, "{returned} of {all}");
    let card = Listed::new(&rows);
    let returned = card.returned.clone();
    let mut statistics = ShardStatistics::on_card(quiet, Box::new(card));
    let texts: StringArray = rows.token_id.iter().map(|_| Some("t")).collect();
    for from in (0..rows.len()).step_by(640) {
        let texts = texts.slice(from, 640);
        statistics
            .digest(&rows.tokens(from, from + 640, &texts), &rows.x[from * D..(from + 640) * D])
            .unwrap();
    }
    let returned = returned.load(std::sync::atomic::Ordering::Relaxed);
    assert!(returned < all / 6, "{returned} of {all}");
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    #[derive(Debug)]
    struct Silent;
    impl Digests for Silent {
        fn digest(&mut self, _: &Asked) -> Digest {
            Digest { codes: Codes::new(LATENTS), ..Digest::default() }
        }
        fn finish(self: Box<Self>) -> Vec<LatentSums> {
            Vec::new()
        }
    }
    let (rows, texts) = (rows(0, &[4]), StringArray::from(vec!["t"; 4]));
    let tokens = rows.tokens(0, 4, &texts);
    let mut statistics = ShardStatistics::on_card(stats_spec(0, &spec()), Box::new(Silent));
    assert!(matches!(statistics.digest(&tokens, &rows.x), Err(StatsError::Block(_))));
    assert!(matches!(statistics.digest(&tokens, &[]), Err(StatsError::Block(_))));
    let mut statistics = ShardStatistics::new(stats_spec(0, &spec()));
    assert!(matches!(statistics.digest(&tokens, &rows.x), Err(StatsError::Block(_))));
}
