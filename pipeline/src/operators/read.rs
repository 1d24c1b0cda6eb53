//! Row groups of a plan, in plan order: fetched on tokio, decoded and filtered beside the worker,
//! handed to the dataflow as fast as it can take them.

use std::sync::Arc;

use futures::StreamExt;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::{
    Error, Result,
    error::Kind,
    flow::{
        Antichain, Capability, NoopBuilder, OperatorBuilder, OutputBuilder, Pipeline, Scope, Stream,
        SyncActivator,
    },
    source::{Decoded, Fetched, Manifest, OnBad, RowFilter, Verdict, Want},
    stop::Stop,
};

/// One row group to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Time at which its rows enter the dataflow.
    pub time: u64,
    /// Index into the manifest.
    pub shard: u32,
    /// Row group of the shard.
    pub row_group: u32,
    /// Number of its first row, among the rows of the window or of the shard.
    pub first_row: u64,
}

/// How row groups become rows. Shared by all workers and both graphs.
#[derive(Debug, Clone)]
pub struct Reader {
    /// What there is to read.
    pub manifest: Arc<Manifest>,
    /// Which rows are used.
    pub filter: Arc<RowFilter>,
    /// What a row group is asked for.
    pub want: Want,
    /// Bytes that may wait between store and dataflow, per worker.
    pub budget_bytes: u64,
    /// Where asynchronous reads run.
    pub runtime: Handle,
    /// Ends the run.
    pub stop: Stop,
    /// Counts fetched bytes, for progress.
    pub fetched_bytes: Arc<std::sync::atomic::AtomicU64>,
}

/// Rows of one row group and what the filter says of each; or why there are none, under quarantine.
pub type Rows = std::result::Result<(Decoded, Vec<Verdict>), Error>;

/// A prepared row group. Its bytes count against the budget until it is dropped.
#[derive(Debug)]
pub struct Ready<T> {
    /// Which row group.
    pub task: Task,
    /// What `prepare` made of it.
    pub value: T,
    _budget: OwnedSemaphorePermit,
}

/// Row groups fetched or decoded at the same time, per worker.
const IN_FLIGHT: usize = 4;

