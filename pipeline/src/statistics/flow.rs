//! The only file of the statistics that names timely and differential dataflow.
//!
//! Every view is a small dataflow over the same sequence of changes: at time t the shards of epoch t
//! are added or taken away, and when all are through, what is left is the state. Differences are
//! integers, so taking a shard away leaves exactly what was there before it came.
//!
//! For plain sums this is not faster than subtracting arrays; it earns its place on top-N under
//! deletion, where the incremental version is the easy thing to get wrong.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use differential_dataflow::{
    ExchangeData, VecCollection,
    difference::Abelian,
    input::{Input, InputSession},
    operators::CountTotal,
};
use timely::dataflow::operators::probe::Handle;

use super::totals::Change;
use crate::{Error, Result, stop::lock};

/// First-level groups of a hierarchical reduction: a change touches one group of a key, not all of it.
const GROUPS: u32 = 16;

/// Changes, epoch by epoch.
pub(crate) type Epochs = Arc<Vec<Vec<Change>>>;

/// What a shard puts into a view.
pub(crate) type Feed<D, R> = Arc<dyn Fn(u32) -> Result<Vec<(D, R)>> + Send + Sync>;

type Collection<'scope, D, R = isize> = VecCollection<'scope, u64, D, R>;

/// Sums per key, in as many integers as the feed gives.
pub(crate) fn sums(
    workers: usize,
    epochs: &Epochs,
    feed: Feed<u32, Vec<i128>>,
) -> Result<BTreeMap<u32, Vec<i128>>> {
    let rows = run(workers, epochs, feed, |collection| collection.count_total())?;
    Ok(rows.into_iter().collect())
}

/// (largest, first shard, last shard) per key from (value, shard), as `(value, shard, shard)`.
pub(crate) fn extremes(
    workers: usize,
    epochs: &Epochs,
    feed: Feed<(u32, (u32, u32, u32)), isize>,
) -> Result<BTreeMap<u32, (u32, u32, u32)>> {
    let few = few(epochs);
    let rows = run(workers, epochs, feed, move |collection| {
        let groups = if few { collection } else { outermost_of_groups(collection) };
        groups.reduce(|_, input, output| output.push((outermost(input), 1isize)))
    })?;
    Ok(rows.into_iter().collect())
}

/// Whether a key has no more values than groups, so that a first level would only cost.
fn few(epochs: &Epochs) -> bool {
    epochs.iter().map(Vec::len).sum::<usize>() <= GROUPS as usize
}

type Extreme = (u32, (u32, u32, u32));

fn outermost_of_groups<'scope>(collection: Collection<'scope, Extreme>) -> Collection<'scope, Extreme> {
    collection
        .map(|(key, value)| ((key, value.1 % GROUPS), value))
        .reduce(|_, input, output| output.push((outermost(input), 1isize)))
        .map(|((key, _), value)| (key, value))
}

fn outermost(input: &[(&(u32, u32, u32), isize)]) -> (u32, u32, u32) {
    input.iter().fold((0, u32::MAX, 0), |(max, first, last), (value, _)| {
        (max.max(value.0), first.min(value.1), last.max(value.2))
    })
}

/// The smallest values per key, at most `limit(key)` of them, ascending. `group` spreads the values of
/// a key over the first level.
pub(crate) fn smallest<K, V>(
    workers: usize,
    epochs: &Epochs,
    feed: Feed<(K, V), isize>,
    group: fn(&V) -> u32,
    limit: impl Fn(&K) -> usize + Clone + Send + Sync + 'static,
) -> Result<BTreeMap<K, Vec<V>>>
where
    K: ExchangeData + std::hash::Hash,
    V: ExchangeData + std::hash::Hash,
{
    let few = few(epochs);
    let rows = run(workers, epochs, feed, move |collection| {
        let first = limit.clone();
        let groups = if few { collection } else { top_of_groups(collection, group, first) };
        let limit = limit.clone();
        groups.reduce(move |key, input, output| keep(limit(key), input, output))
    })?;
    Ok(by_key(rows))
}

