//! Small files, written so that a crash leaves the old one or the new one, never a part. Keys, units and markers are
//! written with these functions; the caller adds the operator's error message.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Replaces a file atomically: written beside it, synced, renamed over it, the directory synced.
///
/// # Errors
/// An I/O error; the old file is then unchanged.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let part = beside(path, "part")?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
    let written = fill(file, bytes, mode).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_parent(path))
}

/// Replaces a file atomically, like `replace`, with the owner and the mode of another one.
///
/// # Errors
/// An I/O error; the old file is then unchanged.
pub fn replace_like(path: &Path, bytes: &[u8], like: &fs::Metadata) -> io::Result<()> {
    let part = beside(path, "part")?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let written = fchown(&file, Some(like.uid()), Some(like.gid()))
        .and_then(|()| fill(file, bytes, like.mode() & 0o7777))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_parent(path))
}

/// Creates a file atomically, only if there is none: a link fails where a rename would replace.
///
/// # Errors
/// `AlreadyExists`, or an I/O error; no part of the file is then left.
pub fn publish(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Per process: another process that creates the same file must not write into this draft.
    let draft = beside(path, &format!("draft-{}", std::process::id()))?;
    remove(&draft)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    let linked = fill(file, bytes, mode).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    linked.and_then(|()| sync_parent(path))
}

/// Removes a file or link; returns whether it existed. The caller syncs its directory.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Syncs a directory's entries to disk.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Syncs the entries of a path's directory to disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync)
}

/// The dot hides it from readers that list the directory by name.
fn beside(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    Ok(path.with_file_name(format!(".{}.{ending}", name.to_string_lossy())))
}

fn fill(mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
    // The mode again: the umask cleared bits of it, and a left-over draft may have another.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_mode_and_nothing_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit");
        fs::write(dir.path().join(".unit.part"), "left over from a crash, and longer than what comes").unwrap();
        replace(&path, b"old", 0o600).unwrap();
        replace(&path, b"new", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_replaces_anothers_is_as_closed_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let (like, path) = (dir.path().join("like"), dir.path().join("new"));
        replace(&like, b"secret", 0o640).unwrap();
        replace_like(&path, b"secret too", &fs::metadata(&like).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read(&path).unwrap(), b"secret too");
    }

    #[test]
    fn a_published_file_never_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        publish(&path, b"first", 0o600).unwrap();
        assert_eq!(publish(&path, b"second", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }
}
