//! What the driver says of its cards.

use atomflow_workers::card::Unusable;
use cudarc::driver::{
    DriverError,
    result::{self, device},
    sys::{self, CUdevice_attribute as Attribute},
};

use crate::shield::shielded;

/// A card.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) memory_bytes: u64,
    /// Compute capability.
    pub(super) capability: (i32, i32),
}

/// Cards, by number, and the newest CUDA that the driver speaks: 13000 for 13.0.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) driver: i32,
    pub(super) models: Vec<Model>,
}

impl Machine {
    /// Asks the driver, without opening a card.
    pub(super) fn look() -> Result<Self, Unusable> {
        // SAFETY: only looks whether the library can be loaded.
        if !unsafe { sys::is_culib_present() } {
            return Err(no_driver("there is no NVIDIA driver (libcuda.so)".to_owned()));
        }
        // The library may lack a function, which the bindings panic at.
        let found = shielded(ask).map_err(|why| no_driver(format!("the driver: {why}")))?;
        let machine = found.map_err(|error| no_driver(format!("the driver answered {error:?}")))?;
        if machine.models.is_empty() {
            return Err(no_driver("the driver sees no card".to_owned()));
        }
        Ok(machine)
    }
}

fn no_driver(reason: String) -> Unusable {
    let hint = "install the NVIDIA driver (Debian: nvidia-driver; Ubuntu: nvidia-driver-580), or let the container \
                have it (--gpus all); `nvidia-smi` then shows the card";
    Unusable { reason, hint: hint.to_owned() }
}

fn ask() -> Result<Machine, DriverError> {
    result::init()?;
    let mut driver = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut driver) }.result()?;
    let models = (0..device::get_count()?).map(model).collect::<Result<_, _>>()?;
    Ok(Machine { driver, models })
}

fn model(index: i32) -> Result<Model, DriverError> {
    let card = device::get(index)?;
    // SAFETY: `card` is what `get` returned.
    let (memory, major, minor) = unsafe {
        (
            device::total_mem(card)?,
            device::get_attribute(card, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device::get_attribute(card, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    let name = device::get_name(card)?;
    Ok(Model { name, memory_bytes: memory as u64, capability: (major, minor) })
}
