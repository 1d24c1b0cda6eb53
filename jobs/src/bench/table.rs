//! What a benchmark found: lines for people, one object of figures for programs.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::report::table::aligned;

/// One measured part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// What ran.
    pub(super) name: String,
    /// How long it took.
    pub(super) seconds: f64,
    /// What it did, in the unit of `rate`: FLOP or bytes; 0 where neither says anything.
    pub(super) work: f64,
    /// `GFLOP/s` or `GB/s`.
    pub(super) unit: &'static str,
    /// How long it would take at the machine's peak.
    pub(super) floor_s: f64,
}

/// A finished benchmark.
#[derive(Debug, Default)]
pub struct Report {
    title: String,
    parts: Vec<Part>,
    notes: Vec<String>,
    figures: Map<String, Value>,
}

impl Report {
    pub(super) fn new(title: String) -> Self {
        Report { title, ..Report::default() }
    }

    pub(super) fn part(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// A sentence under the table.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// A figure of the JSON object.
    pub(super) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// The object for programs.
    pub fn figures(&self) -> &impl Serialize {
        &self.figures
    }

    /// The text for people.
    pub fn text(&self) -> String {
        let head = ["part", "time", "rate", "floor", "of the floor"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(self.parts.iter().map(row)).collect();
        let notes: String = self.notes.iter().map(|note| format!("\n  {note}")).collect();
        format!("{}\n\n{}{notes}\n", self.title, aligned(&rows))
    }
}

fn row(part: &Part) -> Vec<String> {
    let rate = if part.work > 0.0 {
        format!("{:.1} {}", part.work / part.seconds / 1e9, part.unit)
    } else {
        String::new()
    };
    let (floor, ratio) = if part.floor_s > 0.0 {
        (milliseconds(part.floor_s), format!("{:.2} x", part.seconds / part.floor_s))
    } else {
        (String::new(), String::new())
    };
    vec![part.name.clone(), milliseconds(part.seconds), rate, floor, ratio]
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_with_its_rate_and_floor() {
        let part =
            Part { name: "encode".to_owned(), seconds: 0.5, work: 50e9, unit: "GFLOP/s", floor_s: 0.25 };
        assert_eq!(row(&part), ["encode", "500.00 ms", "100.0 GFLOP/s", "250.00 ms", "2.00 x"]);
        let mut report = Report::new("t".to_owned());
        report.part(part);
        report.figure("encode_s", 0.5);
        assert!(report.text().contains("encode"));
        assert_eq!(serde_json::to_value(report.figures()).unwrap()["encode_s"], 0.5);
    }
}
