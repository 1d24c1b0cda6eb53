//! Rows of a shard, encoded by the frozen dictionaries on a thread of their own, in storage order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use atomflow_workers::{
    card::Card,
    codes::Codes,
    learner::Dictionary,
    stats::{RowSplit, StatsSpec},
};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{accumulate::Harvest, read::Ready};
use crate::{
    Error, Result,
    chooser::Hold,
    flow::{Accountable, Capability, NoopBuilder, Operator, Pipeline, Stream, SyncActivator},
    seat::present,
    sight::Sight,
    source::{Decoded, Verdict},
    stop::Stop,
};

/// A dictionary at harvest.
#[derive(Clone)]
pub struct Harvester {
    /// Number of its learner in the job.
    pub learner: usize,
    /// The dictionary.
    pub dictionary: Arc<dyn Dictionary>,
    /// The same with its own encoder, where a coder finds the codes: what held-out rows are measured with, too.
    pub encoder: Option<Arc<dyn Dictionary>>,
    /// What it sees of a row.
    pub sight: Sight,
    /// What is counted.
    pub statistics: StatsSpec,
    /// What it runs on.
    pub hold: Hold,
    /// The card it encodes on, if that is not the CPU.
    pub card: Option<Arc<dyn Card>>,
    /// Shards that are committed already.
    pub done: BTreeSet<u32>,
}

/// One row group on its way through harvest: first the share of each dictionary, then once without
/// one, which says that it is through. Holds its share of the read budget until the last is dropped.
#[derive(Debug, Default)]
pub struct HarvestRows {
    /// The row group, its rows and verdicts; or why it could not be used.
    pub read: Option<Arc<Ready<super::read::Rows>>>,
    /// What one dictionary made of it.
    pub share: Option<Share>,
}

/// What one dictionary made of a row group.
#[derive(Debug)]
pub struct Share {
    /// Place of the dictionary among the harvesters.
    pub harvester: usize,
    /// Codes of all rows, filtered ones included; empty where the row group could not be used.
    pub codes: Codes,
    /// Reconstructions, `[rows, d_out]`.
    pub x_hat: Vec<f32>,
    /// What they are compared with, `[rows, d_out]`: the target, else the rows it saw; left out where
    /// these are whole rows.
    pub x: Option<Vec<f32>>,
    /// Codes and reconstructions of the held-out rows by its own encoder, where a coder found the codes.
    pub encoded: Option<(Codes, Vec<f32>)>,
}

impl HarvestRows {
    /// A row group that was read.
    pub(crate) fn new(ready: Ready<super::read::Rows>) -> Self {
        HarvestRows { read: Some(Arc::new(ready)), share: None }
    }

    /// Rows and verdicts, where the row group could be used.
    pub fn rows(&self) -> Option<&(Decoded, Vec<Verdict>)> {
        self.read.as_ref().and_then(|read| read.value.as_ref().ok())
    }
}

impl Accountable for HarvestRows {
    fn record_count(&self) -> i64 {
        1
    }
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

/// Encodes and decodes each row group on a thread of its own; results come back in order.
pub(crate) fn encode<'s>(
    rows: Stream<'s, u64, HarvestRows>,
    harvest: &Harvest,
    stop: Stop,
) -> Stream<'s, u64, HarvestRows> {
    let (scope, harvest) = (rows.scope(), harvest.clone());
    rows.unary_frontier::<NoopBuilder<HarvestRows>, _, _, _>(Pipeline, "Encode", move |capability, info| {
        drop(capability);
        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        stop.register(waker());
        let thread = start(harvest, stop.clone(), waker());
        let mut held: VecDeque<Capability<u64>> = VecDeque::new();
        move |(input, _frontier), output| {
            let Ok((to_thread, from_thread)) = &thread else {
                return stop.fail(Error::retry("cannot start the encoder thread"));
            };
            input.for_each(|time, rows| {
                held.push_back(time.retain(0));
                // Unbounded in form, bounded by the read budget that every row group carries.
                if to_thread.send(std::mem::take(rows)).is_err() {
                    stop.fail(Error::bug("the encoder thread ended early"));
                }
            });
            if stop.is_set() {
                return held.clear();
            }
            while let Ok(mut rows) = from_thread.try_recv() {
                let through = rows.share.is_none();
                if let Some(capability) = held.front() {
                    output.session_with_builder(capability).give_container(&mut rows);
                }
                if through {
                    held.pop_front();
                }
            }
        }
    })
}

