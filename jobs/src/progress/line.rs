//! An event as one line of text, in parts that can be left out where there is no room.

use atomflow_pipeline::run::{ConvertProgress, Event, HarvestProgress, TrainProgress};

use super::{human, pace::Phase};

/// One line.
pub(super) struct Line {
    /// The long phase it belongs to, if any.
    pub(super) phase: Option<Phase>,
    /// Whether the phase ends with it.
    pub(super) last: bool,
    /// In the order shown; the number is what a part is worth, 0 is never left out.
    parts: Vec<(u8, String)>,
}

impl Line {
    pub(super) fn of(event: &Event) -> Line {
        match event {
            Event::Train(progress) => train(progress),
            Event::Harvest(progress) => harvest(progress),
            Event::Convert(progress) => convert(progress),
            Event::Started { run, out, resumed } => {
                let word = if *resumed { "resuming" } else { "starting" };
                single(format!("{word} {run}: results go to {out}"))
            }
            Event::Note { message } => single(message.clone()),
            Event::Publish { learner, table, rows } => {
                let of = learner.as_ref().map_or_else(String::new, |name| format!("{name}: "));
                single(format!("{of}published {table}: {} rows", human::count(*rows)))
            }
        }
    }

    pub(super) fn full(&self) -> String {
        self.worth(u8::MAX)
    }

    /// The line in at most `room` columns: parts go in the order of what they are worth, then letters.
    pub(super) fn fitted(&self, room: usize) -> String {
        let fits = |text: &String| text.chars().count() <= room;
        let shorter = (0..=9).rev().map(|worth| self.worth(worth)).find(fits);
        shorter.unwrap_or_else(|| self.worth(0).chars().take(room).collect())
    }

    fn worth(&self, most: u8) -> String {
        let parts: Vec<&str> = self
            .parts
            .iter()
            .filter(|(w, text)| *w <= most && !text.is_empty())
            .map(|(_, t)| t.as_str())
            .collect();
        parts.join("  ")
    }
}

fn single(text: String) -> Line {
    Line { phase: None, last: false, parts: vec![(0, text)] }
}

fn train(p: &TrainProgress) -> Line {
    let parts = vec![
        (0, format!("train {}", human::percent(share(p.step, p.steps)))),
        (4, format!("step {}/{}", human::count(p.step), human::count(p.steps))),
        (6, format!("{} rows/s", human::short(p.rows_per_s))),
        (9, format!("{:.3} GB/s", p.gb_per_s)),
        (8, format!("waiting {}", human::percent(p.wait_share))),
        (1, format!("FVU {}", fvu(p))),
        (5, format!("L0 {:.1}", p.l0)),
        (3, format!("dead {}", human::count(p.dead))),
        (7, best(p)),
        (2, format!("{} left", human::duration(p.left_s))),
    ];
    Line { phase: Some(Phase::Train), last: p.step >= p.steps, parts }
}

/// Of several learners, from the lowest to the highest.
fn fvu(p: &TrainProgress) -> String {
    let worst = p.learners.iter().map(|learner| learner.fvu).fold(p.fvu, f64::max);
    match p.learners.len() {
        0 | 1 => human::ratio(p.fvu),
        n => format!("{} to {} of {n}", human::ratio(p.fvu), human::ratio(worst)),
    }
}

/// Whose the lowest FVU is, where there are several.
fn best(p: &TrainProgress) -> String {
    let best = p.learners.iter().min_by(|a, b| a.fvu.total_cmp(&b.fvu));
    best.map_or_else(String::new, |best| format!("best {}", best.name))
}

fn harvest(p: &HarvestProgress) -> Line {
    let parts = vec![
        (0, format!("harvest {}", human::percent(share(p.rows, p.rows_total)))),
        (3, format!("shard {}/{}", human::count(p.shard), human::count(p.shards))),
        (4, format!("{} rows/s", human::short(p.rows_per_s))),
        (5, format!("{:.3} GB/s", p.gb_per_s)),
        (2, format!("{} left", human::duration(p.left_s))),
    ];
    Line { phase: Some(Phase::Harvest), last: p.shard >= p.shards, parts }
}

fn convert(p: &ConvertProgress) -> Line {
    let parts = vec![
        (0, format!("convert {}", human::percent(share(p.rows, p.rows_total)))),
        (3, format!("{} shards written", human::count(p.shards))),
        (4, format!("{} rows/s", human::short(p.rows_per_s))),
        (5, format!("{:.3} GB/s", p.gb_per_s)),
        (2, format!("{} left", human::duration(p.left_s))),
    ];
    Line { phase: Some(Phase::Convert), last: p.done, parts }
}

#[allow(clippy::cast_precision_loss, reason = "a share shown in whole per cent")]
fn share(done: u64, of: u64) -> f64 {
    if of == 0 { 1.0 } else { done as f64 / of as f64 }
}
