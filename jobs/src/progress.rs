//! What a run shows while it lasts: one live line on a terminal, sparse plain lines elsewhere.

mod line;
mod pace;

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use atomflow_pipeline::run::{Event, Watch};
use terminal_size::terminal_size_of;

use crate::{human, json, stdout};
use line::Line;
use pace::Pace;

/// Often enough to look alive, seldom enough to cost nothing.
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// Batch systems keep standard error as a file: twelve lines a minute can still be read.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Back to the first column and clear to the end of the line.
const CLEAR: &str = "\r\x1b[K";

/// Shows events as they come.
pub struct Progress {
    style: Style,
    screen: Mutex<Screen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Live,
    Plain,
    Json,
}

struct Screen {
    to: Box<dyn Write + Send>,
    width: fn() -> usize,
    pace: Pace,
    /// Whether an unfinished live line is on the screen.
    live: bool,
    rows: BTreeMap<String, u64>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("style", &self.style).finish_non_exhaustive()
    }
}

impl Progress {
    /// On standard error, live if that is a terminal.
    pub fn on_stderr() -> Progress {
        let style = if std::io::stderr().is_terminal() { Style::Live } else { Style::Plain };
        Progress::new(style, Box::new(std::io::stderr()), terminal_width)
    }

    /// Every event as a JSON line on standard output, progress at most once a second.
    pub fn json() -> Progress {
        Progress::new(Style::Json, Box::new(std::io::sink()), || usize::MAX)
    }

    fn new(style: Style, to: Box<dyn Write + Send>, width: fn() -> usize) -> Progress {
        let every = match style {
            Style::Live => LIVE_EVERY,
            Style::Plain => PLAIN_EVERY,
            Style::Json => JSON_EVERY,
        };
        let screen = Screen { to, width, pace: Pace::new(every), live: false, rows: BTreeMap::new() };
        Progress { style, screen: Mutex::new(screen) }
    }

    /// Rows of each published table, as far as this process has published them.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        self.screen().rows.clone()
    }

    /// Ends the live line, so that what follows starts on a line of its own.
    pub fn finish(&self) {
        self.screen().end_live();
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        // A display that panicked half-way is still a display.
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, event: &Event, now: Instant) {
        let mut screen = self.screen();
        if let Event::Publish { learner: None, table, rows } = event {
            screen.rows.insert(table.clone(), *rows);
        }
        let line = Line::of(event);
        if !screen.pace.due(line.phase, line.last, now) {
            return;
        }
        match self.style {
            Style::Json => print_json(event),
            Style::Live if line.phase.is_some() => screen.live(&line),
            _ => screen.plain(&line),
        }
    }
}

impl Watch for Progress {
    fn event(&self, event: &Event) {
        self.show(event, Instant::now());
    }
}

/// The events are a courtesy to whoever listens; a run goes on when nobody does.
fn print_json(event: &Event) {
    let _ = json::event(event).and_then(|line| stdout::write(&line));
}

impl Screen {
    fn plain(&mut self, line: &Line) {
        self.end_live();
        self.put(&format!("{}\n", line.full()));
    }

    fn live(&mut self, line: &Line) {
        // The last column stays free: some terminals wrap when it is written.
        let room = (self.width)().saturating_sub(1);
        self.put(&format!("{CLEAR}{}", line.fitted(room)));
        self.live = true;
        if line.last {
            self.end_live();
        }
    }

    fn end_live(&mut self) {
        if std::mem::take(&mut self.live) {
            self.put("\n");
        }
    }

    /// Standard error may be closed; the run does not depend on it.
    fn put(&mut self, text: &str) {
        let _ = self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush());
    }
}

fn terminal_width() -> usize {
    terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests;
