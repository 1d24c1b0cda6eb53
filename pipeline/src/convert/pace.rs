//! How far a conversion is, said now and then.

use std::time::{Duration, Instant};

use super::{read::Group, record::ShardCommit};
use crate::{
    run::{ConvertProgress, Event, Watch},
    source::Manifest,
};

/// Time between two looks at how far it is.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Says now and then how far it is.
pub(super) struct Pace<'a> {
    watch: &'a dyn Watch,
    began: Instant,
    told: Option<Instant>,
    rows: u64,
    rows_total: u64,
    bytes: u64,
}

impl<'a> Pace<'a> {
    pub(super) fn new(watch: &'a dyn Watch, source: &Manifest, done: &[ShardCommit]) -> Pace<'a> {
        let before: u64 = done.iter().map(|shard| shard.file.rows).sum();
        let rows_total = source.rows().saturating_sub(before);
        Pace { watch, began: Instant::now(), told: None, rows: 0, rows_total, bytes: 0 }
    }

    pub(super) fn tell(&mut self, group: &Group, shards: usize) {
        self.rows += group.source_rows;
        self.bytes += group.bytes;
        if self.told.is_none_or(|told| told.elapsed() > WATCH_EVERY) {
            self.told = Some(Instant::now());
            self.event(shards, false);
        }
    }

    pub(super) fn end(&mut self, shards: usize) {
        self.rows_total = self.rows;
        self.event(shards, true);
    }

    fn event(&self, shards: usize, done: bool) {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let rows_per_s = self.rows as f64 / seconds;
        self.watch.event(&Event::Convert(ConvertProgress {
            shards: shards as u64,
            rows: self.rows,
            rows_total: self.rows_total.max(self.rows),
            rows_per_s,
            gb_per_s: self.bytes as f64 / seconds / 1e9,
            left_s: self.rows_total.saturating_sub(self.rows) as f64 / rows_per_s.max(1e-9),
            done,
        }));
    }
}
