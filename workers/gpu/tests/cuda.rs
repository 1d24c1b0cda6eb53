//! What is said where a card, its driver or what kernels need is missing, old or lost; on a driver without a card.
//!
//! Libraries are loaded once in a process, so each case is a process of its own: this test again, with other
//! variables.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(feature = "cuda")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use atomflow_gpu::{cuda, kernels::product::Product, wire::Sender};
use atomflow_workers::{
    card::{
        Precision,
        wire::{Format, Outgoing},
    },
    threads::Threads,
};

/// Where CUDA 13.0 lies; with it at hand kernels are compiled as well.
fn toolkit() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os("CUDA_PATH")?);
    root.join("lib/libnvrtc.so.13").exists().then_some(root)
}

/// A driver without a card in a folder; `None` where there is no C compiler.
fn driver(folder: &Path) -> Option<()> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_driver.c");
    let library = folder.join("libcuda.so");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(library).arg(source).status();
    compiled.is_ok_and(|status| status.success()).then_some(())
}

/// With this variable at 1 a machine without what a test needs fails it.
const WANTED: &str = "ATOMFLOW_TEST_NVRTC";

fn absent(what: &str) {
    assert!(std::env::var_os(WANTED).is_none_or(|value| value != "1"), "{WANTED}=1, but {what}");
    eprintln!("skipped: {what}");
}

/// What the process of a case prints.
fn case(libraries: &[&Path], variables: &[(&str, &str)]) -> String {
    process("what_is_said", libraries, variables)
}

fn process(test: &str, libraries: &[&Path], variables: &[(&str, &str)]) -> String {
    let path = std::env::join_paths(libraries).unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", path)
        .env("CUDA_PATH", "/nowhere")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    text
}

/// Every process of a case runs this.
#[test]
#[ignore = "a part of the other tests"]
fn what_is_said() {
    for device in cuda::list() {
        println!("{device:?}");
    }
    for (name, precision) in
        [("cuda:0", Precision::F32), ("cuda:*", Precision::Bf16), ("cuda:7", Precision::F32)]
    {
        match cuda::cards(name, precision) {
            Err(why) => println!("{name} {precision:?}: {} / {}", why.reason, why.hint),
            Ok(cards) => {
                let (_, card) = &cards[0];
                let x = card.upload(&[1.0; 8]);
                let product = Product { x: &x, w: &x, bias: &x, d: 4, rows: 2, first: 0, width: 2 };
                product.run(card, &card.room(4));
                println!("{name} {precision:?}: {} opened, {:?}", cards.len(), card.flush());
                println!("{name} then: {:?}", card.download(&x).map(|back| back.len()));
            }
        }
    }
}

#[test]
fn without_a_driver_that_is_said() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        eprintln!("skipped: this machine has a driver");
        return;
    }
    let text = case(&[], &[]);
    assert!(text.contains("no NVIDIA driver") || text.contains("the driver"), "{text}");
}

#[test]
fn what_a_card_lacks_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = driver(folder.path()) else {
        return absent("no C compiler");
    };
    let fake = folder.path();
    let none = case(&[fake], &[("FAKE_CARDS", "0")]);
    assert!(none.contains("the driver sees no card") && none.contains("nvidia-smi"), "{none}");
    let old = case(&[fake], &[("FAKE_DRIVER", "11080")]);
    assert!(old.contains("the driver speaks CUDA 11.8, older than 12.0"), "{old}");
    let no_compiler = case(&[fake], &[]);
    assert!(
        no_compiler.contains("there is no NVRTC") && no_compiler.contains("nvidia-cuda-nvrtc"),
        "{no_compiler}"
    );
    assert!(no_compiler.contains("Fake H200") && no_compiler.contains("usable: false"), "{no_compiler}");
}

