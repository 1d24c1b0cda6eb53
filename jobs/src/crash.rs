//! When atomflow itself is wrong: one short text, exit code 70, no half-dead process.

use std::{
    panic::PanicHookInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use atomflow_pipeline::{Error, error::Kind};

use crate::{cards, json, stdout};

static JSON: AtomicBool = AtomicBool::new(false);

/// Installs the panic hook; with `json`, standard output ends with an error object as well.
///
/// A panic on any thread ends the process: a worker that is gone would leave the others waiting
/// for it for ever, and what is committed is safe at any moment.
pub fn install(json: bool) {
    JSON.store(json, Ordering::Relaxed);
    std::panic::set_hook(Box::new(|info| {
        if shield_active() || cards::shielded() {
            return;
        }
        if let Some(error) = of_a_card(info) {
            report(&error);
            end(error.kind);
        }
        if atomflow_pipeline::failures::shielded() {
            tell(&error(info));
        } else {
            report(&error(info));
            end(Kind::Bug);
        }
    }));
}

/// Whether this thread is decoding foreign bytes behind `catch_unwind`, where a panic is about to
/// become an ordinary data error and must stay quiet.
fn shield_active() -> bool {
    atomflow_pipeline::source::shield::active()
}

/// CubeCL panics on a thread of its own where a card has no memory left or does not answer; what waits for it would
/// be told nothing.
fn of_a_card(info: &PanicHookInfo<'_>) -> Option<Error> {
    let place =
        info.location().filter(|at| ["/cubecl-", "/cudarc-"].iter().any(|of| at.file().contains(of)))?;
    Some(
        Error::retry(format!("the card failed: {} ({place})", said(info)))
            .field("runtime.device")
            .hint("`atomflow check` says what lies on each card; `atomflow resume`, on more or other cards"),
    )
}

fn error(info: &PanicHookInfo<'_>) -> Error {
    let text = said(info);
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let version = env!("CARGO_PKG_VERSION");
    let message = format!("internal error in atomflow {version} at {place}: {text}");
    Error::bug(message).hint(
        "this is a bug, please report it with the job spec and the lines above; \
         what was committed is safe, and `atomflow resume` continues from there",
    )
}

/// A panic of one learner of several is told where it happened; the run goes on without that learner.
fn tell(error: &Error) {
    // Not eprintln!: it would panic inside the hook when standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("error: {error}\n").as_bytes());
}

fn report(error: &Error) {
    tell(error);
    if JSON.load(Ordering::Relaxed) {
        let _ = stdout::write(&json::error(error));
    }
}

fn said(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn end(kind: Kind) {
    #[allow(clippy::exit, reason = "a panic on a worker thread must end the process, not the thread")]
    std::process::exit(i32::from(kind.exit_code()));
}