impl Reader {
    /// Starts reading `tasks` in order; `prepare` runs beside the workers. Ends early when the run stops.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        tasks: impl Iterator<Item = Task> + Send + 'static,
        prepare: impl Fn(&Task, Rows) -> Result<T> + Send + Sync + 'static,
        waker: SyncActivator,
    ) -> mpsc::Receiver<Ready<T>> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let (stop, groups) = (self.stop.clone(), self.prepared(tasks, prepare));
        self.runtime.spawn(async move {
            let mut groups = std::pin::pin!(groups);
            while let Some(next) = groups.next().await {
                let group = match next {
                    Ok(group) => group,
                    Err(error) => return stop.fail(error),
                };
                if stop.is_set() || sender.send(group).await.is_err() {
                    return;
                }
                let _gone = waker.activate();
            }
            drop(sender);
            let _gone = waker.activate();
        });
        receiver
    }

    /// What `prepare` makes of `tasks`, in their order.
    pub(crate) fn prepared<T: Send + 'static>(
        &self,
        tasks: impl Iterator<Item = Task> + Send + 'static,
        prepare: impl Fn(&Task, Rows) -> Result<T> + Send + Sync + 'static,
    ) -> impl futures::Stream<Item = Result<Ready<T>>> + Send + 'static {
        let (reader, prepare) = (self.clone(), Arc::new(prepare));
        let budget = Arc::new(Semaphore::new(reader.budget_kib() as usize));
        let one = move |task| reader.clone().read(task, Arc::clone(&budget), Arc::clone(&prepare));
        futures::stream::iter(tasks).map(one).buffered(IN_FLIGHT)
    }

    async fn read<T: Send + 'static>(
        self,
        task: Task,
        budget: Arc<Semaphore>,
        prepare: Arc<impl Fn(&Task, Rows) -> Result<T> + Send + Sync + 'static>,
    ) -> Result<Ready<T>> {
        let closed = |_| Error::bug("the read budget was closed");
        let budget = budget.acquire_many_owned(self.cost_kib(&task)).await.map_err(closed)?;
        let fetched = self.manifest.fetch(task.shard as usize, task.row_group as usize).await?;
        let bytes = fetched.iter().map(Fetched::bytes).sum();
        self.fetched_bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        let work = move || prepare(&task, self.rows(&task, fetched)?);
        let value =
            tokio::task::spawn_blocking(work).await.map_err(|e| Error::bug(format!("decoding: {e}")))??;
        Ok(Ready { task, value, _budget: budget })
    }

    /// Decodes and filters; bad data becomes a reason instead of an error under quarantine.
    fn rows(&self, task: &Task, fetched: Vec<Fetched>) -> Result<Rows> {
        let (shard, row_group) = (task.shard as usize, task.row_group as usize);
        let decoded = self.manifest.decode(shard, row_group, fetched, self.want);
        match decoded {
            Ok(decoded) => {
                let verdicts = self.filter.verdicts(&decoded, self.manifest.d_in, shard, row_group);
                Ok(Ok((decoded, verdicts)))
            }
            Err(error) if error.kind == Kind::Data && self.want.on_bad == OnBad::Quarantine => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Fetched and decoded bytes of a row group, at most the whole budget, so that a giant can pass alone.
    fn cost_kib(&self, task: &Task) -> u32 {
        let group = &self.manifest.shards[task.shard as usize].row_groups[task.row_group as usize];
        let bytes = group.bytes + group.rows * self.manifest.d_in as u64 * 4;
        u32::try_from(bytes >> 10).unwrap_or(u32::MAX).min(self.budget_kib())
    }

    fn budget_kib(&self) -> u32 {
        u32::try_from(self.budget_bytes >> 10).unwrap_or(u32::MAX >> 4).max(1)
    }
}

/// A source operator: gives what `next` yields, at the times of its tasks, never more than
/// `ahead` ticks past what `progress` says is finished. `times` is the number of ticks in all.
pub(crate) fn source<'s, T: Send + 'static, C>(
    scope: Scope<'s, u64>,
    progress: Option<(Stream<'s, u64, Vec<()>>, u64)>,
    first_time: u64,
    start: impl FnOnce(SyncActivator) -> mpsc::Receiver<Ready<T>>,
    mut give: impl FnMut(Ready<T>) -> Vec<C> + 'static,
    stop: Stop,
) -> Stream<'s, u64, C>
where
    C: timely::Container,
{
    let mut builder = OperatorBuilder::new("Read".to_owned(), scope);
    let info = builder.operator_info();
    let waker = || scope.worker().sync_activator_for(info.address.to_vec());
    let again = scope.worker().activator_for(info.address.clone());
    stop.register(waker());
    let (output, stream) = builder.new_output::<C>();
    let mut output = OutputBuilder::<_, NoopBuilder<C>>::from(output);
    let ahead = progress.as_ref().map(|(_, ahead)| *ahead);
    let _input = progress.map(|(progress, _)| {
        builder.new_input_connection(progress, Pipeline, Vec::<(usize, Antichain<u64>)>::new())
    });
    let mut ready = start(waker());
    builder.build(move |capabilities| {
        let mut capability: Option<Capability<u64>> = capabilities.into_iter().next();
        if let Some(capability) = capability.as_mut() {
            capability.downgrade(&first_time);
        }
        let mut waiting: Option<Ready<T>> = None;
        move |frontiers| {
            if stop.is_set() {
                capability = None;
                ready.close();
            }
            let Some(held) = capability.as_mut() else { return };
            if waiting.is_none() {
                match ready.try_recv() {
                    Ok(group) => waiting = Some(group),
                    Err(mpsc::error::TryRecvError::Empty) => return,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        capability = None;
                        return;
                    }
                }
            }
            let Some(group) = waiting.take() else { return };
            let time = group.task.time;
            // Also lets go of the times between: this worker has nothing for them.
            held.downgrade(&time);
            let behind = |ahead: u64| time >= ahead && frontiers[0].less_equal(&(time - ahead));
            if ahead.is_some_and(behind) {
                waiting = Some(group);
                return;
            }
            for mut container in give(group) {
                output.activate().session_with_builder(&*held).give_container(&mut container);
            }
            // One row group per turn: a worker must get round to its other operators.
            again.activate();
        }
    });
    stream
}
