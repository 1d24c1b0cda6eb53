//! A learner as the engine holds it: what it is, what it sees of a row, where its results go.

use std::sync::Arc;

use atomflow_schemas::manifest::LearnerFailure;
use atomflow_workers::{
    card::Card,
    learner::{DictLearner, Setup},
    skeleton::outside::Outside,
    threads::Threads,
};

use super::{Engine, state};
use crate::{
    Error, Result,
    calibrate::Calibration,
    chooser::Hold,
    error::Kind,
    failures,
    outside::Socket,
    resolved::Resolved,
    run::Job,
    sight::Sight,
    sink::{Output, commit},
    source::Manifest,
};

/// Name of the commit that says that a learner came to nothing.
pub(super) const FAILED: &str = "failed";

/// One learner of a job.
pub(super) struct Learner {
    /// What it is.
    pub(super) is: Resolved,
    /// What it sees of a row.
    pub(super) sight: Sight,
    /// What its tables call the run: of several learners, each has a name of its own below the run's.
    pub(super) run: String,
    /// Where its results go: the directory of the run, or one below it for each of several.
    pub(super) output: Output,
    /// What it runs on.
    pub(super) hold: Hold,
    /// The card it learns on, if that is not the CPU.
    pub(super) card: Option<Arc<dyn Card>>,
    /// Who computes its loss, if that is somebody else.
    pub(super) outside: Option<Outside>,
}

/// Directory of one of several learners, below that of the run.
pub(super) fn directory(name: &str) -> String {
    format!("learners/{name}")
}

pub(super) fn learners(
    job: &Job,
    manifest: &Manifest,
    run: &str,
    output: &Output,
    (threads, cards): (&Threads, &[Arc<dyn Card>]),
) -> Result<Vec<Learner>> {
    let several = job.learner.are_several();
    let place = |is: Resolved| {
        let sight = Sight::of(manifest, &is)?;
        let (run, output) = match several {
            true => (format!("{run}/{}", is.name), output.within(&directory(&is.name))),
            false => (run.to_owned(), output.clone()),
        };
        let outside = is.spec.outside().map(|address| {
            let names = is.spec.columns().beside.into_iter().map(|beside| beside.name).collect();
            Arc::new(Socket::new(&address, names)) as Outside
        });
        Ok(Learner { is, sight, run, output, hold: Hold::new(threads), card: None, outside })
    };
    let mut learners = job.learners()?.into_iter().map(place).collect::<Result<Vec<_>>>()?;
    // In turns: a card that several learners share holds them all.
    learners
        .iter_mut()
        .zip(cards.iter().cycle())
        .for_each(|(learner, card)| learner.card = Some(card.clone()));
    Ok(learners)
}

/// What a learner costs by.
pub(super) struct Size {
    pub(super) name: String,
    pub(super) d_in: usize,
    pub(super) d_out: usize,
    pub(super) n_latents: usize,
    pub(super) k: Option<usize>,
    /// Residuals that a step on a card holds at once.
    pub(super) residuals: usize,
}

/// The sizes of every learner.
pub(super) fn sizes(job: &Job, manifest: &Manifest) -> Result<Vec<Size>> {
    let size = |is: Resolved| {
        let sight = Sight::of(manifest, &is)?;
        let (n_latents, k, residuals) = (is.spec.n_latents(), is.spec.k(), is.spec.residuals());
        Ok(Size { name: is.name, d_in: sight.d_in(), d_out: sight.d_out(), n_latents, k, residuals })
    };
    job.learners()?.into_iter().map(size).collect()
}

/// Every check of the learners that needs the width of the data.
pub(super) fn validate(job: &Job, manifest: &Manifest) -> Result<()> {
    for learner in job.learners()? {
        let d_in = Sight::of(manifest, &learner)?.d_in();
        let invalid = |e: atomflow_workers::variants::Invalid| {
            Error::spec(e.reason).field(format!("{}.{}", learner.field, e.field))
        };
        learner.spec.validate(d_in).map_err(invalid)?;
    }
    Ok(())
}

impl Engine {
    pub(super) fn several(&self) -> bool {
        self.learners.len() > 1
    }

    /// Learners that have not failed, by number.
    pub(super) fn live(&self) -> Vec<usize> {
        (0..self.learners.len()).filter(|&at| !self.failures.has(at)).collect()
    }

    /// A learner before its first step; `sample` and `beside` are what calibration kept for it, scaled.
    pub(super) fn build(
        &self,
        at: usize,
        calibration: &Calibration,
        sample: &[f32],
        beside: &[Vec<f32>],
    ) -> Result<Box<dyn DictLearner>> {
        let learner = &self.learners[at];
        let (input_widths, beside_widths) = learner.sight.widths();
        let setup = Setup {
            d_in: learner.sight.d_in(),
            steps: self.plan.steps,
            seed: learner.is.seed,
            sample,
            beside,
            input_widths: &input_widths,
            beside_widths: &beside_widths,
            scales: calibration.scales(),
            files: &self.files.contents,
            outside: learner.outside.clone(),
            card: learner.card.clone(),
            threads: learner.hold.threads().clone(),
        };
        let invalid = |e: atomflow_workers::variants::Invalid| {
            Error::spec(e.reason).field(format!("{}.{}", learner.is.field, e.field))
        };
        learner.is.spec.build(&setup).map_err(invalid)
    }

    /// Failures that earlier processes committed: what failed once fails again.
    pub(super) fn recall_failures(&self) -> Result<()> {
        for (at, learner) in self.learners.iter().enumerate() {
            if let Some(commit) = self.tokio.block_on(commit::commits(&learner.output, FAILED))?.first() {
                self.failures.recall(at, failures::error(&state::body::<LearnerFailure>(commit)?));
            }
        }
        Ok(())
    }

    /// Commits the failures of the phase that ended, and says so. A bug of a single learner is not
    /// committed: it ends the process, and another version may go on from there.
    pub(super) fn commit_failures(&self) -> Result<()> {
        self.tokio.block_on(commit_failures(self.committer()))
    }

    pub(super) fn committer(&self) -> Committer<'_> {
        let outputs = self.learners.iter().map(|learner| &learner.output).collect();
        Committer { outputs, generation: &self.generation, failures: &self.failures }
    }

    /// What a phase ended with, unless that is the failure of the last learner: it is told at the end.
    pub(super) fn ended(&self, stop: &crate::stop::Stop) -> Result<()> {
        if self.failures.all() { Ok(()) } else { stop.check() }
    }
}

/// What it takes to write failures down.
pub(super) struct Committer<'a> {
    pub(super) outputs: Vec<&'a Output>,
    pub(super) generation: &'a commit::Generation,
    pub(super) failures: &'a failures::Failures,
}

pub(super) async fn commit_failures(to: Committer<'_>) -> Result<()> {
    for (at, error) in to.failures.list() {
        // What may go well the next time is tried again by `resume`.
        let alone = to.outputs.len() == 1 && error.kind == Kind::Bug;
        if alone || error.kind == Kind::Retry {
            continue;
        }
        let output = to.outputs[at];
        // The first failure stands; another phase of a later process may have had another.
        if commit::commits(output, FAILED).await?.is_empty() {
            let body = state::to_json(&failures::record(&error))?;
            commit(output, to.generation, FAILED, Vec::new(), body).await?;
        }
    }
    Ok(())
}
