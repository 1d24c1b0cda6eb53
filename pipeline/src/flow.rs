//! Every timely name this crate uses, in one place: timely breaks its API every few weeks.

pub(crate) use timely::{
    WorkerConfig,
    bytes::arc::Bytes as WireBytes,
    communication::Push,
    container::{Accountable, NoopBuilder},
    dataflow::{
        Scope, Stream,
        channels::{
            ContainerBytes, Message,
            pact::{DistributorPact, Pipeline},
            pushers::exchange::Distributor,
        },
        operators::{
            Capability, ConnectLoop, Feedback,
            generic::{OutputBuilder, builder_rc::OperatorBuilder, operator::Operator},
        },
    },
    progress::Antichain,
    scheduling::SyncActivator,
    worker::Worker,
};

use crate::{Error, Result};

/// Runs `body` on `workers` timely workers of this process and collects what they return.
///
/// Several workers use the byte channels: with the typed ones a panic in one worker leaves the
/// others hanging, with these it takes them down.
///
/// # Errors
/// A worker could not be started or panicked.
pub(crate) fn run_workers<T: Send + 'static>(
    workers: usize,
    body: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let communication = match workers {
        0 | 1 => timely::CommunicationConfig::Thread,
        n => timely::CommunicationConfig::ProcessBinary(n),
    };
    let config = timely::Config { communication, worker: WorkerConfig::default() };
    let guards = timely::execute(config, body).map_err(Error::bug)?;
    guards.join().into_iter().map(|result| result.map_err(Error::bug)).collect()
}
