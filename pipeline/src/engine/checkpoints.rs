//! Checkpoints: what each learner has learned after a window, and from which window all can go on.

use std::collections::{BTreeMap, BTreeSet};

use atomflow_schemas::manifest::FileEntry;
use atomflow_workers::state::LearnerState;
use bytes::Bytes;
use object_store::PutPayload;

use super::{
    Engine,
    learner::{self, Committer},
    state::{TRAIN, TrainCommit, WindowMetrics, body, only_file, to_json},
};
use crate::{
    Error, Result,
    calibrate::Calibration,
    failures::Failures,
    seat::Seat,
    sink::{Generation, Output, commit, commits},
};

const CHECKPOINTS: &str = "checkpoint";

fn path(windows: u64) -> String {
    format!("{CHECKPOINTS}/{TRAIN}{windows:08}.safetensors")
}

/// What one learner has committed, and its metrics since.
pub(super) struct History {
    output: Output,
    pub(super) calibration: Calibration,
    /// One entry per window.
    pub(super) metrics: Vec<WindowMetrics>,
    /// Windows after which it committed a checkpoint.
    known: BTreeSet<u64>,
}

/// The checkpoints of one learner.
struct Checkpoints {
    learner: usize,
    commits: BTreeMap<u64, (TrainCommit, FileEntry)>,
}

/// A window, and every live learner as it stood after it.
type Common = (u64, Vec<(Seat, History)>);

impl Engine {
    pub(super) fn history(&self, at: usize, calibration: Calibration) -> History {
        let output = self.learners[at].output.clone();
        History { output, calibration, metrics: Vec::new(), known: BTreeSet::new() }
    }

    /// The newest window after which all `live` learners have a checkpoint that is intact, and they as
    /// they were then.
    pub(super) fn common_checkpoint(&self, live: &[usize]) -> Result<Option<Common>> {
        let all: Vec<Checkpoints> = live.iter().map(|&at| self.checkpoints(at)).collect::<Result<_>>()?;
        let has = |window: &&u64| all.iter().all(|one| one.commits.contains_key(window));
        let windows: Vec<u64> =
            all.first().into_iter().flat_map(|one| one.commits.keys()).filter(has).copied().collect();
        for window in windows.into_iter().rev() {
            let loaded: Option<Vec<_>> = all
                .iter()
                .map(|one| self.load(one, window).transpose())
                .collect::<Option<Result<_>>>()
                .transpose()?;
            if let Some(loaded) = loaded {
                return Ok(Some((window, loaded)));
            }
        }
        Ok(None)
    }

    fn checkpoints(&self, learner: usize) -> Result<Checkpoints> {
        let found = self.tokio.block_on(commits(&self.learners[learner].output, TRAIN))?;
        let read = |commit: &atomflow_schemas::manifest::Commit| {
            let body: TrainCommit = body(commit)?;
            Ok((body.windows, (body, only_file(commit)?.clone())))
        };
        Ok(Checkpoints { learner, commits: found.iter().map(read).collect::<Result<_>>()? })
    }

    /// A learner as it was after `window`; `None` if its checkpoint is damaged.
    fn load(&self, from: &Checkpoints, window: u64) -> Result<Option<(Seat, History)>> {
        let output = &self.learners[from.learner].output;
        let Some((commit, file)) = from.commits.get(&window) else { return Ok(None) };
        let Ok(bytes) = self.tokio.block_on(output.get_verified(file)) else { return Ok(None) };
        let mismatch = |e: atomflow_workers::learner::Mismatch| {
            Error::data(format!("the checkpoint does not fit the job: {e}")).object(output.url(&file.path))
        };
        let nothing = vec![Vec::new(); self.learners[from.learner].sight.beside.len()];
        let mut learner = self.build(from.learner, &commit.calibration, &[], &nothing)?;
        learner.load(&LearnerState::from_bytes(&bytes).map_err(mismatch)?).map_err(mismatch)?;
        let mut history = self.history(from.learner, commit.calibration.clone());
        history.known = from.commits.keys().copied().collect();
        // Processes may have committed after different windows: what two commits both hold is the same.
        let all = from.commits.values().flat_map(|(commit, _)| &commit.metrics);
        let by_window: BTreeMap<u64, WindowMetrics> = all.map(|m| (m.window, *m)).collect();
        history.metrics = by_window.into_values().filter(|m| m.window < window).collect();
        Ok(Some((self.seat(from.learner, learner, &commit.calibration), history)))
    }

