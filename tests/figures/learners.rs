//! The whole family on the same real rows: one job of all learners, run twice with other initial atoms,
//! as a Markdown table and a plot of FVU against L0.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

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
    failed: Option<String>,
    /// Mean over atoms of the largest |cosine| to an atom of the other run.
    stability: Option<f64>,
}

/// Runs `jobs/specs/family.toml` and prints what came of it; the plot goes to `docs/learners.svg`.
pub(crate) fn print() {
    let directory = tempfile::tempdir().unwrap();
    let spec = format!("{REPOSITORY}/jobs/specs/family.toml");
    let runs = [0, 1].map(|seed| {
        let out = directory.path().join(format!("seed-{seed}"));
        let sets = [format!("out={}", out.display()), format!("seed={seed}")];
        let args = ["run", &spec, "--set", &sets[0], "--set", &sets[1]];
        (Finished::from(command(args).output().unwrap()), out)
    });
    let [(first, a), (_, b)] = &runs;
    let learners = first.last()["learners"].as_array().unwrap_or_else(|| panic!("{}", first.stderr));
    let rows: Vec<Row> = learners.iter().map(|learner| row(learner, a, b)).collect();
    print!("{}", table(&rows));
    let plot = format!("{REPOSITORY}/docs/learners.svg");
    fs::write(&plot, svg(&rows)).unwrap();
    println!("\nplot: docs/learners.svg");
}

fn row(learner: &Value, a: &Path, b: &Path) -> Row {
    let (name, metrics) = (learner["name"].as_str().unwrap().to_owned(), &learner["metrics"]);
    let atoms = [a, b].map(|run| atoms(&run.join("learners").join(&name)));
    let [a, b] = &atoms;
    Row {
        fvu: metrics["heldout_fvu"].as_f64(),
        l0: metrics["l0"].as_f64(),
        bits: metrics["bits_per_token"].as_f64(),
        dead: metrics["dead"].as_u64().unwrap_or(0),
        failed: learner["failed"]["message"].as_str().map(str::to_owned),
        stability: a.as_ref().zip(b.as_ref()).map(|(a, b)| similarity(a, b)),
        name,
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
        "| learner | held-out FVU | L0 | dead | bits a token | same atoms from another seed |\n".to_owned();
    text.push_str("|---|---|---|---|---|---|\n");
    let known =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"));
    for row in rows {
        if let Some(message) = &row.failed {
            let _infallible = writeln!(text, "| {} | failed: {message} | | | | |", row.name);
            continue;
        }
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            row.name,
            known(row.fvu, 4),
            known(row.l0, 1),
            row.dead,
            known(row.bits, 0),
            known(row.stability, 3)
        );
    }
    text
}

/// Width, height and margin of the plot.
const SIZE: (f64, f64, f64) = (760.0, 520.0, 50.0);

/// FVU against L0, a labelled point for each learner; the front is a line.
fn svg(rows: &[Row]) -> String {
    let (width, height, margin) = SIZE;
    let points: BTreeMap<String, (f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.name.clone(), (row.l0?, row.fvu?))))
        .filter(|(_, (l0, fvu))| *l0 > 0.0 && *fvu < 1.0)
        .collect();
    let most = points.values().map(|p| p.0).fold(1.0, f64::max).log2().ceil();
    let x = |l0: f64| margin + (width - 2.0 * margin) * l0.max(1.0).log2() / most.max(1.0);
    let y = |fvu: f64| height - margin - (height - 2.0 * margin) * fvu;
    let mut body = String::new();
    for tick in 0..=10 {
        let (fvu, at) = (f64::from(tick) / 10.0, y(f64::from(tick) / 10.0));
        let _infallible = writeln!(
            body,
            "<line x1='{margin}' x2='{}' y1='{at:.1}' y2='{at:.1}' stroke='#ddd'/><text x='8' y='{:.1}'>{fvu:.1}</text>",
            width - margin,
            at + 4.0
        );
    }
    for power in 0..=most.max(1.0) as i32 {
        let l0 = 2f64.powi(power);
        let _infallible =
            writeln!(body, "<text x='{:.1}' y='{}'>{l0}</text>", x(l0) - 6.0, height - margin + 18.0);
    }
    let mut by_l0: Vec<&(f64, f64)> = points.values().collect();
    by_l0.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut best = f64::INFINITY;
    let front = by_l0.into_iter().filter(|(_, fvu)| {
        *fvu < best && {
            best = *fvu;
            true
        }
    });
    let line: Vec<String> = front.map(|(l0, fvu)| format!("{:.1},{:.1}", x(*l0), y(*fvu))).collect();
    let _infallible = writeln!(body, "<polyline points='{}' fill='none' stroke='#4477aa'/>", line.join(" "));
    for (name, (l0, fvu)) in &points {
        let (cx, cy) = (x(*l0), y(*fvu));
        let _infallible = writeln!(
            body,
            "<circle cx='{cx:.1}' cy='{cy:.1}' r='3' fill='#aa3377'/><text x='{:.1}' y='{:.1}'>{name}</text>",
            cx + 5.0,
            cy - 3.0
        );
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='sans-serif' font-size='11'>\n<rect width='{width}' height='{height}' fill='white'/>\n{body}<text x='{}' y='{}'>L0 (log)</text><text x='8' y='20'>held-out FVU</text>\n</svg>\n",
        width / 2.0,
        height - 10.0
    )
}
