//! Input that cannot be used, and places that cannot be written: what the program says, and that
//! nothing that was committed is lost.

use std::{
    collections::BTreeMap,
    fs,
    process::Child,
    thread::sleep,
    time::{Duration, Instant},
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use atomflow_tests::{
    Fault,
    data::{DOCUMENT, Shard, Spoil, damage},
    disk::Tmpfs,
    run::{Finished, Job, assert_same, committed, differences, files, result, start, table, wait},
    s3::Server,
};

const QUARANTINE: &str = "source.on_bad=\"quarantine\"";

/// Three shards of 512 rows in row groups of 128; the one in the middle is made by `middle`.
fn three(sets: &[&str], middle: impl FnOnce(Shard, &std::path::Path)) -> Job {
    let job = Job::new(sets);
    Shard::new(0..512).parquet(&job.data("a.parquet"), 128);
    middle(Shard::new(512..1024), &job.data("b.parquet"));
    Shard::new(1024..1536).parquet(&job.data("c.parquet"), 128);
    job
}

/// What the program says of the shard in the middle; the error names it, and nothing was written.
fn refused(job: &Job, code: i32, wanted: &[&str]) {
    let error = job.run("out", &[]).error(code);
    for wanted in wanted {
        assert!(error.contains(wanted), "`{wanted}` in\n{error}");
    }
    assert!(!job.path("out/manifest.json").exists());
}

/// Puts the shard in the middle right; the same job then runs to its end.
fn repaired(job: &Job) {
    fs::remove_dir_all(job.path("out")).ok();
    Shard::new(512..1024).parquet(&job.data("b.parquet"), 128);
    job.run("out", &[]).done();
}

/// The columns of the `shards` table that are counts.
fn counts(shards: &RecordBatch, column: &str) -> Vec<i64> {
    shards.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let texts = batch.column_by_name(column).unwrap().as_string::<i32>();
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

/// Every row of the footers is kept, held out, left out, bad, or in a shard that was left out whole;
/// the quality table and the statistics count exactly the kept ones.
fn totals_add_up(job: &Job, out: &str) -> RecordBatch {
    let shards = table(&job.path(out), "shards");
    let status = texts(&shards, "status");
    let of = |column| counts(&shards, column);
    let parts =
        ["kept_train", "heldout", "dropped_pos", "dropped_token_id", "dropped_norm", "bad_rows"].map(of);
    for (shard, rows) in of("rows").into_iter().enumerate() {
        let sum: i64 = parts.iter().map(|part| part[shard]).sum();
        let left_out = status[shard].as_deref() == Some("quarantined");
        assert_eq!(sum, if left_out { 0 } else { rows }, "shard {shard}");
        assert_eq!(texts(&shards, "reason")[shard].is_some(), left_out, "shard {shard}");
    }
    let quality = table(&job.path(out), "quality");
    let kept: i64 = parts[0].iter().chain(&parts[1]).sum();
    let at = texts(&quality, "split").iter().position(|split| split.as_deref() == Some("kept")).unwrap();
    assert_eq!(counts(&quality, "rows")[at], kept);
    let stats = table(&job.path(out), "activation_stats");
    assert!(counts(&stats, "rows").iter().all(|rows| *rows == kept));
    shards
}

/// Runs under quarantine; the shard in the middle is left out with a reason that says `wanted`, and
/// the result is that of the other two alone.
fn left_out(job: &Job, wanted: &str) {
    let finished = job.run("quarantined", &["--set", QUARANTINE]);
    let notes = finished.notes();
    finished.done();
    let shards = totals_add_up(job, "quarantined");
    let at =
        texts(&shards, "url").iter().position(|url| url.as_ref().unwrap().ends_with("b.parquet")).unwrap();
    let reason = texts(&shards, "reason")[at].clone().unwrap_or_default();
    assert!(reason.contains(wanted), "`{wanted}` in {reason}");
    assert_eq!(texts(&shards, "status").iter().flatten().filter(|s| *s == "quarantined").count(), 1);
    assert!(notes.iter().any(|note| note.contains("b.parquet") && note.contains(wanted)), "{notes:?}");
    fs::rename(job.data("b.parquet"), job.path("aside")).unwrap();
    job.run("without", &["--set", QUARANTINE]).done();
    fs::rename(job.path("aside"), job.data("b.parquet")).unwrap();
    let weights = |out: &str| fs::read(job.path(out).join("dictionary/sae_weights.safetensors")).unwrap();
    assert_eq!(weights("quarantined"), weights("without"));
}

// ---------------------------------------------------------------- shards that cannot be read

#[test]
fn a_truncated_shard() {
    let job = three(&[], |shard, path| {
        shard.parquet(path, 128);
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
    });
    refused(&job, 65, &["b.parquet", "cut short", "write the object again"]);
    assert!(!job.path("out").exists(), "refused before anything is written");
    left_out(&job, "cut short");
    repaired(&job);
}

#[test]
fn another_width_in_one_shard_of_many() {
    let job = three(&[], |shard, path| shard.wide(24).parquet(path, 128));
    refused(&job, 65, &["b.parquet", "activation", "vectors of 24 values", "2 of 3 shards hold 16"]);
    left_out(&job, "vectors of 24 values");
    repaired(&job);
}

#[test]
fn a_missing_column() {
    let job = three(&[], |shard, path| Shard { column: "residual", ..shard }.parquet(path, 128));
    refused(&job, 65, &["b.parquet", "activation", "residual"]);
    left_out(&job, "activation");
    repaired(&job);
}

#[test]
fn an_empty_shard() {
    let job = three(&[], |_, path| Shard::new(0..0).parquet(path, 128));
    refused(&job, 65, &["b.parquet", "holds no rows", "remove it"]);
    left_out(&job, "holds no rows");
    fs::write(job.data("b.parquet"), b"").unwrap();
    refused(&job, 65, &["b.parquet"]);
    repaired(&job);
}

#[test]
fn zero_shards() {
    let job = Job::new(&[]);
    refused(&job, 65, &["no shards there", "source.url", "data/*"]);
    job.source(&format!("{}/", job.path("data").display()));
    fs::write(job.data("notes.txt"), b"nothing here").unwrap();
    refused(&job, 65, &["no shards there", "1 other objects", ".parquet"]);
    assert!(!job.path("out").exists());
    let empty = three(&[QUARANTINE], |shard, path| shard.parquet(path, 128));
    for name in ["a.parquet", "b.parquet", "c.parquet"] {
        fs::write(empty.data(name), b"PAR1").unwrap();
    }
    refused(&empty, 65, &["every shard was left out", "a.parquet"]);
}

#[test]
fn a_text_column_named_as_the_activation() {
    let job =
        three(&["source.columns.activation=\"token\"", "source.columns.token=\"text\""], |shard, path| {
            shard.parquet(path, 128)
        });
    refused(&job, 65, &["a.parquet", "token", "holds text", "source.columns.activation"]);
    let right = three(&[], |shard, path| shard.parquet(path, 128));
    right.run("out", &[]).done();
}

#[test]
fn a_shard_named_twice() {
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    let (one, all) = (job.data("b.parquet"), job.path("data/*"));
    let twice = format!("source.url=[\"{}\", \"{}\"]", one.display(), all.display());
    let error = job.run("out", &["--set", &twice]).error(64);
    for wanted in ["named twice", "b.parquet", "data/*", "source.url", "name every shard once"] {
        assert!(error.contains(wanted), "`{wanted}` in\n{error}");
    }
    // The same file by another name is the same shard.
    std::os::unix::fs::symlink(job.path("data"), job.path("again")).unwrap();
    let twice = format!("source.url=[\"{}\", \"{}/*\"]", all.display(), job.path("again").display());
    assert!(job.run("out", &["--set", &twice]).error(64).contains("named twice"));
    assert!(!job.path("out").exists());
    repaired(&job);
}

// ---------------------------------------------------------------- rows that cannot be used

#[test]
fn nan_and_infinity_and_null() {
    for (spoil, says) in [
        (Spoil::Nan, "NaN in the activation"),
        (Spoil::Infinity, "infinity"),
        (Spoil::Null, "null activation"),
    ] {
        let job = three(&[], |shard, path| shard.spoil(300, spoil).parquet(path, 128));
        refused(&job, 65, &["b.parquet", "\"row_group\":2", "\"row\":44", says, "quarantine"]);
        repaired(&job);
    }
}

#[test]
fn bad_rows_under_quarantine_are_counted_and_nothing_else_is_lost() {
    let bad = [3, 130, 131, 500];
    let job = three(&[QUARANTINE], |shard, path| {
        let kinds = [Spoil::Nan, Spoil::Infinity, Spoil::Null, Spoil::Nan];
        bad.into_iter().zip(kinds).fold(shard, |s, (row, kind)| s.spoil(row, kind)).parquet(path, 128);
    });
    job.run("out", &[]).done();
    let shards = totals_add_up(&job, "out");
    assert_eq!(counts(&shards, "bad_rows"), [0, bad.len() as i64, 0]);
    assert_eq!(counts(&shards, "rows"), [512; 3]);
    assert!(texts(&shards, "status").iter().all(|status| status.as_deref() == Some("read")));
    let first = result(&job.path("out"));
    job.run("again", &["--workers", "2"]).done();
    assert_same(&first, &result(&job.path("again")), "with bad rows, two workers");
}

// ---------------------------------------------------------------- damage found while reading

#[test]
fn a_damaged_page_inside_one_row_group() {
    let job = three(&[], |shard, path| {
        shard.parquet(path, 128);
        damage(path, 2);
    });
    refused(&job, 65, &["b.parquet", "\"row_group\":2", "on_bad"]);
    let finished = job.run("quarantined", &["--set", QUARANTINE]);
    finished.done();
    let shards = totals_add_up(&job, "quarantined");
    assert_eq!(counts(&shards, "rows"), [512; 3], "the footer is fine");
    assert_eq!(texts(&shards, "status")[1].as_deref(), Some("quarantined"));
    let reason = texts(&shards, "reason")[1].clone().unwrap();
    assert!(reason.contains("row group 2"), "{reason}");
    let first = result(&job.path("quarantined"));
    job.run("again", &["--workers", "2", "--threads", "1", "--set", QUARANTINE]).done();
    assert_same(&first, &result(&job.path("again")), "with a damaged page, two workers");
    repaired(&job);
}

/// The first window decides the constants; a shard that is damaged there must not stop a quarantine.
#[test]
fn damage_in_every_row_group_of_a_shard() {
    let job = three(&[QUARANTINE], |shard, path| {
        shard.parquet(path, 128);
        (0..4).for_each(|row_group| damage(path, row_group));
    });
    job.run("out", &[]).done();
    let shards = totals_add_up(&job, "out");
    assert_eq!(texts(&shards, "status")[1].as_deref(), Some("quarantined"));
}

// ---------------------------------------------------------------- shards that change during a run

const SLOWLY: [&str; 4] = ["--set", "runtime.checkpoint_windows=1", "--set", "plan.passes=200"];

fn begin(job: &Job) -> Child {
    let child = start(job.run_command("out", &SLOWLY));
    let (began, commit) = (Instant::now(), job.path("out/epoch/train-00000003.json"));
    while !commit.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "no commit");
        sleep(Duration::from_millis(1));
    }
    child
}

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: sends a signal to a child that was not waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Stops the process, lets `change` happen, and lets it go on.
fn while_stopped(job: &Job, change: impl FnOnce()) -> Finished {
    let child = begin(job);
    signal(&child, libc::SIGSTOP);
    change();
    signal(&child, libc::SIGCONT);
    wait(child)
}

