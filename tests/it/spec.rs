//! Job specs: every fault is named by line, field and remedy; the shipped schema and examples hold.

use std::path::{Path, PathBuf};

use atomflow::spec::{JobSpec, resumed_runtime, schema};
use atomflow_pipeline::{Error, error::Kind};
use atomflow_workers::coders::CoderSpec;

/// Ten lines that everything below varies; line numbers in the tests count from the `name` line.
const GOOD: &str = r#"name = "night"
[source]
url = "shards/*.parquet"
[plan]
batch_rows = 512
heldout = 0.1
[learner]
kind = "topk"
n_latents = 2304
k = 32
"#;

fn parse(text: &str, sets: &[&str]) -> Result<JobSpec, Error> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    JobSpec::parse(text, "job.toml", &sets).map(|(spec, _)| spec)
}

fn refused(text: &str, sets: &[&str]) -> Error {
    let error = parse(text, sets).expect_err(&format!("{text}\n{sets:?}"));
    assert_eq!(error.kind, Kind::Spec, "{error}");
    assert_eq!(error.kind.exit_code(), 64);
    error
}

/// Everything an error must say, in one text.
fn assert_says(error: &Error, place: &str, wanted: &[&str]) {
    let text = error.to_string();
    assert!(error.place().object.as_deref().is_some_and(|o| o.starts_with(place)), "{place} in\n{text}");
    for word in wanted {
        assert!(text.contains(word), "{word} in\n{text}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn examples() -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(root().join("jobs/specs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_good_spec_has_its_defaults() {
    let spec = parse(GOOD, &[]).unwrap();
    assert_eq!(spec.out, "runs/night");
    assert_eq!((spec.job.plan.batch_rows, spec.job.plan.lanes), (512, 8));
    assert_eq!(spec.job.learner.tables()[0].spec.n_latents(), 2304);
}

#[test]
fn unknown_fields_name_the_line_and_the_nearest_valid_name() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("batch_rows", "batch_row", "job.toml:5:1", &["`plan.batch_row`", "did you mean `batch_rows`?"]),
        ("heldout", "held-out", "job.toml:6:1", &["did you mean `heldout`?", "window_rows, lanes, passes"]),
        ("k = 32", "n_latent = 3", "job.toml:10:1", &["`learner.n_latent`", "did you mean `n_latents`?"]),
        ("k = 32", "k = 32\nscedule.lr = 1.0", "job.toml:11:1", &["did you mean `schedule`?"]),
        (
            "k = 32",
            "k = 32\nschedule.rl = 1.0",
            "job.toml:11:10",
            &["`learner.schedule.rl`", "did you mean `lr`?"],
        ),
        ("k = 32", "k = 32\nlanes = 4", "job.toml:11:1", &["did you mean `plan.lanes`?"]),
        ("[plan]", "[plans]", "job.toml:4:2", &["`plans`", "did you mean `plan`?"]),
        ("[plan]", "[filter]\n[plan]", "job.toml:4:2", &["did you mean `source.filter`?"]),
        (
            "[plan]",
            "[source.colums]\n[plan]",
            "job.toml:4:9",
            &["`source.colums`", "did you mean `columns`?"],
        ),
        (
            "[plan]",
            "filter = { drop_position = [0] }\n[plan]",
            "job.toml:4:12",
            &["did you mean `drop_pos`?"],
        ),
        ("[learner]", "[runtime]\nthread = 2\n[learner]", "job.toml:8:1", &["did you mean `threads`?"]),
        ("name", "nome = 1\nname", "job.toml:1:1", &["did you mean `name`?", "valid at the top"]),
        ("[plan]", "[plan]\nk = 1", "job.toml:5:1", &["did you mean `learner.k`?"]),
        ("[plan]", "[plan]\nxyzzy = 1", "job.toml:5:1", &["unknown field `xyzzy`", "valid in [plan]"]),
    ];
    for (from, to, place, wanted) in cases {
        assert_says(&refused(&GOOD.replacen(from, to, 1), &[]), place, wanted);
    }
}

#[test]
fn wrong_types_and_words_name_the_value() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("batch_rows = 512", "batch_rows = \"512\"", "job.toml:5:14", &["a whole number", "\"512\""]),
        ("batch_rows = 512", "batch_rows = 512.5", "job.toml:5:14", &["a whole number, and is 512.5"]),
        ("batch_rows = 512", "batch_rows = -1", "job.toml:5:14", &["0 or more, and is -1"]),
        ("heldout = 0.1", "heldout = true", "job.toml:6:11", &["a number, and is true"]),
        ("heldout = 0.1", "heldout = 2024-01-01", "job.toml:6:11", &["a number"]),
        ("\"night\"", "7", "job.toml:1:8", &["text in quotes, and is 7"]),
        ("\"shards/*.parquet\"", "7", "job.toml:3:7", &["`source.url`", "text in quotes or a list"]),
        (
            "\"shards/*.parquet\"",
            "[\"a\", 7]",
            "job.toml:3:13",
            &["`source.url[1]`", "text in quotes, and is 7"],
        ),
        ("[plan]", "on_bad = \"skip\"\n[plan]", "job.toml:4:10", &["`skip`", "valid: fail, quarantine"]),
        ("[plan]", "on_bad = \"quarantin\"\n[plan]", "job.toml:4:10", &["did you mean `quarantine`?"]),
        ("[plan]", "on_bad = 1\n[plan]", "job.toml:4:10", &["text in quotes"]),
        ("[plan]", "dtype = \"f64\"\n[plan]", "job.toml:4:9", &["valid: f32, f16, bf16"]),
        ("[plan]", "dtype = 16\n[plan]", "job.toml:4:9", &["text in quotes"]),
        ("[plan]", "filter.drop_pos = [0, \"a\"]\n[plan]", "job.toml:4:23", &["`source.filter.drop_pos[1]`"]),
        ("[plan]", "columns = 1\n[plan]", "job.toml:4:11", &["a table"]),
        ("[plan]", "[normalize]\nmethod = \"unit\"\n[plan]", "job.toml:5:10", &["did you mean `unit_rms`?"]),
        ("kind = \"topk\"", "kind = \"top-k\"", "job.toml:8:8", &["`learner.kind`", "did you mean `topk`?"]),
        ("kind = \"topk\"", "kind = 1", "job.toml:8:8", &["text in quotes"]),
        ("[plan]", "[harvest.coder]\nkind = \"ompp\"\n[plan]", "job.toml:5:8", &["did you mean `omp`?"]),
        ("[plan]", "[harvest]\ncoder = \"omp\"\n[plan]", "job.toml:5:9", &["must be a table"]),
        ("[plan]", "[harvest]\ncoder = { k = 3 }\n[plan]", "job.toml:5:", &["`kind` is missing"]),
        (
            "[plan]",
            "[harvest]\ncoder = { kind = \"omp\", k = 3, lambda = 0.1 }\n[plan]",
            "job.toml:5:32",
            &["unknown field `lambda`"],
        ),
        ("k = 32", "k = \"32\"", "job.toml:10:5", &["`learner.k`", "a whole number"]),
        (
            "k = 32",
            "k = 32\nschedule.lr = \"fast\"",
            "job.toml:11:15",
            &["`learner.schedule.lr`", "a number"],
        ),
        ("[plan]", "[[plan]]", "job.toml:4:", &["must be a table, and is a list"]),
    ];
    for (from, to, place, wanted) in cases {
        assert_says(&refused(&GOOD.replacen(from, to, 1), &[]), place, wanted);
    }
}

