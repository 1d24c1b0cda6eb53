//! The built program: help, exit codes, JSON errors, closed pipes.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The program, built beside this test by the same profile.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("atomflow");
    let profile = if path.parent().is_some_and(|p| p.ends_with("release")) { " --release" } else { "" };
    assert!(path.exists(), "{} is missing: run `cargo build{profile} -p atomflow` first", path.display());
    path
}

fn atomflow(args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const QUICKSTART: &str = "jobs/specs/quickstart.toml";

#[test]
fn help_names_every_command_and_exit_code() {
    let output = atomflow(&["--help"]);
    assert_eq!(code(&output), 0);
    let text = out(&output);
    let commands = ["check", "run", "resume", "inspect", "convert", "learners", "schema"];
    for wanted in commands.iter().chain(&["64", "65", "70", "75", "Examples:", "--json"]) {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    for command in commands {
        let output = atomflow(&[command, "--help"]);
        assert_eq!(code(&output), 0, "{command}");
        assert!(out(&output).contains("Usage: atomflow"), "{command}");
    }
    assert!(out(&atomflow(&["--version"])).starts_with("atomflow "));
}

#[test]
fn a_wrong_command_line_exits_64() {
    let wrong: &[&[&str]] = &[
        &[],
        &["fly"],
        &["run"],
        &["check", QUICKSTART, "--wings"],
        &["run", QUICKSTART, "--workers", "two"],
    ];
    for args in wrong {
        let output = atomflow(args);
        assert_eq!((code(&output), out(&output).as_str()), (64, ""), "{args:?}");
        assert!(err(&output).contains("help"), "{args:?}: {}", err(&output));
    }
}

#[test]
fn a_wrong_spec_exits_64_and_says_why_on_standard_error() {
    let output = atomflow(&["check", QUICKSTART, "--set", "learner.kk=3"]);
    assert_eq!((code(&output), out(&output).as_str()), (64, ""));
    let text = err(&output);
    assert!(
        text.starts_with("error (fix the spec): --set learner.kk=3") && text.contains("did you mean `k`?"),
        "{text}"
    );
    let output = atomflow(&["run", "no/such.toml"]);
    assert_eq!(code(&output), 64);
    assert!(err(&output).contains("no/such.toml"));
    let output = atomflow(&["run", QUICKSTART, "--workers", "9"]);
    assert!(code(&output) == 64 && err(&output).contains("8 lanes"), "{}", err(&output));
    let output = atomflow(&["resume", "runs/none", "--set", "plan.passes=2"]);
    assert!(code(&output) == 64 && err(&output).contains("unknown field `plan`"), "{}", err(&output));
}

fn error_object(args: &[&str]) -> Value {
    let output = atomflow(args);
    let text = out(&output);
    let value: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(value["status"], "error", "{text}");
    assert_eq!(value["exit_code"], code(&output), "{text}");
    assert!(!value["message"].as_str().unwrap().is_empty());
    value
}

#[test]
fn json_errors_are_one_object_with_kind_place_and_hint() {
    let value = error_object(&["--json", "check", QUICKSTART, "--set", "learner.kk=3"]);
    assert_eq!((&value["kind"], &value["exit_code"]), (&"fix the spec".into(), &64.into()));
    assert_eq!(value["place"]["field"], "learner.kk");
    assert_eq!(value["place"]["object"], "--set learner.kk=3");
    assert!(value["hint"].as_str().unwrap().contains("n_latents"));
    // The flag counts after the command too, and when the command line itself is wrong.
    assert_eq!(error_object(&["run", "no/such.toml", "--json"])["exit_code"], 64);
    let value = error_object(&["run", "--json"]);
    assert_eq!(value["place"]["object"], "the command line");
}

#[test]
fn learners_are_listed_for_people_and_programs() {
    let (text, json) = (atomflow(&["learners"]), atomflow(&["learners", "--json"]));
    assert_eq!((code(&text), code(&json)), (0, 0));
    let registry = atomflow_workers::variants::registry();
    let lines: Vec<Value> = out(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), registry.len());
    for (learner, mut line) in registry.iter().zip(lines) {
        let cards = line.as_object_mut().unwrap().remove("cards");
        assert_eq!(cards, Some(learner.cpu_only().is_none().into()), "{}", learner.kind);
        let reason = line.as_object_mut().unwrap().remove("cpu_only");
        assert_eq!(reason, learner.cpu_only().map(Value::from), "{}", learner.kind);
        assert_eq!(line, serde_json::to_value(learner).unwrap());
        assert!(out(&text).contains(learner.kind) && out(&text).contains(learner.paper));
    }
}

#[test]
fn the_schema_is_printed_as_kept() {
    let kept =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/schema/job.schema.json"))
            .unwrap();
    assert_eq!(out(&atomflow(&["schema"])), kept);
    let line = out(&atomflow(&["schema", "--json"]));
    assert_eq!(line.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), serde_json::from_str::<Value>(&kept).unwrap());
}

#[test]
fn a_closed_pipe_is_not_a_crash() {
    for args in [["schema"].as_slice(), &["--help"], &["learners", "--json"]] {
        let mut child =
            Command::new(program()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), err(&output).as_str()), (0, ""), "{args:?}");
    }
}