/// Everything committed so far is still there, byte for byte.
fn nothing_lost(job: &Job, before: &BTreeMap<String, String>) {
    let mut after = committed(&job.path("out"));
    after.retain(|name, _| before.contains_key(name));
    assert!(before.keys().filter(|name| name.starts_with("epoch/")).count() >= 3);
    assert_eq!(differences(before, &after), [""; 0]);
}

#[test]
fn a_shard_replaced_while_a_run_reads_it() {
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    let mut before = BTreeMap::new();
    let finished = while_stopped(&job, || {
        before = committed(&job.path("out"));
        // Another file of the same size under the same name, as a second writer would leave it.
        Shard::new(512..1024).times(2.0).parquet(&job.path("new"), 128);
        assert_eq!(
            fs::metadata(job.path("new")).unwrap().len(),
            fs::metadata(job.data("b.parquet")).unwrap().len()
        );
        fs::rename(job.path("new"), job.data("b.parquet")).unwrap();
    });
    let error = finished.error(65);
    assert!(error.contains("b.parquet") && error.contains("changed since the plan was made"), "{error}");
    nothing_lost(&job, &before);
    let error = job.resume("out", &[]).error(65);
    for wanted in ["the shards are not those", "b.parquet", "changed or removed", "another `out`"] {
        assert!(error.contains(wanted), "`{wanted}` in\n{error}");
    }
    nothing_lost(&job, &before);
    job.run("new-data", &[]).done();
}

