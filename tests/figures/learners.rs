//! The whole family on the same real rows: each learner alone for its seconds, all together from other
//! initial atoms for their stability, and the front of FVU against L0, as a table and a plot.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use atomflow_tests::run::{Finished, REPOSITORY, command};
use safetensors::SafeTensors;
use serde_json::Value;

/// One learner of the job.
struct Row {
    name: String,
    fvu: Option<f64>,
    l0: Option<f64>,
    bits: Option<f64>,
    dead: u64,
    /// From the start of the process to its end, tables written.
    seconds: f64,
    failed: Option<String>,
    /// Mean over atoms of the largest |cosine| to an atom of the other run.
    stability: Option<f64>,
}

/// Runs `jobs/specs/family.toml` and prints what came of it, then draws the front.
pub(crate) fn print() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other");
    run(&format!("{REPOSITORY}/jobs/specs/family.toml"), &other, 1);
    let rows: Vec<Row> = alone(directory.path()).iter().map(|spec| row(spec, &other)).collect();
    print!("{}", table(&rows));
    front();
}

/// Runs `jobs/specs/front.toml` and draws FVU against L0.
pub(crate) fn front() {
    let directory = tempfile::tempdir().unwrap();
    let done = run(&format!("{REPOSITORY}/jobs/specs/front.toml"), &directory.path().join("front"), 0);
    let plot = format!("{REPOSITORY}/docs/learners.svg");
    fs::write(&plot, svg(&points(done["learners"].as_array().unwrap()))).unwrap();
    println!("\nplot: docs/learners.svg");
}

fn run(spec: &str, out: &Path, seed: u64) -> Value {
    let sets = [format!("out={}", out.display()), format!("seed={seed}")];
    let args = ["run", spec, "--set", &sets[0], "--set", &sets[1]];
    Finished::from(command(args).output().unwrap()).last().clone()
}

/// The family's job for each learner by itself: name and file.
fn alone(directory: &Path) -> Vec<(String, PathBuf)> {
    let family = fs::read_to_string(format!("{REPOSITORY}/jobs/specs/family.toml")).unwrap();
    let family: toml::Table = family.parse().unwrap();
    let one = |learner: &toml::Value| {
        let name = learner["name"].as_str().unwrap().to_owned();
        let mut job = family.clone();
        job.insert("learner".to_owned(), toml::Value::Array(vec![learner.clone()]));
        let path = directory.join(format!("{name}.toml"));
        fs::write(&path, job.to_string()).unwrap();
        (name, path)
    };
    family["learner"].as_array().unwrap().iter().map(one).collect()
}

/// Runs one learner alone and compares its atoms with those it had among `others`.
fn row((name, spec): &(String, PathBuf), others: &Path) -> Row {
    let out = spec.with_extension("run");
    let began = Instant::now();
    let done = run(&spec.display().to_string(), &out, 0);
    let (seconds, metrics) = (began.elapsed().as_secs_f64(), &done["metrics"]);
    let atoms = [atoms(&out), atoms(&others.join("learners").join(name))];
    let [a, b] = &atoms;
    Row {
        fvu: metrics["heldout_fvu"].as_f64(),
        l0: metrics["l0"].as_f64(),
        bits: metrics["bits_per_token"].as_f64(),
        dead: metrics["dead"].as_u64().unwrap_or(0),
        seconds,
        failed: (done["status"] != "done").then(|| done["message"].to_string()),
        stability: a.as_ref().zip(b.as_ref()).map(|(a, b)| similarity(a, b)),
        name: name.clone(),
    }
}

/// Unit atoms of an exported dictionary, without zero rows.
fn atoms(run: &Path) -> Option<Vec<Vec<f32>>> {
    let bytes = fs::read(run.join("dictionary/sae_weights.safetensors")).ok()?;
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let tensor = file.tensor("W_dec").ok()?;
    let values: Vec<f32> =
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let unit = |row: &[f32]| {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        (norm > 0.0).then(|| row.iter().map(|v| v / norm).collect::<Vec<f32>>())
    };
    Some(values.chunks_exact(tensor.shape()[1]).filter_map(unit).collect())
}

fn similarity(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let best = |a: &Vec<f32>| {
        let cosine = |b: &Vec<f32>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().abs();
        f64::from(b.iter().map(cosine).fold(0.0, f32::max))
    };
    a.iter().map(best).sum::<f64>() / a.len().max(1) as f64
}