#[test]
fn missing_fields_say_what_to_add() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "name = \"night\"\n",
            "job.toml",
            &["`name` is missing", "at the top of the file", "Name of the job"],
        ),
        ("url = \"shards/*.parquet\"\n", "job.toml:2:2", &["`url` is missing", "to [source]"]),
        ("kind = \"topk\"\n", "job.toml:7:2", &["`kind` is missing", "topk"]),
        ("n_latents = 2304\n", "job.toml:7:2", &["`n_latents` is missing", "Number of latents"]),
        ("[learner]\nkind = \"topk\"\nn_latents = 2304\nk = 32\n", "job.toml", &["`learner` is missing"]),
    ];
    for (line, place, wanted) in cases {
        assert_says(&refused(&GOOD.replacen(line, "", 1), &[]), place, wanted);
    }
}

#[test]
fn values_out_of_range_say_the_range() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("learner.k=0", "learner.k", &["between 1 and"]),
        ("learner.k=2305", "learner.n_latents", &["2304", "less than learner.k (2305)"]),
        ("learner.n_latents=0", "learner.n_latents", &["between 1 and"]),
        ("learner.schedule.lr=0", "learner.schedule.lr", &["positive"]),
        ("learner.schedule.lr=nan", "learner.schedule.lr", &["positive"]),
        ("learner.aux_coefficient=-1", "learner.aux_coefficient", &["0 or positive"]),
        ("plan.lanes=0", "plan.lanes", &["between 1 and 256"]),
        ("plan.lanes=257", "plan.lanes", &["between 1 and 256"]),
        ("plan.batch_rows=4", "plan.batch_rows", &["is 4, less than plan.lanes (8)"]),
        ("plan.batch_rows=0", "plan.batch_rows", &["between 1 and"]),
        ("plan.window_rows=100", "plan.window_rows", &["is 100, less than plan.batch_rows (512)"]),
        ("plan.passes=0", "plan.passes", &["between 1 and"]),
        ("plan.heldout=0.95", "plan.heldout", &["between 0 and 0.9"]),
        ("plan.heldout=-0.1", "plan.heldout", &["between 0 and 0.9"]),
        ("plan.heldout=nan", "plan.heldout", &["between 0 and 0.9"]),
        ("source.url=\"\"", "source.url", &["is empty"]),
        ("source.url=[]", "source.url", &["names no place"]),
        ("source.url=[\"a\", \" \"]", "source.url", &["is empty"]),
        ("source.prefetch_bytes=0", "source.prefetch_bytes", &["at least 1"]),
        ("source.columns.pos=\"\"", "source.columns.pos", &["is empty"]),
        ("source.columns.pos=seq_id", "source.columns.pos", &["`seq_id`", "source.columns.seq_id"]),
        ("source.filter.drop_pos=[-1]", "source.filter.drop_pos", &["negative"]),
        ("source.filter.norm_over_median_max=0.5", "source.filter.norm_over_median_max", &["more than 1"]),
        ("normalize.sample_rows=0", "normalize.sample_rows", &["between 1 and"]),
        ("harvest.context_tokens=0", "harvest.context_tokens", &["between 1 and"]),
        ("harvest.score_share=1.5", "harvest.score_share", &["between 0 and 1"]),
        ("harvest.pool_contexts=3", "harvest.pool_contexts", &["wanted per latent (20)"]),
        ("harvest.neighbours=0", "harvest.neighbours", &["hard_negatives"]),
        ("harvest.coder={kind=\"omp\",k=2305}", "harvest.coder.k", &["between 1 and the n_latents"]),
        ("harvest.coder={kind=\"mp\",k=0}", "harvest.coder.k", &["between 1 and the n_latents"]),
        ("harvest.coder={kind=\"lars\",lambda=0}", "harvest.coder.lambda", &["positive"]),
        ("runtime.workers=0", "runtime.workers", &["between 1 and 256"]),
        ("runtime.workers=9", "runtime.workers", &["only 8 lanes"]),
        ("runtime.device=tpu", "runtime.device", &["`tpu`", "valid: cpu, cuda:0"]),
        ("runtime.moments=8bit", "runtime.moments", &["is for cards", "name a card in runtime.device"]),
        ("runtime.checkpoint_windows=0", "runtime.checkpoint_windows", &["between 1 and"]),
        ("name=a/b", "name", &["becomes part of paths"]),
        ("name=a\\b", "name", &["becomes part of paths"]),
        ("name=..", "name", &["becomes part of paths"]),
        ("name=\"\"", "name", &["becomes part of paths"]),
    ];
    for (set, field, wanted) in cases {
        let error = refused(GOOD, &[set]);
        assert_eq!(error.place().field.as_deref(), Some(*field), "{set}: {error}");
        assert_says(&error, "", wanted);
    }
}