#[test]
fn a_shard_deleted_while_a_run_reads_it_and_put_back() {
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    job.run("whole", &SLOWLY).done();
    let aside = || fs::rename(job.data("b.parquet"), job.path("aside")).unwrap();
    let error = while_stopped(&job, aside).error(65);
    assert!(error.contains("b.parquet") && error.contains("changed since the plan was made"), "{error}");
    let error = job.resume("out", &[]).error(65);
    assert!(error.contains("b.parquet") && error.contains("changed or removed"), "{error}");
    fs::rename(job.path("aside"), job.data("b.parquet")).unwrap();
    job.resume("out", &[]).done();
    assert_same(&result(&job.path("whole")), &result(&job.path("out")), "after the shard was put back");
}

#[test]
fn shards_added_and_changed_between_kill_and_resume() {
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    let mut child = begin(&job);
    child.kill().unwrap();
    wait(child);
    let before = committed(&job.path("out"));
    Shard::new(1536..2048).parquet(&job.data("d.parquet"), 128);
    let error = job.resume("out", &[]).error(65);
    assert!(error.contains("d.parquet") && error.contains("was added"), "{error}");
    fs::remove_file(job.data("d.parquet")).unwrap();
    Shard::new(0..512).times(0.5).parquet(&job.data("a.parquet"), 128);
    let error = job.resume("out", &[]).error(65);
    assert!(error.contains("a.parquet") && error.contains("changed"), "{error}");
    nothing_lost(&job, &before);
}

