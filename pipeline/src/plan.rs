//! The plan: which row is in which window, lane and slot. A pure function, computed before the first read.

use atomflow_workers::random::{hash, mix};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result, source::Manifest};

/// `[plan]`: in which order rows are seen. Every field changes the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanSpec {
    /// Rows of one optimizer step, before filtered and held-out rows are taken out.
    pub batch_rows: usize,
    /// Rows shuffled together; two windows are in memory at a time.
    pub window_rows: usize,
    /// Virtual lanes rows are dealt to. Fixed per job, not per machine: sums run in lane order, so
    /// any number of workers that divides the work differently gives the same bytes.
    pub lanes: usize,
    /// How many times the whole dataset is read for training.
    pub passes: usize,
    /// Share of documents that never train; the published quality comes from them.
    pub heldout: f64,
}

impl Default for PlanSpec {
    fn default() -> Self {
        PlanSpec { batch_rows: 4096, window_rows: 65_536, lanes: 8, passes: 1, heldout: 0.05 }
    }
}

/// Streams of the keyed permutations, so that no two uses share one.
const GROUP_ORDER: u64 = 1;
const ROW_ORDER: u64 = 2;

/// One row group inside a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Index into `Manifest::shards`.
    pub shard: u32,
    /// Row group of the shard.
    pub row_group: u32,
    /// Number of its first row among the rows of the window.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
}

/// A set of row groups whose rows are shuffled together; one tick of the dataflow's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Row groups in reading order.
    pub groups: Vec<Group>,
    /// Rows of all of them, before filters.
    pub rows: u64,
    /// Steps done before this window.
    pub first_step: u64,
    /// Steps of this window, at least 1. Batches differ by at most one row per lane.
    pub steps: u64,
    /// Key of the row permutation.
    key: u64,
}

/// The whole order of training, known before the first read.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Windows in the order they are trained.
    pub windows: Vec<Window>,
    /// Virtual lanes.
    pub lanes: usize,
    /// Steps of the whole run.
    pub steps: u64,
    /// SHA-256 over everything the plan depends on, in hex.
    pub hash: String,
}

/// Where a row of a window goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Virtual lane.
    pub lane: u32,
    /// Place in the lane.
    pub index: u32,
}

impl PlanSpec {
    /// The plan for these shards. A pure function of its arguments.
    ///
    /// # Errors
    /// A field is out of range, or there is nothing to read.
    pub fn plan(&self, manifest: &Manifest, seed: u64) -> Result<Plan> {
        self.validate()?;
        let groups: Vec<Vec<u64>> =
            manifest.shards.iter().map(|s| s.row_groups.iter().map(|g| g.rows).collect()).collect();
        let windows = self.windows(&groups, seed);
        let steps = windows.last().map_or(0, |w| w.first_step + w.steps);
        if steps == 0 {
            return Err(Error::data("the shards hold no rows").field("source.url"));
        }
        let hash = self.hash(&manifest.digest(), seed);
        Ok(Plan { windows, lanes: self.lanes, steps, hash })
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |fine: bool, field: &str, rule: &str| {
            if fine { Ok(()) } else { Err(Error::spec(rule).field(format!("plan.{field}"))) }
        };
        check((1..=256).contains(&self.lanes), "lanes", "must be between 1 and 256")?;
        check(self.batch_rows >= self.lanes, "batch_rows", "must be at least `plan.lanes`")?;
        check(self.window_rows >= self.batch_rows, "window_rows", "must be at least `plan.batch_rows`")?;
        check(u32::try_from(self.window_rows).is_ok(), "window_rows", "must be below 2^32")?;
        check(self.passes >= 1, "passes", "must be at least 1")?;
        check((0.0..=0.9).contains(&self.heldout), "heldout", "must be between 0 and 0.9")
    }

    pub(crate) fn windows(&self, rows_of: &[Vec<u64>], seed: u64) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        for pass in 0..self.passes as u64 {
            let mut open: Option<Window> = None;
            for (shard, row_group) in shuffled(rows_of, hash(&[seed, GROUP_ORDER, pass])) {
                let rows = rows_of[shard as usize][row_group as usize];
                let window = open.get_or_insert_with(|| {
                    let key = hash(&[seed, ROW_ORDER, pass, u64::from(shard), u64::from(row_group)]);
                    Window { groups: Vec::new(), rows: 0, first_step: 0, steps: 0, key }
                });
                window.groups.push(Group { shard, row_group, first_row: window.rows, rows });
                window.rows += rows;
                if window.rows >= self.window_rows as u64 {
                    windows.extend(open.take());
                }
            }
            windows.extend(open);
        }
        self.number_steps(&mut windows);
        windows
    }

    /// As many steps as batches fit best; every window has one at least.
    fn number_steps(&self, windows: &mut [Window]) {
        let batch = self.batch_rows as u64;
        let mut first_step = 0;
        for window in windows {
            window.first_step = first_step;
            window.steps = ((window.rows + batch / 2) / batch).max(1);
            first_step += window.steps;
        }
    }

    fn hash(&self, manifest: &[u8; 32], seed: u64) -> String {
        let parts =
            (1u32, manifest, seed, self.lanes, self.batch_rows, self.window_rows, self.passes, self.heldout);
        let digest = Sha256::digest(format!("{parts:?}").as_bytes());
        digest.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// All row groups in an order decided by `key` (Fisher–Yates on counter-based numbers).
#[allow(clippy::cast_possible_truncation, reason = "shards and row groups are counted in u32")]
fn shuffled(rows_of: &[Vec<u64>], key: u64) -> Vec<(u32, u32)> {
    let shard_groups = rows_of.iter().enumerate();
    let mut order: Vec<(u32, u32)> =
        shard_groups.flat_map(|(s, groups)| (0..groups.len()).map(move |g| (s as u32, g as u32))).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, (hash(&[key, i as u64]) % (i as u64 + 1)) as usize);
    }
    order
}