/// A coder needs a reconstruction that is a sum of atoms, of every learner.
#[test]
fn a_coder_is_refused_where_there_is_nothing_to_code_for() {
    let coded = format!("{GOOD}[harvest]\ncoder = {{ kind = \"omp\", k = 4 }}\n");
    let spec = parse(&coded, &["harvest.coder.k=8"]).unwrap();
    assert_eq!(spec.job.harvest.coder, Some(CoderSpec::Omp { k: 8 }));
    let with = |learner: &str| coded.replace("kind = \"topk\"\nn_latents = 2304\nk = 32", learner);
    let cases = [
        (
            "kind = \"transcoder\"\ntarget = \"out\"\nn_latents = 64\nk = 4",
            "another column than the one it reads",
        ),
        ("kind = \"bilinear\"\nn_latents = 64\nk = 4", "outer products"),
        ("kind = \"boost\"\nbase = \"base\"\nn_latents = 64\nk = 4", "reconstruction of its base"),
        ("kind = \"deep\"\nlevels = [32, 64]\nn_latents = 64", "ReLU between its levels"),
    ];
    for (learner, why) in cases {
        let text = with(learner);
        parse(&text.replace("coder = ", "# "), &[]).unwrap_or_else(|e| panic!("{learner}: {e}"));
        assert_says(&refused(&text, &[]), "job.toml:", &["`harvest.coder`", "omp", why, "leave `coder` out"]);
    }
    parse(&with("kind = \"deep\"\nlevels = [32, 64]\nn_latents = 64\nlink = \"linear\""), &[]).unwrap();
    let several = coded
        .replace("[learner]", "[[learner]]")
        .replace("[harvest]", "[[learner]]\nkind = \"topk\"\nn_latents = 3\nk = 2\n[harvest]");
    assert_says(&refused(&several, &[]), "job.toml:", &["`harvest.coder.k`", "every learner"]);
}