type Channels = (Sender<HarvestRows>, Receiver<HarvestRows>);

fn start(harvest: Harvest, stop: Stop, waker: SyncActivator) -> Result<Channels> {
    let (to_thread, inbox) = crossbeam_channel::unbounded::<HarvestRows>();
    // Codes and reconstructions of two dictionaries wait at most, however many there are.
    let (outbox, from_thread) = bounded(2);
    let send = move |rows| {
        let sent = outbox.send(rows).is_ok();
        let _gone = waker.activate();
        sent
    };
    let run = move || {
        for rows in inbox {
            let mut shares = (0..harvest.harvesters.len()).filter_map(|at| share(&harvest, at, &rows, &stop));
            let part = |share| HarvestRows { read: rows.read.clone(), share: Some(share) };
            if !(shares.all(|share| send(part(share))) && send(rows)) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("encode".to_owned()).spawn(run);
    thread.map_err(|e| Error::retry(format!("cannot start the encoder thread: {e}")))?;
    Ok((to_thread, from_thread))
}

/// What one dictionary makes of a row group; `None` if it does not need it.
fn share(harvest: &Harvest, at: usize, rows: &HarvestRows, stop: &Stop) -> Option<Share> {
    let harvester = &harvest.harvesters[at];
    let shard = rows.read.as_ref()?.task.shard;
    if harvester.done.contains(&shard) || harvest.failures.has(harvester.learner) {
        return None;
    }
    let Some((decoded, verdicts)) = rows.rows() else {
        let (codes, x_hat) = (Codes::default(), Vec::new());
        return Some(Share { harvester: at, codes, x_hat, x: None, encoded: None });
    };
    let coded = harvest.failures.shield(|| coded(harvester, at, decoded, verdicts));
    // Codes of a card that is gone are empty, and look like codes.
    if let Err(error) = present(harvester.card.as_ref()) {
        stop.fail(error);
        return None;
    }
    coded.map_err(|error| harvest.failures.add(harvester.learner, error, stop)).ok()
}

fn coded(harvester: &Harvester, at: usize, decoded: &Decoded, verdicts: &[Verdict]) -> Share {
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
    Share { harvester: at, codes, x_hat, x, encoded }
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
    use atomflow_workers::{
        export::ExportedFile,
        learner::{LinearEncoder, Mismatch, Role},
        stats::FixedPoint,
        threads::Threads,
    };

    use super::*;

    /// Reconstructs twice its second code and adds a way around the codes.
    struct Doubling;

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
    #[test]
    fn reconstructions_are_compared_with_the_target() {
        let beside = vec![(1..2, Role::Label), (2..3, Role::Target)];
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
        let (dictionary, hold) = (Arc::new(Doubling), Hold::new(&Threads::new(1).unwrap()));
        let done = BTreeSet::new();
        let mut harvester =
            Harvester { learner: 0, dictionary, encoder: None, sight, statistics, hold, card: None, done };
        let x = vec![3.0, f32::NAN, 9.0, 1.0, 4.0, 0.0, 7.0, 2.0];
        let decoded = Decoded { rows: 2, x, ..Decoded::default() };
        let verdicts = [Verdict::Train, Verdict::HeldOut];
        let share = coded(&harvester, 0, &decoded, &verdicts);
        assert!(share.encoded.is_none());
        assert_eq!(share.codes.values, [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(share.x_hat, [106.0, 208.0]);
        assert_eq!(share.x.unwrap(), [9.0, 7.0]);
        harvester.sight.beside.clear();
        assert_eq!(coded(&harvester, 0, &decoded, &verdicts).x.unwrap(), [1.0, 3.0, 2.0, 4.0]);
        harvester.encoder = Some(Arc::new(Doubling));
        let (codes, x_hat) = coded(&harvester, 0, &decoded, &verdicts).encoded.unwrap();
        assert_eq!((codes.values, x_hat), (vec![2.0, 4.0], vec![208.0]));
    }
}
