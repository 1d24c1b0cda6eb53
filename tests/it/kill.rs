//! `kill -9` at any moment of a run, then `atomflow resume`: the bytes of an uninterrupted run.
#![allow(
    clippy::disallowed_methods,
    reason = "a failed draw can be repeated with the seed from the environment"
)]

use std::{
    collections::BTreeMap,
    path::Path,
    process::Child,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use atomflow_tests::run::{Job, assert_same, committed, differences, files, result, start, wait};
use atomflow_workers::random::{hash, unit};

/// A job of a second or two that commits after every window, and what it comes to uninterrupted.
struct Whole {
    job: Job,
    result: BTreeMap<String, String>,
    took: Duration,
}

const EVERY_WINDOW: [&str; 2] = ["--set", "runtime.checkpoint_windows=1"];

impl Whole {
    fn new() -> Whole {
        Whole::with(&[])
    }

    fn with(sets: &[&str]) -> Whole {
        let usual = ["plan.passes=12", "learner.n_latents=512", "learner.k=8"];
        let job = Job::planted(&[&usual[..], sets].concat());
        let began = Instant::now();
        job.run("whole", &EVERY_WINDOW).done();
        let (took, result) = (began.elapsed(), result(&job.path("whole")));
        Whole { job, result, took }
    }

    fn begin(&self, out: &str) -> Child {
        start(self.job.run_command(out, &EVERY_WINDOW))
    }

    /// Resumes and compares.
    fn finish(&self, out: &str, args: &[&str], what: &str) {
        self.job.resume(out, args).done();
        assert_same(&self.result, &result(&self.job.path(out)), what);
        std::fs::remove_dir_all(self.job.path(out)).unwrap();
    }
}

/// Kills without warning; says whether the process was still at it.
fn kill(mut child: Child) -> bool {
    child.kill().unwrap();
    wait(child).code.is_none()
}

/// What a run was doing, by what is there.
fn phase(out: &Path) -> &'static str {
    let there = |name: &str| out.join(name).exists();
    let trained = || files(&out.join("epoch")).keys().any(|name| name.starts_with("train-"));
    match () {
        () if there("manifest.json") => "done",
        () if there("tables") => "publishing",
        () if there("epoch/freeze.json") => "harvesting",
        () if trained() => "training",
        () if there("run.json") => "calibrating",
        () => "nothing yet",
    }
}

/// Uniform draws; printed, so that a failure can be repeated.
struct Dice(u64, u64);

impl Dice {
    fn new() -> Dice {
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed =
            std::env::var("ATOMFLOW_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock);
        eprintln!("ATOMFLOW_TEST_SEED={seed}");
        Dice(seed, 0)
    }

    fn share(&mut self, of: Duration) -> Duration {
        self.1 += 1;
        of.mul_f64(unit(hash(&[self.0, self.1])))
    }
}

#[test]
fn at_twenty_random_moments() {
    let (whole, mut dice) = (Whole::new(), Dice::new());
    let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..20 {
        let (out, delay) = (format!("killed-{round}"), dice.share(whole.took));
        let child = whole.begin(&out);
        sleep(delay);
        kill(child);
        let phase = phase(&whole.job.path(&out));
        *phases.entry(phase).or_default() += 1;
        // Killed before its first object: there is nothing to resume, and `run` begins.
        match phase {
            "nothing yet" => assert_eq!(whole.job.resume(&out, &[]).code, Some(64)),
            _ => whole.finish(&out, &[], &format!("killed after {delay:?} while {phase}")),
        }
    }
    eprintln!("killed at {phases:?} of {:?}", whole.took);
    assert!(phases.len() > 1, "{phases:?}");
}

/// Just after an object has its name: the places where one step is done and the next is not begun.
#[test]
fn as_soon_as_an_object_appears() {
    let whole = Whole::new();
    let moments = [
        ("run.json", "calibrating"),
        ("gen/000001.json", "calibrating"),
        ("checkpoint/train-00000001.safetensors", "training"),
        ("epoch/train-00000001.json", "training"),
        ("epoch/train-00000007.json", "training"),
        ("dictionary/cfg.json", "training"),
        ("epoch/freeze.json", "harvesting"),
        ("partials/shard-00000/latents.parquet", "harvesting"),
        ("epoch/harvest-00000.json", "harvesting"),
        ("epoch/harvest-00003.json", "harvesting"),
        ("tables/quality", "publishing"),
        ("tables/quality/_delta_log/00000000000000000000.json", "publishing"),
        ("tables/features", "publishing"),
        ("tables/autointerp_candidates/_delta_log/00000000000000000000.json", "publishing"),
        ("manifest.json", "done"),
    ];
    let mut met = BTreeMap::new();
    for (at, (object, expected)) in moments.iter().enumerate() {
        let out = format!("killed-{at}");
        let child = whole.begin(&out);
        appears(&whole.job.path(&out).join(object));
        kill(child);
        let phase = phase(&whole.job.path(&out));
        *met.entry(phase == *expected).or_insert(0) += 1;
        whole.finish(&out, &[], &format!("killed when {object} appeared, while {phase}"));
    }
    // A busy machine may be late now and then.
    assert!(met.get(&true).is_some_and(|hits| *hits > moments.len() / 2), "{met:?}");
}

/// Frozen anew by each process, a dictionary with a coder in front of it gives the same partials.
#[test]
fn while_a_coder_harvests() {
    let whole = Whole::with(&["plan.passes=2", "harvest.coder={kind=\"omp\",k=8}"]);
    for (at, object) in ["epoch/freeze.json", "epoch/harvest-00001.json"].into_iter().enumerate() {
        let out = format!("killed-{at}");
        let child = whole.begin(&out);
        appears(&whole.job.path(&out).join(object));
        kill(child);
        whole.finish(&out, &["--workers", "2"], &format!("killed when {object} appeared"));
    }
}

fn appears(object: &Path) {
    let began = Instant::now();
    while !object.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} does not appear", object.display());
        sleep(Duration::from_micros(200));
    }
}

