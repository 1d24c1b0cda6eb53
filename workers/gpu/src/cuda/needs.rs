//! What kernels need on the machine beside a card: a driver that is new enough, NVRTC that is not newer than the
//! driver, and the headers of CUDA where CubeCL looks for them.

use std::path::Path;

use atomflow_workers::card::Unusable;
use cubecl::cuda::install::cuda_path;
use cudarc::nvrtc::sys;

use crate::shield::shielded;

/// CUDA 12.0: the first that knows compute capability 9.0 and tensor maps.
const OLDEST: i32 = 12_000;
/// Headers that kernels include, and the package of each: `include/cccl` or `include`.
const HEADERS: [(&str, &str); 4] = [
    ("cuda_runtime.h", "nvidia-cuda-runtime"),
    ("cuda_bf16.h", "nvidia-cuda-runtime"),
    ("crt/mma.h", "nvidia-cuda-crt"),
    ("cuda/barrier", "nvidia-cuda-cccl"),
];

/// Whether kernels can be compiled for a driver of this version.
pub(super) fn check(driver: i32) -> Result<(), Unusable> {
    if driver < OLDEST {
        let reason = format!("the driver speaks CUDA {}, older than {}", version(driver), version(OLDEST));
        return Err(Unusable { reason, hint: "install a newer NVIDIA driver: 525 or later".to_owned() });
    }
    let nvrtc = nvrtc().ok_or_else(|| lacks("there is no NVRTC (libnvrtc.so)".to_owned(), driver))?;
    if nvrtc < OLDEST || nvrtc > driver {
        let (nvrtc, spoken) = (version(nvrtc), version(driver));
        let wanted = format!("is not between {} and the driver's {spoken}", version(OLDEST));
        return Err(lacks(format!("NVRTC is of CUDA {nvrtc}, which {wanted}"), driver));
    }
    let root = cuda_path().ok_or_else(|| lacks("there are no CUDA headers".to_owned(), driver))?;
    let lacking = |(header, _): &&(&str, &str)| !present(&root, header);
    match HEADERS.iter().find(lacking) {
        None => Ok(()),
        Some((header, package)) => {
            let at = root.join("include");
            Err(lacks(format!("there is no {header} in {} ({package})", at.display()), driver))
        }
    }
}

/// `13.0` of 13000.
pub(super) fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

fn present(root: &Path, header: &str) -> bool {
    ["include", "include/cccl"].iter().any(|folder| root.join(folder).join(header).exists())
}

fn nvrtc() -> Option<i32> {
    // SAFETY: only looks whether the library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    // The library may lack the function, which the bindings panic at.
    shielded(|| {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two numbers.
        let done = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
        (done == sys::nvrtcResult::NVRTC_SUCCESS).then_some(major * 1000 + minor * 10)
    })
    .ok()
    .flatten()
}

fn lacks(reason: String, driver: i32) -> Unusable {
    let (major, minor) = (driver.min(13_000) / 1000, driver.min(13_000) % 1000 / 10);
    let suffix = if major < 13 { "-cu12" } else { "" };
    let folder = if major < 13 { "" } else { "cu13" };
    let package = |name: &str| format!("nvidia-cuda-{name}{suffix}=={major}.{minor}.*");
    let packages = ["nvrtc", "runtime", "cccl", "crt"].map(package).join(" ");
    let pip = match major {
        // Wheels of CUDA 12 put each package into a folder of its own.
        12 => String::new(),
        _ => format!(
            ", or without root `pip install --target cuda {packages}`, CUDA_PATH=$PWD/cuda/nvidia/{folder} and \
             LD_LIBRARY_PATH=$CUDA_PATH/lib"
        ),
    };
    let hint = format!(
        "install the toolkit from NVIDIA's repository (Debian, Ubuntu: cuda-nvrtc-{major}-{minor} \
         cuda-cudart-dev-{major}-{minor} cuda-crt-{major}-{minor} cuda-cccl-{major}-{minor}, or \
         cuda-toolkit-{major}-{minor}; CUDA_PATH if it is not /usr/local/cuda){pip}"
    );
    Unusable { reason, hint }
}
