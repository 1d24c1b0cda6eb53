//! NVRTC, called as the CUDA runtime of CubeCL calls it.

use std::{
    ffi::{CStr, CString},
    path::PathBuf,
};

use cudarc::nvrtc::{result, sys};

/// Where headers are when `CUDA_PATH` does not say.
const ROOT: &str = "/usr/local/cuda";

/// There is no NVRTC on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no libnvrtc on the loader's path (nvidia-cuda-nvrtc)")]
pub struct Missing;

/// Compiles CUDA text for compute capability 9.0 to PTX, or to what NVRTC has against it.
///
/// # Errors
/// There is no NVRTC.
pub fn compile(source: &str) -> Result<Result<Vec<u8>, String>, Missing> {
    // SAFETY: only looks whether the library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        return Err(Missing);
    }
    Ok(ptx(source))
}

fn ptx(source: &str) -> Result<Vec<u8>, String> {
    let include = std::env::var_os("CUDA_PATH").map_or_else(|| ROOT.into(), PathBuf::from).join("include");
    let options = [
        "--gpu-architecture=sm_90a".to_owned(),
        format!("--include-path={}", include.display()),
        "-lineinfo".to_owned(),
        format!("--include-path={}", include.join("cccl").display()),
    ];
    let source = CString::new(source).map_err(|error| error.to_string())?;
    let program = result::create_program(source.as_c_str(), None).map_err(|error| format!("{error:?}"))?;
    // SAFETY: `program` was just made and is destroyed below, after its last use.
    let compiled = unsafe { result::compile_program(program, &options) };
    let found = match compiled {
        // SAFETY: as above.
        Err(_) => Err(unsafe { result::get_program_log(program) }.map_or_else(
            |error| format!("{error:?}"),
            // SAFETY: a log ends with a zero byte.
            |log| unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy().into_owned(),
        )),
        // SAFETY: as above.
        Ok(()) => unsafe { result::get_ptx(program) }.map_err(|error| format!("{error:?}")),
    };
    // SAFETY: as above.
    unsafe { result::destroy_program(program) }.map_err(|error| format!("{error:?}"))?;
    let text = found?.into_iter().map(|byte| byte.cast_unsigned());
    Ok(text.take_while(|byte| *byte != 0).collect())
}
