//! What one dictionary makes of a row group: codes and reconstructions; or, where a card counts the codes, nothing but
//! what it adds to the statistics of the shard.

use std::sync::{Arc, Mutex};

use atomflow_workers::{
    codes::Codes,
    learner::Dictionary,
    stats::{RowSplit, ShardPartial, ShardStatistics, StatsError, StatsSpec, Tokens},
};

use super::{
    encode::Harvester,
    read::{Ready, Rows, Task},
};
use crate::{
    Error, Result,
    chooser::Hold,
    source::{Decoded, Verdict},
    stop::lock,
};

/// What one dictionary made of a row group.
#[derive(Debug)]
pub struct Share {
    /// Place of the dictionary among the harvesters.
    pub harvester: usize,
    /// The statistics of the shard.
    pub counting: Counting,
    /// What is to be added to them; nothing where the row group could not be used, or a card has counted.
    pub coded: Option<Coded>,
}

/// Rows with their codes.
#[derive(Debug)]
pub struct Coded {
    /// Codes of all rows, filtered ones included.
    pub codes: Codes,
    /// Reconstructions, `[rows, d_out]`.
    pub x_hat: Vec<f32>,
    /// What they are compared with, `[rows, d_out]`: the target, else the rows it saw; left out where
    /// these are whole rows.
    pub x: Option<Vec<f32>>,
    /// Codes and reconstructions of the held-out rows by its own encoder, where a coder found the codes.
    pub encoded: Option<(Codes, Vec<f32>)>,
}

/// The statistics of a shard for one dictionary, until they are finished.
#[derive(Debug, Clone)]
pub struct Counting {
    /// Known without waiting for whoever is counting.
    on_card: bool,
    statistics: Arc<Mutex<Option<ShardStatistics>>>,
}

/// The shard that a dictionary is at.
pub(super) type Open = Option<(u32, Counting)>;

impl Share {
    /// What dictionary number `at` makes of a row group; `open` is the shard that it was at.
    ///
    /// # Errors
    /// A card counts, and its answer does not fit (a bug, or a card that is gone).
    pub(super) fn of(harvester: &Harvester, at: usize, open: &mut Open, read: &Ready<Rows>) -> Result<Share> {
        let counting = Counting::of(harvester, open, read.task.shard);
        let coded = match &read.value {
            Ok((decoded, verdicts)) => counting.code(harvester, read.task, decoded, verdicts)?,
            Err(_) => None,
        };
        Ok(Share { harvester: at, counting, coded })
    }
}

impl Counting {
    /// The statistics of a shard: those that are open, or new ones.
    fn of(harvester: &Harvester, open: &mut Open, shard: u32) -> Self {
        if let Some((_, counting)) = open.as_ref().filter(|(at, _)| *at == shard) {
            return counting.clone();
        }
        let spec = StatsSpec { shard, ..harvester.statistics.clone() };
        // A card compares what it decodes with what it encodes.
        let same = harvester.sight.reconstructed() == harvester.sight.inputs;
        let card = if same { harvester.dictionary.digests(spec.fixed) } else { None };
        let on_card = card.is_some();
        let statistics = match card {
            Some(card) => ShardStatistics::on_card(spec, card),
            None => ShardStatistics::new(spec),
        };
        let counting = Counting { on_card, statistics: Arc::new(Mutex::new(Some(statistics))) };
        *open = Some((shard, counting.clone()));
        counting
    }