#[test]
fn a_card_opens_and_its_loss_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(()), Some(root)) = (driver(folder.path()), toolkit()) else {
        return absent("no C compiler, or no CUDA 13.0 in CUDA_PATH");
    };
    let libraries = [folder.path(), &root.join("lib")];
    let here = ("CUDA_PATH", root.to_str().unwrap());
    let fine = case(&libraries, &[here, ("FAKE_CARDS", "2")]);
    assert!(fine.contains("usable: true") && fine.contains("cuda:0 F32: 1 opened, Ok"), "{fine}");
    assert!(fine.contains("cuda:* Bf16: 2 opened") && fine.contains("there is no card `cuda:7`"), "{fine}");
    let headers = case(&libraries, &[]);
    assert!(headers.contains("there is no cuda_runtime.h in /nowhere/include"), "{headers}");
    let older = case(&libraries, &[here, ("FAKE_DRIVER", "12040")]);
    assert!(older.contains("NVRTC is of CUDA 13.0") && older.contains("cuda-nvrtc-12-4"), "{older}");
    let turing = case(&libraries, &[here, ("FAKE_CAPABILITY", "7")]);
    assert!(turing.contains("compute capability 7.0, without bf16"), "{turing}");
    let lost = case(&libraries, &[here, ("FAKE_LOST", "1")]);
    assert!(lost.contains("cuda:0 F32: 1 opened, Err(Lost("), "{lost}");
}

/// Rows of all formats, each in several pieces of which the last is not full.
#[test]
#[ignore = "a part of the test below"]
fn how_rows_go_up() {
    let (cards, threads) = (cuda::cards("cuda:0", Precision::F32).unwrap(), Threads::new(2).unwrap());
    let (name, card) = &cards[0];
    let sender = Sender::new(card, cuda::page_locked(name));
    let (count, width) = (1501, 4097);
    // Ten bits behind the point fit into f16, seven at 2⁹⁷ into bf16, and 23 into neither.
    for (exponent, mantissa) in
        [(0x3f80_0000, 0x007f_e000), (0x7000_0000, 0x007f_0000), (0x3f80_0000, 0x007f_ffff)]
    {
        let number = |i: u32| f32::from_bits(exponent | (i.wrapping_mul(2_654_435_761) & mantissa));
        let x: Vec<f32> = (0..count * width).map(number).collect();
        let rows: Vec<&[f32]> = x.chunks_exact(width as usize).collect();
        let outgoing = Outgoing { rows: &rows, columns: &[5..4001, 0..3], scales: &[0.3, 2.5] };
        match sender.send(&outgoing, &threads) {
            Err(lost) => println!("not there: {lost}"),
            Ok(arrived) => {
                let mut words = vec![0; arrived.format.words(arrived.len)];
                assert!(outgoing.write(arrived.format, &mut words));
                let mut found = card.download(&arrived.there).unwrap();
                if arrived.format != Format::F32 {
                    // An odd count: nothing is said of the other half.
                    *found.last_mut().unwrap() &= 0xffff;
                }
                println!("{:?}: same {}", arrived.format, found == words);
            }
        }
    }
    println!("first {:?}, then {:?}", sender.remark(), sender.remark());
}

#[test]
fn rows_go_up_from_page_locked_memory_or_as_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(()), Some(root)) = (driver(folder.path()), toolkit()) else {
        return absent("no C compiler, or no CUDA 13.0 in CUDA_PATH");
    };
    let libraries = [folder.path(), &root.join("lib")];
    let of = |variables: &[(&str, &str)]| {
        let here = [("CUDA_PATH", root.to_str().unwrap()), ("FAKE_LOG", "1")];
        process("how_rows_go_up", &libraries, &[&here[..], variables].concat())
    };
    let arrived = ["F16: same true", "Bf16: same true", "F32: same true"];
    let fine = of(&[]);
    assert!(
        arrived.iter().all(|said| fine.contains(said)) && fine.contains("first None, then None"),
        "{fine}"
    );
    let without = of(&[("FAKE_LOCKED", "1")]);
    assert!(arrived.iter().all(|said| without.contains(said)), "{without}");
    assert!(without.contains("CUDA_ERROR_OUT_OF_MEMORY") && without.contains("then None"), "{without}");
    let lost = of(&[("FAKE_COPY", "1")]);
    assert!(lost.contains("not there: the card did not answer: the copy of rows"), "{lost}");
}