#[test]
fn values_out_of_range_in_the_file_name_their_line() {
    assert_says(&refused(&GOOD.replace("k = 32", "k = 0"), &[]), "job.toml:10:1", &["`learner.k`"]);
    assert_says(&refused(&GOOD.replace("0.1", "1"), &[]), "job.toml:6:1", &["`plan.heldout`"]);
}

#[test]
fn text_that_is_not_toml_names_the_line() {
    assert_says(&refused("name = \"night\"\n[source\n", &[]), "job.toml:2", &["is not TOML"]);
    assert_says(&refused("name = \"a\"\nname = \"b\"\n", &[]), "job.toml:2", &["is not TOML"]);
    assert_says(&refused("seed = 99999999999999999999\n", &[]), "job.toml:1", &["is not TOML"]);
}

#[test]
fn set_changes_fields_before_they_are_checked() {
    let sets =
        ["learner.k=64", "plan.passes=3", "source.filter.drop_pos=[0, 1]", "name=bare-word", "out=s3://b/r"];
    let spec = parse(GOOD, &sets).unwrap();
    assert_eq!((spec.job.learner.tables()[0].spec.k(), spec.job.plan.passes), (Some(64), 3));
    assert_eq!(spec.job.source.filter.drop_pos, [0, 1]);
    assert_eq!((spec.job.name.as_str(), spec.out.as_str()), ("bare-word", "s3://b/r"));
    // Text stays text even where it reads like a number or a date.
    for name in ["2024", "2024-01-31", "true", "1e3", "\"2024\""] {
        assert_eq!(parse(GOOD, &[&format!("name={name}")]).unwrap().job.name, name.trim_matches('"'));
    }
    // A missing table is made; the last of two wins; spaces do not matter.
    let spec = parse(GOOD, &["runtime.workers = 1", "runtime.workers = 2"]).unwrap();
    assert_eq!(spec.runtime.workers, 2);
    // A fault of the file may be repaired.
    parse(&GOOD.replace("k = 32", "k = 0"), &["learner.k=8"]).unwrap();
}

#[test]
fn wrong_sets_name_themselves() {
    let cases: &[(&str, &[&str])] = &[
        ("learner.kk=3", &["`learner.kk`", "did you mean `k`?"]),
        ("lanes=3", &["did you mean `plan.lanes`?"]),
        ("plan.passes=often", &["a whole number", "\"often\""]),
        ("plan.passes", &["is not key=value"]),
        ("plan..passes=1", &["empty key"]),
        ("=1", &["empty key"]),
        ("name.first=1", &["not a table"]),
        ("plan=1", &["a table, and is 1"]),
        ("learner.kind=relux", &["`relux`", "valid: "]),
        ("plan={passes=1, lane=2}", &["did you mean `lanes`?"]),
    ];
    for (set, wanted) in cases {
        assert_says(&refused(GOOD, &[set]), &format!("--set {set}"), wanted);
    }
}

