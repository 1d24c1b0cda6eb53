//! The end of training: each learner becomes a dictionary in the units of the data, and is committed.

use std::sync::Arc;

use atomflow_schemas::manifest::{Commit, FileEntry};
use atomflow_workers::{coders::Recoded, export::ExportedFile, learner::Dictionary};
use bytes::Bytes;

use super::{
    Engine,
    state::{FREEZE, WindowMetrics, to_json},
    training::Trained,
};
use crate::{Error, Result, calibrate::Calibration, error::Kind, seat::present, sink::commit, stop::Stop};

/// Directory of the exported dictionary.
pub(super) const DICTIONARY: &str = "dictionary";

/// The dictionary as harvest uses it, its files, and how it was learned.
pub(super) struct Frozen {
    /// Number of its learner.
    pub(super) learner: usize,
    pub(super) calibration: Calibration,
    pub(super) metrics: Vec<WindowMetrics>,
    pub(super) dictionary: Arc<dyn Dictionary>,
    /// The dictionary with its own encoder, where `harvest.coder` finds the codes of the other.
    pub(super) encoder: Option<Arc<dyn Dictionary>>,
    pub(super) files: Vec<FileEntry>,
}

/// A dictionary at harvest, and the same with its own encoder where that is another.
type Coded = (Arc<dyn Dictionary>, Option<Arc<dyn Dictionary>>);

impl Engine {
    /// Exports the dictionaries and commits them; parameters and moments are let go one by one.
    pub(super) fn freeze(&self, trained: Vec<Trained>) -> Result<Vec<Frozen>> {
        let mut frozen = Vec::new();
        for one in trained {
            let learner = one.learner;
            let made = self.failures.shield(|| {
                let dictionary: Arc<dyn Dictionary> = one.dictionary.freeze(&one.calibration.scales()).into();
                present(self.learners[learner].card.as_ref())?;
                let files = dictionary.export().map_err(|e| Error::bug(e.to_string()))?;
                Ok((self.coded(learner, dictionary)?, files))
            });
            let (calibration, metrics) = (one.calibration, one.metrics);
            match made.and_then(|made| made) {
                Ok(((dictionary, encoder), files)) => {
                    let files = self.commit_dictionary(learner, files, &calibration)?.files;
                    frozen.push(Frozen { learner, calibration, metrics, dictionary, encoder, files });
                }
                Err(error) if error.kind == Kind::Retry => return Err(error),
                Err(error) => self.failures.add(learner, error, &Stop::default()),
            }
        }
        self.commit_failures()?;
        Ok(frozen)
    }

    /// What harvest encodes with: the dictionary as it is, or the coder of `[harvest]` on its atoms, and
    /// then the dictionary itself beside it.
    fn coded(&self, learner: usize, dictionary: Arc<dyn Dictionary>) -> Result<Coded> {
        let Some(coder) = &self.job.harvest.coder else { return Ok((dictionary, None)) };
        let threads = self.learners[learner].hold.threads().clone();
        // The spec was asked before; what is wrong now only the atoms could say.
        let recoded = Recoded::new(Arc::clone(&dictionary), coder, threads)
            .map_err(|e| Error::spec(e.to_string()).field("harvest.coder").hint("leave `coder` out"))?;
        Ok((Arc::new(recoded), Some(dictionary)))
    }

    fn commit_dictionary(
        &self,
        learner: usize,
        exported: Vec<ExportedFile>,
        calibration: &Calibration,
    ) -> Result<Commit> {
        let output = &self.learners[learner].output;
        self.tokio.block_on(async {
            let mut files = Vec::new();
            for file in exported {
                let path = format!("{DICTIONARY}/{}", file.name);
                files.push(output.put(&path, Bytes::from(file.bytes)).await?);
            }
            commit(output, &self.generation, FREEZE, files, to_json(calibration)?).await
        })
    }
}