    pub(super) fn keeper(&self, histories: Vec<(usize, History)>, saved: u64) -> Keeper {
        Keeper {
            tokio: self.tokio.handle().clone(),
            generation: self.generation.clone(),
            failures: self.failures.clone(),
            outputs: self.learners.iter().map(|learner| learner.output.clone()).collect(),
            windows_total: self.plan.windows.len() as u64,
            histories: histories.into_iter().collect(),
            saved,
        }
    }
}

/// What accumulates between checkpoints.
pub(super) struct Keeper {
    tokio: tokio::runtime::Handle,
    generation: Generation,
    failures: Failures,
    outputs: Vec<Output>,
    windows_total: u64,
    /// By number of the learner.
    pub(super) histories: BTreeMap<usize, History>,
    /// Windows in the newest checkpoint.
    saved: u64,
}

impl Keeper {
    /// Notes what a window came to for each learner that lived through it.
    pub(super) fn note(&mut self, seats: &[Seat], metrics: impl Fn(&Seat) -> WindowMetrics) {
        for seat in seats.iter().filter(|seat| !self.failures.has(seat.learner)) {
            if let Some(history) = self.histories.get_mut(&seat.learner) {
                history.metrics.push(metrics(seat));
            }
        }
    }

    /// Commits the learners that failed, before any checkpoint that the others reach without them:
    /// a process that goes on must know whom not to wait for.
    pub(super) fn bury(&self) -> Result<()> {
        let outputs = self.outputs.iter().collect();
        let to = Committer { outputs, generation: &self.generation, failures: &self.failures };
        self.tokio.block_on(learner::commit_failures(to))
    }

    /// Writes the files of all learners, then commits each. A process that is killed in between leaves
    /// the checkpoint before intact for all of them.
    pub(super) fn save(&mut self, seats: &[Seat], windows: u64) -> Result<()> {
        let mut written = Vec::new();
        for seat in seats.iter().filter(|seat| !self.failures.has(seat.learner)) {
            let state = seat.dictionary.save();
            seat.present()?;
            let pieces = state.into_pieces().map_err(|e| Error::bug(e.to_string()))?;
            let bytes: PutPayload = pieces.into_iter().map(Bytes::from).collect();
            let file = self.tokio.block_on(self.outputs[seat.learner].put(&path(windows), bytes))?;
            written.push((seat.learner, file));
        }
        for (learner, file) in written {
            self.commit(learner, windows, file)?;
        }
        self.forget_before(self.saved)?;
        self.saved = windows;
        Ok(())
    }

    fn commit(&mut self, learner: usize, windows: u64, file: FileEntry) -> Result<()> {
        let (saved, windows_total) = (self.saved, self.windows_total);
        let Some(history) = self.histories.get_mut(&learner) else { return Ok(()) };
        // Committed by a process that was killed before the others were: it may have begun elsewhere.
        if !history.known.insert(windows) {
            return Ok(());
        }
        let metrics = history.metrics.iter().filter(|m| m.window >= saved).copied().collect();
        let calibration = history.calibration.clone();
        let body = to_json(&TrainCommit { windows, windows_total, calibration, metrics })?;
        let name = format!("{TRAIN}{windows:08}");
        self.tokio.block_on(commit(&history.output, &self.generation, &name, vec![file], body)).map(drop)
    }

    /// The checkpoint before the newest is kept; older ones are not needed by anybody.
    fn forget_before(&self, windows: u64) -> Result<()> {
        self.tokio.block_on(async {
            for history in self.histories.values() {
                for (object, _) in history.output.list(CHECKPOINTS).await? {
                    if object < path(windows) {
                        history.output.delete(&object).await?;
                    }
                }
            }
            Ok(())
        })
    }
}
