//! Gives every web process its two ports.

use std::collections::BTreeSet;

use crate::model::names::{Ports, ProcessName};
use crate::model::progress::{Progress, ProjectProgress};

/// Returns every port that some project has.
pub fn taken(progress: &Progress) -> BTreeSet<u16> {
    progress.projects.values().flat_map(|memory| memory.ports.values()).flat_map(|ports| [ports.a, ports.b]).collect()
}

/// Gives each of these processes two ports, unless it has them; takes them from processes that no release knows.
///
/// # Errors
/// Says how many ports there are when none is left.
pub fn allot(
    memory: &mut ProjectProgress,
    web: &[ProcessName],
    taken: &mut BTreeSet<u16>,
    range: (u16, u16),
) -> Result<(), String> {
    for process in web {
        if memory.ports.contains_key(process) {
            continue;
        }
        let mut free = (range.0..=range.1).filter(|port| !taken.contains(port));
        let (Some(a), Some(b)) = (free.next(), free.next()) else {
            return Err(format!("all ports from {} to {} are taken; widen `ports` in agent.yaml", range.0, range.1));
        };
        taken.extend([a, b]);
        memory.ports.insert(process.clone(), Ports { a, b });
    }
    Ok(())
}

/// Takes the ports back from processes that no known release has.
pub fn give_back(memory: &mut ProjectProgress) {
    let known: BTreeSet<&ProcessName> = memory.releases.values().flat_map(|release| release.content.web()).collect();
    let gone: Vec<ProcessName> = memory.ports.keys().filter(|process| !known.contains(process)).cloned().collect();
    for process in gone {
        memory.ports.remove(&process);
    }
}