impl Window {
    /// Where row `row` of the window goes; a bijection between rows and slots.
    #[allow(clippy::cast_possible_truncation, reason = "validated: a window has fewer than 2^32 rows")]
    pub fn slot(&self, row: u64, lanes: usize) -> Slot {
        let place = permute(row, self.rows, self.key);
        Slot { lane: (place % lanes as u64) as u32, index: (place / lanes as u64) as u32 }
    }

    /// Slots of one lane.
    pub fn lane_rows(&self, lane: usize, lanes: usize) -> usize {
        usize::try_from((self.rows + (lanes - 1 - lane) as u64) / lanes as u64).unwrap_or(usize::MAX)
    }

    /// First slot of step `step` in a lane of `lane_rows` slots.
    pub fn step_start(&self, step: u64, lane_rows: usize) -> usize {
        usize::try_from(step * lane_rows as u64 / self.steps).unwrap_or(usize::MAX)
    }
}

/// A keyed permutation of `0..n`: four Feistel rounds on the smallest even number of bits, walking
/// the cycle until it lands inside (Black & Rogaway 2002). Needs no table, so any row can be placed alone.
fn permute(value: u64, n: u64, key: u64) -> u64 {
    let half_bits = (64 - n.saturating_sub(1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1u64 << half_bits) - 1;
    let mut value = value;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (mix(key ^ mix(right + (round << 56))) & mask));
        }
        value = (left << half_bits) | right;
        if value < n {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn permute_is_a_bijection(n in 1u64..3000, key: u64) {
            let mut seen: Vec<u64> = (0..n).map(|i| permute(i, n, key)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..n));
        }

        #[test]
        fn every_row_is_trained_once_per_pass(
            shards in prop::collection::vec(prop::collection::vec(1u64..400, 1..5), 1..6),
            seed: u64, lanes in 1usize..9, batch in 9usize..200, windows in 1usize..5, passes in 1usize..3,
        ) {
            let spec = PlanSpec { batch_rows: batch, window_rows: batch * windows, lanes, passes, heldout: 0.0 };
            let plan = spec.windows(&shards, seed);
            let mut read: Vec<(u32, u32)> = plan.iter().flat_map(|w| &w.groups).map(|g| (g.shard, g.row_group)).collect();
            read.sort_unstable();
            let all = shards.iter().enumerate()
                .flat_map(|(s, groups)| (0..groups.len()).map(move |g| (s as u32, g as u32)))
                .flat_map(|g| std::iter::repeat_n(g, passes));
            prop_assert!(read.into_iter().eq(all));
            let mut step = 0;
            for window in &plan {
                prop_assert_eq!(window.first_step, step);
                step += window.steps;
                let mut slots: Vec<(u32, u32)> = (0..window.rows).map(|r| window.slot(r, lanes)).map(|s| (s.lane, s.index)).collect();
                slots.sort_unstable();
                let expected = (0..lanes).flat_map(|l| (0..window.lane_rows(l, lanes)).map(move |i| (l as u32, i as u32)));
                prop_assert!(slots.into_iter().eq(expected));
                for lane in 0..lanes {
                    prop_assert_eq!(window.step_start(window.steps, window.lane_rows(lane, lanes)), window.lane_rows(lane, lanes));
                }
            }
        }

        #[test]
        fn another_seed_gives_another_order(seed: u64) {
            let shards = vec![vec![100; 20]; 5];
            let spec = PlanSpec { batch_rows: 64, window_rows: 500, ..PlanSpec::default() };
            prop_assert_eq!(spec.windows(&shards, seed), spec.windows(&shards, seed));
            prop_assert_ne!(spec.windows(&shards, seed), spec.windows(&shards, seed.wrapping_add(1)));
        }
    }

    #[test]
    fn batches_are_near_the_size_asked_for() {
        let spec = PlanSpec { batch_rows: 1000, window_rows: 4000, ..PlanSpec::default() };
        for window in spec.windows(&[vec![1300; 7]], 1) {
            let batch = window.rows as f64 / window.steps as f64;
            assert!((600.0..1500.0).contains(&batch), "{batch}");
        }
    }
}
