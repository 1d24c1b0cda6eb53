//! Files that learners read before their first step. Their content decides the run, as the spec does.

use std::collections::BTreeMap;

use atomflow_schemas::manifest::InputFile;

use crate::{Result, resolved::Resolved, sink::sha256_hex, source::whole};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_content() {
        let of = |content: &[u8]| {
            let contents =
                BTreeMap::from([("base".to_owned(), content.to_vec()), ("also".to_owned(), vec![])]);
            Files { contents }.identity()
        };
        let (one, other) = (of(b"weights 1"), of(b"weights 2"));
        assert_eq!((one[0].url.as_str(), one[1].url.as_str(), one[1].size_bytes), ("also", "base", 9));
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1].sha256, other[1].sha256);
    }
}