    /// Finds the codes of rows, or has a card count them.
    fn code(
        &self,
        harvester: &Harvester,
        task: Task,
        decoded: &Decoded,
        verdicts: &[Verdict],
    ) -> Result<Option<Coded>> {
        if !self.on_card {
            return Ok(Some(Coded::of(harvester, decoded, verdicts)));
        }
        let inputs = harvester.sight.pick(&harvester.sight.inputs, &decoded.x);
        let split: Vec<RowSplit> = verdicts.iter().map(|&v| split_of(v)).collect();
        let (tokens, x) = (tokens(decoded, &split, task), inputs.as_deref().unwrap_or(&decoded.x));
        self.add(|statistics| statistics.digest(&tokens, x)).map(|()| None)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// They do not fit, or the shard is finished (a bug).
    pub(super) fn add(
        &self,
        rows: impl FnOnce(&mut ShardStatistics) -> std::result::Result<(), StatsError>,
    ) -> Result<()> {
        let mut statistics = lock(&self.statistics);
        let statistics = statistics.as_mut().ok_or_else(finished)?;
        rows(statistics).map_err(|e| Error::bug(e.to_string()))
    }

    /// The partial tables; afterwards nothing can be added.
    ///
    /// # Errors
    /// A sum is out of range, or the shard is finished already (a bug).
    pub(super) fn finish(&self) -> Result<ShardPartial> {
        let statistics = lock(&self.statistics).take().ok_or_else(finished)?;
        statistics.finish().map_err(|e| Error::bug(e.to_string()))
    }
}

fn finished() -> Error {
    Error::bug("a shard is finished already")
}

/// How a verdict counts in statistics.
pub fn split_of(verdict: Verdict) -> RowSplit {
    match verdict {
        Verdict::Train => RowSplit::Train,
        Verdict::HeldOut => RowSplit::HeldOut,
        Verdict::Bad => RowSplit::Bad,
        _ => RowSplit::Dropped,
    }
}

/// What is known of the rows of a row group beside their vectors.
pub(super) fn tokens<'a>(decoded: &'a Decoded, split: &'a [RowSplit], task: Task) -> Tokens<'a> {
    let tokens = &decoded.tokens;
    Tokens {
        row_group: task.row_group,
        first_row: task.first_row,
        split,
        token_id: tokens.token_id.as_deref(),
        token: tokens.token.as_ref(),
        doc_id: tokens.doc_id.as_deref(),
        seq_id: tokens.seq_id.as_deref(),
        pos: tokens.pos.as_deref(),
    }
}

impl Coded {
    fn of(harvester: &Harvester, decoded: &Decoded, verdicts: &[Verdict]) -> Coded {
        let (sight, dictionary) = (&harvester.sight, &harvester.dictionary);
        let inputs = sight.pick(&sight.inputs, &decoded.x);
        let seen = inputs.as_deref().unwrap_or(&decoded.x);
        // Of two dictionaries the encoder is the one that can go two ways.
        let codes = match harvester.encoder {
            None => harvester.hold.run(decoded.rows, || dictionary.encode(seen)),
            Some(_) => dictionary.encode(seen),
        };
        let mut x_hat = vec![0f32; decoded.rows * dictionary.d_out()];
        dictionary.reconstruct(seen, &codes, &mut x_hat);
        let encoder = harvester.encoder.as_deref();
        let encoded = encoder.map(|encoder| encoded(encoder, &harvester.hold, seen, verdicts));
        let wanted = sight.reconstructed();
        let x = if wanted == sight.inputs { inputs } else { sight.pick(&wanted, &decoded.x) };
        Coded { codes, x_hat, x, encoded }
    }
}

/// Codes and reconstructions of the held-out rows of `seen`.
fn encoded(encoder: &dyn Dictionary, hold: &Hold, seen: &[f32], verdicts: &[Verdict]) -> (Codes, Vec<f32>) {
    let rows = seen.chunks_exact(encoder.d_in()).zip(verdicts);
    let held_out: Vec<&[f32]> =
        rows.filter(|(_, verdict)| **verdict == Verdict::HeldOut).map(|(row, _)| row).collect();
    let (count, rows) = (held_out.len(), held_out.concat());
    let codes = hold.run(count, || encoder.encode(&rows));
    let mut x_hat = vec![0f32; count * encoder.d_out()];
    encoder.reconstruct(&rows, &codes, &mut x_hat);
    (codes, x_hat)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use atomflow_workers::{
        card::digest::{self, Digest, Digests, LatentSums},
        export::ExportedFile,
        learner::{LinearEncoder, Mismatch, Role},
        stats::FixedPoint,
        threads::Threads,
    };

    use super::*;
    use crate::sight::Sight;

    /// Reconstructs twice its second code and adds a way around the codes. With a card it says that there are none.
    struct Doubling {
        has_card: bool,
    }

    const DOUBLING: Doubling = Doubling { has_card: false };

    #[derive(Debug)]
    struct NoCodes;

    impl Digests for NoCodes {
        fn digest(&mut self, rows: &digest::Rows) -> Digest {
            let (count, mut codes) = (rows.marks.len(), Codes::new(2));
            (0..count).for_each(|_| codes.push_row([]));
            let (nnz, products) = (vec![0; count], vec![[1.0; 4]; count]);
            Digest { nnz, products, sum_x: vec![0; 3 * rows.x.len() / count], codes, candidates: Vec::new() }
        }
        fn finish(self: Box<Self>) -> Vec<LatentSums> {
            vec![LatentSums { fires: 7, ..LatentSums::ZERO }; 2]
        }
    }

    impl Dictionary for Doubling {
        fn d_in(&self) -> usize {
            2
        }
        fn d_out(&self) -> usize {
            1
        }
        fn n_latents(&self) -> usize {
            2
        }
        fn encode(&self, x: &[f32]) -> Codes {
            let mut codes = Codes::new(2);
            x.chunks(2).for_each(|row| codes.push_row((0..).zip(row.iter().copied())));
            codes
        }
        fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
            x_hat.iter_mut().enumerate().for_each(|(row, out)| *out = 2.0 * codes.row(row).1[1]);
        }
        fn reconstruct(&self, x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
            self.decode(codes, x_hat);
            x_hat.iter_mut().zip(x.chunks(2)).for_each(|(out, row)| *out += 100.0 * row[0]);
        }
        fn digests(&self, _: FixedPoint) -> Option<Box<dyn Digests>> {
            if self.has_card { Some(Box::new(NoCodes)) } else { None }
        }
        fn atoms(&self) -> &[f32] {
            &[1.0, 2.0]
        }
        fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
            None
        }
        fn export(&self) -> std::result::Result<Vec<ExportedFile>, Mismatch> {
            Ok(Vec::new())
        }
    }

    /// Rows are `[b, label, target, a]`; the dictionary sees `[a, b]`.
    fn harvester(dictionary: Doubling, beside: Vec<(std::ops::Range<usize>, Role)>) -> Harvester {
        let sight = Sight { width: 4, inputs: vec![3..4, 0..1], beside };
        let statistics = StatsSpec {
            shard: 0,
            n_latents: 2,
            d_in: sight.d_out(),
            fixed: FixedPoint::from_rms_norm(1.0),
            seed: 0,
            harvest: Default::default(),
            coactivation_rate: 0.0,
        };
        let (dictionary, hold) = (Arc::new(dictionary), Hold::new(&Threads::new(1).unwrap()));
        let done = BTreeSet::new();
        Harvester { learner: 0, dictionary, encoder: None, sight, statistics, hold, card: None, done }
    }

    fn rows() -> Decoded {
        let x = vec![3.0, f32::NAN, 9.0, 1.0, 4.0, 0.0, 7.0, 2.0];
        Decoded { rows: 2, x, ..Decoded::default() }
    }

    /// One shard after the other: what a card counts comes with the statistics, and not where there is a target.
    #[test]
    fn what_a_card_counts_is_not_coded() {
        let task = |shard| Task { time: 0, shard, row_group: 0, first_row: 0 };
        let (decoded, verdicts) = (rows(), [Verdict::Train, Verdict::HeldOut]);
        let plain = harvester(Doubling { has_card: true }, Vec::new());
        let mut open = None;
        let first = Counting::of(&plain, &mut open, 3);
        assert!(first.code(&plain, task(3), &decoded, &verdicts).unwrap().is_none());
        let again = |open: &mut Open, shard| {
            Arc::ptr_eq(&first.statistics, &Counting::of(&plain, open, shard).statistics)
        };
        assert!(again(&mut open, 3) && !again(&mut open, 4));
        let partial = first.finish().unwrap();
        assert!(first.code(&plain, task(3), &decoded, &verdicts).is_err() && first.finish().is_err());
        let latents = partial.batch(atomflow_schemas::partial::Partial::Latents).unwrap();
        assert_eq!((partial.shard, latents.num_rows()), (3, 2));
        let target = harvester(Doubling { has_card: true }, vec![(2..3, Role::Target)]);
        let counting = Counting::of(&target, &mut None, 0);
        let coded = counting.code(&target, task(0), &decoded, &verdicts).unwrap();
        assert_eq!(coded.unwrap().x_hat, [106.0, 208.0]);
        let without = harvester(DOUBLING, Vec::new());
        let counting = Counting::of(&without, &mut None, 0);
        assert!(counting.code(&without, task(0), &decoded, &verdicts).unwrap().is_some());
    }

    #[test]
    fn reconstructions_are_compared_with_the_target() {
        let mut harvester = harvester(DOUBLING, vec![(1..2, Role::Label), (2..3, Role::Target)]);
        let decoded = rows();
        let verdicts = [Verdict::Train, Verdict::HeldOut];
        let share = Coded::of(&harvester, &decoded, &verdicts);
        assert!(share.encoded.is_none());
        assert_eq!(share.codes.values, [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(share.x_hat, [106.0, 208.0]);
        assert_eq!(share.x.unwrap(), [9.0, 7.0]);
        harvester.sight.beside.clear();
        assert_eq!(Coded::of(&harvester, &decoded, &verdicts).x.unwrap(), [1.0, 3.0, 2.0, 4.0]);
        harvester.encoder = Some(Arc::new(DOUBLING));
        let (codes, x_hat) = Coded::of(&harvester, &decoded, &verdicts).encoded.unwrap();
        assert_eq!((codes.values, x_hat), (vec![2.0, 4.0], vec![208.0]));
    }
}
