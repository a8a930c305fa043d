//! A third hand: somebody or something else changes what the agent made, as an administrator or a crash would.

use zexio::model::names::{ProjectId, UnitId};

use super::oracle::is_ready;
use crate::chance::Chance;
use crate::world::Machine;

/// Breaks one thing; returns what.
pub fn meddle(chance: &mut Chance, machine: &mut Machine) -> &'static str {
    let units: Vec<UnitId> = machine.units.keys().cloned().collect();
    let projects: Vec<ProjectId> = machine.bundles.keys().cloned().collect();
    if units.is_empty() || projects.is_empty() {
        return "nothing";
    }
    let (unit, project) = (chance.pick(&units), chance.pick(&projects));
    match chance.below(13) {
        0 => {
            machine.fall(&unit);
            "a unit was killed"
        }
        1 => {
            machine.down(&unit);
            "a unit was stopped"
        }
        2 => {
            remove_file(machine, &unit);
            "a unit file was removed"
        }
        3 => {
            let seen = machine.units.get_mut(&unit).expect("it is there");
            seen.text = seen.text.take().map(|text| format!("{text}# edited\n"));
            seen.needs_reload = seen.is_up();
            "a unit file was edited"
        }
        4 => {
            machine.units.get_mut(&unit).expect("it is there").enabled = false;
            "a unit was disabled"
        }
        5 => {
            machine.units.get_mut(&unit).expect("it is there").launch_blob = false;
            "a launch blob was removed"
        }
        // A project that is gone has no place for a marker.
        6 if !machine.bundle(&project).fronts => "nothing",
        6 => {
            let markers = &mut machine.bundle(&project).markers;
            if !markers.remove(&unit.process) {
                markers.insert(unit.process.clone());
            }
            disturb(machine, &project);
            "a marker was moved"
        }
        7 => {
            machine.bundle(&project).link = None;
            disturb(machine, &project);
            // What no status called serving yet was switched to for nobody.
            if let Some(oracle) = &mut machine.oracle {
                oracle.past(&project).forget_undeclared();
            }
            "a link was removed"
        }
        8 => {
            let kept: Vec<_> = machine.bundle(&project).releases.keys().copied().collect();
            if let Some(number) = kept.get(chance.below(kept.len() as u64) as usize) {
                machine.bundle(&project).releases.remove(number);
                if let Some(oracle) = &mut machine.oracle {
                    oracle.past(&project).robbed.insert(*number);
                }
            }
            disturb(machine, &project);
            "a release was removed"
        }
        9 => {
            if let Some(timer) = machine.units.get_mut(&unit).and_then(|seen| seen.timer.as_mut()) {
                (timer.active, timer.enabled) = (false, false);
            }
            "a timer was stopped"
        }
        10 => {
            machine.fire(&unit);
            "a timer fired"
        }
        11 => {
            machine.proxy.live = false;
            machine.sites.clear();
            "Caddy's configuration was replaced"
        }
        _ => {
            (machine.proxy.text, machine.proxy.live) = (None, false);
            machine.file_sites.clear();
            "the Caddyfile was replaced"
        }
    }
}

/// Lets an app fall and come back so often, unseen, as one does in weeks of service; returns which.
pub fn wear(chance: &mut Chance, machine: &mut Machine) -> Option<UnitId> {
    let ready: Vec<UnitId> = machine.units.keys().filter(|unit| is_ready(machine, unit)).cloned().collect();
    let unit = ready.get(chance.below(ready.len() as u64) as usize)?.clone();
    machine.fall_unseen(&unit, 3 + chance.below(4) as u32);
    Some(unit)
}

/// A unit without a file is there as long as systemd holds it.
fn remove_file(machine: &mut Machine, unit: &UnitId) {
    let Some(seen) = machine.units.get_mut(unit) else { return };
    (seen.text, seen.enabled) = (None, false);
    if !seen.is_up() {
        machine.units.remove(unit);
        machine.apps.remove(unit);
        machine.ready.remove(unit);
    }
}

fn disturb(machine: &mut Machine, project: &ProjectId) {
    if let Some(oracle) = &mut machine.oracle {
        oracle.past(project).disturbed = true;
    }
}