fn table(rows: &[Row]) -> String {
    let mut text =
        "| learner | held-out FVU | L0 | dead | bits a token | same atoms from another seed | seconds |\n"
            .to_owned();
    text.push_str("|---|---|---|---|---|---|---|\n");
    let known =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"));
    for row in rows {
        if let Some(message) = &row.failed {
            let _infallible = writeln!(text, "| {} | failed: {message} | | | | | |", row.name);
            continue;
        }
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {:.1} |",
            row.name,
            known(row.fvu, 4),
            known(row.l0, 1),
            row.dead,
            known(row.bits, 0),
            known(row.stability, 3),
            row.seconds
        );
    }
    text
}

/// (L0, FVU) of the settings of each kind, by L0.
type Points = BTreeMap<String, Vec<(f64, f64)>>;

fn points(learners: &[Value]) -> Points {
    let mut points = Points::new();
    for learner in learners {
        let of = |field: &str| learner["metrics"][field].as_f64();
        // A sweep calls its learners by the table's name and the value.
        let kind = learner["name"].as_str().unwrap().split('-').next().unwrap();
        let (Some(l0), Some(fvu)) = (of("l0"), of("heldout_fvu")) else { continue };
        if l0 >= 1.0 && fvu < 1.0 {
            points.entry(kind.to_owned()).or_default().push((l0, fvu));
        }
    }
    points.values_mut().for_each(|points| points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    points
}

/// Width, height and margin of the plot.
const SIZE: (f64, f64, f64) = (820.0, 560.0, 50.0);
/// Paul Tol's bright scheme.
const COLOURS: [&str; 7] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777"];

/// FVU against L0: a line for each kind, with its name at the end of it.
fn svg(kinds: &Points) -> String {
    let (width, height, margin) = SIZE;
    let all = || kinds.values().flatten();
    let (low, high) = all().fold((f64::MAX, 0f64), |(low, high), p| (low.min(p.1), high.max(p.1)));
    let (low, high) = ((low * 20.0).floor() / 20.0, (high * 20.0).ceil() / 20.0);
    let least = all().map(|p| p.0).fold(f64::MAX, f64::min).log2().floor();
    let most = all().map(|p| p.0).fold(1.0, f64::max).log2().ceil();
    let x = |l0: f64| margin + (width - 3.0 * margin) * (l0.log2() - least) / (most - least).max(1.0);
    let y = |fvu: f64| height - margin - (height - 2.0 * margin) * (fvu - low) / (high - low).max(0.05);
    let mut body = String::new();
    let mut tick = low;
    while tick <= high + 1e-9 {
        let (at, right) = (y(tick), width - 2.0 * margin);
        let _infallible = writeln!(
            body,
            "<line x1='{margin}' x2='{right}' y1='{at:.1}' y2='{at:.1}' stroke='#ddd'/><text x='8' y='{:.1}'>{tick:.2}</text>",
            at + 4.0
        );
        tick += 0.05;
    }
    for power in least as i32..=most as i32 {
        let l0 = 2f64.powi(power);
        let _infallible =
            writeln!(body, "<text x='{:.1}' y='{}'>{l0}</text>", x(l0) - 6.0, height - margin + 18.0);
    }
    for ((kind, points), colour) in kinds.iter().zip(COLOURS.iter().cycle()) {
        let at: Vec<String> =
            points.iter().map(|(l0, fvu)| format!("{:.1},{:.1}", x(*l0), y(*fvu))).collect();
        let _infallible =
            writeln!(body, "<polyline points='{}' fill='none' stroke='{colour}'/>", at.join(" "));
        for point in &at {
            let (cx, cy) = point.split_once(',').unwrap();
            let _infallible = writeln!(body, "<circle cx='{cx}' cy='{cy}' r='3' fill='{colour}'/>");
        }
        let (cx, cy) = at[at.len() - 1].split_once(',').unwrap();
        let cx: f64 = cx.parse().unwrap();
        let _infallible = writeln!(body, "<text x='{:.1}' y='{cy}' fill='{colour}'>{kind}</text>", cx + 6.0);
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='sans-serif' font-size='11'>\n<rect width='{width}' height='{height}' fill='white'/>\n{body}<text x='{}' y='{}'>L0 (log)</text><text x='8' y='20'>held-out FVU</text>\n</svg>\n",
        width / 2.0,
        height - 10.0
    )
}
