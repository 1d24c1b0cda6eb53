//! Hands complete lanes to the device thread and holds the window until it has been learned from.

use std::collections::BTreeMap;

use super::shuffle::LaneRows;
use crate::{
    device::DeviceHandle,
    flow::{Capability, NoopBuilder, Operator, Pipeline, Stream},
    stop::Stop,
};

/// The frontier behind this operator means: trained through window w, everywhere.
pub(crate) fn train<'s>(
    lanes: Stream<'s, u64, LaneRows>,
    device: DeviceHandle,
    stop: Stop,
) -> Stream<'s, u64, Vec<()>> {
    let scope = lanes.scope();
    lanes.unary_frontier::<NoopBuilder<Vec<()>>, _, _, _>(Pipeline, "Train", move |capability, info| {
        drop(capability);
        stop.register(scope.worker().sync_activator_for(info.address.to_vec()));
        let mut held: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |(input, _frontier), _output| {
            input.for_each(|time, lane| {
                if !stop.is_set() {
                    held.entry(*time.time()).or_insert_with(|| time.retain(0));
                    device.send(std::mem::take(lane), &stop);
                }
            });
            held = if stop.is_set() { BTreeMap::new() } else { held.split_off(&device.windows_done()) };
        }
    })
}