// ---------------------------------------------------------------- places

#[test]
fn an_output_directory_of_another_job() {
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    job.run("out", &[]).done();
    let before = files(&job.path("out"));
    let error = job.run("out", &["--set", "learner.k=5"]).error(64);
    assert!(error.contains("another job") && error.contains("choose another `out`"), "{error}");
    // Also when the other run is not finished.
    let mut child = start(job.run_command("half", &SLOWLY));
    while !job.path("half/epoch/train-00000001.json").exists() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    wait(child);
    let error = job.run("half", &["--set", "name=\"other\""]).error(64);
    for wanted in ["belongs to job `small`", "out", "choose another `out` for job `other`"] {
        assert!(error.contains(wanted), "`{wanted}` in\n{error}");
    }
    assert_eq!(before, files(&job.path("out")));
    assert!(job.resume("nowhere", &[]).error(64).contains("there is no run here"));
}

/// Through S3: when tests run as root, the local file system refuses root nothing.
#[test]
fn no_permission() {
    let server = Server::start();
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    job.move_to(&server);
    let run = |out: &str| -> Finished {
        job.run_command(&server.url(out), &[]).envs(server.env()).output().unwrap().into()
    };
    server.fault(Fault::denied().method("GET").path("data/b.parquet"));
    let error = run("out").error(65);
    for wanted in ["data/b.parquet", "no permission to read", "AWS_ACCESS_KEY_ID"] {
        assert!(error.contains(wanted), "`{wanted}` in\n{error}");
    }
    server.clear_faults();
    server.fault(Fault::denied().method("PUT").path("out"));
    let error = run("out").error(64);
    assert!(error.contains("no permission") && error.contains("below `out`"), "{error}");
    server.clear_faults();
    // Rights that end in the middle of a run: what was committed is there when they are back.
    server.fault(Fault::denied().method("PUT").path("harvest-00001"));
    let error = run("out").error(64);
    assert!(error.contains("no permission") && error.contains("harvest-00001"), "{error}");
    server.clear_faults();
    let resumed: Finished =
        job.resume_command(&server.url("out"), &[]).envs(server.env()).output().unwrap().into();
    resumed.done();
}

#[test]
fn a_full_disk() {
    let job = three(&[], |shard, path| shard.parquet(path, 128));
    job.run("whole", &[]).done();
    let whole = result(&job.path("whole"));
    let size: usize = files(&job.path("whole")).values().map(Vec::len).sum();
    // Too small for a checkpoint, for the partials, and for the tables.
    for share in [10, 60, 90] {
        let Some(disk) = Tmpfs::mount(&format!("size={}", size * share / 100)) else { return };
        let out = disk.path().join("run");
        let out = out.to_str().unwrap();
        let error = job.run(out, &[]).error(75);
        assert!(error.contains("no space left") && error.contains("free some space"), "{error}");
        assert!(error.contains(out), "{error}");
        disk.remount("size=64m");
        job.resume(out, &[]).done();
        assert_same(&whole, &result(std::path::Path::new(out)), &format!("disk full at {share} %"));
    }
}

/// Rows are held out by document: a document of bad rows takes nothing else with it.
#[test]
fn a_whole_document_of_bad_rows() {
    let job = three(&[QUARANTINE], |shard, path| {
        (0..DOCUMENT).fold(shard, |shard, row| shard.spoil(row, Spoil::Null)).parquet(path, 128);
    });
    job.run("out", &[]).done();
    assert_eq!(counts(&totals_add_up(&job, "out"), "bad_rows"), [0, DOCUMENT as i64, 0]);
}
