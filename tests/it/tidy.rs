//! The invariants of ARCHITECTURE.md, checked on the sources: who may depend on whom, which words may
//! stand where, what must be in the repository.

use std::{collections::BTreeSet, path::Path, process::Command};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Tracked files, or all files where there is no git.
fn files() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    let names = listed.expect("git lists the files").stdout;
    String::from_utf8(names).unwrap().lines().map(str::to_owned).collect()
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let of = |name: &String| name.starts_with(&format!("{folder}/src/")) && name.ends_with(".rs");
    files().into_iter().filter(of).map(|name| (name.clone(), read(&name))).collect()
}

/// Non-test code of a file: what stands before its test module, without comments.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    body.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_test_file(name: &str) -> bool {
    let support = ["/planted.rs", "/toys.rs", "/golden.rs"];
    name.ends_with("/tests.rs") || name.contains("/tests/") || support.iter().any(|file| name.ends_with(file))
}

fn dependencies(folder: &str, section: &str) -> BTreeSet<String> {
    let manifest: toml::Table = read(&format!("{folder}/Cargo.toml")).parse().unwrap();
    let table = manifest.get(section).and_then(|t| t.as_table()).cloned().unwrap_or_default();
    table.keys().cloned().collect()
}

#[test]
fn crates_depend_in_one_straight_line() {
    let allowed: [(&str, &[&str]); 5] = [
        ("schemas", &[]),
        ("workers", &["atomflow-schemas"]),
        ("workers/gpu", &["atomflow-workers"]),
        ("pipeline", &["atomflow-schemas", "atomflow-workers"]),
        ("jobs", &["atomflow-gpu", "atomflow-pipeline", "atomflow-schemas", "atomflow-workers"]),
    ];
    for (folder, allowed) in allowed {
        let ours =
            dependencies(folder, "dependencies").into_iter().filter(|name| name.starts_with("atomflow"));
        assert_eq!(ours.collect::<Vec<_>>(), allowed, "{folder}");
    }
}

#[test]
fn each_package_stands_where_it_belongs() {
    let only = [
        ("timely", "pipeline"),
        ("differential-dataflow", "pipeline"),
        ("object_store", "pipeline"),
        ("parquet", "pipeline"),
        ("tokio", "pipeline"),
        ("clap", "jobs"),
        ("toml", "jobs"),
        ("rayon", "workers"),
        ("cubecl", "workers/gpu"),
        ("burn-cuda", "workers/gpu"),
        ("cudarc", "workers/gpu"),
    ];
    for (package, home) in only {
        for folder in CRATES {
            let there = dependencies(folder, "dependencies").contains(package);
            let excused = package == "rayon" && folder == "pipeline";
            assert!(!there || folder == home || excused, "{package} belongs to {home}, not to {folder}");
        }
    }
    assert!(!dependencies("workers", "dependencies").contains("burn"), "burn is the oracle of tests only");
}

/// Where the sources of each crate are.
const CRATES: [&str; 5] = ["schemas", "workers", "workers/gpu", "pipeline", "jobs"];

/// (folder, word, files that may use it, why nobody else may)
const WORDS: &[(&str, &str, &[&str], &str)] = &[
    ("schemas", "std::fs", &[], "schemas does no I/O"),
    ("schemas", "std::net", &[], "schemas does no I/O"),
    ("workers", "std::fs", &[], "workers never sees a path"),
    ("workers", "std::path", &[], "workers never sees a path"),
    ("workers", "std::env", &[], "workers never sees an environment variable"),
    ("workers", "std::time", &[], "workers never sees a clock"),
    ("workers", "async fn", &[], "workers never sees a stream"),
    ("workers/gpu", "std::time", &[], "workers never sees a clock"),
    ("workers/gpu", "burn_cuda", &["workers/gpu/src/cuda.rs"], "one file names a backend of burn"),
    (
        "workers/gpu",
        "cudarc",
        &[
            "workers/gpu/src/cuda/nccl.rs",
            "workers/gpu/src/cuda/needs.rs",
            "workers/gpu/src/cuda/pinned.rs",
            "workers/gpu/src/cuda/probe.rs",
            "workers/gpu/src/text/nvrtc.rs",
        ],
        "what lies below CUDA stands in one folder",
    ),
    ("pipeline", "unsafe ", &[], "unsafe stands in workers only"),
    ("jobs", "unsafe ", &[], "unsafe stands in workers only"),
    ("schemas", "unsafe ", &[], "unsafe stands in workers only"),
    (
        "workers",
        "unsafe {",
        &[
            "workers/src/kernels/encode/avx512.rs",
            "workers/src/kernels/encode/lists.rs",
            "workers/src/kernels/encode/registers.rs",
            "workers/src/kernels/encode/vnni.rs",
            "workers/src/kernels/prefetch.rs",
            "workers/src/kernels/simd.rs",
            "workers/src/memory.rs",
        ],
        "seven files need it",
    ),
    ("jobs", "object_store::", &[], "only pipeline names object stores"),
    ("jobs", "timely::", &[], "only pipeline names timely"),
    ("pipeline", "PutMode::Update", &[], "create-if-absent is the only primitive"),
    (
        "pipeline",
        "SystemTime",
        &["pipeline/src/sink/output.rs"],
        "nothing that is written depends on the clock",
    ),
    (
        "workers",
        "get_or_init",
        &["workers/src/made.rs"],
        "a kernel thread that waits may be handed work that waits for it: `Made` never waits",
    ),
];

