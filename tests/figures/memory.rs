//! Peak memory of a run over n and 10·n rows, against its bound.

use std::{path::Path, process::Command};

use crate::shards::{self, D_IN, Layout};

const N_LATENTS: usize = 2304;
const WINDOW_ROWS: usize = 8192;

/// Largest resident set of any child so far, in bytes.
fn peak_of_children() -> u64 {
    // SAFETY: `getrusage` fills the struct it is given, for which all zeros is a valid value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}

fn run(directory: &Path) {
    let spec = directory.join("job.toml");
    let text = format!(
        "name = \"memory\"\n[source]\nurl = \"{}/*.parquet\"\nprefetch_bytes = 100000000\n[plan]\nbatch_rows = 2048\nwindow_rows = {WINDOW_ROWS}\n\
         [learner]\nkind = \"topk\"\nn_latents = {N_LATENTS}\nk = 32\n",
        directory.display()
    );
    std::fs::write(&spec, text).unwrap();
    let binary = std::env::current_exe().unwrap().with_file_name("atomflow");
    let out = directory.join("run");
    let status = Command::new(binary)
        .arg("run")
        .arg(&spec)
        .arg("--out")
        .arg(&out)
        .output()
        .expect("build atomflow first");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

/// Prints the peak for both lengths and the bound; the second can only be larger than the first.
pub(crate) fn print() {
    let model = 7 * D_IN * N_LATENTS * 4;
    let windows = 2 * WINDOW_ROWS * D_IN * 4;
    let bound = model + windows + 300_000_000;
    println!("rows      peak RSS MB   bound MB (model and optimizer + 2 windows + 300 MB)");
    for shards in [1, 10] {
        let directory = tempfile::tempdir().unwrap();
        shards::write(directory.path(), Layout::List, shards, 16_384);
        run(directory.path());
        println!(
            "{:<9} {:>11.0} {:>10.0}",
            shards * 16_384,
            peak_of_children() as f64 / 1e6,
            bound as f64 / 1e6
        );
    }
}
