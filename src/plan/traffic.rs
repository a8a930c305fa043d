//! Which release has the traffic on the machine, and which processes must not run in two releases at once.

use crate::model::desired::{Workload, WorkloadKind};
use crate::model::names::{ProcessName, ProjectId, ReleaseNo, Slot, UnitId};
use crate::model::observed::{BundlesSeen, ObservedProject};
use crate::model::progress::ProjectProgress;
use crate::model::spec::{Spec, Strategy};

/// Returns the slot that Caddy sends a process's requests to.
pub fn active_slot(bundles: &BundlesSeen, process: &ProcessName) -> Slot {
    if bundles.markers.contains(process) { Slot::B } else { Slot::A }
}

/// Returns whether the machine gives a release the traffic, now and after a boot.
pub fn has_traffic(project: &ProjectId, number: ReleaseNo, seen: &ObservedProject, progress: &ProjectProgress) -> bool {
    let (Some(release), Some(bundles), Some(units)) =
        (progress.release(number), seen.bundles.known(), seen.units.known())
    else {
        return false;
    };
    let starts_at_boot = |unit: &UnitId| match (units.get(unit), progress.workload_of(unit)) {
        (Some(seen), Some(workload)) if workload.is_daemon() => seen.enabled,
        (Some(seen), Some(_)) => seen.timer.as_ref().is_some_and(|timer| timer.active && timer.enabled),
        _ => false,
    };
    let pointed = release.content.web().all(|process| active_slot(bundles, process) == release.slot);
    progress.units_of(project, number).iter().all(starts_at_boot) && pointed && bundles.link == Some(number)
}

/// A proof of health holds only until the switch begins: a candidate that failed before that must prove itself again. A
/// switch that has begun is completed, since its reversal would be another switch.
pub fn switch_has_begun(candidate: ReleaseNo, seen: &ObservedProject, progress: &ProjectProgress) -> bool {
    let (Some(bundles), Some(release)) = (seen.bundles.known(), progress.release(candidate)) else { return true };
    let pointed = release.content.web().any(|process| active_slot(bundles, process) == release.slot);
    bundles.link == Some(candidate) || progress.serving.is_some() && pointed
}

/// Returns whether a release may still have requests to finish: one of its processes runs, or Caddy may read its site.
pub fn may_have_requests(number: ReleaseNo, seen: &ObservedProject, progress: &ProjectProgress) -> bool {
    let has_site = progress.release(number).is_some_and(|release| release.content.sites().next().is_some());
    let runs = seen.units.known().is_none_or(|units| {
        let daemon = |unit: &UnitId| progress.workload_of(unit).is_none_or(Workload::is_daemon);
        units.iter().any(|(unit, seen)| unit.release == number && seen.is_up() && daemon(unit))
    });
    has_site || runs
}

/// Returns whether a unit's process must not run in two releases at once. A process that is no longer in the spec
/// may have been renamed.
pub fn runs_once(spec: &Spec, progress: &ProjectProgress, unit: &UnitId) -> bool {
    let workload = progress.workload_of(unit);
    let recreates = |process| spec.strategy_of(process) == Strategy::Recreate;
    workload.is_none_or(Workload::is_daemon)
        && match spec.processes.contains_key(&unit.process) {
            true => recreates(&unit.process),
            false if workload.is_some_and(|workload| workload.kind == WorkloadKind::Worker) => {
                spec.processes.keys().any(recreates)
            }
            false => spec.deploy.strategy == Strategy::Recreate,
        }
}
