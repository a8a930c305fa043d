//! Allocates the two ports of every web process.

use std::collections::BTreeSet;

use crate::model::desired::WorkloadKind;
use crate::model::names::{Ports, ProcessName, ReleaseNo};
use crate::model::progress::{Progress, ProjectProgress};

/// Returns every port that some project has.
pub fn taken(all_progress: &Progress) -> BTreeSet<u16> {
    let known = all_progress.projects.values().flat_map(|progress| progress.ports.values()).flatten();
    let unreadable = all_progress.unreadable.values().flat_map(|unreadable| &unreadable.ports);
    known.flat_map(|ports| [ports.a, ports.b]).chain(unreadable.copied()).collect()
}

/// Gives each instance of a release's web processes two ports, unless it has them.
///
/// # Errors
/// No port is left; says how many there are.
pub fn allocate(
    progress: &mut ProjectProgress,
    release: ReleaseNo,
    taken: &mut BTreeSet<u16>,
    range: (u16, u16),
) -> Result<(), String> {
    let workloads = progress.release(release).into_iter().flat_map(|release| &release.content.processes);
    let web: Vec<(ProcessName, usize)> = workloads
        .filter(|(_, workload)| workload.kind == WorkloadKind::Web)
        .map(|(name, workload)| (name.clone(), workload.instances as usize))
        .collect();
    for (process, instances) in web {
        let ports = progress.ports.entry(process).or_default();
        while ports.len() < instances {
            let mut free = (range.0..=range.1).filter(|port| !taken.contains(port));
            let (Some(a), Some(b)) = (free.next(), free.next()) else {
                return Err(format!(
                    "all ports from {} to {} are taken; widen `ports` in agent.yaml",
                    range.0, range.1
                ));
            };
            taken.extend([a, b]);
            ports.push(Ports { a, b });
        }
    }
    Ok(())
}

/// Takes the ports back from processes that no known release has.
pub fn release_unused(progress: &mut ProjectProgress) {
    let known: BTreeSet<&ProcessName> = progress.releases.values().flat_map(|release| release.content.web()).collect();
    let gone: Vec<ProcessName> = progress.ports.keys().filter(|process| !known.contains(process)).cloned().collect();
    for process in gone {
        progress.ports.remove(&process);
    }
}
