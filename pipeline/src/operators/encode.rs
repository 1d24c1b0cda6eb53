//! Rows of a shard, encoded by the frozen dictionary on a thread of their own, in storage order.

use std::{collections::VecDeque, sync::Arc};

use atomflow_workers::{codes::Codes, learner::Dictionary, stats::RowSplit};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::read::Ready;
use crate::{
    Error, Result,
    flow::{Accountable, Capability, NoopBuilder, Operator, Pipeline, Stream, SyncActivator},
    source::{Decoded, Verdict},
    stop::Stop,
};

/// One row group on its way through harvest. Holds its share of the read budget until it is dropped.
#[derive(Debug, Default)]
pub struct HarvestRows {
    /// The row group, its rows and verdicts; or why it could not be used.
    pub read: Option<Ready<super::read::Rows>>,
    /// Codes of all its rows, filtered ones included.
    pub codes: Codes,
    /// Reconstructions, `[rows, d_in]`.
    pub x_hat: Vec<f32>,
}

impl HarvestRows {
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
    dictionary: Arc<dyn Dictionary>,
    stop: Stop,
) -> Stream<'s, u64, HarvestRows> {
    let scope = rows.scope();
    rows.unary_frontier::<NoopBuilder<HarvestRows>, _, _, _>(Pipeline, "Encode", move |capability, info| {
        drop(capability);
        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        stop.register(waker());
        let thread = start(dictionary, waker());
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
                if let Some(capability) = held.pop_front() {
                    output.session_with_builder(&capability).give_container(&mut rows);
                }
            }
        }
    })
}

type Channels = (Sender<HarvestRows>, Receiver<HarvestRows>);

fn start(dictionary: Arc<dyn Dictionary>, waker: SyncActivator) -> Result<Channels> {
    let (to_thread, inbox) = crossbeam_channel::unbounded::<HarvestRows>();
    let (outbox, from_thread) = bounded(2);
    let run = move || {
        for rows in inbox {
            if outbox.send(encoded(&*dictionary, rows)).is_err() {
                return;
            }
            let _gone = waker.activate();
        }
    };
    let thread = std::thread::Builder::new().name("encode".to_owned()).spawn(run);
    thread.map_err(|e| Error::retry(format!("cannot start the encoder thread: {e}")))?;
    Ok((to_thread, from_thread))
}

fn encoded(dictionary: &dyn Dictionary, mut rows: HarvestRows) -> HarvestRows {
    let Some((decoded, _)) = rows.rows() else { return rows };
    let codes = dictionary.encode(&decoded.x);
    let mut x_hat = vec![0f32; decoded.x.len()];
    dictionary.decode(&codes, &mut x_hat);
    HarvestRows { codes, x_hat, ..std::mem::take(&mut rows) }
}