#[test]
fn resume_takes_runtime_alone() {
    let sets = |s: &str| vec![s.to_owned()];
    assert_eq!(resumed_runtime(&sets("runtime.workers=2")).unwrap().workers, 2);
    assert_eq!(resumed_runtime(&[]).unwrap().workers, 1);
    assert_says(
        &resumed_runtime(&sets("plan.passes=2")).unwrap_err(),
        "--set plan.passes=2",
        &["unknown field"],
    );
    assert_says(&resumed_runtime(&sets("runtime.workers=0")).unwrap_err(), "--set", &["between 1 and 256"]);
}

#[test]
fn a_spec_that_cannot_be_read_says_so() {
    let error = JobSpec::read(Path::new("no/such.toml"), &[]).unwrap_err();
    assert_says(&error, "no/such.toml", &["cannot read the job spec"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.toml");
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    let error = JobSpec::read(&path, &[]).unwrap_err();
    assert_says(&error, &path.display().to_string(), &["is not UTF-8", "byte 8"]);
}

#[test]
fn the_schema_for_editors_is_current() {
    let path = root().join("jobs/schema/job.schema.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == schema::text(),
        "out of date: cargo run --release -- schema > jobs/schema/job.schema.json"
    );
}

#[test]
fn the_examples_parse_and_point_editors_at_the_schema() {
    let examples = examples();
    assert!(examples.len() >= 4);
    for (path, text) in examples {
        JobSpec::parse(&text, &path, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert!(text.starts_with("#:schema ../schema/job.schema.json\n"), "{path}");
    }
}

#[test]
fn every_learner_has_an_example_of_its_kind() {
    for learner in atomflow_workers::variants::registry() {
        let text = std::fs::read_to_string(root().join(learner.example)).expect(learner.example);
        assert!(text.contains(&format!("kind = \"{}\"", learner.kind)), "{}", learner.example);
    }
}

/// A fixed sequence of numbers (SplitMix64): the same mutations on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// What breaks parsers: brackets, quotes, escapes, numbers at the edge, letters beyond ASCII.
const TOKENS: &[&str] = &[
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    "\"",
    "\"\"\"",
    "'",
    "\\",
    "\\u0000",
    "#",
    ",",
    ".",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "é",
    "🦀",
    "\u{feff}",
    "nan",
    "-inf",
    "0",
    "-1",
    "9223372036854775807",
    "1e999",
    "0x",
    "true",
    "2024-01-01",
    "[]",
    "{}",
    "\"\"",
    "k",
    "kind",
    "learner",
    "source.",
    "a.b.c.d",
    "1_000",
    "0.5",
];

fn mutated(text: &str, others: &[(String, String)], numbers: &mut Numbers) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(letters.len() + 1);
        let to = (at + numbers.below(12)).min(letters.len());
        match numbers.below(5) {
            0 => drop(letters.drain(at..to)),
            1 => drop(letters.splice(at..at, numbers.one_of(TOKENS).chars())),
            2 => drop(letters.splice(at..to, numbers.one_of(TOKENS).chars())),
            3 => letters.truncate(at),
            _ => {
                let other = &others[numbers.below(others.len())].1;
                let line = other.lines().nth(numbers.below(other.lines().count())).unwrap_or("");
                drop(letters.splice(at..at, format!("\n{line}\n").chars()));
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn no_mutation_of_a_spec_brings_the_parser_down() {
    let examples = examples();
    let mut numbers = Numbers(2);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..3000 {
        let text = mutated(&examples[round % examples.len()].1, &examples, &mut numbers);
        let set = format!(
            "{}={}",
            numbers.one_of(&["learner.k", "plan", "name", ".", "x.y"]),
            numbers.one_of(TOKENS)
        );
        let sets: &[&str] = if round % 4 == 0 { &[&set] } else { &[] };
        match parse(&text, sets) {
            Ok(_) => accepted += 1,
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind, Kind::Spec, "{error}\n{text}");
                assert!(!error.message().is_empty() && error.place().object.is_some(), "{error:?}\n{text}");
            }
        }
    }
    assert!(accepted > 100 && refused > 1000, "{accepted} accepted, {refused} refused");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in
        ["[".repeat(5000), format!("a = {}", "[".repeat(5000)), format!("a = {}1", "{a=".repeat(5000))]
    {
        refused(&text, &[]);
    }
    refused(GOOD, &[&format!("{}x=1", "a.".repeat(5000))]);
    refused(GOOD, &[&format!("name={}", "[".repeat(5000))]);
}

/// Two tables and a sweep instead of the one.
const SWEEP: &str = r#"name = "night"
[source]
url = "shards/*.parquet"
[[learner]]
kind = "topk"
n_latents = 2304
k = 32
[[learner]]
kind = "topk"
n_latents = 64
sweep = { k = [4, 8], "schedule.lr" = [1e-3, 2e-3] }
"#;

fn names(spec: &JobSpec) -> Vec<String> {
    spec.job.learners().unwrap().into_iter().map(|learner| learner.name).collect()
}

#[test]
fn a_sweep_is_every_combination_in_order() {
    let spec = parse(SWEEP, &[]).unwrap();
    let swept = ["topk-n64-k4-lr0.001", "topk-n64-k4-lr0.002", "topk-n64-k8-lr0.001", "topk-n64-k8-lr0.002"];
    assert_eq!(names(&spec)[1..], swept);
    assert_eq!(names(&spec)[0], "topk-n2304-k32");
    // One table, however written, is a job of one learner.
    let one = GOOD.replace("[learner]", "[[learner]]");
    assert_eq!(parse(&one, &[]).unwrap().job, parse(GOOD, &[]).unwrap().job);
    let set = parse(GOOD, &["learner.sweep={n_latents=[64, 128], seed=[1, 2]}", "learner.name=x"]).unwrap();
    assert_eq!(names(&set), ["x-n64-seed1", "x-n64-seed2", "x-n128-seed1", "x-n128-seed2"]);
    let set = parse(SWEEP, &["learner[0].k=16", "learner[1].sweep.k=[2]"]).unwrap();
    assert_eq!(names(&set)[..2], ["topk-n2304-k16", "topk-n64-k2-lr0.001"]);
}

#[test]
fn faults_of_several_learners_name_their_line() {
    let changed = |from: &str, to: &str| refused(&SWEEP.replacen(from, to, 1), &[]);
    assert_says(&changed("k = 32", "k = 0"), "job.toml:7:1", &["`learner[0].k`", "between 1 and"]);
    assert_says(&changed("k = [4, 8]", "k = [4, 80]"), "job.toml:10:1", &["less than learner[3].k (80)"]);
    assert_says(&changed("k = [4", "kk = [4"), "job.toml:11", &["unknown field `kk`", "did you mean `k`?"]);
    assert_says(&changed("[4, 8]", "4"), "job.toml:11", &["must be a list of values", "learner[1].sweep.k"]);
    assert_says(&changed("[4, 8]", "[]"), "job.toml:11", &["names no value"]);
    assert_says(&changed("[4, 8]", "[4, \"many\"]"), "job.toml:11", &["a whole number", "many"]);
    assert_says(
        &changed("kind = \"topk\"\nn_latents = 64", "kind = \"tpk\"\nn_latents = 64"),
        "job.toml:9",
        &["`tpk`"],
    );
    let twins = SWEEP
        .replace("kind", "name = \"same\"\nkind")
        .replace("sweep = { k = [4, 8], \"schedule.lr\" = [1e-3, 2e-3] }", "k = 4");
    assert_says(&refused(&twins, &[]), "job.toml:10:1", &["`same` is the name of another learner"]);
    assert_says(&refused(SWEEP, &["learner.k=3"]), "--set learner.k=3", &["learner[0].k=64"]);
    assert_says(&refused(SWEEP, &["learner[7].k=3"]), "--set learner[7].k=3", &["not a table"]);
    assert_says(&refused(GOOD, &["learner.name=a/b"]), "--set", &["becomes part of paths"]);
}
