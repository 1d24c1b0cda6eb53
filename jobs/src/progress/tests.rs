//! The live line and the plain lines, written to a buffer.

use std::sync::Arc;

use atomflow_pipeline::run::{HarvestProgress, TrainProgress};

use super::*;

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn train(step: u64) -> Event {
    Event::Train(TrainProgress {
        step,
        steps: 96,
        rows_per_s: 11_234.0,
        gb_per_s: 0.013,
        wait_share: 0.02,
        fvu: 0.4123,
        l0: 32.0,
        dead: 17,
        left_s: 42.0,
        ..TrainProgress::default()
    })
}

fn harvest(shard: u64) -> Event {
    Event::Harvest(HarvestProgress {
        shard,
        shards: 3,
        rows: shard,
        rows_total: 3,
        ..HarvestProgress::default()
    })
}

#[test]
fn plain_lines_are_sparse_and_carry_every_figure() {
    let paper = Paper::default();
    let progress = Progress::new(Style::Plain, Box::new(paper.clone()), || 20);
    let start = Instant::now();
    for (second, step) in [(0, 0), (1, 10), (4, 40), (6, 60), (7, 96)] {
        progress.show(&train(step), start + Duration::from_secs(second));
    }
    let text = paper.text();
    assert_eq!(text.lines().count(), 3, "{text}");
    let last = "train 100 %  step 96/96  11.2 k rows/s  0.013 GB/s  waiting 2 %  FVU 0.4123  L0 32.0  dead 17  42 s left";
    assert_eq!(text.lines().last(), Some(last));
}

#[test]
fn a_live_line_fits_the_terminal_at_every_width() {
    for (width, wanted) in [(200, "GB/s"), (80, "FVU"), (40, "left"), (10, "train")] {
        let line = Line::of(&train(12)).fitted(width - 1);
        assert!(line.chars().count() < width, "{line}");
        assert!(line.contains(wanted), "{width}: {line}");
    }
}

#[test]
fn a_live_line_is_rewritten_and_ends_before_a_note() {
    let paper = Paper::default();
    let progress = Progress::new(Style::Live, Box::new(paper.clone()), || 80);
    let start = Instant::now();
    progress.show(&train(1), start);
    progress.show(&train(2), start + Duration::from_secs(1));
    progress.show(&Event::Note { message: "one shard is quarantined".to_owned() }, start);
    progress.show(&harvest(3), start);
    progress.finish();
    let text = paper.text();
    assert_eq!(text.matches(CLEAR).count(), 3, "{text:?}");
    assert!(text.contains("left\none shard is quarantined\n"), "{text:?}");
    assert!(text.ends_with('\n'), "{text:?}");
}

#[test]
fn published_rows_are_remembered_for_the_report() {
    let progress = Progress::new(Style::Plain, Box::new(std::io::sink()), || 80);
    progress.event(&Event::Publish { learner: None, table: "features".to_owned(), rows: 2304 });
    assert_eq!(progress.rows(), [("features".to_owned(), 2304)].into());
}

#[test]
fn unknown_figures_do_not_break_the_line() {
    let event =
        Event::Train(TrainProgress { fvu: f64::NAN, left_s: f64::INFINITY, ..TrainProgress::default() });
    assert!(Line::of(&event).full().contains("FVU -"), "{}", Line::of(&event).full());
}
