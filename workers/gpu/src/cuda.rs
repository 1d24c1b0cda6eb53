//! The NVIDIA cards of this machine: which there are, what they lack, and the ones that are opened.
//!
//! Everything is looked at before CubeCL is asked for a device, since it panics where something is missing. The
//! only file that names `burn-cuda`; beside test support, `cudarc` is named here and in the files below.

mod nccl;
mod needs;
mod pinned;
mod probe;

use std::sync::Arc;

use atomflow_workers::card::{Arithmetic, Cards, DeviceInfo, Peer, Precision, Unusable, Verified};
use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;

use crate::{card::Card, learn, shield::shielded, verify, wire::Take};
use probe::{Machine, Model};

/// Opened cards, by name.
pub type Opened = Vec<(String, Card<CudaRuntime>)>;

/// The NVIDIA cards of this machine, for learners.
#[derive(Debug, Clone, Copy)]
pub struct CudaCards;

impl Cards for CudaCards {
    fn list(&self) -> Vec<DeviceInfo> {
        list()
    }

    fn open(&self, name: &str, arithmetic: Arithmetic) -> Result<Vec<Arc<dyn Peer>>, Unusable> {
        let opened = cards(name, arithmetic.precision)?;
        for (name, card) in &opened {
            computes(name, card)?;
        }
        let peer = |(name, card): (String, Card<CudaRuntime>)| {
            let take = page_locked(&name);
            learn::staged(card, &name, arithmetic, Some(nccl::among), take)
        };
        Ok(opened.into_iter().map(peer).collect())
    }

    fn verify(&self, name: &str) -> Result<Vec<Verified>, Unusable> {
        let opened = cards(name, Precision::F32)?;
        for (name, card) in &opened {
            card.sync().map_err(|lost| unsound(name, &lost.to_string()))?;
        }
        Ok(opened.iter().flat_map(|(_, card)| verify::all(card).verified()).collect())
    }
}

/// A small product and a selection against numbers known before: a card that computes nothing would train to the
/// end, and its tables would be published.
fn computes<R: crate::Runtime>(name: &str, card: &Card<R>) -> Result<(), Unusable> {
    match verify::computes(card) {
        Ok(true) => Ok(()),
        Ok(false) => Err(unsound(name, "a small product came out wrong")),
        Err(lost) => Err(unsound(name, &lost.to_string())),
    }
}

fn unsound(name: &str, why: &str) -> Unusable {
    Unusable {
        reason: format!("{name} does not compute: {why}"),
        hint: format!(
            "`atomflow devices --verify {name}` compares every kernel; `nvidia-smi` shows its errors"
        ),
    }
}

/// Every card, or the driver alone if there is none, and why some are not usable.
pub fn list() -> Vec<DeviceInfo> {
    let machine = match Machine::look() {
        Ok(machine) => machine,
        Err(why) => return vec![unusable("cuda".to_owned(), None, why)],
    };
    let missing = needs::check(machine.driver).err();
    let info = |(index, model): (usize, &Model)| {
        let seen = DeviceInfo {
            name: format!("cuda:{index}"),
            model: Some(model.name.clone()),
            memory_bytes: Some(model.memory_bytes),
            driver: Some(needs::version(machine.driver)),
            usable: true,
            ..DeviceInfo::default()
        };
        match missing.clone() {
            None => seen,
            Some(why) => unusable(seen.name.clone(), Some(seen), why),
        }
    };
    machine.models.iter().enumerate().map(info).collect()
}

/// Opens the cards that `name` stands for: `cuda:0`, or `cuda:*` for all.
///
/// # Errors
/// One of them cannot be used, or not for `precision`.
pub fn cards(name: &str, precision: Precision) -> Result<Opened, Unusable> {
    let wanted = name.strip_prefix("cuda:").ok_or_else(|| unknown(name, 0))?;
    let machine = Machine::look()?;
    needs::check(machine.driver)?;
    let count = machine.models.len();
    let indices: Vec<usize> = match wanted {
        "*" => (0..count).collect(),
        one => vec![one.parse().ok().filter(|index| *index < count).ok_or_else(|| unknown(name, count))?],
    };
    indices.into_iter().map(|index| open(index, &machine.models[index], precision)).collect()
}

/// Page-locked memory for the card of this name.
pub fn page_locked(name: &str) -> Option<Take<CudaRuntime>> {
    name.strip_prefix("cuda:")?.parse().ok().map(pinned::take)
}

fn open(index: usize, model: &Model, precision: Precision) -> Result<(String, Card<CudaRuntime>), Unusable> {
    let name = format!("cuda:{index}");
    if precision != Precision::F32 && model.capability < (8, 0) {
        let (major, minor) = model.capability;
        return Err(Unusable {
            reason: format!("{} has compute capability {major}.{minor}, without bf16 and tf32", model.name),
            hint: "use precision \"f32\", or a card of compute capability 8.0 or newer".to_owned(),
        });
    }
    let opened = shielded(|| Card::open(&CudaDevice::new(index)).with_own_stream());
    opened.map(|card| (name, card)).map_err(|why| Unusable {
        reason: format!("{} could not be opened: {why}", model.name),
        hint: "see whether `nvidia-smi` shows it, and whether another process holds it".to_owned(),
    })
}

fn unknown(name: &str, count: usize) -> Unusable {
    let hint = match count {
        0 => "use \"cuda:0\", \"cuda:*\" or \"cpu\"".to_owned(),
        count => format!("there are {count}: use \"cuda:0\" to \"cuda:{}\", or \"cuda:*\"", count - 1),
    };
    Unusable { reason: format!("there is no card `{name}`"), hint }
}

fn unusable(name: String, seen: Option<DeviceInfo>, why: Unusable) -> DeviceInfo {
    let Unusable { reason, hint } = why;
    DeviceInfo { name, usable: false, reason: Some(reason), hint: Some(hint), ..seen.unwrap_or_default() }
}
