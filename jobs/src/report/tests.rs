//! Reports of made-up outcomes, as text.

use atomflow_pipeline::run::LearnerOutcome;
use atomflow_schemas::manifest::LearnerFailure;

use super::*;

const SPEC: &str = r#"
name = "night"
[source]
url = "shards"
[plan]
passes = 8
[learner]
kind = "topk"
n_latents = 2304
k = 32
[runtime]
workers = 2
"#;

fn spec() -> JobSpec {
    JobSpec::parse(SPEC, "night.toml", &[]).unwrap().0
}

fn finished() -> Outcome {
    let names = ["features", "activation_stats", "coactivations", "autointerp_candidates", "quality"];
    Outcome {
        run: "night-1a2b".to_owned(),
        tables: names.map(|n| (n.to_owned(), format!("runs/night/tables/{n}"))).into(),
        dictionary: "runs/night/dictionary".to_owned(),
        metrics: Metrics {
            heldout_fvu: Some(0.21345),
            l0: Some(32.0),
            bits_per_token: Some(301.2),
            tokens: 98_304,
            seconds: 187.0,
            encoder: "f32".to_owned(),
            ..Metrics::default()
        },
        wait_share: None,
        learners: Vec::new(),
    }
}

/// A run of two learners, one of which failed.
fn two() -> Outcome {
    let learner = |name: &str| LearnerOutcome {
        name: name.to_owned(),
        n_latents: 2304,
        k: Some(32),
        tables: BTreeMap::new(),
        dictionary: format!("runs/night/learners/{name}/dictionary"),
        metrics: Some(finished().metrics),
        failed: None,
    };
    let failed = Some(LearnerFailure {
        kind: "fix the spec".to_owned(),
        message: "diverged at step 7: the loss is not finite".to_owned(),
        field: Some("learner[1].schedule.lr".to_owned()),
        hint: Some("lower schedule.lr".to_owned()),
    });
    let wild = LearnerOutcome { metrics: None, failed, ..learner("wild") };
    Outcome { learners: vec![learner("calm"), wild], ..finished() }
}

#[test]
fn several_learners_have_a_line_each() {
    let text = outcome(&two(), &BTreeMap::new());
    for wanted in ["done; 1 of 2 learners failed", "calm", "0.2135", "failed: diverged at step 7", "run_id"] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    assert!(!text.contains("delta_scan") && !text.contains("shortest"), "{text}");
    let mut both = two();
    both.learners[1] = LearnerOutcome { name: "short".to_owned(), ..both.learners[0].clone() };
    both.learners[1].metrics.as_mut().unwrap().bits_per_token = Some(250.0);
    let text = outcome(&both, &BTreeMap::new());
    assert!(text.contains("shortest codes within 0.02 of the best FVU: short (250 bits"), "{text}");
    let error = two().check().unwrap_err();
    assert_eq!(
        (error.kind.exit_code(), error.place().field.as_deref()),
        (64, Some("learner[1].schedule.lr"))
    );
    assert!(error.to_string().contains("1 of 2 learners failed: `wild` diverged"), "{error}");
    assert!(Outcome { learners: Vec::new(), ..two() }.check().is_ok());
}

#[test]
fn the_end_of_a_run_says_what_how_good_and_what_to_ask() {
    let text = outcome(&finished(), &[("features".to_owned(), 2304)].into());
    for wanted in
        ["night-1a2b is done", "0.2135", "98,304", "3 min 07 s", "2,304 rows", "runs/night/dictionary"]
    {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("SELECT ")).count(), 3, "{text}");
    assert!(text.contains("delta_scan('runs/night/tables/features')"), "{text}");
}

#[test]
fn the_share_of_waiting_is_told_where_it_is_known() {
    for run in [finished(), two()] {
        assert!(!outcome(&run, &BTreeMap::new()).contains("waiting"));
        let text = outcome(&Outcome { wait_share: Some(0.031), ..run }, &BTreeMap::new());
        assert!(text.lines().any(|line| line.contains("waiting") && line.contains("3 %")), "{text}");
    }
}

#[test]
fn a_coder_stands_beside_the_encoder() {
    let mut run = finished();
    let (encoder_fvu, encoder_l0, gap) = (Some(0.25), Some(30.5), Some(0.0371));
    run.metrics.amortisation = Some(Amortisation { coder: "omp".to_owned(), encoder_fvu, encoder_l0, gap });
    let text = outcome(&run, &BTreeMap::new());
    let wanted = "own encoder FVU 0.2500 at L0 30.5, omp FVU 0.2135 at L0 32.0";
    assert!(text.contains(wanted) && text.contains("0.0371"), "{text}");
    let mut both = two();
    assert!(!outcome(&both, &BTreeMap::new()).contains("gap"));
    both.learners[0].metrics = Some(run.metrics.clone());
    let text = outcome(&both, &BTreeMap::new());
    assert!(text.contains("less that of omp") && text.contains("0.0371"), "{text}");
}

#[test]
fn the_plan_names_every_cost() {
    let report = CheckReport {
        run: "night-1a2b".to_owned(),
        shards: 3,
        rows: 12_000,
        bytes: 14_000_000,
        model_bytes: 32_000_000,
        data_bytes: 80_000_000,
        train_flops: 2.5e12,
        measured_gflops: 40.0,
        estimated_s: 75.0,
        quarantined: vec![("shards/7.parquet".to_owned(), "cut short".to_owned())],
        notes: vec!["no `token` column: candidates have positions only".to_owned()],
        ..CheckReport::default()
    };
    let text = plan(&spec(), &report);
    let wanted = [
        "12,000",
        "14.0 MB",
        "112 MB",
        "72.0 MB",
        "2.50 TFLOP",
        "40.0 GFLOP/s",
        "1 min 15 s",
        "cut short",
        "Note: no",
    ];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
}

#[test]
fn an_unfinished_run_says_how_to_go_on() {
    let unfinished = Inspection { state: "training".to_owned(), windows: (3, 24), ..Inspection::default() };
    let text = inspection("runs/night", &unfinished);
    assert!(text.contains("3 of 24") && text.contains("atomflow resume runs/night"), "{text}");
    let done = Inspection { outcome: Some(finished()), ..unfinished };
    assert!(inspection("runs/night", &done).contains("0.2135"));
}

#[test]
fn learners_show_every_field() {
    for learner in atomflow_workers::variants::registry() {
        let text = learners(std::slice::from_ref(&learner));
        for field in [learner.kind, learner.family, learner.summary, learner.paper, learner.example] {
            assert!(text.contains(field), "{field} in\n{text}");
        }
    }
}
