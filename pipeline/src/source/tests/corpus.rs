//! Damaged files: thousands of mutations of the corpus, none of which may do more than fail.

use std::{
    panic,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use atomflow_workers::random::hash;

use super::make::*;
use crate::{
    error::{Kind, Result},
    source::{Dtype, fuzz, shield},
};

type Entry = fn(&[u8]) -> Result<u64>;
const READERS: [(&str, Entry); 3] =
    [("parquet", fuzz::parquet), ("arrow_file", fuzz::arrow_file), ("arrow_stream", fuzz::arrow_stream)];
const CASES_PER_READER: u64 = 3000;

fn folder(reader: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(reader)
}

/// The seeds are kept with the source; a missing one is written anew.
fn seeds() {
    for (name, kind) in [("fixed", Storage::Fixed), ("list", Storage::List), ("raw", Storage::Raw)] {
        let batches = [
            batch(activation(kind, Dtype::F16, &values(20)), 0),
            batch(activation(kind, Dtype::F16, &values(9)), 20),
        ];
        let seed = |file: String, format| {
            let path = folder(&file);
            if !path.exists() {
                write(&path, format, &batches, &[("dtype", "f16")]);
            }
        };
        seed(format!("parquet/{name}.parquet"), Format::Parquet);
        seed(format!("arrow_file/{name}.arrow"), Format::File);
        seed(format!("arrow_file/{name}-zstd.arrow"), Format::FileZstd);
        seed(format!("arrow_stream/{name}.arrows"), Format::Stream);
    }
}

fn corpus(reader: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(reader)).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

/// A damaged copy: flipped bits, a cut, a splice, or a length replaced by an extreme one.
pub(super) fn mutate(bytes: &[u8], other: &[u8], case: u64) -> Vec<u8> {
    let draw = |i: u64, below: usize| (hash(&[case, i]) % below.max(1) as u64) as usize;
    let mut out = bytes.to_vec();
    match draw(0, 4) {
        0 => (0..1 + draw(1, 8) as u64).for_each(|i| out[draw(2 + i, bytes.len())] ^= 1 << draw(20 + i, 8)),
        1 => out.truncate(draw(1, bytes.len())),
        2 => {
            let at = draw(1, bytes.len());
            out.truncate(at);
            out.extend_from_slice(&other[draw(2, other.len())..]);
        }
        _ => {
            let extremes = [0, 1, 0x7f, 0xff, 0xffff, i32::MAX as u32, u32::MAX, 0x8000_0000];
            let at = draw(1, bytes.len().saturating_sub(4));
            out[at..at + 4].copy_from_slice(&extremes[draw(2, extremes.len())].to_le_bytes());
        }
    }
    out
}

#[test]
fn the_corpus_itself_is_read() {
    seeds();
    for (reader, entry) in READERS {
        assert!(corpus(reader).len() >= 3);
        corpus(reader).iter().for_each(|bytes| assert!(entry(bytes).unwrap() > 0));
    }
}

#[test]
fn damaged_files_fail_and_do_no_more() {
    seeds();
    let quiet = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !shield::active() {
            quiet(info)
        }
    }));
    for (reader, entry) in READERS {
        let corpus = corpus(reader);
        let mut read = 0;
        for case in 0..CASES_PER_READER {
            let pick = |i: u64| &corpus[(hash(&[case, i]) % corpus.len() as u64) as usize];
            let bytes = mutate(pick(100), pick(101), case);
            let start = Instant::now();
            match entry(&bytes) {
                Ok(_) => read += 1,
                Err(error) => assert_eq!(error.kind, Kind::Data, "{reader} {case}: {error}"),
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{reader} {case} took {:?}", start.elapsed());
        }
        // Damage in places that do not matter is read past; most damage is noticed.
        assert!(read > 0 && read < CASES_PER_READER / 2, "{reader}: {read} of {CASES_PER_READER} were read");
    }
}
