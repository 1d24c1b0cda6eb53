//! Files that learners read before their first step. Their content decides the run, as the spec does.

use std::collections::BTreeMap;

use crate::{Result, learners::Resolved, sink::sha256_hex, source::whole};
use atomflow_schemas::manifest::InputFile;

/// The files of all learners of a job.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Content by the name that the learner gave.
    pub(super) contents: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Reads each file once.
    pub(super) async fn read(learners: &[Resolved]) -> Result<Files> {
        let mut contents = BTreeMap::new();
        for learner in learners {
            for url in learner.spec.files() {
                if !contents.contains_key(&url) {
                    let content = whole(&url, &learner.naming(&url, "files")).await?;
                    contents.insert(url, content);
                }
            }
        }
        Ok(Files { contents })
    }

    /// What tells them from others of the same names, in the order of the names.
    pub(super) fn identity(&self) -> Vec<InputFile> {
        let one = |(url, content): (&String, &Vec<u8>)| InputFile {
            url: url.clone(),
            size_bytes: content.len() as u64,
            sha256: sha256_hex(content),
        };
        self.contents.iter().map(one).collect()
    }
}