#[test]
fn words_stand_only_where_they_may() {
    for &(folder, word, allowed, why) in WORDS {
        for (name, text) in sources(folder) {
            let fine = allowed.contains(&name.as_str()) || is_test_file(&name) || !code(&text).contains(word);
            assert!(fine, "{name} says `{word}`: {why}");
        }
    }
}

#[test]
fn timely_and_differential_are_named_in_few_files() {
    let named = |word: &str| {
        let files = sources("pipeline")
            .into_iter()
            .filter(|(name, text)| !is_test_file(name) && code(text).contains(word));
        files.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let timely = named("timely::");
    assert!(timely.len() <= 4, "timely breaks its API often; keep its names together: {timely:?}");
    let differential = named("differential_dataflow::");
    assert!(differential.len() <= 1, "keep differential in one file: {differential:?}");
}

#[test]
fn async_stands_in_source_sink_and_the_engine_that_calls_them() {
    for (name, text) in sources("pipeline") {
        let home = ["/source/", "/sink/", "/engine/", "/operators/read.rs", "/operators/accumulate.rs"];
        let fine = home.iter().any(|h| name.contains(h))
            || !(code(&text).contains("async ") || code(&text).contains(".await"));
        assert!(fine, "{name} is asynchronous");
    }
}

#[test]
fn no_unwrap_expect_or_panic_outside_tests() {
    for folder in CRATES {
        for (name, text) in sources(folder) {
            let excused = is_test_file(&name) || name.ends_with("conformance.rs");
            for word in [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("] {
                assert!(excused || !code(&text).contains(word), "{name} says `{word}`");
            }
        }
    }
}

#[test]
fn every_unsafe_has_its_safety_note() {
    for (name, text) in [sources("workers"), sources("workers/gpu")].concat() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("unsafe {")) {
            let noted = lines[at.saturating_sub(5)..at].iter().any(|l| l.contains("SAFETY:"));
            assert!(noted, "{name}:{}: {line}", at + 1);
        }
    }
}

#[test]
fn every_source_file_says_what_it_owns() {
    for folder in CRATES {
        for (name, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{name} does not begin with its purpose");
            let stem = Path::new(&name).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            assert!(
                !["utils", "util", "common", "helpers", "misc"].contains(&stem),
                "{name} cannot say what it excludes"
            );
        }
    }
}

#[test]
fn the_documents_are_there_and_name_nothing_outside_the_repository() {
    for name in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "schemas/README.md"]
    {
        assert!(read(name).len() > 200, "{name}");
    }
    let foreign = ["/wor", "k/"].concat();
    for name in files() {
        let text = std::fs::read(root().join(&name)).unwrap_or_default();
        let Ok(text) = String::from_utf8(text) else { continue };
        assert!(!text.contains(&format!(" {foreign}")), "{name} holds a path of some machine");
    }
}

/// The top level is fixed: what is there is what the README's map says.
#[test]
fn the_top_level_is_what_it_is_meant_to_be() {
    let top: BTreeSet<String> =
        files().iter().map(|f| f.split('/').next().unwrap_or_default().to_owned()).collect();
    let expected = [
        ".cargo",
        ".ci",
        ".gitignore",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "clippy.toml",
        "docs",
        "infra",
        "jobs",
        "pipeline",
        "rustfmt.toml",
        "schemas",
        "tests",
        "workers",
        ".config",
    ];
    let strange: Vec<&String> = top.iter().filter(|name| !expected.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
}
