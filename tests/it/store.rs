//! The output place over every store that runs here: one suite for all, then everything that can
//! go wrong between a client and a store.

use std::{future::Future, path::Path as FsPath, sync::Arc};

use arrow::{
    array::{ArrayRef, Float32Array, Int32Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use atomflow_pipeline::{
    error::{Error, Kind},
    sink::{
        Created, Generation, Opened, Output, Part, TableWrite, TableWriter, commit, commits, open_run,
        publish, read_manifest, read_run, write_table,
    },
    source::Location,
};
use atomflow_schemas::{
    delta::{Action, from_bytes},
    manifest::{FORMAT, FileEntry, InputFile, RunManifest, RunRecord, TableEntry},
};
use atomflow_tests::{Fault, disk::Tmpfs, moto, overwrites::Overwrites, s3::Server};
use bytes::Bytes;
use futures::future::join_all;
use object_store::{ObjectStore, PutMode, PutOptions, local::LocalFileSystem, memory::InMemory, path::Path};
use serde_json::json;

type Store = Arc<dyn ObjectStore>;

fn wait_for<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Every call is another process, as far as the output can tell.
fn output(store: &Store, path: &str) -> Output {
    Output::new(Location { store: store.clone(), path: Path::from(path), root: "test://".to_owned() })
}

fn local(directory: &FsPath) -> Store {
    Arc::new(LocalFileSystem::new_with_prefix(directory).unwrap())
}

// ---------------------------------------------------------------- one suite for every store

/// What every store must do. Works below `area` alone, so a store can be used again.
async fn conforms(store: &Store, area: &str) {
    let at = |name: &str| format!("{area}/{name}");
    output(store, &at("probe")).probe().await.unwrap();
    assert_eq!(output(store, &at("probe")).list("").await.unwrap(), [], "the probe leaves nothing behind");
    objects_are_written_once(store, &at("objects")).await;
    one_of_many_creators_wins(store, &at("race")).await;
    only_the_newest_generation_commits(store, &at("generations")).await;
    equal_commits_are_adopted(store, &at("commits")).await;
    a_directory_belongs_to_one_run(store, &at("run")).await;
    tables_are_written_once(store, &at("tables")).await;
}

async fn objects_are_written_once(store: &Store, area: &str) {
    let (one, other) = (output(store, area), output(store, area));
    let file = one.put("a/b.bin", Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!((file.path.as_str(), file.size_bytes), ("a/b.bin", 3));
    assert_eq!(other.put("a/b.bin", Bytes::from_static(b"abc")).await.unwrap(), file, "a replay is fine");
    for content in [&b"abd"[..], b"longer"] {
        let error = other.put("a/b.bin", Bytes::copy_from_slice(content)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Spec);
        assert!(error.message().contains("holds something else"), "{error}");
        assert_eq!(error.place().object, Some(other.url("a/b.bin")));
    }
    assert_eq!(one.get("a/b.bin").await.unwrap().unwrap(), "abc");
    assert_eq!(one.get("a/c.bin").await.unwrap(), None);
    committed_objects_are_verified(&one, &file).await;

    one.put("a/a.bin", Bytes::new()).await.unwrap();
    let names = [("a/a.bin".to_owned(), 0), ("a/b.bin".to_owned(), 3)];
    assert_eq!(one.list("a").await.unwrap(), names);
    assert_eq!(one.list("nothing").await.unwrap(), []);
    one.delete("a/a.bin").await.unwrap();
    one.delete("a/a.bin").await.unwrap();
    assert_eq!(one.list("a").await.unwrap(), names[1..]);
}

async fn committed_objects_are_verified(output: &Output, file: &FileEntry) {
    assert_eq!(output.get_verified(file).await.unwrap(), "abc");
    let altered = FileEntry { sha256: "0".repeat(64), ..file.clone() };
    assert_eq!(output.get_verified(&altered).await.unwrap_err().kind, Kind::Data);
    let gone = FileEntry { path: "a/gone".to_owned(), ..file.clone() };
    assert!(output.get_verified(&gone).await.unwrap_err().message().contains("is gone"));
}

async fn one_of_many_creators_wins(store: &Store, area: &str) {
    for round in 0..5 {
        exactly_one_wins(store, area, &format!("round-{round}"), 8).await;
    }
}

/// `n` processes create one object; one learns that it is its own, the others see what it wrote.
async fn exactly_one_wins(store: &Store, area: &str, name: &str, n: usize) {
    let tasks = (0..n).map(|_| {
        let (output, name) = (output(store, area), name.to_owned());
        tokio::spawn(async move {
            let token = Bytes::from(output.writer.clone());
            (token.clone(), output.create(&name, token).await.unwrap())
        })
    });
    let ends: Vec<(Bytes, Created)> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let won = |end: &&(Bytes, Created)| matches!(end.1, Created::New | Created::Ours);
    let winners: Vec<_> = ends.iter().filter(won).collect();
    assert_eq!(winners.len(), 1, "{name}: {ends:?}");
    let stands = output(store, area).get(name).await.unwrap().unwrap();
    assert_eq!(stands, winners[0].0, "{name}: the winner's bytes stand");
    assert!(ends.iter().filter(|end| !won(end)).all(|end| end.1 == Created::Other(stands.clone())), "{name}");
}

async fn only_the_newest_generation_commits(store: &Store, area: &str) {
    let (zombie, heir) = (output(store, area), output(store, area));
    let first = Generation::claim(&zombie).await.unwrap();
    commit(&zombie, &first, "train-000001", vec![], json!({})).await.unwrap();
    let second = Generation::claim(&heir).await.unwrap();
    assert_eq!((first.number, second.number), (1, 2));

    let error = commit(&zombie, &first, "train-000002", vec![], json!({})).await.unwrap_err();
    assert_eq!(error.kind, Kind::Retry);
    assert!(error.message().contains("a newer process (generation 2) owns this run"), "{error}");
    let error = write_table(&zombie, &first, &table("features"), parts(0)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Retry);
    assert!(zombie.get("tables/features/_delta_log/00000000000000000000.json").await.unwrap().is_none());
    assert_eq!(publish(&zombie, &first, &manifest(vec![])).await.unwrap_err().kind, Kind::Retry);

    commit(&heir, &second, "train-000002", vec![], json!({})).await.unwrap();
    assert_eq!(commits(&heir, "").await.unwrap().len(), 2);
    concurrent_claims_differ(store, &format!("{area}-many")).await;
}

async fn concurrent_claims_differ(store: &Store, area: &str) {
    let outputs: Vec<Output> = (0..6).map(|_| output(store, area)).collect();
    let claims = join_all(outputs.iter().map(Generation::claim)).await;
    let mut numbers: Vec<u64> = claims.into_iter().map(|claim| claim.unwrap().number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

async fn equal_commits_are_adopted(store: &Store, area: &str) {
    let (one, other) = (output(store, area), output(store, area));
    let first = Generation::claim(&one).await.unwrap();
    let file = one.put("checkpoint/1/state", Bytes::from_static(b"state")).await.unwrap();
    // A number that does not survive printing and reading in every JSON reader.
    let body = json!({"next_window": 4, "loss": 0.1 + 0.2, "scale": 5e-324});
    let ours = commit(&one, &first, "train-000002", vec![file.clone()], body.clone()).await.unwrap();

    let second = Generation::claim(&other).await.unwrap();
    let adopted = commit(&other, &second, "train-000002", vec![file], body.clone()).await.unwrap();
    assert_eq!((adopted.generation, &adopted.writer), (1, &one.writer), "what stands is returned");
    assert_eq!(adopted.body, ours.body);
    let error = commit(&other, &second, "train-000002", vec![], body).await.unwrap_err();
    assert_eq!(error.kind, Kind::Bug);
    assert!(error.message().contains("two processes"), "{error}");

    commit(&other, &second, "train-000001", vec![], json!(null)).await.unwrap();
    commit(&other, &second, "harvest-000001", vec![], json!(null)).await.unwrap();
    let names: Vec<String> = commits(&other, "train-").await.unwrap().into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["train-000001", "train-000002"]);
    strange_commits_are_named(&other).await;
}

async fn strange_commits_are_named(output: &Output) {
    output.put("epoch/train-000009.json", Bytes::from_static(b"{\"format\": 1,")).await.unwrap();
    let error = commits(output, "train-").await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert_eq!(error.place().object, Some(output.url("epoch/train-000009.json")));
    assert_eq!(commits(output, "harvest-").await.unwrap().len(), 1, "others stay readable");
}

async fn a_directory_belongs_to_one_run(store: &Store, area: &str) {
    let (one, other) = (output(store, area), output(store, area));
    assert_eq!(read_run(&one).await.unwrap(), None);
    assert_eq!(open_run(&one, &run("r1", "night", "etag-1")).await.unwrap(), Opened::New);
    assert_eq!(open_run(&other, &run("r1", "night", "etag-1")).await.unwrap(), Opened::Resumed);
    let error = open_run(&other, &run("r2", "day", "etag-1")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Spec);
    assert!(error.to_string().contains("belongs to job `night` (run r1)"), "{error}");
    assert!(error.to_string().contains("choose another `out`"), "{error}");
    // The same run id with another version of a shard too: an ETag is not part of the id.
    for id in ["r3", "r1"] {
        let error = open_run(&other, &run(id, "night", "etag-2")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Data);
        assert!(error.message().contains("the shards are not those"), "{error}");
        assert!(error.message().contains("`a` was changed or removed"), "{error}");
    }
    let based = |run_id: &str, sha256: &str| RunRecord {
        files: vec![InputFile { url: "base".to_owned(), size_bytes: 7, sha256: sha256.to_owned() }],
        ..run(run_id, "night", "etag-1")
    };
    let error = open_run(&other, &based("r4", "aa")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.message().contains("the files that learners read are not those"), "{error}");
    assert_eq!(read_run(&one).await.unwrap().unwrap().run, "r1", "the first one's record stands");
    let fresh = output(store, &format!("{area}-based"));
    assert_eq!(open_run(&fresh, &based("r5", "aa")).await.unwrap(), Opened::New);
    assert_eq!(open_run(&fresh, &based("r5", "aa")).await.unwrap(), Opened::Resumed);
    let error = open_run(&fresh, &based("r6", "bb")).await.unwrap_err();
    assert!(error.message().contains("`base` was changed"), "{error}");
}

fn run(run: &str, name: &str, etag: &str) -> RunRecord {
    let (run, name) = (run.to_owned(), name.to_owned());
    let job = json!({"name": name, "lr": 0.1 + 0.2});
    RunRecord {
        format: FORMAT,
        run,
        name,
        plan: "p".to_owned(),
        job,
        shards: json!([{"url": "a", "etag": etag}]),
        files: Vec::new(),
    }
}

async fn tables_are_written_once(store: &Store, area: &str) {
    let (one, other) = (output(store, area), output(store, area));
    let first = Generation::claim(&one).await.unwrap();
    let entry = write_table(&one, &first, &table("features"), parts(0)).await.unwrap();
    assert_eq!((entry.rows, entry.files.len(), entry.path.as_str()), (6, 2, "tables/features"));
    for file in &entry.files {
        one.get_verified(file).await.unwrap();
    }
    let second = Generation::claim(&other).await.unwrap();
    let replay = write_table(&other, &second, &table("features"), parts(0)).await.unwrap();
    assert_eq!(replay, entry);
    let error = write_table(&other, &second, &table("features"), parts(1)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Spec);
    assert!(error.message().contains("version 0 of the table exists"), "{error}");
    the_log_lists_what_was_committed(&one, &entry).await;
    the_manifest_comes_last(&one, &first, &other, &second, entry).await;
}

async fn the_log_lists_what_was_committed(output: &Output, entry: &TableEntry) {
    let log = output.get("tables/features/_delta_log/00000000000000000000.json").await.unwrap().unwrap();
    let actions = from_bytes(&log).unwrap();
    let adds: Vec<_> =
        actions.iter().filter_map(|a| if let Action::Add(add) = a { Some(add) } else { None }).collect();
    let paths: Vec<String> = adds.iter().map(|add| format!("{}/{}", entry.path, add.path)).collect();
    assert_eq!(paths, entry.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
    assert!(paths[1].starts_with("tables/features/part-0000000003-"), "{paths:?}");
    let stats =
        r#"{"numRecords":3,"minValues":{"latent":3},"maxValues":{"latent":5},"nullCount":{"latent":0}}"#;
    assert_eq!(adds[1].stats, stats);
}

async fn the_manifest_comes_last(
    one: &Output,
    first: &Generation,
    other: &Output,
    second: &Generation,
    entry: TableEntry,
) {
    assert!(read_manifest(one).await.unwrap().is_none());
    let ours = manifest(vec![entry]);
    assert_eq!(publish(one, first, &ours).await.unwrap_err().kind, Kind::Retry, "the older process may not");
    assert_eq!(publish(other, second, &ours).await.unwrap(), ours);
    let slower = RunManifest { metrics: json!({"seconds": 2}), ..ours.clone() };
    assert_eq!(publish(other, second, &slower).await.unwrap(), ours, "the one that stands is returned");
    assert_eq!(publish(other, second, &manifest(vec![])).await.unwrap_err().kind, Kind::Bug);
    assert_eq!(read_manifest(other).await.unwrap(), Some(ours));
}

fn manifest(tables: Vec<TableEntry>) -> RunManifest {
    let tables = tables.into_iter().map(|table| ("features".to_owned(), table)).collect();
    let metrics = json!({"seconds": 1});
    RunManifest {
        format: FORMAT,
        run: "r1".to_owned(),
        tables,
        dictionary: vec![],
        metrics,
        learners: Default::default(),
    }
}

fn schema() -> SchemaRef {
    let density = Field::new("density", DataType::Float32, true);
    Arc::new(Schema::new(vec![Field::new("latent", DataType::Int32, false), density]))
}

fn table(name: &str) -> TableWrite {
    let key = Some("latent".to_owned());
    TableWrite { name: name.to_owned(), run: "r1".to_owned(), version: 0, schema: schema(), key }
}

/// Two parts of three latents each.
fn parts(seed: i32) -> impl Iterator<Item = Result<Part, Error>> {
    [0, 3].into_iter().map(move |first| {
        let latents: ArrayRef = Arc::new(Int32Array::from_iter_values(first..first + 3));
        let density: ArrayRef = Arc::new(Float32Array::from_iter_values((0..3).map(|i| (i + seed) as f32)));
        let batch = RecordBatch::try_new(schema(), vec![latents, density]).unwrap();
        Ok(Part { first_key: first as u64, batch })
    })
}

#[test]
fn local_disk_conforms() {
    let directory = tempfile::tempdir().unwrap();
    wait_for(conforms(&local(directory.path()), "out"));
}

#[test]
fn memory_conforms() {
    let store: Store = Arc::new(InMemory::new());
    wait_for(conforms(&store, "deep/out"));
}

#[test]
fn our_s3_server_conforms() {
    let server = Server::start();
    let store: Store = server.client();
    wait_for(conforms(&store, "out"));
}

#[test]
fn moto_conforms() {
    let Some(server) = moto::Server::start() else { return };
    let store: Store = server.client();
    wait_for(conforms(&store, "out"));
}

/// The bare primitive, without our reading back: the base on which everything else stands.
#[test]
fn our_s3_server_lets_one_creator_win() {
    let server = Server::start();
    wait_for(async {
        for round in 0..20 {
            let path = Path::from(format!("race/{round}"));
            let creators = (0..16u8).map(|i| {
                let (client, path) = (server.client(), path.clone());
                let bytes = vec![i; 20_000];
                tokio::spawn(async move {
                    client.put_opts(&path, bytes.into(), PutOptions::from(PutMode::Create)).await.is_ok()
                })
            });
            let won = join_all(creators).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
            assert_eq!(won, 1, "round {round}");
        }
    });
}

/// Work that may move between threads, as a runtime wants it.
fn spawnable<T: Send>(work: T) -> T {
    work
}

#[test]
fn the_same_table_has_the_same_bytes_everywhere() {
    let stores: Vec<Store> = vec![Arc::new(InMemory::new()), Arc::new(InMemory::new())];
    wait_for(async {
        let mut contents = Vec::new();
        for store in &stores {
            let output = output(store, "");
            let generation = Generation::claim(&output).await.unwrap();
            let table = table("features");
            spawnable(write_table(&output, &generation, &table, parts(0))).await.unwrap();
            spawnable(commit(&output, &generation, "published", vec![], json!({}))).await.unwrap();
            assert_eq!(spawnable(commits(&output, "")).await.unwrap().len(), 1);
            let mut objects = Vec::new();
            for (path, _) in output.list("tables").await.unwrap() {
                let text = String::from_utf8_lossy(&output.get(&path).await.unwrap().unwrap()).into_owned();
                objects.push((path, text.replace(&output.writer, "W")));
            }
            contents.push(objects);
        }
        assert_eq!(contents[0].len(), 3);
        assert_eq!(contents[0], contents[1]);
    });
}

#[test]
fn parts_must_fit_the_table() {
    let store: Store = Arc::new(InMemory::new());
    wait_for(async {
        let output = output(&store, "");
        let mut writer = TableWriter::new(&output, table("features")).unwrap();
        let part = || parts(0).next().unwrap().unwrap();
        writer.part(part()).await.unwrap();
        assert!(
            writer.part(part()).await.unwrap_err().message().contains("order"),
            "first keys must increase"
        );
        let narrow = Part { first_key: 9, batch: part().batch.project(&[0]).unwrap() };
        assert!(writer.part(narrow).await.unwrap_err().message().contains("another schema"));
        let unsafe_schema = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, false)]));
        let error =
            TableWriter::new(&output, TableWrite { schema: unsafe_schema, ..table("x") }).unwrap_err();
        assert!(error.message().contains("column `n`"), "{error}");
    });
}

// ---------------------------------------------------------------- faults

/// One winner and the right bytes, whatever the network does.
fn survives(faults: impl IntoIterator<Item = Fault>) {
    let server = Server::start();
    let store: Store = server.client();
    faults.into_iter().for_each(|fault| server.fault(fault));
    wait_for(async {
        for round in 0..12 {
            exactly_one_wins(&store, "out", &format!("epoch/{round}"), 4).await;
        }
        objects_are_written_once(&store, "objects").await;
        tables_are_written_once(&store, "tables").await;
    });
    assert!(server.faults_met() > 0, "the faults never happened");
}

#[test]
fn answers_lost_after_the_write_was_applied() {
    survives([Fault::drop_after().method("PUT").probability(0.5)]);
}

#[test]
fn every_answer_to_a_write_lost() {
    survives([Fault::drop_after().method("PUT")]);
}

#[test]
fn lost_answers_and_cut_read_backs_together() {
    survives([
        Fault::drop_after().method("PUT").probability(0.5),
        Fault::cut_body().method("GET").path("out").probability(0.5),
    ]);
}

#[test]
fn connections_dropped_before_the_request_was_carried_out() {
    survives([Fault::drop_before().probability(0.3)]);
}

#[test]
fn a_storm_of_503_that_passes() {
    survives([Fault::slow_down().first(10), Fault::slow_down().probability(0.3)]);
}

#[test]
fn slow_answers() {
    survives([Fault::delay_ms(150).probability(0.3)]);
}

/// Longer than the client waits: the request is carried out after the client gave up on it.
#[test]
fn an_answer_slower_than_the_client_waits() {
    let server = Server::start();
    server.fault(Fault::delay_ms(4000).method("PUT").first(1));
    let store: Store = server.client();
    wait_for(async {
        let output = output(&store, "out");
        let content = Bytes::from(output.writer.clone());
        let created = output.create("epoch/a", content.clone()).await.unwrap();
        assert!(matches!(created, Created::New | Created::Ours));
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(output.get("epoch/a").await.unwrap(), Some(content));
    });
}

#[test]
fn a_store_that_stays_away_is_a_matter_of_trying_again_later() {
    let server = Server::start();
    let store: Store = server.client();
    wait_for(async {
        let output = output(&store, "out");
        let file = output.put("before", Bytes::from_static(b"committed")).await.unwrap();
        server.fault(Fault::slow_down());
        let error = output.put("after", Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Retry);
        assert_eq!(error.place().object, Some(output.url("after")));
        server.clear_faults();
        output.put("after", Bytes::from_static(b"x")).await.unwrap();
        output.get_verified(&file).await.unwrap();
    });
}

#[test]
fn no_permission_is_told_at_once() {
    let server = Server::start();
    server.fault(Fault::denied().method("PUT"));
    let store: Store = server.client();
    wait_for(async {
        let error = output(&store, "out").probe().await.unwrap_err();
        assert_eq!(error.kind, Kind::Spec);
        assert!(error.message().contains("no permission"), "{error}");
    });
    assert_eq!(server.requests_of("PUT", "out"), 1, "trying again would not help");
}

#[test]
fn a_missing_bucket_is_told_at_once() {
    let server = Server::start();
    server.fault(Fault::refuse(404, "NoSuchBucket"));
    let store: Store = server.client();
    let error = wait_for(async { output(&store, "out").probe().await.unwrap_err() });
    assert_eq!(error.kind, Kind::Spec, "{error}");
    assert_eq!(server.requests(), 1, "trying again would not help");
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let store: Store = Arc::new(Overwrites::default());
    let error = wait_for(async { output(&store, "out").probe().await.unwrap_err() });
    assert_eq!(error.kind, Kind::Spec);
    assert!(error.to_string().contains("If-None-Match"), "{error}");
}

// ---------------------------------------------------------------- local disk

#[test]
fn what_a_killed_process_left_half_written_is_not_listed() {
    let directory = tempfile::tempdir().unwrap();
    let output = output(&local(directory.path()), "out");
    wait_for(async {
        output.put("tables/t/part-1.parquet", Bytes::from_static(b"whole")).await.unwrap();
        std::fs::write(directory.path().join("out/tables/t/part-2.parquet#1"), b"hal").unwrap();
        assert_eq!(output.list("tables").await.unwrap(), [("tables/t/part-1.parquet".to_owned(), 5)]);
        output.put("tables/t/part-2.parquet", Bytes::from_static(b"half")).await.unwrap();
        assert_eq!(output.get("tables/t/part-2.parquet").await.unwrap().unwrap(), "half");
    });
}

#[test]
fn a_file_where_a_directory_should_be_is_the_spec_s_fault() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("out"), b"a file").unwrap();
    let error = wait_for(async { output(&local(directory.path()), "out").probe().await.unwrap_err() });
    assert_eq!(error.kind, Kind::Spec, "{error}");
}

#[test]
fn a_full_disk_loses_nothing_that_was_committed() {
    let Some(disk) = Tmpfs::mount("size=1m") else { return };
    let output = output(&local(disk.path()), "out");
    let large = Bytes::from(vec![7u8; 2 << 20]);
    wait_for(async {
        let generation = Generation::claim(&output).await.unwrap();
        let file = output.put("checkpoint/1", Bytes::from_static(b"state")).await.unwrap();
        commit(&output, &generation, "train-000001", vec![file.clone()], json!({})).await.unwrap();

        let error = output.put("checkpoint/2", large.clone()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Retry);
        assert!(error.message().contains("no space left"), "{error}");
        assert_eq!(error.place().object, Some(output.url("checkpoint/2")));
        assert_eq!(output.get("checkpoint/2").await.unwrap(), None);
        let committed = commits(&output, "").await.unwrap();
        assert_eq!(output.get_verified(&committed[0].files[0]).await.unwrap(), "state");

        disk.remount("size=8m");
        output.put("checkpoint/2", large).await.unwrap();
        disk.remount("ro");
        let error = output.put("checkpoint/3", Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Spec, "{error}");
        assert_eq!(output.get_verified(&file).await.unwrap(), "state");
    });
}
