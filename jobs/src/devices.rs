//! `atomflow devices`: where steps can run, why not elsewhere, and whether the kernels there are right.

use atomflow_pipeline::{Error, Result, run::CPU};
use atomflow_workers::{
    card::{Cards, DeviceInfo, Verified},
    kernels::Path,
};

use crate::{human, report::table::aligned};

/// The CPU, then every card.
pub fn list(cards: &dyn Cards) -> Vec<DeviceInfo> {
    let model = Some(format!("{} instructions", Path::best().name()));
    let cpu = DeviceInfo { name: CPU.to_owned(), model, usable: true, ..DeviceInfo::default() };
    [cpu].into_iter().chain(cards.list()).collect()
}

/// A line per device, and what to do about those that cannot be used.
pub fn table(devices: &[DeviceInfo]) -> String {
    let row = |device: &DeviceInfo| {
        let memory = device.memory_bytes.map(human::bytes).unwrap_or_default();
        let driver = device.driver.as_ref().map(|version| format!("CUDA {version}")).unwrap_or_default();
        let usable = if device.usable { "usable" } else { "not usable" };
        let model = device.model.clone().unwrap_or_default();
        vec![device.name.clone(), usable.to_owned(), model, memory, driver]
    };
    let why = |device: &DeviceInfo| {
        let hint = device.hint.as_ref().map(|hint| format!("\n    {hint}")).unwrap_or_default();
        device.reason.as_ref().map(|reason| format!("  {}: {reason}{hint}\n", device.name))
    };
    let reasons: String = devices.iter().filter_map(why).collect();
    let table = aligned(&devices.iter().map(row).collect::<Vec<_>>());
    if reasons.is_empty() { table } else { format!("{table}\n{reasons}") }
}

/// Runs the kernels of a device against their references.
///
/// # Errors
/// There is no such device, or it cannot be used.
pub fn verify(cards: &dyn Cards, device: &str) -> Result<Vec<Verified>> {
    cards.verify(device).map_err(|unusable| {
        Error::spec(format!("`{device}` cannot be used: {}", unusable.reason))
            .field("--verify")
            .hint(unusable.hint)
    })
}

/// A line per comparison.
pub fn checks(checks: &[Verified]) -> String {
    let head = ["kernel", "shape", "worst", "allowed", ""].map(str::to_owned).to_vec();
    let row = |check: &Verified| {
        let fine = if check.fine { "fine" } else { "WRONG" };
        let (worst, tolerance) = (format!("{:.1e}", check.worst), format!("{:.1e}", check.tolerance));
        vec![check.name.clone(), check.shape.clone(), worst, tolerance, fine.to_owned()]
    };
    aligned(&[head].into_iter().chain(checks.iter().map(row)).collect::<Vec<_>>())
}

/// An error where a kernel was wrong.
///
/// # Errors
/// A comparison was not within its tolerance.
pub fn judge(device: &str, checks: &[Verified]) -> Result<()> {
    let wrong: Vec<&str> =
        checks.iter().filter(|check| !check.fine).map(|check| check.name.as_str()).collect();
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            Err(Error::bug(format!("{} of {} checks failed, first `{first}`", wrong.len(), checks.len()))
                .object(device.to_owned())
                .hint("do not trust results of this device; report the table above with model and driver"))
        }
    }
}

#[cfg(test)]
mod tests {
    use atomflow_workers::card::NoCards;

    use super::*;

    #[test]
    fn without_cards_the_cpu_is_there_and_the_reason_is_told() {
        let devices = list(&NoCards);
        assert!(devices[0].usable && !devices[1].usable);
        let text = table(&devices);
        assert!(text.contains("cpu") && text.contains("built without CUDA"), "{text}");
        assert!(verify(&NoCards, "cuda:0").unwrap_err().to_string().contains("cuda:0"));
    }

    #[test]
    fn a_wrong_kernel_is_an_error_with_its_name() {
        let check = |name: &str, fine| Verified {
            name: name.to_owned(),
            shape: "3 x 5".to_owned(),
            worst: 0.5,
            tolerance: 1e-5,
            fine,
        };
        let found = [check("product", true), check("best", false)];
        assert!(checks(&found).contains("WRONG"));
        assert!(judge("cuda:0", &found[..1]).is_ok());
        let error = judge("cuda:0", &found).unwrap_err();
        assert!(error.to_string().contains("`best`") && error.kind.exit_code() == 70, "{error}");
    }
}