/// The job is the run's; how it is run may change with every process.
#[test]
fn several_times_in_a_row_with_other_workers_and_threads() {
    let (whole, mut dice) = (Whole::new(), Dice::new());
    let ways: [&[&str]; 5] = [
        &["--workers", "2"],
        &["--threads", "1", "--set", "runtime.checkpoint_windows=3"],
        &["--workers", "4", "--threads", "2"],
        // More workers than lanes: the others only read.
        &["--workers", "9", "--set", "runtime.checkpoint_windows=1"],
        &[],
    ];
    for round in 0..2 {
        let out = format!("killed-{round}");
        let child = whole.begin(&out);
        appears(&whole.job.path(&out).join("epoch/train-00000002.json"));
        kill(child);
        for way in ways {
            let child = start(whole.job.resume_command(&out, way));
            sleep(dice.share(whole.took / 2));
            kill(child);
        }
        whole.finish(&out, ways[round], &format!("killed six times, round {round}"));
    }
}

/// A process that was believed dead and is not: it must not alter anything, and must say so.
#[test]
fn a_process_that_comes_back_from_the_dead() {
    let whole = Whole::new();
    let moments = ["epoch/train-00000002.json", "epoch/harvest-00000.json", "tables/quality/_delta_log"];
    let met = moments.into_iter().enumerate().filter(|(at, object)| comes_back(&whole, *at, object)).count();
    assert!(met > 0, "every process was done before it could be stopped");
}

/// Stops a process when `object` appears, lets another finish the run, and wakes the first one. Says
/// whether it could be stopped in time: on a busy machine the last moments may be missed.
fn comes_back(whole: &Whole, at: usize, object: &str) -> bool {
    let (out, child) = (format!("zombie-{at}"), whole.begin(&format!("zombie-{at}")));
    appears(&whole.job.path(&out).join(object));
    signal(&child, libc::SIGSTOP);
    if phase(&whole.job.path(&out)) == "done" {
        signal(&child, libc::SIGCONT);
        wait(child).done();
        return false;
    }
    whole.job.resume(&out, &["--workers", "2"]).done();
    let before = committed(&whole.job.path(&out));
    signal(&child, libc::SIGCONT);
    let error = wait(child).error(75);
    assert!(error.contains("a newer process (generation 2) owns this run"), "{error}");
    let altered = differences(&before, &committed(&whole.job.path(&out)));
    assert!(altered.is_empty(), "the old process altered {altered:?}");
    whole.finish(&out, &[], &format!("stopped when {object} appeared"));
    true
}

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: sends a signal to a child that was not waited for, so the id is still its own.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0);
}
