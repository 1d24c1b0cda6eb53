//! Every kernel at every shape that its check runs, as CUDA text: NVRTC takes it, and `ptxas`, where there is one,
//! needs no memory for registers. Numbers mean nothing here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(feature = "text")]

use std::{fs, path::PathBuf, process::Command};

use atomflow_gpu::{
    card::Card,
    text::{CudaText, Missing, NoDevice, Text, compile, launched},
    verify,
};

/// With this variable at 1 a machine without NVRTC fails the test.
const WANTED: &str = "ATOMFLOW_TEST_NVRTC";
/// Beginnings of names of kernels that may keep registers in memory.
const SPILLING: [&str; 0] = [];

#[test]
fn every_kernel_compiles_for_a_card() {
    let card = Card::<CudaText>::open(&NoDevice);
    let _ = verify::all(&card);
    card.client().flush().unwrap();
    let texts = launched();
    assert!(!texts.is_empty());
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (number, text) in texts.into_iter().enumerate() {
        let found = text.and_then(|text| match compile(&text.source) {
            Ok(ptx) => ptx.and_then(|ptx| assembled(&text, &ptx, &scratch.path().join(number.to_string()))),
            Err(Missing) => Err(Missing.to_string()),
        });
        match found {
            Err(reason) if reason == Missing.to_string() => return absent(&reason),
            Err(reason) => wrong.push(reason),
            Ok(said) => eprintln!("{said}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn absent(reason: &str) {
    assert!(std::env::var_os(WANTED).is_none_or(|value| value != "1"), "{WANTED}=1, but {reason}");
    eprintln!("skipped: {reason}");
}

/// What multiplies f32 on tensor cores multiplies tf32, and says so.
fn multiplies_as_named(text: &Text, ptx: &[u8]) -> bool {
    let ptx = String::from_utf8_lossy(ptx);
    let factors = [("matmul_entry_lhs_bf16", ".bf16.bf16.f32"), ("matmul_entry_lhs_f32", ".tf32.tf32.f32")];
    factors.iter().all(|(name, factors)| !text.name.starts_with(name) || ptx.contains(factors))
}

/// Registers and memory of a kernel, if `ptxas` is there to say.
fn assembled(text: &Text, ptx: &[u8], at: &std::path::Path) -> Result<String, String> {
    if !multiplies_as_named(text, ptx) {
        return Err(format!("{} multiplies something else", text.name));
    }
    let ptxas = std::env::var_os("CUDA_PATH").map(PathBuf::from).unwrap_or_default().join("bin/ptxas");
    if !ptxas.exists() {
        return Ok(format!("{}: {} bytes of PTX", text.name, ptx.len()));
    }
    fs::write(at, ptx).unwrap();
    let cubin = at.with_extension("cubin");
    let said =
        Command::new(ptxas).args(["-v", "-arch=sm_90a"]).arg(at).arg("-o").arg(cubin).output().unwrap();
    let log = String::from_utf8_lossy(&said.stderr).into_owned();
    let line =
        |word: &str| log.lines().find(|line| line.contains(word)).unwrap_or_default().trim().to_owned();
    let sizes = format!("{}: {} | {}", text.name, line("registers"), line("spill"));
    let allowed = SPILLING.iter().any(|name| text.name.starts_with(name));
    let spills =
        log.lines().any(|line| line.contains("spill stores") && !line.contains(" 0 bytes spill stores"));
    match said.status.success() && (allowed || !spills) {
        true => Ok(sizes),
        false => Err(format!("{sizes}\n{log}")),
    }
}
