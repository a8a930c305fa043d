//! Verifies that systemd reads a unit as it was written.

use std::fs;
use std::path::Path;

use dbus::arg::{PropMap, RefArg, prop_cast};

use super::Systemd;
use super::bus::{Property, SERVICE, UNIT, needs_reload, number, object, text};
use crate::model::layout::{Layout, user_of};
use crate::model::names::UnitId;
use crate::model::reason::Reason;
use crate::port::{PortError, Units};

/// The properties that must match the written file.
const AS_WRITTEN: [Property; 9] = [
    (UNIT, "ActiveState"),
    (UNIT, "NeedDaemonReload"),
    (UNIT, "LoadState"),
    (UNIT, "FragmentPath"),
    (UNIT, "DropInPaths"),
    (SERVICE, "User"),
    (SERVICE, "ExecStart"),
    (SERVICE, "MemoryMax"),
    (SERVICE, "TasksMax"),
];

impl Systemd {
    /// Verifies that systemd read what was written: a foreign drop-in, or a limit that it did not understand, must not
    /// start an app with other rights than its spec says.
    pub(super) fn read_back(&self, id: &UnitId) -> Result<PropMap, PortError> {
        let path = object(&id.name());
        let mut read = self.properties(&path, &AS_WRITTEN)?;
        if needs_reload(&read) || text(&read, "LoadState") != "loaded" {
            // systemd kept an older unit of this name in memory: a boot target held a reference. Or it read the file
            // just when it had been removed; then it asks for no reload and refuses to start forever.
            self.reload()?;
            read = self.properties(&path, &AS_WRITTEN)?;
        }
        match difference(id, &read) {
            None => Ok(read),
            Some(found) => Err(PortError::permanent(
                Reason::UnitTampered,
                format!(
                    "systemd does not read {} as it was written: {found}; remove what changes it and put the spec again",
                    id.name()
                ),
            )),
        }
    }
}

fn difference(id: &UnitId, read: &PropMap) -> Option<String> {
    let file = fs::read_to_string(Layout::unit_file(id)).unwrap_or_default();
    let line = |key: &str| {
        file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let fragment = text(read, "FragmentPath");
    if Path::new(fragment) != Layout::unit_file(id) {
        return Some(format!("it reads {fragment:?}"));
    }
    let foreign =
        prop_cast::<Vec<String>>(read, "DropInPaths").into_iter().flatten().find(|path| !is_for_every_service(path));
    if let Some(path) = foreign {
        return Some(format!("{path} changes it"));
    }
    let user = text(read, "User");
    if user != user_of(&id.project) {
        return Some(format!("User is {user:?}"));
    }
    let launch: Vec<String> = line("ExecStart").split(' ').map(str::to_owned).collect();
    if commands(read, "ExecStart") != [launch] {
        return Some("ExecStart is not the launcher".to_owned());
    }
    let limits = [("MemoryMax", line("MemoryMax")), ("TasksMax", line("TasksMax"))];
    limits.into_iter().filter(|(_, written)| !written.is_empty()).find_map(|(key, written)| {
        let found = number(read, key);
        (found != written.parse().ok()).then(|| format!("{key} is {found:?}, not {written}"))
    })
}

/// A distribution's drop-in for all services is fine; one for our units is not.
fn is_for_every_service(path: &str) -> bool {
    Path::new(path).parent().and_then(Path::file_name).is_some_and(|dir| dir == "service.d")
}

fn commands(service: &PropMap, key: &str) -> Vec<Vec<String>> {
    let Some(commands) = service.get(key).and_then(|value| value.0.as_iter()) else { return Vec::new() };
    commands
        .filter_map(|command| command.as_iter())
        .map(|parts| {
            let words = parts.filter_map(|part| part.as_iter()).flatten();
            words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        })
        .collect()
}
