//! Eight dictionaries in one job against eight jobs: wall seconds and bytes read.

use std::{path::Path, sync::Arc, time::Instant};

use atomflow_pipeline::run::{Event, Job, RuntimeSpec, Watch, run};

use crate::shards::{self, D_IN, Layout};

/// Latents and latents per row of the eight.
const SIZES: [(usize, usize); 8] =
    [(1152, 8), (1152, 16), (1152, 24), (1152, 32), (1152, 40), (1152, 48), (1152, 56), (1152, 64)];

struct Silent;

impl Watch for Silent {
    fn event(&self, _event: &Event) {}
}

fn job(directory: &Path, sizes: &[(usize, usize)]) -> Job {
    let learner = |(n, k): &(usize, usize)| serde_json::json!({ "kind": "topk", "n_latents": n, "k": k });
    let learners: Vec<_> = sizes.iter().map(learner).collect();
    let spec = serde_json::json!({
        "name": "many", "source": { "url": directory.join("*.parquet"), "dtype": "f16" },
        "plan": { "window_rows": 16_384, "batch_rows": 4096 },
        "learner": learners,
    });
    serde_json::from_value(spec).unwrap()
}

/// Wall seconds and CPU seconds of one run.
fn seconds(directory: &Path, sizes: &[(usize, usize)]) -> (f64, f64) {
    let out = tempfile::tempdir().unwrap();
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let runtime = RuntimeSpec::default();
    run(&job(directory, sizes), &runtime, &out.path().display().to_string(), Arc::new(Silent)).unwrap();
    (began.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the struct it is given.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let of = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    of(usage.ru_utime) + of(usage.ru_stime)
}

/// Prints one line per round; the two sides take turns.
pub(crate) fn print() {
    let directory = tempfile::tempdir().unwrap();
    shards::write(directory.path(), Layout::List, 4, 8192);
    let bytes: u64 =
        std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    println!(
        "d_in {D_IN}, 1,152 latents, k 8 to 64, 32,768 rows, one pass and harvest; data {} MB",
        bytes >> 20
    );
    println!("read, passes over the data: 2 by one job, 16 by eight");
    println!("round   one job s   eight jobs s   ratio   CPU one   CPU eight   ratio");
    for round in 0..3 {
        let (one, one_cpu) = seconds(directory.path(), &SIZES);
        let each = SIZES.iter().map(|size| seconds(directory.path(), std::slice::from_ref(size)));
        let (eight, eight_cpu) = each.fold((0.0, 0.0), |sum, (wall, cpu)| (sum.0 + wall, sum.1 + cpu));
        println!(
            "{round:>5} {one:>11.1} {eight:>14.1} {:>7.2} {one_cpu:>9.1} {eight_cpu:>11.1} {:>7.2}",
            one / eight,
            one_cpu / eight_cpu
        );
    }
}
