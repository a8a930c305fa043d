//! Small files, written so that a crash leaves the old one or the new one, never a part.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::port::PortError;

use super::disk_error;

/// Replaces a file as one step: written beside it, synced, renamed over it, the directory synced.
///
/// # Errors
/// Says which file and why; then the old one is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PortError> {
    try_replace(path, bytes, mode).map_err(|e| disk_error(&format!("write {}", path.display()), &e))
}

fn try_replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let beside = parent.join(format!(".{}.part", name.to_string_lossy()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    // The mode again: the umask took bits from it, and a left-over part may have another.
    file.set_permissions(Permissions::from_mode(mode))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    sync(parent)
}

/// Makes a directory with exactly this mode; one that is there gets the mode.
///
/// # Errors
/// Says which and why.
pub fn directory(path: &Path, mode: u32) -> Result<(), PortError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|e| disk_error(&format!("make {}", path.display()), &e))
}

/// Removes a file or link, if it is there, and syncs its directory.
///
/// # Errors
/// Says which and why.
pub fn remove(path: &Path) -> Result<(), PortError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.and_then(|()| path.parent().map_or(Ok(()), sync)),
    };
    removed.map_err(|e| disk_error(&format!("remove {}", path.display()), &e))
}

/// Puts a directory's entries on disk.
///
/// # Errors
/// What the disk said.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
