//! The kernels against their references on a Vulkan device, in tests a software one.
#![cfg(feature = "vulkan")]

use std::panic::catch_unwind;

use atomflow_gpu::{card::Card, verify};
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};

/// With this variable at 1 a machine without a Vulkan device fails the test.
const WANTED: &str = "ATOMFLOW_TEST_VULKAN";

#[test]
fn kernels_are_right_on_a_software_device() {
    let Ok(card) = catch_unwind(|| Card::<WgpuRuntime>::open(&WgpuDevice::Cpu)) else {
        let wanted = std::env::var_os(WANTED).is_some_and(|value| value == "1");
        assert!(
            !wanted,
            "{WANTED}=1, but there is no software Vulkan device (mesa-vulkan-drivers, libvulkan1)"
        );
        eprintln!("skipped: no software Vulkan device (mesa-vulkan-drivers, libvulkan1)");
        return;
    };
    assert_eq!(verify::computes(&card), Ok(true));
    let report = verify::all(&card);
    for check in report.checks.iter().filter(|check| !check.fine) {
        eprintln!("{} at {}: {:e}, allowed {:e}", check.name, check.shape, check.worst, check.tolerance);
    }
    assert!(!report.checks.is_empty() && report.fine());
}
