//! The agent's files and directories, with errors that name the operation and the path.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use crate::files;
use crate::port::PortError;

use super::disk_error;

/// Replaces a file atomically; on an error the old one is unchanged.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PortError> {
    files::replace(path, bytes, mode).map_err(|e| disk_error(&format!("write {}", path.display()), &e))
}

/// Creates a directory with exactly this mode; an existing one is changed to it.
pub fn directory(path: &Path, mode: u32) -> Result<(), PortError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|e| disk_error(&format!("make {}", path.display()), &e))
}

/// Creates a symbolic link, replacing an existing one, and syncs its directory.
pub fn link(path: &Path, target: &Path) -> Result<(), PortError> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    let linked = parent.and_then(|()| files::remove(path)).and_then(|_| symlink(target, path));
    linked
        .and_then(|()| files::sync_parent(path))
        .map_err(|e| disk_error(&format!("link {} to {}", path.display(), target.display()), &e))
}

/// Removes a file or link, if it exists, and syncs its directory.
pub fn remove(path: &Path) -> Result<(), PortError> {
    let removed = files::remove(path).and_then(|there| if there { files::sync_parent(path) } else { Ok(()) });
    removed.map_err(|e| disk_error(&format!("remove {}", path.display()), &e))
}
