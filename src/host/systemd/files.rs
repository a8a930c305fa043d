//! Which unit files are ours, and the links beside them: what systemd would do with them, done without it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::layout::{Layout, UNIT_DIR};
use crate::model::names::UnitId;
use crate::port::PortError;
use crate::render::unit;

/// Returns our unit files, recognised by their own section.
pub(super) fn unit_files(suffix: &str) -> Result<Vec<(UnitId, String)>, PortError> {
    let entries = fs::read_dir(UNIT_DIR).map_err(|e| crate::host::disk_error(&format!("read {UNIT_DIR}"), &e))?;
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.starts_with("zexio-") && name.ends_with(suffix)) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some(id) = unit::owner(&text).filter(|id| format!("{}{suffix}", id.stem()) == name) {
            found.push((id, text));
        }
    }
    Ok(found)
}

pub(super) fn leads_to(link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|found| found == target)
}

/// The link that `systemctl enable` creates. Having systemd create it would keep PID 1 busy for some 10 ms: it reads
/// every unit file.
pub(super) fn boot_link(unit: &UnitId) -> PathBuf {
    Path::new(UNIT_DIR).join("multi-user.target.wants").join(unit.name())
}

pub(super) fn timer_link(unit: &UnitId) -> PathBuf {
    Path::new(UNIT_DIR).join("timers.target.wants").join(unit.timer())
}

/// Returns a unit's invocation id without a call to systemd, from the link that systemd keeps for the journal. None if
/// it does not run.
pub fn invocation_of(unit: &UnitId) -> Option<String> {
    let link = fs::read_link(Layout::invocation(unit)).ok()?;
    Some(link.to_string_lossy().into_owned())
}
