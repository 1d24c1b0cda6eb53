//! NCCL, by which cards add up gradients among themselves.

use atomflow_workers::card::Unusable;
use cubecl::{
    cuda::CudaDevice,
    device::{Device, DeviceId},
};
use cudarc::nccl::sys;

/// The cards of these names, as the runtime counts them, if they can add up among themselves.
///
/// # Errors
/// There is no NCCL.
pub(super) fn among(names: &[String]) -> Result<Vec<DeviceId>, Unusable> {
    // SAFETY: only looks whether the library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        return Err(Unusable {
            reason: "there is no NCCL (libnccl.so), by which cards add up gradients".to_owned(),
            hint: "install it from NVIDIA's repository (Debian, Ubuntu: libnccl-dev; the package nvidia-nccl-cu13 of \
                   pip has libnccl.so.2 alone: make a link libnccl.so to it on LD_LIBRARY_PATH), or use \
                   runtime.split = \"latents\""
                .to_owned(),
        });
    }
    Ok(names.iter().filter_map(|name| number(name)).map(|index| CudaDevice::new(index).to_id()).collect())
}

/// `3` of `cuda:3`.
fn number(name: &str) -> Option<usize> {
    name.split_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_said_with_a_way_around() {
        match among(&["cuda:1".to_owned(), "cuda:3".to_owned()]) {
            Ok(cards) => assert_eq!(cards.iter().map(|card| card.index_id).collect::<Vec<_>>(), [1, 3]),
            Err(Unusable { reason, hint }) => {
                assert!(reason.contains("libnccl.so") && hint.contains("runtime.split"), "{reason} {hint}");
            }
        }
    }

    #[test]
    fn cards_have_numbers() {
        assert_eq!(["cuda:0", "cuda:12", "cuda"].map(number), [Some(0), Some(12), None]);
    }
}