/// The first level of a hierarchical top-N: what survives in each group of a key.
fn top_of_groups<'scope, K, V>(
    collection: Collection<'scope, (K, V)>,
    group: fn(&V) -> u32,
    limit: impl Fn(&K) -> usize + 'static,
) -> Collection<'scope, (K, V)>
where
    K: ExchangeData + std::hash::Hash,
    V: ExchangeData + std::hash::Hash,
{
    collection
        .map(move |(key, value)| ((key, group(&value) % GROUPS), value))
        .reduce(move |(key, _), input, output| keep(limit(key), input, output))
        .map(|((key, _), value)| (key, value))
}

/// Values arrive in ascending order.
fn keep<V: Clone>(limit: usize, input: &[(&V, isize)], output: &mut Vec<(V, isize)>) {
    output.extend(input.iter().take(limit).map(|(value, count)| ((*value).clone(), *count)));
}

fn by_key<K: Ord, V>(rows: Vec<(K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut map = BTreeMap::<K, Vec<V>>::new();
    for (key, value) in rows {
        map.entry(key).or_default().push(value);
    }
    map
}

/// Runs one view over all epochs and gives its final rows, ascending.
fn run<D, R, O, B>(workers: usize, epochs: &Epochs, feed: Feed<D, R>, build: B) -> Result<Vec<O>>
where
    D: ExchangeData,
    R: ExchangeData + Abelian,
    O: ExchangeData,
    B: for<'scope> Fn(Collection<'scope, D, R>) -> Collection<'scope, O> + Send + Sync + 'static,
{
    let (epochs, failure) = (epochs.clone(), Arc::new(Mutex::new(None)));
    let failed = failure.clone();
    let guards = timely::execute(config(workers), move |worker| {
        let (changes, probe) = (Arc::new(Mutex::new(Vec::new())), Handle::new());
        let sink = changes.clone();
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, collection) = scope.new_collection::<D, R>();
            let put = move |(row, _, count): &(O, u64, isize)| lock(&sink).push((row.clone(), *count));
            build(collection).inspect(put).probe_with(&probe);
            input
        });
        let (index, peers) = (worker.index(), worker.peers());
        for (epoch, shards) in epochs.iter().enumerate() {
            let own = shards.iter().skip(index).step_by(peers);
            if let Err(error) = own.into_iter().try_for_each(|change| put(&mut input, &feed, change)) {
                lock(&failed).get_or_insert(error);
            }
            input.advance_to(epoch as u64 + 1);
            input.flush();
            while probe.less_than(input.time()) {
                worker.step();
            }
        }
        std::mem::take(&mut *lock(&changes))
    });
    let outputs = guards.map_err(Error::bug)?.join().into_iter().collect::<Result<Vec<_>, String>>();
    let outputs = outputs.map_err(|e| Error::bug(format!("a statistics worker stopped: {e}")))?;
    match lock(&failure).take() {
        Some(error) => Err(error),
        None => Ok(settle(outputs.into_iter().flatten())),
    }
}

fn config(workers: usize) -> timely::Config {
    if workers <= 1 { timely::Config::thread() } else { timely::Config::process(workers) }
}

/// Puts what a shard says into the input, or takes it out again.
fn put<D, R>(input: &mut InputSession<u64, D, R>, feed: &Feed<D, R>, change: &Change) -> Result<()>
where
    D: ExchangeData,
    R: ExchangeData + Abelian,
{
    for (row, mut difference) in feed(change.shard)? {
        if !change.add {
            difference.negate();
        }
        input.update(row, difference);
    }
    Ok(())
}

/// What is left when all changes are added up.
fn settle<O: Ord>(changes: impl Iterator<Item = (O, isize)>) -> Vec<O> {
    let mut changes: Vec<_> = changes.collect();
    differential_dataflow::consolidation::consolidate(&mut changes);
    changes.into_iter().map(|(row, _)| row).collect()
}
